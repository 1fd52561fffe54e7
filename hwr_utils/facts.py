"""Count and measure what datasets hold, as records (`hwr describe`) that `results.facts` reads."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr_utils import data, files, records, results
from hwr_utils.data import Dataset, catalog, gnt, hwdb
from hwr_utils.data.catalog import LETTERS
from hwr_utils.data.idx import checksum, read_idx
from hwr_utils.errors import InputError
from hwr_utils.synthesis import medians

INK = 128  # the level from which a pixel counts as ink
CHUNK = 10_000  # images that are measured at a time
LABEL_FILES = "emnist-letters-labels"  # the release's label files alone, as a folder of the data root


def record(name: str, results_dir: str | Path | None = None, data_root: str | Path | None = None) -> Path:
    """Count and measure a dataset from its files, and write its record anew; return the record's folder.

    Args:
        name: a name of the catalogue, or custom:NAME, or `LABEL_FILES` for what `label_file_facts` gives.
        results_dir: the record is `datasets/<name>/` in it; None takes `results.RESULTS_DIR`.
        data_root: folder of the datasets; None takes `data.default_root()`.

    Raises:
        InputError: the files are missing or damaged, or the folder cannot be written; an older record is kept.
    """
    root = Path(data_root or data.default_root())
    folder = Path(results_dir or results.RESULTS_DIR) / "datasets" / name.replace(":", "-")
    if name == LABEL_FILES:
        found = label_file_facts(root / name)
    elif (samples := data.open_import(name, root)) is not None:
        found, sheet = describe_import(name, samples), import_sheet(samples)
    else:
        dataset = data.load(name, root)
        found, sheet = describe(dataset), sample_sheet(dataset)
    if name != LABEL_FILES and catalog.entry(name).pictures:
        records.write_arrays(folder / "samples.npz", {"samples": sheet})
    files.write_json(folder / "facts.json", found)
    return folder


def describe(dataset: Dataset) -> dict[str, Any]:
    """Return the facts of a dataset, ready for JSON.

    Pixel values are in 0..1: `mean` and `std` over all pixels of a split, `ink` the share of pixels of at least half
    brightness. `complexity` is that of `perimetric_complexity`. `duplicates` counts images that equal an earlier one of
    their split, pixel by pixel, and `test_images_in_train` those that a model has seen in training.
    """
    found: dict[str, Any] = {
        "name": dataset.name,
        "published": dataset.published,
        "classes": list(dataset.classes),
        "image_size": list(dataset.train_images.shape[1:]),
        "files": dataset.files,
    }
    splits = {"train": (dataset.train_images, dataset.train_labels), "test": (dataset.test_images, dataset.test_labels)}
    hashes = {}
    for split, (images, labels) in splits.items():
        hashes[split] = [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images]
        # whole numbers until the end, so that every machine finds the same
        values, levels = np.arange(256), np.bincount(images.ravel(), minlength=256)
        mean = int(levels @ values) / images.size
        variance = int(levels @ values**2) / images.size - mean**2
        complexity = perimetric_complexity(images)
        found[split] = {
            "n": len(images),
            "per_class": np.bincount(labels, minlength=len(dataset.classes)).tolist(),
            "mean": mean / 255,
            "std": variance**0.5 / 255,
            "ink": int(levels[INK:].sum()) / images.size,
            "duplicates": len(images) - len(set(hashes[split])),
            "complexity": {
                "mean": round(float(np.nanmean(complexity)), 4),
                "deviation": round(float(np.nanstd(complexity)), 4),
            },
        }
    found["test_images_in_train"] = sum(map(set(hashes["train"]).__contains__, hashes["test"]))
    return found


def describe_import(name: str, found: hwdb.Import) -> dict[str, Any]:
    """Return the facts of an import of GNT files, ready for JSON; its samples are not split here.

    `per_class` counts samples; `writers` those of each file, or is None where a file is not a writer; `parts` those of
    the published split; `others` those left out; `strokes` those of each character as it is printed.
    """
    promise, parts, sources = catalog.entry(name), found.parts, found.manifest["sources"]
    present, per_class = np.unique(found.labels, return_counts=True)
    classes = [gnt.LEVEL_1[label] for label in present]
    return {
        "name": name,
        "published": promise.published,
        "classes": classes,
        "image_size": list(found.images.shape[1:]),
        "files": {"samples": found.sha256},
        "n": len(found.labels),
        "per_class": per_class.tolist(),
        "writers": [source["kept"] for source in sources] if promise.files_are_writers else None,
        "parts": {part: int((parts == part).sum()) for part in ("train", "test")},
        "others": sum(sum(source["others"].values()) for source in sources),
        "strokes": medians.stroke_counts("".join(classes)),
    }


def import_sheet(found: hwdb.Import, per_class: int = 8, columns: int = 12) -> NDArray[np.uint8]:
    """Return (columns, per_class, H, W) samples, of characters evenly spread over the classes and writers over all."""
    present = np.unique(found.labels)
    chosen = present[np.linspace(0, len(present) - 1, min(columns, len(present))).round().astype(np.int64)]
    members = [np.flatnonzero(found.labels == label) for label in chosen]
    spread = [places[np.linspace(0, len(places) - 1, per_class).round().astype(np.int64)] for places in members]
    return found.images[np.stack(spread)]


def perimetric_complexity(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return how intricate each image's ink is: its perimeter squared, over its area and 4 pi; 1 for a disc.

    After Pelli et al. (Vision Research 46, 2006), for whom it predicts how hard a letter is to identify. Pixels of at
    least half brightness are ink; the perimeter counts the sides between ink and paper, so a square has 4 / pi.

    Args:
        images: (N, H, W) uint8, white ink on black.

    Returns:
        (N,) float64; NaN for an image without ink.
    """
    found = np.empty(len(images))
    for start in range(0, len(images), CHUNK):
        ink = np.pad(images[start : start + CHUNK] >= INK, ((0, 0), (1, 1), (1, 1)))
        perimeter = sum((ink != np.roll(ink, 1, axis)).sum((1, 2)) for axis in (1, 2))
        area = ink.sum((1, 2)).astype(float)
        area[area == 0] = np.nan
        found[start : start + CHUNK] = perimeter**2 / (4 * np.pi * area)
    return found


def sample_sheet(dataset: Dataset, per_class: int = 10) -> NDArray[np.uint8]:
    """Return (C, per_class, 28, 28) training images drawn at random; black where a class has too few."""
    draws = np.random.Generator(np.random.PCG64(0)).random(len(dataset.train_labels))
    sheet = np.zeros((len(dataset.classes), per_class, *dataset.train_images.shape[1:]), np.uint8)
    for label, row in enumerate(sheet):
        members = np.flatnonzero(dataset.train_labels == label)
        chosen = members[np.argsort(draws[members], kind="stable")[:per_class]]
        row[: len(chosen)] = dataset.train_images[chosen]
    return sheet


def label_file_facts(folder: Path, kept_train: int = 88_800, kept_test: int = 14_800) -> dict[str, Any]:
    """Return what keeping only the first records of EMNIST-letters does to its classes.

    The release holds 124,800 and 20,800 records; TensorFlow Datasets declares 88,800 and 14,800, and so does the table
    in the paper of Cohen et al. (2017). Reads the original label files (labels 1..26), which need no images.

    Raises:
        InputError: a file that cannot be read, or is not the labels of the release, or holds fewer records than kept.
    """
    found: dict[str, Any] = {"classes": list(LETTERS)}
    for split, kept in (("train", kept_train), ("test", kept_test)):
        path = folder / f"emnist-letters-{split}-labels-idx1-ubyte.gz"
        labels = read_idx(path, ndim=1)
        if len(labels) < kept or not 1 <= labels.min() <= labels.max() <= len(LETTERS):
            raise InputError(
                f"{path} holds {len(labels)} labels of {labels.min()} to {labels.max()}; at least {kept} of 1 to 26 "
                "were expected. Copy it there out of EMNIST's gzip.zip."
            )
        whole, part = (np.bincount(some, minlength=len(LETTERS) + 1)[1:] for some in (labels, labels[:kept]))
        share = part[whole > 0] / whole[whole > 0]
        found[split] = {
            "sha256": checksum(labels),
            "n": len(labels),
            "per_class": whole.tolist(),
            "sorted": bool((np.diff(labels.astype(int)) >= 0).all()),
            "kept": {
                "n": kept,
                "per_class": part.tolist(),
                "missing": [LETTERS[label] for label in np.flatnonzero((part == 0) & (whole > 0))],
                # a class that keeps half as large a share as the best kept one counts one half
                "classes": round(float(share.sum() / share.max()), 6),
            },
        }
    return found
