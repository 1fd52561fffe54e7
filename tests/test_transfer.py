"""`hwr evaluate`: a run on another dataset, matched by characters; and what is said of what does not fit."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import describe_network, easy_images, tiny, write_easy, write_network
from hwr_utils import cli, data, files, preprocessing, records, runs
from hwr_utils.device import transfer
from hwr_utils.errors import InputError
from hwr_utils.training import Execution

N_TEST = 40  # images of custom:other, ten of each class


@pytest.fixture(scope="module")
def made(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run whose exported file is a network that looks where the bar of an easy image is."""
    run = runs.train_run(tiny(epochs=1), tmp_path_factory.mktemp("results"), root, Execution())
    weights = np.zeros((4, 28, 28), np.float32)
    for label in range(4):
        weights[label, 3 + 6 * label : 7 + 6 * label, 4:24] = 0.5
    write_network(run.folder / transfer.FILE, weights.reshape(4, -1), (1, 1, 28, 28))
    describe(run.folder)
    write_easy(root, "other", n_test=N_TEST, seed=5)
    return run.folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / made.name)


def describe(folder: Path, **changed: Any) -> None:
    """Write the model.json of the run's file; its framing is that of easy images."""
    weights = records.read_json(folder / "record.json")["weights"]["sha256"]
    framing = preprocessing.framing(easy_images(N_TEST, 11)[0])
    parts = {"weights_sha256": weights, "classes": list("0123"), "image": framing}
    describe_network(folder / transfer.FILE, 28, **parts | changed)


def name_classes(root: Path, *names: str) -> None:
    (root / "custom" / "other" / "classes.txt").write_text("\n".join(names), "utf-8")


def test_a_run_is_tested_on_other_data(folder: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name_classes(root, *"0123")
    assert cli.main(["evaluate", str(folder), "--on", "custom:other", "--data-root", str(root)]) == 0
    record = records.read(folder / "evaluation.custom-other.json")
    assert json.loads((folder / "evaluation.custom-other.json").read_text()) == record
    assert (record["n"], record["correct"], record["accuracy"]) == (N_TEST, N_TEST, 1)
    assert record["low"] == pytest.approx(40 / (40 + 1.959964**2)) and record["high"] == 1  # Wilson's, all right
    assert (record["top5"], record["top10"], record["declined"], record["stratified"]) == (1, 1, 0, False)
    assert record["per_class"] == [{"character": one, "n": 10, "correct": 10, "declined": 0} for one in "0123"]
    assert record["dataset"]["left_out"] == 0 and record["dataset"]["n_test"] == N_TEST
    assert record["dataset"]["files"] == data.load("custom:other", root).files
    assert record["framing"]["fitted_anew"]
    assert record["run_id"] == folder.name
    assert record["confusions"] == [] and 0 < record["ece"] < 1
    compared = record["float32"]  # the network of the record, which the file is not made of here
    assert N_TEST - compared["only_this"] == pytest.approx(N_TEST * compared["accuracy"])
    output = capsys.readouterr().out
    assert f"{folder.name} on custom:other: test accuracy 1.0000 (40 of 40;" in output
    (folder / "model.safetensors").unlink()  # of most published models there is only the file for devices
    alone = transfer.evaluate(folder, "custom:other", root)
    assert "float32" not in alone and alone["per_class"] == record["per_class"]


def test_classes_are_matched_by_their_characters(folder: Path, root: Path) -> None:
    name_classes(root, "2", "x", "0", "y")  # what the model calls 0 is called 2 here; 1 and 3 it does not know
    record = transfer.evaluate(folder, "custom:other", root)
    assert record["classes"] == ["0", "2"]
    assert (record["n"], record["dataset"]["left_out"], record["dataset"]["n_test"]) == (20, 20, N_TEST)
    # it says 0 where 2 is written, and the other way round: always wrong, and always among the first four
    assert (record["correct"], record["accuracy"], record["low"], record["top5"]) == (0, 0, 0, 1)
    assert record["per_class"] == [{"character": one, "n": 10, "correct": 0, "declined": 0} for one in "02"]


def test_wrong_answers_are_told_as_pairs(folder: Path, root: Path) -> None:
    name_classes(root, *"1032")  # each image now shows another character than the model says
    record = transfer.evaluate(folder, "custom:other", root)
    told = sorted((one["character"], one["answer"], one["n"]) for one in record["confusions"])
    assert told == [("0", "1", 10), ("1", "0", 10), ("2", "3", 10), ("3", "2", 10)]
    describe(
        folder, scores={"temperature": 1, "rejector": {"weights": [0] * 18, "hidden": [[0] * 28], "output": [-1, 0]}}
    )
    fewer = transfer.evaluate(folder, "custom:other", root, 12)
    assert (fewer["n"], fewer["stratified"], fewer["declined"]) == (12, True, 1)
    assert [(one["n"], one["declined"]) for one in fewer["per_class"]] == [(3, 3)] * 4
    with pytest.raises(InputError, match=f"images=0 is out of range, expected 1 to {N_TEST}"):
        transfer.evaluate(folder, "custom:other", root, 0)


def test_another_framing_is_put_right(folder: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name_classes(root, *"0123")
    describe(folder, image={"size": 28, "margin": 5, "centre": "box"})
    seen = []
    to_input = preprocessing.to_input
    monkeypatch.setattr(preprocessing, "to_input", lambda image, shape: seen.append(image) or to_input(image, shape))
    record = transfer.evaluate(folder, "custom:other", root)
    assert record["framing"]["fitted_anew"] and record["framing"]["model"]["margin"] == 5
    test = data.load("custom:other", root).test_images
    assert all(np.array_equal(a, preprocessing.prepare(b, 28, 5, "box")) for a, b in zip(seen, test, strict=True))


def test_data_of_the_same_source_is_refused(folder: Path, root: Path) -> None:
    with pytest.raises(InputError, match="trained on custom:easy: it may have seen"):
        transfer.evaluate(folder, "custom:easy", root)
    record = records.read_json(folder / "record.json")
    for own, other in (("emnist-letters-sample", "emnist-letters"), ("hwdb-subset", "hwdb1.1")):
        record["config"]["dataset"] = own
        files.write_json(folder / "record.json", record)
        with pytest.raises(InputError, match=f"trained on {own}, of the same source as {other}"):
            transfer.evaluate(folder, other, root)


def test_what_does_not_fit_is_told(folder: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def told(message: str, name: str = "custom:other") -> None:
        assert cli.main(["evaluate", str(folder), "--on", name, "--data-root", str(root)]) == 2
        assert message in capsys.readouterr().err
        assert not list(folder.glob("evaluation.*"))

    told("'minst' is unknown", "minst")
    told("kmnist: ", "kmnist")  # not there
    name_classes(root, *"wxyz")
    told("share no character")
    describe(folder, weights_sha256="0" * 64)
    told("is of other weights than the run's record")
    (folder / transfer.FILE).unlink()
    told(f"cannot read {folder / transfer.FILE}")
