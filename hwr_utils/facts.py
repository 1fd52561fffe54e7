"""Count and measure what datasets hold, as records (`hwr describe`) that `results.facts` reads."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr_utils import data, files, records
from hwr_utils.data import Dataset, catalog, gnt, hwdb
from hwr_utils.errors import InputError
from hwr_utils.synthesis import medians

INK = 128  # the level from which a pixel counts as ink
COLUMNS, ROWS = 12, 10  # characters of an import that its sheet shows, and images of each


def record(name: str, results_dir: Path, data_root: Path) -> Path:
    """Count and measure a dataset from its files, and write its record anew, in `datasets/<name>/` of `results_dir`.

    Returns that folder. An InputError where the files are missing or damaged, or it cannot be written, keeps an older
    record.
    """
    folder = results_dir / "datasets" / name.replace(":", "-")
    if (samples := data.open_import(name, data_root)) is not None:
        found, images, labels = describe_import(name, samples), samples.images, samples.labels
        shown = _spread(np.unique(labels), COLUMNS)
    else:
        dataset = data.load(name, data_root)
        found, images, labels = describe(dataset), dataset.train_images, dataset.train_labels
        shown = np.arange(len(dataset.classes))
    if catalog.entry(name).pictures:
        # (C, ROWS, H, W): images of each class that is shown; where it has fewer, the rest is black
        sheet = np.zeros((len(shown), ROWS, *images.shape[1:]), np.uint8)
        for label, row in zip(shown, sheet, strict=True):
            chosen = _spread(np.flatnonzero(labels == label), ROWS)
            row[: len(chosen)] = images[chosen]
        records.write_arrays(folder / "samples.npz", {"samples": sheet})
    files.write_json(folder / "facts.json", found)
    return folder


def describe(dataset: Dataset) -> dict[str, Any]:
    """Return the facts of a dataset, ready for JSON.

    Pixel values are in 0..1: `mean` over all pixels of a split, `ink` the share of pixels of at least half
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
    seen = {}
    for split, (images, labels) in splits.items():
        seen[split] = [image.tobytes() for image in images]
        complexity = perimetric_complexity(images)
        if np.isnan(complexity).all():
            raise InputError(f"{dataset.name}: no {split} image has a pixel of {INK} or more of 255: too faint.")
        mean, deviation = (round(float(of(complexity)), 4) for of in (np.nanmean, np.nanstd))
        found[split] = {
            "n": len(images),
            "per_class": np.bincount(labels, minlength=len(dataset.classes)).tolist(),
            "mean": float(images.mean()) / 255,
            "ink": float((images >= INK).mean()),
            "duplicates": len(images) - len(set(seen[split])),
            "complexity": {"mean": mean, "deviation": deviation},
        }
    found["test_images_in_train"] = sum(map(set(seen["train"]).__contains__, seen["test"]))
    return found


def describe_import(name: str, found: hwdb.Import) -> dict[str, Any]:
    """Return the facts of an import of GNT files, ready for JSON; its samples are not split here.

    `per_class` counts the samples of each class; `writers` those of each file, or None where a file is not a writer's;
    `parts` those on each side of the published split; `others` those left out. `strokes` counts printed strokes.
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


def perimetric_complexity(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return how intricate the ink of (N, H, W) images is, (N,): its perimeter squared, over its area and 4 pi.

    After Pelli et al. (Vision Research 46, 2006), for whom it predicts how hard a letter is to identify. Pixels of at
    least half brightness are ink; the perimeter counts the sides between ink and paper, so a square has 4 / pi. It is
    NaN for an image without ink.
    """
    ink = np.pad(images >= INK, ((0, 0), (1, 1), (1, 1)))
    perimeter, area = sum(np.diff(ink, axis=axis).sum((1, 2)) for axis in (1, 2)), ink.sum((1, 2))
    return perimeter**2 / (4 * np.pi * np.where(area, area, np.nan))


def _spread(items: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Return n of the items, evenly spread over them, or all where there are fewer."""
    return items[np.linspace(0, len(items) - 1, min(n, len(items))).round().astype(np.int64)]
