"""Quantization: real files in every format, what they cost, and what is said of a run that does not fit."""

import json
import logging
import os
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

from helpers import N_CLASSES, easy_images, load_tool, tiny, write_easy
from hwr_utils import cli, data, files, models, preprocessing, records, results, runs
from hwr_utils.device import export, quantization, recognizer
from hwr_utils.device.export import FORMATS
from hwr_utils.errors import InputError

SIDE = 16
CLASSIFIER = 4 * (128 * N_CLASSES + N_CLASSES)  # bytes, of its 32-bit floats


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> results.Run:
    """Return a tiny run that has learned something."""
    return runs.train_run(tiny(epochs=8, learning_rate=3e-3), tmp_path_factory.mktemp("results"), root, "cpu")


@pytest.fixture(scope="module")
def record(run: results.Run, root: Path, few_scribbles: None) -> dict[str, Any]:
    """Quantize that run, once for all tests."""
    return quantization.quantize(run.folder, data_root=root)


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
    assert not list(run.folder.glob(f".*{files.UNFINISHED}"))
    schema = json.loads(Path(records.__file__).with_name("quantization.schema.json").read_text())
    assert schema["properties"]["formats"]["items"]["properties"]["format"]["enum"] == list(FORMATS)


def test_sizes_are_what_the_bits_say(record: dict[str, Any]) -> None:
    sizes = {name: row["bytes"] for name, row in rows(record).items()}
    shares = {name: size / sizes["fp32." + name.rpartition(".")[2]] for name, size in sizes.items() if "." in name}
    assert 0.5 < shares["fp16.tflite"] < 0.52
    for name in ("dynamic_int8.tflite", "weight_only_int8.tflite", "static_int8.onnx"):
        assert 0.25 < shares[name] < 0.29, name
    assert 0.125 < shares["weight_only_int4.tflite"] < 0.16


def test_bytes_are_accounted_for(run: results.Run, record: dict[str, Any]) -> None:
    network, parts_of = runs.network(run), load_tool("export_sizes").parts
    whole = 4 * sum(parameter.numel() for parameter in network.parameters())
    for name, row in rows(record).items():
        parts = parts_of(name, content(run, name), network, SIDE)
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


def test_the_record_says_what_it_was_made_with(run: results.Run, record: dict[str, Any]) -> None:
    assert record["run_id"] == run.record["run_id"] == run.folder.name
    assert record["weights_sha256"] == run.record["weights"]["sha256"]
    assert record["environment"]["threads"] == 1
    assert record["environment"]["versions"]["ai-edge-litert"].count(".") == 2
    assert record["calibration_images"] == 144  # all that it was trained on


def test_no_file_knows_the_machine(run: results.Run, record: dict[str, Any]) -> None:
    for name in FORMATS:
        for place in (str(files.REPOSITORY), str(run.folder), sys.prefix, "Traceback", "/python3"):
            assert place.encode() not in content(run, name), name


def test_the_same_weights_give_the_same_bytes(
    run: results.Run, record: dict[str, Any], root: Path, copy: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Convert once more, by the command: the asked formats and what they are compared with alone, and quietly."""
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
    output = capfd.readouterr()
    assert all(name in output.out for name in names) and "on 20 of 40 test images" in output.out
    assert not any(word in output.err for word in ("LiteRT", "Quantiz", "Warning", "DONE", "XNNPACK"))
    assert set(recognizer.read_description(copy / "model.json")["files"]) == {f"model.{name}" for name in names}


def test_an_unknown_format_is_told() -> None:
    network = models.build("simple_cnn", 3, SIDE, {})
    with pytest.raises(InputError, match=r"format 'int8' is unknown, expected one of safetensors, fp32\.tflite"):
        export.convert(network, SIDE, np.zeros((1, 1, SIDE, SIDE), np.float32), ["int8"])


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
        quantization.quantize(run.folder, data_root=root)
    dataset, size = data.load("custom:easy", root), run.config.training["image_size"]
    held_out = run.predictions["validation_indices"]

    def inputs(images: np.ndarray) -> set[bytes]:
        return {one.tobytes() for one in models.to_input(torch.from_numpy(images), size).contiguous().numpy()}

    seen = {image.tobytes() for image in caught.value.args[0]}
    assert seen == inputs(np.delete(dataset.train_images, held_out, axis=0))
    assert not seen & (inputs(dataset.train_images[held_out]) | inputs(dataset.test_images))


def test_scores_are_calibrated_by_what_was_held_out(run: results.Run, root: Path) -> None:
    dataset = data.load("custom:easy", root)
    indices, source = quantization._held_out(dataset, run)
    assert source == "validation"
    assert np.array_equal(indices, run.predictions["validation_indices"])  # the very ones, by its config alone
    fewer = trained_otherwise(run, train_size=100)
    assert quantization._held_out(dataset, fewer)[1] == "validation"
    fewer = trained_otherwise(run, train_size=100, validation_fraction=None)
    spare, source = quantization._held_out(dataset, fewer)
    trained, _ = runs.training_split(dataset, fewer.config)
    assert source == "train_size"
    assert sorted([*spare, *trained]) == list(range(160))  # all of the rest, and none twice
    nothing, source = quantization._held_out(dataset, trained_otherwise(run, validation_fraction=None))
    assert source is None and len(nothing) == 0


def test_no_more_images_than_needed_are_held_out(run: results.Run, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantization, "HELD_OUT_IMAGES", 8)
    dataset = data.load("custom:easy", root)
    labels = dataset.train_labels[quantization._held_out(dataset, run)[0]]
    assert np.bincount(labels).tolist() == [2] * N_CLASSES


def test_scores_are_recorded(run: results.Run, record: dict[str, Any]) -> None:
    scores = record["scores"]
    assert (scores["held_out"], scores["images"]) == ("validation", 16)
    assert 0.1 <= scores["temperature"] <= 10
    assert all(0 <= value <= 1 for part in (scores["ece"], scores["declined"]["unseen"]) for value in part.values())
    description = recognizer.read_description(run.folder / "model.json")
    loaded = recognizer.load(run.folder / "model.fp32.tflite")
    assert description["scores"] == {
        "temperature": scores["temperature"],
        "rejector": {"weights": loaded.rejector.weights.tolist(), "bias": loaded.rejector.bias},
    }
    assert loaded.temperature == scores["temperature"]


def test_without_held_out_images_nothing_is_set(run: results.Run, record: dict[str, Any], root: Path) -> None:
    """The test images would do, and would then no longer test."""
    bare = trained_otherwise(run, validation_fraction=None)
    nobody = torch.nn.Identity()  # it is not even asked
    test = np.zeros((4, 4), np.float32), np.zeros(4, np.int64)
    scores, used = quantization._scores(bare, nobody, data.load("custom:easy", root), {}, test)
    assert scores == {"held_out": None, "images": 0, "temperature": 1} and used == {"temperature": 1}
    records.validate(record | {"scores": scores}, Path("quantization.json"))
    with pytest.raises(InputError, match=r"quantization\.json: record\.scores must contain"):
        records.validate(record | {"scores": scores | {"held_out": "validation"}}, Path("quantization.json"))


def test_prediction_agrees_with_the_run(run: results.Run, record: dict[str, Any], tmp_path: Path) -> None:
    images, _ = easy_images(40, 1)  # the test set
    loaded = recognizer.load(run.folder / "model.dynamic_int8.tflite")
    assert list(loaded.classes) == run.classes and (loaded.form["size"], loaded.network.output_shape) == (28, (1, 4))
    agreed = 0
    for image, expected in zip(images, run.predictions["classes"][:, 0], strict=True):
        Image.fromarray(image).save(tmp_path / "picture.png")  # of the dataset's size, so taken as it is
        best = loaded.read(tmp_path / "picture.png", 1).candidates[0]
        agreed += best[0] == run.classes[expected]
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


def test_answers_are_compared() -> None:
    reference = np.array([[5, 4, 3, 2, 1, 0], [5, 4, 3, 2, 1, 0], [0, 1, 2, 3, 4, 5], [9, 0, 0, 0, 0, 0]], np.float32)
    logits = reference.copy()
    logits[1] = [4.5, 5, 3, 2, 0, 1]  # another answer, and 5 instead of 4 among the five best
    labels = np.array([0, 0, 5, 1])
    found = quantization.compare(labels, reference, logits)
    assert found["test"]["correct"] == 2 and found["test"]["n"] == 4
    assert found["change"] == -0.25
    assert (found["mcnemar"]["only_fp32"], found["mcnemar"]["only_this"]) == (1, 0)
    assert quantization.compare(labels, reference, reference)["change"] == 0


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
    sizes = load_tool("export_sizes")
    record = sizes.measure("simple_cnn", ["safetensors"])
    assert record["weights"] == "random, untrained"
    parts = {row["classes"]: row["parts"] for row in record["rows"]}
    assert list(parts) == [10, 26, 3755]
    assert [parts[n]["classifier"] for n in parts] == [4 * 129 * n for n in parts]
    assert parts[10]["backbone"] == parts[26]["backbone"] == parts[3755]["backbone"]
    small, large, _ = sizes.measure("simple_cnn", ["dynamic_int8.tflite"])["rows"]
    # a byte for each of the 128 weights, and for the class a scale, a zero point and a bias
    assert large["parts"]["classifier"] - small["parts"]["classifier"] == 16 * (128 + 4 + 8 + 4)
    assert large["bytes"] == sum(large["parts"].values())


def flip(path: Path) -> None:
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)


@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped", "empty"])
def test_weights_that_do_not_fit_are_told(copy: Path, root: Path, damage: str) -> None:
    path = copy / "model.safetensors"
    if damage == "missing":
        path.unlink()
    elif damage == "flipped":
        flip(path)
    else:
        path.write_bytes(path.read_bytes()[: 1000 if damage == "truncated" else 0])
    before = (copy / "quantization.json").read_bytes()
    with pytest.raises(InputError, match=r"model\.safetensors.*(No such file|not the file that the record)") as error:
        quantization.quantize(copy, data_root=root)
    assert f"remove {copy / 'record.json'} and run `hwr train --dataset custom:easy" in str(error.value)
    assert f"--results-dir {copy.parent}`" in str(error.value)
    assert (copy / "quantization.json").read_bytes() == before


def test_weights_of_another_network_are_told(copy: Path, root: Path) -> None:
    record = records.read_json(copy / "record.json")
    record["dataset"]["classes"].append("e")
    files.write_json(copy / "record.json", record)
    with pytest.raises(
        InputError, match=r"size mismatch.*weights that fit simple_cnn as it is now .*Check out revision"
    ):
        quantization.quantize(copy, data_root=root)


def test_a_folder_without_a_record_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["quantize", str(tmp_path)]) == 2
    assert f"cannot read {tmp_path / 'record.json'}" in capsys.readouterr().err


@pytest.mark.parametrize("images", [0, 41])
def test_a_number_of_images_that_is_not_there_is_told(copy: Path, root: Path, images: int) -> None:
    with pytest.raises(InputError, match=f"images={images} is out of range, expected 1 to 40"):
        quantization.quantize(copy, images=images, data_root=root)


def test_other_data_is_told(copy: Path, tmp_path: Path) -> None:
    write_easy(tmp_path / "other", seed=7)
    with pytest.raises(InputError, match=r"custom:easy is not the data that .* was trained on"):
        quantization.quantize(copy, data_root=tmp_path / "other")


def test_a_record_of_other_weights_is_told(copy: Path) -> None:
    record = records.read_json(copy / "record.json")
    record["weights"]["sha256"] = "0" * 64
    files.write_json(copy / "record.json", record)
    with pytest.raises(InputError, match=r"quantization\.json is of other weights than the run has now"):
        records.read(copy / "quantization.json")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("formats", 0, "bytes"), 0),
        (("formats", 3, "test", "accuracy"), 1.5),
        (("formats", 1, "format"), "int7.tflite"),
        (("weights_sha256",), "abc"),
        (("environment", "threads"), 2),
        (("extra",), 1),
    ],
)
def test_a_record_that_breaks_the_schema_is_told(copy: Path, path: tuple[Any, ...], value: Any) -> None:
    record = records.read_json(copy / "quantization.json")
    place = record
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    files.write_json(copy / "quantization.json", record)
    with pytest.raises(InputError, match=r"quantization\.json: record"):
        records.read(copy / "quantization.json")


def test_quiet_hides_and_gives_back(capfd: pytest.CaptureFixture[str]) -> None:
    def talk() -> None:
        print("printed")
        print("told", file=sys.stderr)
        os.write(1, b"written")
        logging.getLogger("other").error("logged")

    with recognizer.quiet():
        talk()
    assert capfd.readouterr() == ("", "")
    with pytest.raises(RuntimeError), recognizer.quiet():
        raise RuntimeError("broken")
    talk()
    output = capfd.readouterr()
    assert "printed" in output.out and "written" in output.out and "told" in output.err
