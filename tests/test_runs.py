"""Runs: what is trained, split, recorded, found again and refused."""

import errno
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import N_CLASSES, environment, tiny, train_argv, write_easy, write_hands
from hwr_utils import cli, data, evaluation, files, models, recipes, records, runs, training
from hwr_utils import results as reading
from hwr_utils.data import idx
from hwr_utils.errors import InputError
from hwr_utils.recipes import RunConfig, configure
from hwr_utils.results import Run, find
from hwr_utils.runs import load_or_train, train_run
from hwr_utils.training import Execution

SHORT = {"epochs": 2}


@pytest.fixture(scope="module")
def done(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a run that has ended, alone in its results folder."""
    return train_run(tiny(**SHORT), tmp_path_factory.mktemp("results"), root, Execution())


@pytest.fixture
def results(done: Run, tmp_path: Path) -> Path:
    """Return a results folder of the test's own that holds the ended run."""
    shutil.copytree(done.folder, tmp_path / "results" / done.folder.name)
    return tmp_path / "results"


def snapshot(folder: Path) -> dict[str, bytes]:
    """Return the content of every file, locks apart."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".locks" not in path.parts
    }


# where a run begins


def test_a_run_may_begin_with_the_weights_of_another(done: Run, results: Path, root: Path) -> None:
    config = tiny(epochs=1, learning_rate=1e-8, init=done.folder.name)
    run = train_run(config, results, root, Execution())
    assert run.record["test"]["loss"] == pytest.approx(done.record["test"]["loss"], abs=1e-3)
    assert run.record["config"]["training"]["init"] == done.folder.name
    assert f"init={done.folder.name}" in reading.command(config)
    assert "init" not in done.record["config"]["training"], "or all earlier runs would have other names"


def test_for_other_classes_the_last_layer_begins_afresh(done: Run, results: Path) -> None:
    config = tiny(init=done.folder.name)
    whole = runs.initial_weights(config, done.classes, results)
    assert whole is not None
    for classes in (["a", "b", "c"], ["a", "b", "c", "d"]):
        weights = runs.initial_weights(config, classes, results)
        assert weights is not None and len(whole) - len(weights) == 2  # weights and bias of one layer
        learner = training.begin(config, len(classes), training.Execution(), weights)
        state = learner.network.state_dict()
        last = [name for name in state if name not in weights]
        assert all(len(state[name]) == len(classes) for name in last)
        assert all(torch.equal(state[name], whole[name]) for name in weights)


def test_a_run_may_begin_with_the_mean_of_several(done: Run, results: Path, root: Path) -> None:
    other = train_run(tiny(**SHORT, init=done.folder.name), results, root, Execution())
    names = [done.folder.name, other.folder.name]
    one, two, mean = (
        runs.initial_weights(tiny(init=init), done.classes, results) for init in (*names, "+".join([names[0], *names]))
    )
    assert one and two and mean and one.keys() == mean.keys()
    assert all(torch.allclose(mean[name], (2 * one[name] + two[name]) / 3) for name in mean), "named twice"
    assert any(not torch.equal(one[name], two[name]) for name in mean)


@pytest.mark.parametrize(
    ("changed", "weights", "message"),
    [
        ({"init": "custom-easy-simple_cnn-custom-s0"}, None, "init=.* is unknown .did you mean"),
        ({"image_size": 20}, None, "is a network of another shape: simple_cnn with image_size=16"),
        ({}, b"", r"model\.safetensors is not the file that the record describes"),
    ],
)
def test_a_run_that_no_training_can_begin_with_is_told(
    done: Run, results: Path, changed: dict[str, Any], weights: bytes | None, message: str
) -> None:
    if weights is not None:
        (results / done.folder.name / "model.safetensors").write_bytes(weights)
    with pytest.raises(InputError, match=message):
        runs.initial_weights(tiny(**{"init": done.folder.name} | changed), done.classes, results)


# what a run leaves


def test_a_run_leaves_a_whole_record(done: Run, root: Path) -> None:
    names = {path.name for path in done.folder.iterdir()}
    assert names == {"record.json", "predictions.npz", "errors.npz", "model.safetensors"}
    record = records.read(done.folder / "record.json")
    assert record == done.record
    assert done.config == tiny(**SHORT)
    assert done.folder.name == record["run_id"] == records.run_id(done.config, record["dataset"]["files"])
    dataset = data.load("custom:easy", root)
    assert record["dataset"]["files"] == dataset.files and not record["dataset"]["published"]
    assert (record["dataset"]["n_train"], record["validation"]["n"], record["test"]["n"]) == (144, 16, 40)
    assert len(done.history) == 2 == len(record["timing"]["epoch_seconds"])
    environment = record["environment"]
    assert (environment["device"], environment["precision"], environment["threads"]) == ("cpu", "float32", 1)
    assert environment["torch"] == torch.__version__
    assert environment["source_hash"] == runs.source_hash()
    assert done.classes == ["0", "1", "2", "3"]


def test_weights_give_the_recorded_predictions(done: Run, root: Path) -> None:
    weights = done.folder / "model.safetensors"
    assert files.sha256(weights) == done.record["weights"]["sha256"]
    assert weights.stat().st_size == done.record["weights"]["bytes"]
    dataset = data.load("custom:easy", root)
    # by the lines that the book gives for one's own program
    (lines,) = re.findall(r"```python\n(.*?)```", (files.REPOSITORY / "book/reproduce.md").read_text(), re.DOTALL)
    names = {"folder": done.folder, "images": dataset.test_images}
    exec(lines, names)
    logits = names["logits"]
    found = models.rank(logits, torch.from_numpy(dataset.test_labels))
    summary = evaluation.summarise_test(dataset.test_labels, found.classes.numpy(), found.losses.numpy(), N_CLASSES)
    assert summary == pytest.approx(done.record["test"], abs=1e-5)
    assert np.array_equal(done.predictions["classes"], found.classes)
    assert np.allclose(done.predictions["scores"], found.scores, atol=2e-3)
    assert done.predictions["classes"].dtype == np.uint16 and done.predictions["scores"].dtype == np.float16
    assert np.array_equal(done.predictions["labels"], dataset.test_labels)
    assert done.confusion.sum() == 40 and np.trace(done.confusion) == done.record["test"]["correct"]


def test_the_last_epoch_is_measured_beside_the_best(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Make the first epoch's validation look the best, so that best and last differ."""
    kept: list[training.FitResult] = []
    fit, predict, epochs = training.fit, models.predict_logits, itertools.count(1)

    def watch(*arguments: Any, **named: Any) -> training.FitResult:
        kept.append(fit(*arguments, **named))
        return kept[0]

    def worse(model: Any, images: torch.Tensor, image_size: int) -> torch.Tensor:
        if (epoch := next(epochs)) > 3:  # the test set
            return predict(model, images, image_size)
        return torch.tensor([[float(epoch), 0, 0, 0]] * len(images))

    monkeypatch.setattr(training, "fit", watch)
    monkeypatch.setattr(models, "predict_logits", worse)
    run = train_run(tiny(epochs=3), tmp_path, root, Execution())
    dataset = data.load("custom:easy", root)
    for weights, key in ((kept[0].best, "test"), (kept[0].last, "test_last_epoch")):
        model = models.build("simple_cnn", N_CLASSES, 16, {"dropout": True})
        model.load_state_dict(weights)
        logits = models.predict_logits(model, torch.from_numpy(dataset.test_images), 16)
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(dataset.test_labels))
        assert run.record[key]["loss"] == pytest.approx(float(loss), abs=1e-4)
    assert run.record["best_epoch"] == 1 and run.record["test"]["loss"] > run.record["test_last_epoch"]["loss"] + 0.01
    assert run.record["validation"]["loss"] == run.history["validation_loss"][0]


def test_the_gallery_holds_the_surest_errors(root: Path, tmp_path: Path) -> None:
    run = train_run(tiny(epochs=1, learning_rate=1e-8), tmp_path, root, Execution())  # which learns nothing
    gallery, predictions = records.read_arrays(run.folder / "errors.npz"), run.predictions
    wrong = np.flatnonzero(predictions["classes"][:, 0] != predictions["labels"])
    surest = wrong[np.argsort(-predictions["scores"][wrong, 0], kind="stable")]
    assert gallery["index"].tolist() == surest[: runs.MAX_GALLERY].tolist() and len(surest) > runs.MAX_GALLERY
    assert (np.diff(gallery["scores"].astype(float)) <= 0).all()
    assert np.array_equal(gallery["images"], data.load("custom:easy", root).test_images[gallery["index"]])
    assert (gallery["labels"] != gallery["predicted"]).all()


def test_images_that_may_not_be_shown_are_not_recorded(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = runs.catalog.entry
    monkeypatch.setattr(runs.catalog, "entry", lambda name: replace(entry(name), pictures=False))
    run = train_run(tiny(epochs=1), tmp_path, root, Execution())
    assert not (run.folder / "errors.npz").exists()


# splits


def test_validation_is_never_trained_on_and_never_test(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = Mock(wraps=training.fit)
    monkeypatch.setattr(training, "fit", fit)
    held_out = train_run(tiny(epochs=1), tmp_path, root, Execution()).predictions["validation_indices"]
    dataset = data.load("custom:easy", root)
    images, labels = dataset.train_images, dataset.train_labels

    def pairs(images: np.ndarray, labels: np.ndarray) -> list[tuple[bytes, int]]:
        return sorted((image.tobytes(), label) for image, label in zip(images, labels.tolist(), strict=True))

    train, validation = fit.call_args.args[2:4]
    assert pairs(*validation) == pairs(images[held_out], labels[held_out])
    assert pairs(*train) == pairs(np.delete(images, held_out, axis=0), np.delete(labels, held_out))
    assert np.bincount(labels[held_out]).tolist() == [4, 4, 4, 4]


@pytest.fixture(scope="module")
def hands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data root with an import of GNT files."""
    folder = tmp_path_factory.mktemp("hands")
    write_hands(folder)
    return folder


def hanzi(seed: int = 0, **changed: Any) -> RunConfig:
    values = {"epochs": 2, "image_size": 16} | changed
    return configure("custom:hands", "inception_hccr", seed=seed, **values)


def test_where_nothing_chooses_the_last_epoch_counts(hands: Path, tmp_path: Path) -> None:
    run = train_run(hanzi(epochs=3, learning_rate=1e-2), tmp_path, hands, Execution())
    record = run.record
    assert (record["dataset"]["n_train"], record["dataset"]["n_validation"], record["test"]["n"]) == (128, 0, 32)
    assert "validation" not in record and record["best_epoch"] == 3 and not record["stopped_early"]
    assert record["test"] == record["test_last_epoch"]
    # what was watched is the test set
    assert record["history"][-1]["validation_accuracy"] == pytest.approx(record["test"]["accuracy"])
    assert record["history"][-1]["validation_loss"] == pytest.approx(record["test"]["loss"], rel=1e-6)
    dataset = data.load("custom:hands", hands, split="random")
    assert np.array_equal(run.predictions["labels"], dataset.test_labels)
    assert np.array_equal(run.predictions["test_indices"], dataset.test_indices)  # type: ignore[arg-type]
    assert np.array_equal(run.predictions["writers"], dataset.test_writers)  # type: ignore[arg-type]
    assert record["dataset"]["files"] == dataset.files and run.classes == list("啊阿埃挨")
    assert records.read_arrays(run.folder / "errors.npz")["images"].shape[1:] == (28, 28)


def split(labels: np.ndarray, **changed: Any) -> tuple[np.ndarray, np.ndarray]:
    images = np.zeros((len(labels), 28, 28), np.uint8)
    dataset = data.Dataset("custom:a", ("a",) * 5, images, labels, images, labels, {}, False)
    return runs.training_split(dataset, configure("custom:a", "simple_cnn", **changed))


@given(
    st.lists(st.integers(0, 60), min_size=5, max_size=5).filter(lambda sizes: sum(sizes) >= 40),
    st.floats(0, 1),
    st.integers(0, 3),
)
def test_train_size_is_exact_and_stratified(sizes: list[int], share: float, seed: int) -> None:
    labels = np.random.Generator(np.random.PCG64(seed)).permutation(np.repeat(np.arange(5), sizes))
    all_train, validation = split(labels, seed=seed)
    size = max(10, round(share * len(all_train)))
    train, same_validation = split(labels, seed=seed, train_size=size)
    assert len(train) == len(np.unique(train)) == size
    assert np.array_equal(np.sort(train), train) and set(train) <= set(all_train)
    assert np.array_equal(validation, same_validation)
    quotas = np.bincount(labels[all_train], minlength=5) * size / len(all_train)
    assert (np.abs(np.bincount(labels[train], minlength=5) - quotas) < 1).all()


def test_a_train_size_beyond_the_data_is_told(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="train_size=145"):
        train_run(tiny(train_size=145), tmp_path, root, Execution())
    run = train_run(tiny(train_size=144, epochs=1), tmp_path, root, Execution())
    assert run.record["dataset"]["n_train"] == 144


def test_spare_outputs_are_classes_without_images(root: Path, tmp_path: Path) -> None:
    run = train_run(tiny(n_outputs=6, **SHORT), tmp_path, root, Execution())
    assert run.classes == ["0", "1", "2", "3", "N/A", "N/A"]
    assert run.confusion.shape == (6, 6)
    assert run.predictions["classes"].shape == (40, 6)
    with pytest.raises(InputError, match="n_outputs"):
        train_run(tiny(n_outputs=3), tmp_path, root, Execution())


# names


def test_a_runs_name_knows_no_place_and_no_machine(
    done: Run, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Move data and results, unpack the files, have more threads and any device: the run is the same."""
    other = tmp_path / "elsewhere" / "custom" / "easy"
    for path in (root / "custom" / "easy").iterdir():
        idx.write_idx(other / path.stem, idx.read_idx(path), compress=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    run = train_run(tiny(**SHORT), tmp_path / "other results", tmp_path / "elsewhere", training.choose_execution())
    assert run.record["environment"]["threads"] == 16
    assert run.folder.name == done.folder.name
    assert run.record["config"] == done.record["config"]


OVERRIDES = st.fixed_dictionaries(
    {},
    optional={
        "epochs": st.integers(1, 10_000),
        "batch_size": st.integers(1, 65_536),
        "learning_rate": st.floats(1e-8, 10),
        "patience": st.integers(1, 10_000),
        "validation_fraction": st.floats(0.01, 0.5),
        "image_size": st.integers(16, 512),
        "train_size": st.none() | st.integers(10, 10**7),
        "n_outputs": st.none() | st.integers(2, 65_535),
        "augmentation": st.sampled_from(["none", "warp"]),
        "ema": st.floats(0, 0.9),
        "dropout": st.booleans(),
    },
)


@given(
    st.sampled_from([name for name, known in recipes.RECIPES.items() if "simple_cnn" in known]),
    st.integers(0, 2**32 - 1),
    OVERRIDES,
)
def test_a_runs_command_makes_that_run(recipe: str, seed: int, overrides: dict[str, Any]) -> None:
    config = configure("custom:a-b", "simple_cnn", recipe, seed, **overrides)
    words = shlex.split(reading.command(config))
    assert words[0] == "hwr"
    given = cli._parser().parse_args(words[1:])
    assert configure(given.dataset, given.architecture, given.recipe, given.seed, **dict(given.set)) == config


# load or train


def never(*_: Any, **__: Any) -> None:
    raise AssertionError("nothing was to be trained")


def test_a_record_that_exists_is_not_trained_again(
    done: Run, results: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(results)
    monkeypatch.setattr(training, "fit", never)
    config = tiny(**SHORT)
    for run in (load_or_train(config, results, root), train_run(config, results, root, Execution())):
        assert run is not None and run.record == done.record
    assert snapshot(results) == before


def test_never_means_never(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWR_TRAIN", "never")
    monkeypatch.setattr(training, "fit", never)
    for config in (tiny(), configure("mnist", "simple_cnn")):
        with pytest.raises(InputError, match=re.escape(reading.command(config))):
            load_or_train(config, tmp_path / "results", root)
    assert not (tmp_path / "results").exists()


def test_published_records_are_shown_without_reading_the_data(
    done: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure("mnist", "simple_cnn")
    dataset = done.record["dataset"] | {"name": "mnist", "published": True}
    folder = tmp_path / records.run_id(config, {})
    records.write(folder, done.record | {"config": config.to_dict(), "dataset": dataset}, {})
    monkeypatch.setattr(data, "load", never)
    run = load_or_train(config, tmp_path, tmp_path / "no data")
    assert run is not None and run.folder == folder


def test_two_records_of_one_config_need_the_data_to_decide(
    done: Run, results: Path, root: Path, tmp_path: Path
) -> None:
    write_easy(tmp_path, seed=1)
    other = train_run(tiny(**SHORT), results, tmp_path, Execution())
    config = tiny(**SHORT)
    with pytest.raises(InputError, match="answer to one config on different data") as caught:
        find(config, results)
    assert done.folder.name in str(caught.value) and other.folder.name in str(caught.value)
    with pytest.raises(InputError, match="answer to one config"):
        load_or_train(config, results, tmp_path / "no data")
    found = find(config, results, data.load("custom:easy", tmp_path).files)
    assert found is not None and found.folder == other.folder
    found = load_or_train(config, results, root)
    assert found is not None and found.folder.name == done.folder.name
    assert find(tiny(), results) is None


# what goes wrong, and what is left then


@pytest.mark.parametrize(("number", "name"), [(1, "checkpoint.pt"), (2, "checkpoint.pt"), (7, "record.json")])
def test_a_full_disk_loses_nothing(
    done: Run, results: Path, root: Path, monkeypatch: pytest.MonkeyPatch, number: int, name: str
) -> None:
    """Fill the disk at a write of a second run; then make room and ask again.

    A run of two epochs writes two checkpoints, the weights, its line of the log, two arrays and the record.
    """
    config, before = tiny(seed=1, **SHORT), snapshot(results)
    calls = [None] * (number - 1) + [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))]
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", Mock(side_effect=calls))
        with pytest.raises(InputError, match=f"cannot write .*{name}: No space left on device"):
            train_run(config, results, root, Execution())
    after = snapshot(results)
    assert {name: after[name] for name in before} == before
    assert find(config, results) is None
    assert not [name for name in after if name.endswith(files.UNFINISHED)]

    if number > 2:  # all epochs are in the checkpoint
        monkeypatch.setattr(training, "train_one_epoch", never)
    run = train_run(config, results, root, Execution())
    assert run.record["timing"]["sessions"] == (1 if number == 1 else 2)
    assert {path.name for path in run.folder.iterdir()} == {path.name for path in done.folder.iterdir()}


def test_a_record_that_is_damaged_is_told_and_left(results: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "fit", never)
    path = next(results.glob("*/record.json"))
    record = json.loads(path.read_text())
    del record["test"]["loss"]
    path.write_text(json.dumps(record))
    before = snapshot(results)
    for attempt in (
        lambda: train_run(tiny(**SHORT), results, root, Execution()),
        lambda: load_or_train(tiny(**SHORT), results, root),
        lambda: reading.load_all(results),
    ):
        with pytest.raises(InputError, match=rf"{path}: record.test must contain \['loss'\]"):
            attempt()
    assert snapshot(results) == before


# the world around


def test_training_needs_no_library_of_the_book(root: Path, tmp_path: Path) -> None:
    """Train where only the training path's libraries are, as on a bare CUDA machine."""
    code = """
import sys
for name in "fastjsonschema scipy sklearn matplotlib seaborn papermill nbformat nbclient yaml mplfonts".split():
    sys.modules[name] = None
from hwr_utils.__main__ import main
sys.exit(main(sys.argv[1:]) or 10 * main(["notebook", "run"]))
"""
    argv = train_argv(tiny(epochs=1), root, tmp_path)
    done = subprocess.run([sys.executable, "-c", code, *argv], env=environment(), capture_output=True, text=True)
    assert find(tiny(epochs=1), tmp_path) is not None
    assert done.returncode == 20 and "is not installed. Run `pip install" in done.stderr
