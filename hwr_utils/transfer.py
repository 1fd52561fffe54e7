"""Test a run on the images of another dataset: real handwriting, for a model that was trained on drawn one.

It is the file `model.dynamic_int8.tflite` that is tested, by LiteRT's interpreter and the `model.json` beside it: what
devices and the playground run. A dataset's classes are matched with the model's by their characters.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from hwr_utils import data, evaluation, files, prediction, preprocessing, quantization, records, results, runs
from hwr_utils.data import splits
from hwr_utils.errors import InputError
from hwr_utils.training import choose_execution

SCHEMA_VERSION = 1
FILE = "model.dynamic_int8.tflite"


def evaluate(
    folder: str | Path, name: str, images: int | None = None, data_root: str | Path | None = None
) -> dict[str, Any]:
    """Test a run on the official test images of another dataset, and write `evaluation.<dataset>.json` beside it.

    Images of characters that the model does not have are counted and left out; an answer may be any of its classes.
    Where the dataset frames its ink as the model's own data does, images are taken as they are. Else they are cropped
    and fitted anew, as pictures and drawings are before they are read.

    Args:
        folder: of a run that has its record and `FILE`.
        name: a dataset, of another source than the run's own.
        images: how many, stratified; None takes all.
        data_root: None is `data.default_root()`.

    Returns:
        The record that `evaluation.schema.json` describes.

    Raises:
        InputError: no record, or no such file; a dataset that is unknown, missing or the run's own; no character that
            both have; more images than there are.
    """
    folder = Path(folder)
    run = quantization.open_record(folder)
    _other_source(run, name)
    if not (folder / FILE).is_file():
        raise InputError(f"{folder / FILE} is missing. Make it with `hwr quantize {folder} --formats {FILE[6:]}`.")
    recognizer = prediction.load(folder / FILE)
    description = prediction.read_description(folder / prediction.DESCRIPTION)
    if description.get("weights_sha256") != run.record["weights"]["sha256"]:
        raise InputError(
            f"{folder / FILE} is of other weights than the run's record. Run `hwr quantize {folder}` again."
        )
    dataset = data.load(name, data_root or data.default_root())
    shared, labels = match(dataset.classes, recognizer.classes, dataset.test_labels)
    chosen = np.flatnonzero(labels >= 0)
    if not len(chosen):
        raise InputError(
            f"{folder.name} and {name} share no character: the model reads {_some(recognizer.classes)}, and {name} has "
            f"{_some(dataset.classes)}. Give a dataset of characters that the model has."
        )
    n_shared = len(chosen)
    if images is not None:
        if not 1 <= images <= n_shared:
            raise InputError(
                f"images={images} is out of range, expected 1 to {n_shared}: {name}'s test images of shared characters."
            )
        chosen = chosen[splits.stratified_sample(labels[chosen], images, seed=0)]
    labels = labels[chosen]
    own = {"size": recognizer.size, "margin": recognizer.margin, "centre": recognizer.centre}
    found = quantization.framing(dataset.test_images[chosen])
    logits = np.empty((len(chosen), len(recognizer.classes)), np.float32)
    for row, index in enumerate(tqdm(chosen, desc=name, unit="image")):
        image = dataset.test_images[index]
        if found != own:
            image = preprocessing.to_square(image, recognizer.size, recognizer.margin)
            image = preprocessing.centre_mass(image) if recognizer.centre == "mass" else image
        logits[row] = recognizer.network(prediction.to_input(image, recognizer.network.input_shape))
    record = {
        "schema_version": SCHEMA_VERSION,
        "run_id": run.record["run_id"],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "file": {"name": FILE, "sha256": files.sha256(folder / FILE)},
        "weights_sha256": run.record["weights"]["sha256"],
        "dataset": {
            "name": dataset.name,
            "published": dataset.published,
            "files": dict(sorted(dataset.files.items())),
            "n_test": len(dataset.test_labels),
            "left_out": len(dataset.test_labels) - n_shared,
        },
        "framing": {"dataset": found, "model": own, "fitted_anew": found != own},
        "stratified": images is not None,
        "classes": list(shared),
        "environment": runs.describe_environment(choose_execution("cpu")) | {"versions": quantization.versions()},
    } | score(logits, labels, recognizer)
    path = place(folder, name)
    validate(record, path)
    files.write_json(path, record)
    return record


def match(
    theirs: tuple[str, ...], ours: tuple[str, ...], labels: NDArray[np.int64]
) -> tuple[list[str], NDArray[np.int64]]:
    """Match a dataset's classes with a model's by their characters.

    Args:
        theirs: the dataset's characters, by label.
        ours: the model's.
        labels: (N,) the dataset's.

    Returns:
        The characters that both have and that have images, in the model's order; and (N,) int64, the labels that the
        model gives the same characters, -1 where it does not have them.
    """
    known = {character: label for label, character in enumerate(ours)}
    translated = np.array([known.get(character, -1) for character in theirs], np.int64)[labels]
    return [ours[label] for label in np.unique(translated[translated >= 0])], translated


def score(logits: NDArray[np.float32], labels: NDArray[np.int64], recognizer: prediction.Recognizer) -> dict[str, Any]:
    """Compare a model's answers with the truth.

    Args:
        logits: (N, C).
        labels: (N,) true classes.
        recognizer: that gave them.

    Returns:
        n, correct, accuracy, low and high of its 95 % interval (Wilson's), top5, top10, declined: the share of images
        said to show no character, and per_class: n and correct of each character.
    """
    ranked = np.argsort(-logits, axis=1, kind="stable")[:, :10]
    right, n = ranked[:, 0] == labels, len(labels)
    low, high = evaluation.wilson_interval(int(right.sum()), n)
    return {
        "n": n,
        "correct": int(right.sum()),
        "accuracy": float(right.mean()),
        "low": low,
        "high": high,
        "top5": float((ranked[:, :5] == labels[:, None]).any(axis=1).mean()),
        "top10": float((ranked == labels[:, None]).any(axis=1).mean()),
        "declined": float((~recognizer.accepts(logits)).mean()),
        "per_class": [
            {
                "character": recognizer.classes[label],
                "n": int((labels == label).sum()),
                "correct": int(right[labels == label].sum()),
            }
            for label in np.unique(labels)
        ],
    }


def text(record: Mapping[str, Any]) -> str:
    """Say the findings of a record in two lines."""
    dataset, fitted = record["dataset"], record["framing"]["fitted_anew"]
    return (
        f"{record['run_id']} on {dataset['name']}: {record['accuracy']:.4f} ({record['correct']:,} of {record['n']:,} "
        f"test images, 95 % interval {record['low']:.4f} to {record['high']:.4f}); among the first 5 "
        f"{record['top5']:.4f}, among the first 10 {record['top10']:.4f}\n"
        f"{len(record['classes'])} shared characters; {dataset['left_out']:,} images of others were left out; images "
        + ("cropped and fitted as the model's own are" if fitted else "taken as they are")
    )


def place(folder: str | Path, name: str) -> Path:
    """Return where the record of a run on a dataset lies."""
    return Path(folder) / f"evaluation.{name.replace(':', '-')}.json"


def read(folder: str | Path, name: str) -> dict[str, Any] | None:
    """Return the record of a run on a dataset, or None where there is none.

    Raises:
        InputError: it is damaged, breaks the schema, or is of other weights than the run's record.
    """
    path = place(folder, name)
    return _read(path) if path.exists() else None


def read_all(folder: str | Path) -> list[dict[str, Any]]:
    """Return all such records of a run, by the dataset's name.

    Raises:
        InputError: as `read`.
    """
    return [_read(path) for path in sorted(Path(folder).glob("evaluation.*.json"))]


def _read(path: Path) -> dict[str, Any]:
    record = records.read_json(path)
    validate(record, path)
    if record["weights_sha256"] != records.read(path.with_name("record.json"))["weights"]["sha256"]:
        again = f"hwr evaluate {path.parent} --on {record['dataset']['name']}"
        raise InputError(f"{path} is of other weights than the run has now. Run `{again}` again.")
    return record


def validate(record: Mapping[str, Any], source: str | Path) -> None:
    """Check a record against `evaluation.schema.json`.

    Raises:
        InputError: it breaks the schema; says where.
    """
    records.validate_measurement(record, "evaluation", source)


def _other_source(run: results.Run, name: str) -> None:
    """See that a dataset cannot hold images that the run was trained on: a sample is of its whole."""
    own, other = data.entry(run.config.dataset), data.entry(name)
    if name == own.name or (other.citation and other.citation == own.citation):
        raise InputError(
            f"{run.folder.name} was trained on {own.name}, which is of the same source as {name}: it may have seen "
            "these images. What its own test set says is in its record.json. Give a dataset of another source."
        )


def _some(classes: tuple[str, ...]) -> str:
    return f"{len(classes)} such as {' '.join(classes[:5])}"
