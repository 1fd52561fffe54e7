"""Records: a run's name is what determines it, and only a whole and valid record is read."""

import csv
import dataclasses
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from hwr_utils import evaluation, files, records, results
from hwr_utils.data import catalog
from hwr_utils.errors import InputError
from hwr_utils.recipes import configure
from hwr_utils.records import run_id

RESULTS = files.REPOSITORY / "results"

MNIST = {  # SHA-256 of the published files, uncompressed
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
}


def example() -> dict[str, Any]:
    """Return a valid record, the first of those that are committed."""
    return records.read_json(RESULTS / "mnist-simple_cnn-paper-s0-e1055424" / "record.json")


def changed(record: dict[str, Any], *path: Any, value: Any) -> dict[str, Any]:
    """Return a record with another value at a path."""
    place: Any = record
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return record


# names


def test_the_published_runs_keep_their_names() -> None:
    # records, links and commands hold these names: a change here orphans them all
    assert run_id(configure("mnist", "simple_cnn"), MNIST) == "mnist-simple_cnn-paper-s0-e1055424"
    assert run_id(configure("mnist", "simple_cnn", seed=1), MNIST) == "mnist-simple_cnn-paper-s1-2fb47053"


def test_everything_that_determines_a_run_is_in_its_name() -> None:
    names = [run_id(configure("mnist", "simple_cnn"), MNIST)]
    for other in (
        *({"seed": 1}, {"dropout": True}, {"epochs": 51}, {"batch_size": 65}, {"learning_rate": 2e-4}),
        *({"patience": 9}, {"validation_fraction": 0.2}, {"image_size": 32}, {"train_size": 100}, {"n_outputs": 27}),
        *({"split": "random"}, {"split": "writer"}, {"schedule": "cosine"}),
        *({"split": "folds"}, {"split": "folds", "pool_size": 100}),
        *({"augmentation": "warp"}, {"start_size": 20}, {"label_smoothing": 0.1}, {"weight_decay": 0.1}, {"ema": 0.9}),
    ):
        names.append(run_id(configure("mnist", "simple_cnn", **other), MNIST))
    names += [run_id(configure("mnist", "resnet50", pooling=pooling), MNIST) for pooling in ("global", "avg4")]
    config = configure("mnist", "simple_cnn")
    for other in ({"dataset": "kmnist"}, {"architecture": "another"}, {"recipe": "custom"}):
        names.append(run_id(dataclasses.replace(config, **other), MNIST))
    names += [run_id(config, MNIST | {file: "f" * 64}) for file in MNIST]
    names += [run_id(config, MNIST | {"classes.txt": "0" * 64}), run_id(config, dict(list(MNIST.items())[1:]))]
    assert len({name.rsplit("-", 1)[1] for name in names}) == len(names)


# files


def test_a_record_comes_back_with_its_arrays(tmp_path: Path) -> None:
    arrays = {"labels": np.arange(5, dtype=np.uint16), "scores": np.linspace(0, 1, 6, dtype=np.float16).reshape(2, 3)}
    records.write(tmp_path / "run", example(), {"predictions": arrays})
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"record.json", "predictions.npz"}
    (run,) = results.load_all(tmp_path)
    folder, record = run.folder, run.record
    assert (folder, record) == (tmp_path / "run", example())
    assert run_id(run.config, dict(reversed(record["dataset"]["files"].items()))) == record["run_id"]
    found = records.read_arrays(folder / "predictions.npz")
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and np.array_equal(found[name], array)


DAMAGED: list[tuple[Any, str]] = [
    (json.dumps(example()).encode()[:-1], "is damaged"),
    (b"[]", "found a list"),
    (changed(example(), "test", "accuracy", value=1.01), "record.test.accuracy"),
    (changed(example(), "run_id", value="../outside"), "record.run_id"),
    ({name: value for name, value in example().items() if name != "test"}, r"must contain \['test'\]"),
    (changed(example(), "schema_version", value=2), "record.schema_version .*found 2"),
]


@pytest.mark.parametrize(("content", "message"), DAMAGED)
def test_what_is_no_record_gets_neither_in_nor_out(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "run" / "record.json"
    if isinstance(content, dict):
        with pytest.raises((InputError, ValueError)):
            records.write(path.parent, content, {"predictions": {"labels": np.zeros(3)}})
        assert not path.exists()
        content = json.dumps(content).encode()
    files.write_bytes(path, content)
    with pytest.raises(InputError, match=message) as caught:
        results.load_all(tmp_path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == content


@pytest.mark.parametrize("damage", [lambda content: content[:-30], lambda _: pickle.dumps([1])])
def test_damaged_arrays_are_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "predictions.npz"
    records.write_arrays(path, {"labels": np.random.default_rng(0).integers(0, 9, 500)})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=r"predictions\.npz is damaged"):
        records.read_arrays(path)
    np.savez(path, objects=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match=r"predictions\.npz is damaged"):
        records.read_arrays(path)


# what is committed


def test_committed_records_agree_with_themselves() -> None:
    for run in results.load_all(RESULTS):
        folder, record, config = run.folder, run.record, run.config
        assert run_id(config, record["dataset"]["files"]) == record["run_id"] == folder.name
        assert config.dataset == record["dataset"]["name"]
        assert [row["epoch"] for row in record["history"]] == list(range(1, len(record["history"]) + 1))
        losses = [row["validation_loss"] for row in record["history"]]
        if config.training["patience"]:
            assert record["best_epoch"] == losses.index(min(losses)) + 1
            assert record["validation"]["loss"] == min(losses)
        else:  # nothing may be chosen
            assert record["best_epoch"] == len(losses)
        kept = record["history"][record["best_epoch"] - 1]
        if "validation" in record:
            assert record["validation"]["accuracy"] == pytest.approx(kept["validation_accuracy"])
        if kept == record["history"][-1]:
            assert record["test"] == record["test_last_epoch"]
        assert record["dataset"]["n_test"] == record["test"]["n"]
        assert ("validation" in record) == bool(config.training["validation_fraction"])
        arrays = records.read_arrays(folder / "predictions.npz")
        archive.verify(record, arrays, folder)
        chosen = arrays["validation_indices"]
        held_out = record["validation"]["n"] if "validation" in record else 0
        assert len(np.unique(chosen)) == len(chosen) == held_out == record["dataset"]["n_validation"]


def test_every_run_stays_in_the_log() -> None:
    log = (RESULTS / "log.csv").read_text(encoding="utf-8").splitlines()
    rows = {row["run"]: row for row in csv.DictReader(log)}
    recorded = {run.folder.name: run.record for run in results.load_all(RESULTS)}
    assert set(recorded) <= set(rows), "a record that the log lacks"
    for name, row in rows.items():
        if name in recorded:
            assert float(row["accuracy"]) == round(recorded[name]["test"]["accuracy"], 6)
        else:
            assert row["replaced"], f"{name} has no record any more, and the log does not say why"


def test_no_image_is_committed_that_may_not_be_shown() -> None:
    """Nobody may pass on CASIA's handwriting: no gallery of errors and no sheet of samples holds any."""
    runs = [path.with_name("record.json") for path in RESULTS.glob("*/errors.npz")]
    shown = [records.read_json(path)["dataset"]["name"] for path in runs]
    shown += [path.parent.name for path in RESULTS.glob("datasets/*/samples.npz")]
    assert not catalog.entry("hwdb-subset").pictures
    assert shown and all(catalog.entry(name).pictures for name in shown)


def test_an_edited_accuracy_is_noticed() -> None:
    for kind in ("record", "quantization", "evaluation.*"):
        for record in (records.read(path) for path in RESULTS.glob(f"*/{kind}.json")):
            tests = [record[part] for part in ("test", "test_last_epoch") if part in record]
            tests += [record] * ("per_class" in record) + [one["test"] for one in record.get("formats", [])]
            assert all(test["accuracy"] == pytest.approx(test["correct"] / test["n"], abs=1e-9) for test in tests)
            if "per_class" in record:
                assert record["correct"] == sum(one["correct"] for one in record["per_class"])


def test_a_record_that_its_predictions_do_not_give_is_noticed() -> None:
    run = results.load_all(RESULTS)[0]
    edited = run.record | {"test": run.record["test"] | {"accuracy": 0.999, "correct": 999, "n": 1000}}
    with pytest.raises(InputError, match="gives"):
        archive.verify(edited, records.read_arrays(run.folder / "predictions.npz"), "x")


def test_repetitions_are_compared_on_the_same_images_or_not_at_all() -> None:
    """Labels may agree by chance, so the data's checksums have to agree, too; no fold or seed is left out silently."""
    plain, dropout = (configure("mnist", "simple_cnn", dropout=dropout) for dropout in (False, True))
    table = results.repetitions(plain, dropout, seeds=[0, 1, 2])
    one, other = (results.find(config) for config in (plain, dropout))
    assert one and other
    first, second = (run.predictions["classes"][:, 0] == run.predictions["labels"] for run in (one, other))
    assert table.loc[0, ["won", "lost"]].tolist() == [(first > second).sum(), (first < second).sum()]
    assert table["n"].tolist() == [10_000] * 3
    assert (table["points"] * 100).round().tolist() == (table["won"] - table["lost"]).tolist()
    last = one.record["test_last_epoch"]["accuracy"] - other.record["test_last_epoch"]["accuracy"]
    assert table.at[0, "last_points"] == pytest.approx(100 * last)
    assert table.at[0, "log_odds"] == pytest.approx(
        evaluation.log_odds(first.mean(), 10_000) - evaluation.log_odds(second.mean(), 10_000)
    )
    with pytest.raises(InputError, match=r"fold 77 has no record.* hwr train .*--seed 77"):
        results.repetitions(plain, dropout, seeds=[0, 77])
    anew = one.record | {"dataset": one.record["dataset"] | {"files": {"drawn anew": "0"}}}
    with pytest.raises(InputError, match="different images"):
        results.paired(one, results.Run(one.folder, anew))


@pytest.mark.parametrize(
    "changed",
    [
        {"labels": np.array([0])},
        {"labels": np.array([1, 1])},
    ],
    ids=["too few", "fewer right than its record says"],
)
def test_predictions_that_do_not_fit_their_record_are_refused(changed: dict[str, np.ndarray], tmp_path: Path) -> None:
    record = {"dataset": {"classes": ["a", "b"]}, "test": {"n": 2, "correct": 2}}
    run = results.Run(tmp_path, record)
    arrays = {"labels": np.array([0, 1]), "classes": np.array([[0, 1], [1, 0]]), "scores": np.ones((2, 2))}
    records.write_arrays(tmp_path / "predictions.npz", arrays)
    assert run.predictions["labels"].tolist() == [0, 1]
    records.write_arrays(tmp_path / "predictions.npz", arrays | changed)
    with pytest.raises(InputError, match=r"predictions\.npz is damaged"):
        _ = results.Run(tmp_path, record).predictions
