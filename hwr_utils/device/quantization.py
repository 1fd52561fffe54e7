"""Quantize a trained run, and measure what that costs: each file is run by the program that its format is made for.

Beside the run's record come the files, `model.json`, which says how to use them (see `recognizer`), and
`quantization.json`, the record of what was measured, which `quantization.schema.json` describes. The scores of all
files are calibrated with the 32-bit network, of which they are copies.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib import metadata
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest
from torch import nn
from tqdm import tqdm

from hwr_utils import data, evaluation, files, models, preprocessing, records, results, runs
from hwr_utils.data import catalog, splits
from hwr_utils.device import calibration, export, recognizer
from hwr_utils.device.calibration import Images, Labelled, Labels, Logits, Predict, Tested
from hwr_utils.errors import InputError, warn
from hwr_utils.training import Execution

ROUNDS, TURN = 20, 10  # in each of the rounds every format has a turn, of so many inferences
REFERENCE, CLOCK = "safetensors", "fp32.tflite"  # the formats with which answers and times are compared
CALIBRATION_IMAGES = 200  # of the training set; beyond some hundred the ranges hardly move
HELD_OUT_IMAGES, FEWEST_HELD_OUT = 5000, 10  # at most, and at least, by which scores are calibrated
LIBRARIES = {"torch", "litert-torch", "litert-converter", "ai-edge-litert", "ai-edge-quantizer", "onnx", "onnxruntime"}

Interpreter = Callable[[NDArray[np.float32]], NDArray[np.float32]]  # (1, 1, H, W) image -> (C,) logits


def quantize(
    folder: str | Path,
    data_root: str | Path,
    formats: Iterable[str] = export.FORMATS,
    images: int | None = None,
    calibrate_on: str | None = None,
) -> dict[str, Any]:
    """Write the files of a run in several formats, measure them, and write `model.json` and `quantization.json`.

    Args:
        folder: of a run that has its record and its weights.
        formats: names of `export.FORMATS`; those that these are compared with are added.
        images: how many test images, stratified; None takes all.
        calibrate_on: a dataset whose test images, of characters that the run knows, calibrate the scores; so they can
            no longer serve as a test. None takes images that were held out of training, if there are any.

    Returns the record that `quantization.schema.json` describes. Raises an InputError where a format is unknown; the
    record, the weights or the data are missing or damaged; or there are not so many images.
    """
    torch.set_num_threads(1)
    run = results.open_run(Path(folder))
    model, size = runs.network(run), run.config.training["image_size"]
    dataset = runs.load_data(run.config, data_root)
    if dataset.files != run.record["dataset"]["files"]:
        told = f"{dataset.name} is not the data that {run.folder.name} was trained on: the checksums differ"
        raise InputError(f"{told}. Put that data there, or train on this one.")
    chosen = some_of(dataset.test_labels, images, f"{dataset.name}'s test images")
    test_images, labels = torch.from_numpy(dataset.test_images[chosen]), dataset.test_labels[chosen]
    trained, _ = runs.training_split(dataset, run.config)  # neither of the test set nor of the validation set
    seen = dataset.train_images[_at_most(CALIBRATION_IMAGES, trained, dataset.train_labels)]
    inputs, form = models.to_input(torch.from_numpy(seen), size).contiguous().numpy(), preprocessing.framing(seen)
    contents = export.convert(model, size, inputs, {*formats, REFERENCE, CLOCK})
    ask = partial(predict, model, size)
    logits = ask(test_images.numpy())
    indices, source = not_seen(dataset, run)
    held_out = dataset.train_images[indices], dataset.train_labels[indices]
    if calibrate_on:
        held_out, source = foreign(run, form, calibrate_on, data_root)[:2], calibrate_on
    scores, used = _scores(run, ask, form, held_out, source, (test_images.numpy(), logits, labels))
    environment = runs.describe_environment(Execution())
    environment |= {"versions": versions(), "load": round(os.getloadavg()[0], 2)}
    rows, interpreters = [], {}
    for name, content in contents.items():
        path, answers = run.folder / f"model.{name}", logits
        if name == REFERENCE:
            interpreters[name] = torch.inference_mode()(lambda image: model(torch.from_numpy(image))[0].numpy())
        else:
            files.write_bytes(path, content)
            interpreters[name] = interpret = _interpreter(path)
            bar = tqdm(test_images.split(1), desc=name, unit="image")
            answers = np.stack([interpret(models.to_input(image, size).numpy()) for image in bar])
        row: dict[str, Any] = {"format": name, "bytes": len(content), "sha256": files.sha256(content)}
        rows.append(row | compare(labels, logits, answers))
    description = {
        "schema_version": recognizer.SCHEMA_VERSION,
        "run_id": run.record["run_id"],
        "architecture": run.config.architecture,
        "dataset": run.config.dataset,
        "weights_sha256": run.record["weights"]["sha256"],
        "classes": run.classes,
        "input": {"shape": [1, 1, size, size], "type": "float32", "paper": 0, "ink": 1},
        "image": form,
        "scores": used,
        "files": {f"model.{row['format']}": {name: row[name] for name in ("bytes", "sha256")} for row in rows},
    }
    files.write_json(run.folder / recognizer.DESCRIPTION, description)
    times = latencies(interpreters, models.to_input(test_images[:TURN], size).contiguous().numpy())
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
    return records.write_measured(run.folder / "quantization.json", run.record, measured)


def versions() -> dict[str, str]:
    """Return the versions of the libraries that convert and run the files, of those that are installed."""
    return {name: one.version for one in metadata.distributions() if (name := one.name) in LIBRARIES}


def some_of(labels: Labels, images: int | None, what: str) -> NDArray[np.int64]:
    """Return the indices of a stratified sample of the (N,) labels (None: of all); an InputError if there are fewer."""
    if images is None:
        return np.arange(len(labels))
    if not 1 <= images <= len(labels):
        raise InputError(f"images={images} is out of range, expected 1 to {len(labels)}: {what}.")
    return splits.stratified_sample(labels, images, seed=0)


def _at_most(n: int, indices: NDArray[np.int64], labels: Labels) -> NDArray[np.int64]:
    """Return n of the indices into (N,) labels, stratified by label, or all of them where there are fewer."""
    return indices[splits.stratified_sample(labels[indices], min(n, len(indices)), seed=0)]


def foreign(
    run: results.Run, form: Mapping[str, Any], name: str, root: str | Path, images: int | None = None
) -> tuple[Images, Labels, dict[str, Any]]:
    """Read the test images of another dataset, of those characters that a run's network has.

    Returns the images (N, size, size) in the run's form, a stratified sample or (None) all of them; the run's labels
    for them (N,); and what an evaluation's record has to say of them. Raises an InputError where the dataset is
    missing, is of the same source as the run's own, or shares no character with it; or there are not so many images.
    """
    own, other = catalog.entry(run.config.dataset), catalog.entry(name)
    if name == own.name or (other.citation and other.citation == own.citation):  # samples have their set's citation
        same = "" if name == own.name else f", of the same source as {name}"
        told = f"{run.folder.name} was trained on {own.name}{same}: it may have seen these images"
        raise InputError(f"{told}. Give a dataset of another source.")
    dataset = data.load(name, root)
    known = {character: label for label, character in enumerate(run.classes)}
    labels = np.array([known.get(character, -1) for character in dataset.classes])[dataset.test_labels]
    shared = np.flatnonzero(labels >= 0)
    if not len(shared):
        reads, has = (shorten(" ".join(some), 40, placeholder=" ...") for some in (run.classes, dataset.classes))
        told = f"{run.folder.name} and {name} share no character: the model reads {reads}, and {name} has {has}"
        raise InputError(f"{told}. Give a dataset with some of the model's characters.")
    classes = [run.classes[label] for label in np.unique(labels[shared])]
    chosen = shared[some_of(labels[shared], images, f"{name}'s test images of shared characters")]
    shown = dataset.test_images[chosen]
    described = {
        "dataset": {
            "name": dataset.name,
            "published": dataset.published,
            "files": dict(sorted(dataset.files.items())),
            "n_test": len(labels),
            "left_out": len(labels) - len(shared),
        },
        "framing": {"dataset": preprocessing.framing(shown), "model": dict(form), "fitted_anew": True},
        "stratified": images is not None,
        "classes": classes,
    }
    return np.stack([preprocessing.prepare(image, **form) for image in shown]), labels[chosen], described


def not_seen(dataset: data.Dataset, run: results.Run) -> tuple[NDArray[np.int64], str | None]:
    """Return training images that the run did not train on: its validation images, or what `train_size` left out."""
    trained, validation = runs.training_split(dataset, run.config)
    left_out = np.setdiff1d(np.arange(len(dataset.train_labels)), trained)
    if not len(left_out):
        return left_out, None
    found, source = (validation, "validation") if len(validation) else (left_out, "train_size")
    return _at_most(HELD_OUT_IMAGES, found, dataset.train_labels), source


def _scores(
    run: results.Run, ask: Predict, form: Mapping[str, Any], held_out: Labelled, source: str | None, test: Tested
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what to record of `calibration.measure` and its images, and what model.json says under `scores`."""
    n = len(held_out[1])
    if n < FEWEST_HELD_OUT:  # and test images that calibrate would no longer be a test
        remedy = "Give it more training images, or a dataset with --calibrate-on, if you want that"
        warn(f"{run.folder.name}: {n} held-out images are too few to calibrate its scores. {remedy}.")
        return {"held_out": None, "images": 0, "temperature": 1.0}, {"temperature": 1.0}
    measured, rejector = calibration.measure(ask, form, run.classes, held_out, test)
    told = {name: values.tolist() for name, values in vars(rejector).items()}
    used = {"temperature": measured["temperature"], "rejector": told}
    return {"held_out": source, "images": n} | measured, used


def predict(model: nn.Module, size: int, images: Images) -> Logits:
    """Return the (N, C) logits for (N, H, W) images of a network whose input has `size` pixels a side."""
    return models.predict_logits(model, torch.from_numpy(images), size).numpy()


def _interpreter(path: Path) -> Interpreter:
    """Open a TFLite or an ONNX file with the program that runs it, on one thread."""
    if path.suffix == ".tflite":
        return recognizer.Network(path)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda image: np.asarray(session.run(None, {export.INPUT: image})[0][0])


def compare(labels: Labels, reference: Logits, logits: Logits) -> dict[str, Any]:
    """Compare the (N, C) logits of a file with those of the network that it was made of, as the schema describes.

    McNemar's exact test (Psychometrika 12, 1947) speaks of these two networks and not of the format.
    """
    before, right = (one.argmax(axis=1) == labels for one in (reference, logits))
    only_fp32, only_this = int((before & ~right).sum()), int((right & ~before).sum())
    p = float(binomtest(only_fp32, changed).pvalue) if (changed := only_fp32 + only_this) else 1.0
    n, correct = len(right), int(right.sum())
    low, high = evaluation.wilson_interval(correct, n)
    return {
        "test": {"n": n, "correct": correct, "accuracy": correct / n, "low": low, "high": high},
        "change": (only_this - only_fp32) / n,
        "mcnemar": {"only_fp32": only_fp32, "only_this": only_this, "p": p},
    }


def latencies(interpreters: Mapping[str, Interpreter], images: NDArray[np.float32]) -> dict[str, dict[str, Any]]:
    """Time interpreters in turn on (N, 1, H, W) images, so that whatever slows the machine slows all of them.

    The first round warms up and does not count. A ratio divides a round's median by that of `CLOCK` in the same round.
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
        low, median, high = np.percentile(ratios, (0, 50, 100)).round(4).tolist()
        ratio = {"low": low, "median": median, "high": high}
        found[name] = {"p50_ms": p50, "p95_ms": p95, "n": ROUNDS * TURN, "ratio": ratio}
    return found
