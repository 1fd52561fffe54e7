"""Quantization: real files in every format, what they cost, and what is said of a run that does not fit."""

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import export_sizes
from helpers import N_CLASSES, easy_images, tiny, write_easy
from hwr_utils import cli, data, files, models, preprocessing, records, results, runs
from hwr_utils.device import calibration, export, quantization, recognizer
from hwr_utils.device.export import FORMATS
from hwr_utils.errors import InputError
from hwr_utils.training import Execution

CLASSIFIER = 4 * (128 * N_CLASSES + N_CLASSES)  # bytes, of its 32-bit floats


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> results.Run:
    """Return a tiny run that has learned something."""
    return runs.train_run(tiny(epochs=8, learning_rate=3e-3), tmp_path_factory.mktemp("results"), root, Execution())


@pytest.fixture(scope="module")
def record(run: results.Run, root: Path, few_scribbles: None) -> dict[str, Any]:
    """Quantize that run, once for all tests."""
    return quantization.quantize(run.folder, root)


def rows(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["format"]: row for row in record["formats"]}


def content(run: results.Run, name: str) -> bytes:
    return (run.folder / f"model.{name}").read_bytes()


@pytest.fixture
def copy(run: results.Run, record: dict[str, Any], tmp_path: Path) -> Path:
    """Return a copy of the run's folder that a test may damage."""
    return shutil.copytree(run.folder, tmp_path / run.folder.name)


def test_every_format_is_there_and_recorded(run: results.Run, record: dict[str, Any]) -> None:
    assert list(rows(record)) == list(FORMATS)
    assert records.read(run.folder / "quantization.json") == record
    for name, row in rows(record).items():
        assert row["bytes"] == len(content(run, name))
        assert row["sha256"] == files.sha256(content(run, name))
        for place in (str(files.REPOSITORY), str(run.folder), sys.prefix, "Traceback"):
            assert place.encode() not in content(run, name), f"{name} tells where it was made"
    assert not list(run.folder.glob(f".*{files.UNFINISHED}"))
    assert record["weights_sha256"] == run.record["weights"]["sha256"]
    scores = record["scores"]
    assert (scores["held_out"], scores["images"]) == ("validation", 16)
    loaded = recognizer.load(run.folder / "model.fp32.tflite")
    assert loaded.rejector is not None and loaded.temperature == scores["temperature"]


def test_bytes_are_accounted_for(run: results.Run, record: dict[str, Any]) -> None:
    network = runs.network(run)
    whole = 4 * sum(parameter.numel() for parameter in network.parameters())
    for name, row in rows(record).items():
        parts = export_sizes.parts(name, content(run, name), network, run.config.training["image_size"])
        assert sum(parts.values()) == row["bytes"]
        assert 0 < parts["overhead"] < 8000, name
        bits = 4 if "int4" in name else 8 if "int8" in name else 16 if "fp16" in name else 32
        extra = {"classifier": 160, "backbone": 5000}  # scales, and biases that stay as they are
        for part, expected in (("classifier", CLASSIFIER), ("backbone", whole - CLASSIFIER)):
            assert expected * bits / 32 - 16 <= parts[part] <= expected * bits / 32 + extra[part]


def test_all_test_images_count_and_the_floats_agree(run: results.Run, record: dict[str, Any]) -> None:
    assert record["test_images"] == {"n": 40, "of": 40, "stratified": False}
    table = rows(record)
    assert table["safetensors"]["test"]["correct"] == run.record["test"]["correct"]
    assert run.record["test"]["accuracy"] > 0.6  # or agreement would mean little
    for name in ("safetensors", "fp32.tflite", "fp32.onnx", "fp16.tflite"):
        assert table[name]["mcnemar"] == {"only_fp32": 0, "only_this": 0, "p": 1}
    for name in ("dynamic_int8.tflite", "weight_only_int8.tflite", "static_int8.onnx"):
        assert abs(table[name]["change"]) <= 0.1, name
    for row in table.values():
        test = row["test"]
        assert test["low"] < test["accuracy"] <= test["high"]
        assert 0 < row["latency"]["p50_ms"] <= row["latency"]["p95_ms"]
    assert table["fp32.tflite"]["latency"]["ratio"] == {"median": 1, "low": 1, "high": 1}


def test_the_same_weights_give_the_same_bytes(
    run: results.Run, record: dict[str, Any], root: Path, copy: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Convert once more, by the command: the asked formats and what they are compared with alone."""
    for path in copy.glob("model.*.*"):
        if "int4" not in path.name:
            path.unlink()
    argv = ["quantize", str(copy), "--formats", "static_int8.onnx", "dynamic_int8.tflite", "--images", "20"]
    assert cli.main([*argv, "--data-root", str(root)]) == 0
    again = records.read(copy / "quantization.json")
    names = ["safetensors", "fp32.tflite", "dynamic_int8.tflite", "static_int8.onnx"]
    assert list(rows(again)) == names
    for name in names:
        assert (copy / f"model.{name}").read_bytes() == content(run, name), name
    assert again["test_images"] == {"n": 20, "of": 40, "stratified": True}
    output = capfd.readouterr().out
    assert all(name in output for name in names)
    assert set(recognizer.read_description(copy / "model.json")["files"]) == {f"model.{name}" for name in names}


def trained_otherwise(run: results.Run, **training: Any) -> results.Run:
    """Return a run whose config has other values, and lacks those that are None."""
    config = run.config.to_dict()
    values = {name: value for name, value in (config["training"] | training).items() if value is not None}
    return results.Run(run.folder, {"config": config | {"training": values}})


def test_ranges_are_chosen_by_training_images_alone(
    run: results.Run, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Seen(Exception):
        pass

    def convert(model: torch.nn.Module, size: int, calibration: np.ndarray, formats: object) -> dict[str, bytes]:
        raise Seen(calibration)

    monkeypatch.setattr(export, "convert", convert)
    with pytest.raises(Seen) as caught:
        quantization.quantize(run.folder, root)
    dataset, size = data.load("custom:easy", root), run.config.training["image_size"]
    held_out = run.predictions["validation_indices"]

    def inputs(images: np.ndarray) -> set[bytes]:
        return {one.tobytes() for one in models.to_input(torch.from_numpy(images), size).contiguous().numpy()}

    seen = {image.tobytes() for image in caught.value.args[0]}
    assert seen == inputs(np.delete(dataset.train_images, held_out, axis=0))
    assert not seen & (inputs(dataset.train_images[held_out]) | inputs(dataset.test_images))


def test_scores_are_calibrated_by_what_was_held_out(run: results.Run, root: Path) -> None:
    dataset = data.load("custom:easy", root)
    indices, source = quantization.not_seen(dataset, run)
    assert source == "validation"
    assert np.array_equal(indices, run.predictions["validation_indices"])  # the very ones, by its config alone
    fewer = trained_otherwise(run, train_size=100)
    assert quantization.not_seen(dataset, fewer)[1] == "validation"
    fewer = trained_otherwise(run, train_size=100, validation_fraction=None)
    spare, source = quantization.not_seen(dataset, fewer)
    trained, _ = runs.training_split(dataset, fewer.config)
    assert source == "train_size"
    assert sorted([*spare, *trained]) == list(range(160))  # all of the rest, and none twice
    nothing, source = quantization.not_seen(dataset, trained_otherwise(run, validation_fraction=None))
    assert source is None and len(nothing) == 0


def test_scores_are_calibrated_on_another_dataset(
    run: results.Run, copy: Path, root: Path, few_scribbles: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All labels of the other set are wrong, so no temperature is high enough."""
    converted = {name: content(run, name) for name in ("safetensors", "fp32.tflite")}
    monkeypatch.setattr(export, "convert", lambda *_: converted)
    write_easy(root, "strange", n_test=40, seed=9)
    (root / "custom" / "strange" / "classes.txt").write_text("1\n2\n3\n0", "utf-8")
    found = quantization.quantize(copy, root, ["safetensors"], calibrate_on="custom:strange")["scores"]
    assert (found["held_out"], found["images"]) == ("custom:strange", 40)
    assert found["temperature"] == pytest.approx(calibration.BOUNDS[1], rel=0.01)
    with pytest.raises(InputError, match="may have seen these images"):
        quantization.quantize(copy, root, ["safetensors"], calibrate_on="custom:easy")


def test_with_few_held_out_images_or_none_nothing_is_set(run: results.Run, record: dict[str, Any], root: Path) -> None:
    """The test images would do, and would then no longer test."""
    bare = trained_otherwise(run, validation_fraction=None)
    nobody: Any = None  # it is not even asked
    test = np.zeros((4, 4), np.float32), np.zeros(4, np.int64)
    for n, source in ((0, None), (9, "validation")):
        few = np.zeros((n, 16, 16), np.uint8), np.zeros(n, np.int64)
        with pytest.warns(UserWarning, match=f"{n} held-out images are too few"):
            scores, used = quantization._scores(bare, nobody, {}, few, source, test)
        assert scores == {"held_out": None, "images": 0, "temperature": 1} and used == {"temperature": 1}
    records.validate(record | {"scores": scores}, Path("quantization.json"))


def test_prediction_agrees_with_the_run(run: results.Run, record: dict[str, Any], tmp_path: Path) -> None:
    images, _ = easy_images(40, 1)  # the test set
    loaded = recognizer.load(run.folder / "model.dynamic_int8.tflite")
    assert list(loaded.classes) == run.classes and loaded.form["size"] == 28
    agreed = 0
    for image, expected in zip(images, run.predictions["classes"][:, 0], strict=True):
        Image.fromarray(image).save(tmp_path / "picture.png")  # of the dataset's size, so taken as it is
        best = loaded.read(tmp_path / "picture.png", 1)["candidates"][0]
        agreed += best["character"] == run.classes[expected]
    assert agreed >= 38


def test_the_framing_is_that_of_the_data() -> None:
    images = np.zeros((3, 28, 28), np.uint8)
    assert preprocessing.framing(images) == {"size": 28, "margin": 0, "centre": "box"}  # nothing to see
    images[:2, 4:24, 10:18] = 255  # 20 of 28
    images[2, 0:28, 10:18] = 255
    assert preprocessing.framing(images) == {"size": 28, "margin": 4, "centre": "box"}
    images[:, 4:12, 4:24] = 255  # heavy above: its mass is no longer in the middle
    assert preprocessing.framing(images)["centre"] == "box"
    assert preprocessing.framing(np.roll(images, 3, axis=1))["centre"] == "mass"
    assert preprocessing.framing(images.transpose(0, 2, 1))["margin"] == 4


def test_the_framing_of_mnist(real: Callable[[str], data.Dataset]) -> None:
    assert preprocessing.framing(real("mnist").train_images[:300]) == {"size": 28, "margin": 4, "centre": "mass"}


def test_answers_are_compared_by_hand() -> None:
    labels = np.zeros(20, np.int64)
    first, second = labels.copy(), labels.copy()
    second[:5] = 1  # only the first is right
    first[5] = 2  # only the second is right
    first[6:9] = second[6:9] = 3  # both are wrong: no evidence either way
    one, other = (np.eye(4, dtype=np.float32)[answers] for answers in (first, second))
    # of 6 throws, one side at most once: (1 + 6) / 64, on both sides
    p = pytest.approx(14 / 64)
    assert quantization.compare(labels, one, other)["mcnemar"] == {"only_fp32": 5, "only_this": 1, "p": p}
    assert quantization.compare(labels, other, one)["mcnemar"] == {"only_fp32": 1, "only_this": 5, "p": p}
    assert quantization.compare(labels, one, one)["mcnemar"]["p"] == 1
    found = quantization.compare(labels, one, other)
    assert (found["test"]["correct"], found["test"]["n"]) == (12, 20) and found["change"] == pytest.approx(-4 / 20)


def test_latencies_are_ratios_of_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantization, "ROUNDS", 3)
    order, clock = [], [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def taking(name: str, seconds: float) -> quantization.Interpreter:
        def run(image: np.ndarray) -> np.ndarray:
            order.append(name)
            clock[0] += seconds * (10 if len(order) <= 20 else 1)  # the first round is slow, and warms up
            return image

        return run

    images = np.zeros((4, 1, 2, 2), np.float32)
    found = quantization.latencies({"fp32.tflite": taking("a", 0.002), "slow": taking("b", 0.006)}, images)
    assert order == (["a"] * 10 + ["b"] * 10) * 4  # in turns, and one round more than count
    assert found["fp32.tflite"] == {"p50_ms": 2, "p95_ms": 2, "n": 30, "ratio": {"low": 1, "median": 1, "high": 1}}
    assert found["slow"] == {"p50_ms": 6, "p95_ms": 6, "n": 30, "ratio": {"low": 3, "median": 3, "high": 3}}


def test_sizes_without_training() -> None:
    record = export_sizes.measure("simple_cnn", ["safetensors"])
    assert record["weights"] == "random, untrained"
    parts = {row["classes"]: row["parts"] for row in record["rows"]}
    assert list(parts) == [10, 26, 3755]
    assert [parts[n]["classifier"] for n in parts] == [4 * 129 * n for n in parts]
    assert parts[10]["backbone"] == parts[26]["backbone"] == parts[3755]["backbone"]


@pytest.mark.parametrize("damage", ["missing", "flipped"])
def test_weights_that_do_not_fit_are_told(copy: Path, root: Path, damage: str) -> None:
    path = copy / "model.safetensors"
    content = path.read_bytes()
    path.unlink()
    if damage == "flipped":
        path.write_bytes(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])
    before = (copy / "quantization.json").read_bytes()
    with pytest.raises(InputError, match=r"model\.safetensors.*(No such file|not the file that the record)"):
        quantization.quantize(copy, root)
    assert (copy / "quantization.json").read_bytes() == before


def test_other_data_is_told(copy: Path, tmp_path: Path) -> None:
    write_easy(tmp_path / "other", seed=7)
    with pytest.raises(InputError, match=r"custom:easy is not the data that .* was trained on"):
        quantization.quantize(copy, tmp_path / "other")


def test_a_record_of_other_weights_or_another_form_is_told(copy: Path) -> None:
    record, quantized = (records.read_json(copy / f"{name}.json") for name in ("record", "quantization"))
    record["weights"]["sha256"] = "0" * 64
    files.write_json(copy / "record.json", record)
    with pytest.raises(InputError, match=r"quantization\.json is of other weights than the run has now"):
        records.read(copy / "quantization.json")
    quantized["formats"][3]["test"]["accuracy"] = 1.5
    files.write_json(copy / "quantization.json", quantized)
    with pytest.raises(InputError, match=r"quantization\.json: quantization"):
        records.read(copy / "quantization.json")
