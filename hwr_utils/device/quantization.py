"""Quantize a trained run, and measure what that costs: each file is run by the program that its format is made for.

Beside the run's record come the files, `model.json`, which says how to use them (see `recognizer`), and
`quantization.json`, the record of what was measured, which `quantization.schema.json` describes. The scores of all
files are calibrated with the 32-bit network, of which they are copies.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import load as load_safetensors
from torch import nn
from tqdm import tqdm

from hwr_utils import data, evaluation, files, models, preprocessing, recipes, records, results, runs
from hwr_utils.data import splits
from hwr_utils.device import calibration, export, recognizer, reports
from hwr_utils.device.calibration import Labels, Logits
from hwr_utils.errors import InputError, reading
from hwr_utils.training import choose_execution

ROUNDS, TURN = 20, 10  # the formats take turns, of so many inferences, so many times
REFERENCE, CLOCK = "safetensors", "fp32.tflite"  # what answers, and what times, are compared with
CLASS_COUNTS = (10, 26, 3755)  # of digits, letters and hanzi
CALIBRATION_IMAGES = 200  # of the training set; beyond some hundred the ranges hardly move
HELD_OUT_IMAGES = 5000  # at most, by which scores are calibrated
LIBRARIES = {"torch", "litert-torch", "litert-converter", "ai-edge-litert", "ai-edge-quantizer", "onnx", "onnxruntime"}

Interpreter = Callable[[NDArray[np.float32]], NDArray[np.float32]]  # (1, 1, H, W) image -> (C,) logits


def quantize(
    folder: str | Path,
    formats: Iterable[str] = reports.FORMATS,
    images: int | None = None,
    data_root: str | Path | None = None,
) -> dict[str, Any]:
    """Write the files of a run in several formats, measure them, and write `model.json` and `quantization.json`.

    Args:
        folder: of a run that has its record and its weights.
        formats: names of `reports.FORMATS`; the 32-bit ones that these are compared with are added.
        images: how many test images, stratified; None takes all.
        data_root: None is `data.default_root()`.

    Returns:
        The record that `quantization.schema.json` describes.

    Raises:
        InputError: an unknown format; no record, weights or data, or damaged ones; more images than there are.
    """
    wanted = set(export.check_formats(formats)) | {REFERENCE, CLOCK}
    wanted |= {"fp32.onnx"} if any(name.endswith(".onnx") for name in wanted) else set()
    run = open_run(folder)
    weights, model = network(run)
    dataset, size = _data(run, Path(data_root or data.default_root())), run.config.training["image_size"]
    chosen = some_of(dataset.test_labels, images, f"{dataset.name}'s test images")
    test_images, labels = torch.from_numpy(dataset.test_images[chosen]), dataset.test_labels[chosen]
    trained, _ = runs.training_split(dataset, run.config)  # neither of the test set nor of the validation set
    seen = dataset.train_images[_at_most(CALIBRATION_IMAGES, trained, dataset.train_labels)]
    form, threads = preprocessing.framing(seen), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        inputs = models.to_input(torch.from_numpy(seen), size).contiguous().numpy()
        contents = export.convert(model, size, inputs, wanted) | {REFERENCE: weights}
        for name in wanted - {REFERENCE}:
            files.write_bytes(run.folder / f"model.{name}", contents[name])
        logits = predict(model, size, test_images.numpy())
        scores, used = _scores(run, model, dataset, form, (logits, labels))
        _describe(run, contents, form, used)
        environment = runs.describe_environment(choose_execution("cpu"))
        environment |= {"versions": versions(), "load": round(os.getloadavg()[0], 2)}
        interpreters = {name: _interpreter(name, run.folder / f"model.{name}", model) for name in contents}
        rows = []
        for name, content in contents.items():
            answers = logits
            if name != REFERENCE:
                bar = tqdm(test_images.split(1), desc=name, unit="image")
                answers = np.stack([interpreters[name](models.to_input(image, size).numpy()) for image in bar])
            full = name if name == REFERENCE else "fp32." + name.rpartition(".")[2]
            row: dict[str, Any] = {
                "format": name,
                "bytes": len(content),
                "share_of_weights": len(content) / len(weights),
                "share_of_fp32": len(content) / len(contents[full]),
                "sha256": files.sha256(content),
                "parts": export.parts(name, content, model, size),
            }
            rows.append(row | compare(labels, logits, answers))
        times = latencies(interpreters, models.to_input(test_images[:TURN], size).contiguous().numpy())
    finally:
        torch.set_num_threads(threads)
    measured = {
        "architecture": run.config.architecture,
        "dataset": {"name": dataset.name, "published": dataset.published, "n_classes": len(run.classes)},
        "test_images": {"n": len(chosen), "of": len(dataset.test_labels), "stratified": images is not None},
        "calibration_images": len(seen),
        "scores": scores,
        "latency": {"threads": 1, "rounds": ROUNDS, "inferences_per_round": TURN, "ratio_to": CLOCK},
        "environment": environment,
        "formats": [row | {"latency": times[row["format"]]} for row in rows],
    }
    return reports.write(run.folder / reports.QUANTIZATION, run.record, measured)


def untrained_sizes(
    architecture: str, formats: Iterable[str] = reports.FORMATS, results_dir: str | Path | None = None
) -> dict[str, Any]:
    """Say how large the files of an architecture are and where their bytes go, as `benchmarks/sizes-<name>.json`.

    The weights are random, so only the sizes mean anything. Raises an InputError where the architecture or a format is
    unknown, or the folder cannot be written.
    """
    config = recipes.configure("mnist", architecture, "paper")
    wanted, size, rows = export.check_formats(formats), config.training["image_size"], []
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(8, 1, size, size, generator=generator).numpy()
    for n_classes in CLASS_COUNTS:
        model = models.build(architecture, n_classes, size, config.model)
        with torch.no_grad():
            for parameter in model.parameters():  # no zeros, which a converter would leave out
                parameter.normal_(std=0.05, generator=generator)
        for name, content in export.convert(model, size, noise, wanted).items():
            parts = export.parts(name, content, model, size)
            rows.append({"classes": n_classes, "format": name, "bytes": len(content), "parts": parts})
    record = {
        "schema_version": reports.SCHEMA_VERSION,
        "benchmark": "sizes",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "weights": "random, untrained",
        "architecture": architecture,
        "image_size": size,
        "versions": versions(),
        "rows": rows,
    }
    files.write_json(Path(results_dir or results.RESULTS_DIR) / "benchmarks" / f"sizes-{architecture}.json", record)
    return record


def text(record: Mapping[str, Any]) -> str:
    """Return the findings of a record as lines of text: of `quantize`, or of `untrained_sizes`."""
    if "rows" in record:
        rows = pd.json_normalize(record["rows"]).to_string(index=False)
        return f"{rows}\n{record['architecture']}, weights: {record['weights']}"
    table = pd.json_normalize(record["formats"]).set_index("format").drop(columns=["sha256", "latency.n", "test.n"])
    rows = table.astype(object).T.to_string(float_format="{:.4g}".format)  # a row for each measure
    n, scores = record["test_images"], record.get("scores", {})
    said = "scores are not calibrated, and nothing is declined: no images but the test's were held out"
    if found := scores.get("declined"):
        said = (
            f"scores: temperature {scores['temperature']:.3f}, found on {scores['images']:,} images; "
            f"declined: {found['test']:.2%} of the test images, {found['scribbles']:.1%} of scribbles"
        )
    return f"{rows}\naccuracy on {n['n']:,} of {n['of']:,} test images; times are compared with {CLOCK}\n{said}"


def versions() -> dict[str, str]:
    """Return the versions of the libraries that convert and run the files, of those that are installed."""
    return {name: one.version for one in metadata.distributions() if (name := one.name) in LIBRARIES}


def open_run(folder: str | Path) -> results.Run:
    """Return the run of a folder that a user gave; an InputError where it holds no record, or a damaged one."""
    path = Path(folder) / "record.json"
    if not path.is_file():
        raise InputError(f"{folder} holds no record.json. Give the folder of a run, as results/ has them.")
    return results.Run(path.parent, records.read(path))


def some_of(labels: Labels, images: int | None, what: str) -> NDArray[np.int64]:
    """Return the indices of so many of the (N,) labels, stratified, or of all; an InputError where they are fewer."""
    if images is None:
        return np.arange(len(labels))
    if not 1 <= images <= len(labels):
        raise InputError(f"images={images} is out of range, expected 1 to {len(labels)}: {what}.")
    return splits.stratified_sample(labels, images, seed=0)


def _at_most(n: int, indices: NDArray[np.int64], labels: Labels) -> NDArray[np.int64]:
    """Return so many of the indices, stratified by their (N,) labels, or all where they are fewer."""
    return indices[splits.stratified_sample(labels[indices], min(n, len(indices)), seed=0)]


def network(run: results.Run) -> tuple[bytes, nn.Module]:
    """Read a run's weights, see that they are the record's, and return them and the network that has them."""
    path, config = run.folder / "model.safetensors", run.config
    command = f"{results.command(config)} --results-dir {run.folder.parent}"
    again = f"To make them again, remove {run.folder / 'record.json'} and run `{command}`."
    with reading(path, "the weights of the run, which are not committed,", again):
        content = path.read_bytes()
    if files.sha256(content) != run.record["weights"]["sha256"]:
        raise InputError(f"{path} is not the file that the record describes: its SHA-256 is another. {again}")
    model = models.build(config.architecture, len(run.classes), config.training["image_size"], config.model)
    revision = f"Check out revision {run.record['environment']['git_revision']}."
    with reading(path, f"weights that fit {config.architecture} as it is now", revision):
        model.load_state_dict(load_safetensors(content))
    return content, model.eval()


def _data(run: results.Run, root: Path) -> data.Dataset:
    given = {name: run.config.training[name] for name in ("split", "pool_size")}
    dataset = data.load(run.config.dataset, root, seed=run.config.seed, **given)
    if dataset.files != run.record["dataset"]["files"]:
        raise InputError(
            f"{dataset.name} under {root} is not the data that {run.folder.name} was trained on: the checksums of its "
            "files differ from those in the record. Put that data there, or train on this one."
        )
    return dataset


def _held_out(dataset: data.Dataset, run: results.Run) -> tuple[NDArray[np.int64], str | None]:
    """Return the indices of training images that the run was not trained on, and which they are.

    They are its validation images, which no more than chose the epoch; else those that `train_size` left out.
    """
    trained, validation = runs.training_split(dataset, run.config)
    left_out = np.setdiff1d(np.arange(len(dataset.train_labels)), trained)
    if not len(left_out):
        return left_out, None
    found, source = (validation, "validation") if len(validation) else (left_out, "train_size")
    return _at_most(HELD_OUT_IMAGES, found, dataset.train_labels), source


def _scores(
    run: results.Run, model: nn.Module, dataset: data.Dataset, form: Mapping[str, Any], test: tuple[Logits, Labels]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what `calibration.measure` finds and on which images, and what of it model.json says under `scores`."""
    indices, source = _held_out(dataset, run)
    found: dict[str, Any] = {"held_out": source, "images": len(indices), "temperature": 1.0}
    if source is None:  # the test images would do for both, and would then no longer test
        return found, {"temperature": 1.0}
    held_out, size = (dataset.train_images[indices], dataset.train_labels[indices]), run.config.training["image_size"]
    measured, rejector = calibration.measure(partial(predict, model, size), form, run.classes, held_out, test)
    told = {"weights": rejector.weights.tolist(), "bias": rejector.bias}
    return found | measured, {"temperature": measured["temperature"], "rejector": told}


def predict(model: nn.Module, size: int, images: NDArray[np.uint8]) -> Logits:
    """Return the (N, C) logits of a network in 32 bits, whose input has that side, of (N, H, W) images."""
    return models.predict_logits(model, torch.from_numpy(images), size, batch_size=50).numpy()


def _describe(
    run: results.Run, contents: Mapping[str, bytes], form: Mapping[str, Any], scores: Mapping[str, Any]
) -> None:
    """Write model.json; files of the same weights that an earlier call made stay in it."""
    size, sha256, path = run.config.training["image_size"], run.record["weights"]["sha256"], run.folder / "model.json"
    try:
        older = recognizer.read_description(path)
    except InputError:  # there is none, or it is damaged, and is made anew
        older = {}
    kept = older["files"] if older.get("weights_sha256") == sha256 else {}
    made = {f"model.{name}": {"bytes": len(one), "sha256": files.sha256(one)} for name, one in contents.items()}
    description = {
        "schema_version": recognizer.SCHEMA_VERSION,
        "run_id": run.record["run_id"],
        "architecture": run.config.architecture,
        "dataset": run.config.dataset,
        "weights_sha256": sha256,
        "classes": run.classes,
        "input": {"shape": [1, 1, size, size], "type": "float32", "paper": 0, "ink": 1},
        "image": form,
        "scores": scores,
        "files": {name: entry for name, entry in kept.items() if (run.folder / name).is_file()} | made,
    }
    files.write_json(path, description)


def _interpreter(name: str, path: Path, model: nn.Module) -> Interpreter:
    """Open a file by the program that its format is made for, on one thread; PyTorch runs `model` instead."""
    if name.endswith(".tflite"):
        return recognizer.Network(path)
    if name.endswith(".onnx"):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        with recognizer.quiet():
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda image: np.asarray(session.run(None, {export.INPUT: image})[0][0])
    return torch.inference_mode()(lambda image: model(torch.from_numpy(image))[0].numpy())


def accuracy(right: NDArray[np.bool_]) -> dict[str, Any]:
    """Return n, correct, accuracy, and low and high of its 95 % interval (Wilson's) of (N,) answers."""
    n, correct = len(right), int(right.sum())
    low, high = evaluation.wilson_interval(correct, n)
    return {"n": n, "correct": correct, "accuracy": correct / n, "low": low, "high": high}


def compare(labels: Labels, reference: Logits, logits: Logits) -> dict[str, Any]:
    """Compare the (N, C) logits of a file with those of the network that it was made of, as the schema describes."""
    ranked, expected = (np.argsort(-values, axis=1, kind="stable")[:, :5] for values in (logits, reference))
    only_fp32, only_this, p = evaluation.mcnemar(labels, expected[:, 0], ranked[:, 0])
    return {
        "test": accuracy(ranked[:, 0] == labels),
        "change": (only_this - only_fp32) / len(labels),
        "mcnemar": {"only_fp32": only_fp32, "only_this": only_this, "p": p},
        "top1_agreement": float((ranked[:, 0] == expected[:, 0]).mean()),
        "top5_agreement": float((ranked[:, :, None] == expected[:, None, :]).any(axis=1).mean()),
        "largest_logit_difference": float(np.abs(logits - reference).max()),
    }


def latencies(interpreters: Mapping[str, Interpreter], images: NDArray[np.float32]) -> dict[str, dict[str, Any]]:
    """Time interpreters by turns on (N, 1, H, W) images, so that what slows one slows all.

    The first round warms up and does not count. A ratio is that of the medians of one round, to those of `CLOCK`.
    """
    times = {name: np.empty((ROUNDS + 1, TURN)) for name in interpreters}
    for turn in tqdm(range(ROUNDS + 1), desc="latency", unit="round"):
        for name, run in interpreters.items():
            for index in range(TURN):
                image = images[index % len(images)][None]
                start = time.perf_counter()
                run(image)
                times[name][turn, index] = time.perf_counter() - start
    found = {}
    for name, seconds in times.items():
        p50, p95 = np.percentile(1000 * seconds[1:], (50, 95)).round(4).tolist()
        ratios = np.median(seconds[1:], axis=1) / np.median(times[CLOCK][1:], axis=1)
        ratio = dict(zip(("low", "median", "high"), np.percentile(ratios, (0, 50, 100)).round(4).tolist(), strict=True))
        found[name] = {"p50_ms": p50, "p95_ms": p95, "n": ROUNDS * TURN, "ratio": ratio}
    return found
