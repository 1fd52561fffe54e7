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
from hwr_utils.errors import InputError, MissingFiles
from hwr_utils.synthesis import medians

INK = 128  # the level from which a pixel counts as ink
CHUNK = 10_000  # images that are counted at a time
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
        train, test = (root / name / f"emnist-letters-{split}-labels-idx1-ubyte.gz" for split in ("train", "test"))
        if not (train.exists() and test.exists()):
            raise MissingFiles(
                f"{train.parent} lacks {train.name} or {test.name}. Copy them there out of EMNIST's gzip.zip."
            )
        found = label_file_facts(train, test)
    else:
        samples = data.open_import(name, root)
        if samples is not None:
            found = describe_import(name, samples)
            found["sheet"], sheet = import_sheet(samples)
            found["strokes"] = medians.stroke_counts("".join(found["classes"]))
        else:
            dataset = data.load(name, root)
            found, sheet = describe(dataset), sample_sheet(dataset)
        if catalog.entry(name).pictures:
            records.write_arrays(folder / "samples.npz", {"samples": sheet})
    files.write_json(folder / "facts.json", found)
    return folder


def describe(dataset: Dataset) -> dict[str, Any]:
    """Return the facts of a dataset, ready for JSON.

    Pixel values are in 0..1: `mean` and `std` over all pixels of a split, `ink` the share of pixels of at least half
    brightness. `duplicates` counts images that equal an earlier one of their split, pixel by pixel, and
    `test_images_in_train` those that a model has seen in training.
    """
    train_hashes, test_hashes = _hashes(dataset.train_images), _hashes(dataset.test_images)
    count = len(dataset.classes)
    return {
        "name": dataset.name,
        "published": dataset.published,
        "classes": list(dataset.classes),
        "image_size": list(dataset.train_images.shape[1:]),
        "files": dataset.files,
        "train": _split_facts(dataset.train_images, dataset.train_labels, count, train_hashes),
        "test": _split_facts(dataset.test_images, dataset.test_labels, count, test_hashes),
        "test_images_in_train": sum(map(set(train_hashes).__contains__, test_hashes)),
    }


def describe_import(name: str, found: hwdb.Import) -> dict[str, Any]:
    """Return the facts of an import of GNT files, ready for JSON; its samples are not split here.

    `per_class` counts samples; `writers` those of each file, or is None where a file is not a writer; `parts` those of
    the published split; `others` those left out. Pixel values as in `describe`.
    """
    promise = catalog.entry(name)
    present, per_class = np.unique(found.labels, return_counts=True)
    classes = [gnt.LEVEL_1[label] for label in present]
    levels = np.zeros(256, np.int64)
    for start in range(0, len(found.images), CHUNK):  # they may be gigabytes
        levels += np.bincount(found.images[start : start + CHUNK].ravel(), minlength=256)
    parts = found.parts
    return {
        "name": name,
        "published": promise.published,
        "classes": classes,
        "image_size": list(found.images.shape[1:]),
        "files": {"samples": found.sha256},
        "n": len(found.labels),
        "per_class": per_class.tolist(),
        "writers": [source["kept"] for source in found.manifest["sources"]] if promise.files_are_writers else None,
        "parts": {part: int((parts == part).sum()) for part in ("train", "test")},
        "others": sum(sum(source["others"].values()) for source in found.manifest["sources"]),
        **_pixel_facts(levels, found.images.size),
    }


def import_sheet(found: hwdb.Import, per_class: int = 8, columns: int = 12) -> tuple[list[str], NDArray[np.uint8]]:
    """Return characters evenly spread over the classes, and (columns, per_class, H, W) samples of them.

    A character's samples are of writers evenly spread over all; black where there are too few.
    """
    present = np.unique(found.labels)
    chosen = present[np.linspace(0, len(present) - 1, min(columns, len(present))).round().astype(np.int64)]
    sheet = np.zeros((len(chosen), per_class, *found.images.shape[1:]), np.uint8)
    for label, row in zip(chosen, sheet, strict=True):
        members = np.flatnonzero(found.labels == label)
        places = np.unique(np.linspace(0, len(members) - 1, min(per_class, len(members))).round().astype(np.int64))
        row[: len(places)] = found.images[members[places]]
    return [gnt.LEVEL_1[label] for label in chosen], sheet


def _hashes(images: NDArray[np.uint8]) -> list[bytes]:
    return [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images]


def _split_facts(
    images: NDArray[np.uint8], labels: NDArray[np.int64], classes: int, hashes: list[bytes]
) -> dict[str, Any]:
    return {
        "n": len(images),
        "per_class": np.bincount(labels, minlength=classes).tolist(),
        **_pixel_facts(np.bincount(images.ravel(), minlength=256), images.size),
        "duplicates": len(hashes) - len(set(hashes)),
        "complexity": _summary(perimetric_complexity(images)),
    }


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


def _summary(values: NDArray[np.float64]) -> dict[str, float]:
    return {"mean": round(float(np.nanmean(values)), 4), "deviation": round(float(np.nanstd(values)), 4)}


def _pixel_facts(levels: NDArray[np.int64], pixels: int) -> dict[str, float]:
    """Return `mean`, `std` and `ink` from the number of pixels at each level of brightness."""
    # whole numbers until the end, so that every machine finds the same
    values = np.arange(256)
    mean = int(levels @ values) / pixels
    variance = int(levels @ values**2) / pixels - mean**2
    return {"mean": mean / 255, "std": variance**0.5 / 255, "ink": int(levels[INK:].sum()) / pixels}


def sample_sheet(dataset: Dataset, per_class: int = 10, seed: int = 0) -> NDArray[np.uint8]:
    """Return (C, per_class, 28, 28) training images drawn at random; black where a class has too few."""
    if per_class < 1:
        raise InputError(f"per_class: found {per_class}, expected 1 or more.")
    draws = np.random.Generator(np.random.PCG64(seed)).random(len(dataset.train_labels))
    sheet = np.zeros((len(dataset.classes), per_class, *dataset.train_images.shape[1:]), np.uint8)
    for label, row in enumerate(sheet):
        members = np.flatnonzero(dataset.train_labels == label)
        chosen = members[np.argsort(draws[members], kind="stable")[:per_class]]
        row[: len(chosen)] = dataset.train_images[chosen]
    return sheet


def label_file_facts(
    train_labels_path: str | Path, test_labels_path: str | Path, kept_train: int = 88_800, kept_test: int = 14_800
) -> dict[str, Any]:
    """Return what keeping only the first records of EMNIST-letters does to its classes.

    The release holds 124,800 and 20,800 records; TensorFlow Datasets declares 88,800 and 14,800, and so does the table
    in the paper of Cohen et al. (2017). Reads the original label files (labels 1..26), which need no images.
    `train_tail` is the end of the training file, as long as the test file: a validation set by design.

    Raises:
        InputError: a file that cannot be read, or is not the labels of the release, or holds fewer records than kept.
    """
    train, test = (_letter_labels(path) for path in (train_labels_path, test_labels_path))
    return {
        "classes": list(LETTERS),
        "train": _order_facts(train, kept_train, train_labels_path),
        "test": _order_facts(test, kept_test, test_labels_path),
        "train_tail": {"n": len(test), "per_class": np.bincount(train[-len(test) :], minlength=len(LETTERS)).tolist()},
    }


def _letter_labels(path: str | Path) -> NDArray[np.int64]:
    labels = read_idx(path, ndim=1).astype(np.int64) - 1
    if not 0 <= labels.min() <= labels.max() < len(LETTERS):
        raise InputError(f"{path} holds labels {labels.min() + 1} to {labels.max() + 1}; 1 to 26 was expected.")
    return labels


def _order_facts(labels: NDArray[np.int64], kept: int, path: str | Path) -> dict[str, Any]:
    """Describe the order of a label file, and the classes that its first `kept` records hold."""
    if not 1 <= kept <= len(labels):
        raise InputError(f"{path} holds {len(labels)} labels; keeping {kept} of them is impossible.")
    whole = np.bincount(labels, minlength=len(LETTERS))
    part = np.bincount(labels[:kept], minlength=len(LETTERS))
    share = part[whole > 0] / whole[whole > 0]
    starts = np.flatnonzero(np.diff(labels, prepend=-1))  # where another class begins
    lengths = np.diff(starts, append=len(labels))
    return {
        "sha256": checksum((labels + 1).astype(np.uint8)),
        "n": len(labels),
        "per_class": whole.tolist(),
        "sorted": bool((np.diff(labels) >= 0).all()),
        "runs": {"count": len(lengths), "shortest": int(lengths.min()), "longest": int(lengths.max())},
        "kept": {
            "n": kept,
            "per_class": part.tolist(),
            "missing": [LETTERS[label] for label in np.flatnonzero((part == 0) & (whole > 0))],
            # a class that keeps half as large a share as the best kept one counts one half
            "classes": round(float(share.sum() / share.max()), 6),
        },
    }
