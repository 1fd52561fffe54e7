"""Handwriting that the project draws itself.

Digits, letters and hiragana are drawn from strokes typed for it, hanzi from those of the npm package hanzi-writer-data.
The datasets stand in for the published ones where these cannot be had: same file format, same image size, simulated
writers. They are no measure of how well a model reads people.
"""

import difflib
import json
import operator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr_utils import files
from hwr_utils.errors import InputError
from hwr_utils.synthesis import drawing
from hwr_utils.synthesis.strokes import source, strokes_for

__all__ = ["HANZI", "NAMES", "SIZES", "VERSION", "classes", "draw", "strokes_for", "write"]

NAMES = tuple(drawing.SHEETS)
HANZI = "hanzi-synthetic"  # drawn by `hanzi`, as files only
SIZES: dict[str, dict[str, Any]] = {name: {"n_train": 6000, "n_test": 1000} for name in NAMES}  # and their defaults
SIZES[HANZI] = {"writers": 300, "classes": None, "per_font": 0}
VERSION = 1  # of the drawings of `NAMES`: raise it when the same seed comes to give other images


def classes(name: str) -> tuple[str, ...]:
    """Return the characters of a dataset, by label.

    Raises:
        InputError: an unknown name, with the nearest known one.
    """
    return drawing.SHEETS[_known(name, NAMES)].classes


def _known(name: str, names: tuple[str, ...] | None = None) -> str:
    names = tuple(SIZES) if names is None else names
    if name not in names:
        near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.3)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise InputError(f"unknown synthetic dataset {name!r}. {hint}The project draws {', '.join(names)}.")
    return name


def draw(name: str, n: int, seed: int, split: str = "train") -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw `n` samples of a dataset.

    The same arguments give the same bytes on every machine, and a smaller `n` the first of the same samples. Training
    and test samples have no writer and no random number in common.

    Args:
        name: one of `NAMES`.
        n: how many, 1 or more.
        seed: 0 or more.
        split: train or test.

    Returns:
        Images (n, 28, 28) uint8, upright, 0 for paper to 255 for ink, and their labels (n,) int64, shuffled. The
        counts of two classes differ by at most 1.

    Raises:
        InputError: an unknown name or split, or an impossible number.
    """
    classes(name)
    n, seed = _whole("n", n, 1), _whole("seed", seed, 0)
    if split not in drawing.WRITERS:
        raise InputError(f"split is {split!r}; {' or '.join(drawing.WRITERS)} was expected.")
    batches = -(-n // drawing.BATCH)
    labels = drawing.draw_labels(name, batches * drawing.BATCH, seed, split)
    runs = np.split(labels, batches)
    images = [drawing.draw_batch(name, run, seed, split, number) for number, run in enumerate(runs)]
    return np.concatenate(images)[:n], labels[:n]


def write(name: str, data_root: str | Path, seed: int = 0, **sizes: Any) -> Path:
    """Draw a dataset into the files of its published model, unless they are there already and of the same arguments.

    Args:
        name: one of `NAMES`, or `HANZI`.
        data_root: the folder of all datasets.
        seed: 0 or more.
        sizes: what `SIZES` has for this dataset. Of `NAMES`: n_train and n_test, the numbers of images, written as IDX
            files. Of `HANZI`: writers, classes and per_font, written as GNT files and imported, see `hanzi_gnt.write`.

    Returns:
        The folder <data_root>/synthetic/<name>.

    Raises:
        InputError: an unknown name or size, an impossible number, a folder that cannot be written; of `HANZI`, whatever
            `hanzi_gnt.write` raises.
    """
    defaults = SIZES[_known(name)]
    if unknown := sorted(set(sizes) - set(defaults)):
        raise InputError(f"{name} has no size {unknown[0]!r}; {' and '.join(defaults)} were expected.")
    sizes = {**defaults, **sizes}
    seed = _whole("seed", seed, 0)
    if name == HANZI:
        from hwr_utils.synthesis import hanzi_gnt  # imports processes and the reader of GNT files, for this alone

        writers, per_font = (_whole(size, sizes[size], 0) for size in ("writers", "per_font"))
        return hanzi_gnt.write(data_root, seed, writers, sizes["classes"], per_font=per_font)
    return _write_idx(name, Path(data_root), seed, **sizes)


def _write_idx(name: str, data_root: Path, seed: int, n_train: int, n_test: int) -> Path:
    """Draw a dataset into IDX files, unless they are there already, whole and of the same arguments.

    Writes raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz, classes.txt (a class a line, by label) and, last,
    manifest.json, which tells what was drawn and holds the SHA-256 of each uncompressed file.
    """
    from hwr_utils.data import idx  # here: data lies above synthesis, and only writing needs it

    text = "".join(f"{character}\n" for character in classes(name))
    counts = {"train": _whole("n_train", n_train, 1), "test": _whole("n_test", n_test, 1)}
    manifest: dict[str, Any] = {
        "dataset": name,
        "version": VERSION,
        "strokes_sha256": files.sha256(source().encode()),
        "seed": seed,
        "n_train": counts["train"],
        "n_test": counts["test"],
    }
    folder = data_root / "synthetic" / name
    raw = folder / "raw"
    names = {
        split: (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte")
        for split, prefix in (("train", "train"), ("test", "t10k"))
    }
    try:
        found = {file: idx.checksum(idx.read_idx(raw / f"{file}.gz")) for pair in names.values() for file in pair}
        told = json.loads((folder / "manifest.json").read_text("utf-8"))
        if told == {**manifest, "sha256": found} and (folder / "classes.txt").read_text("utf-8") == text:
            return folder
    except (OSError, ValueError):
        pass  # missing or damaged, so drawn again

    found = {}
    for split, pair in names.items():
        images, labels = draw(name, counts[split], seed, split)
        for file, array in zip(pair, (images, labels.astype(np.uint8)), strict=True):
            idx.write_idx(raw / f"{file}.gz", array)
            found[file] = idx.checksum(array)
    files.write_text(folder / "classes.txt", text)
    files.write_json(folder / "manifest.json", {**manifest, "sha256": found})
    return folder


def _whole(parameter: str, value: int, least: int) -> int:
    """Return a whole number of at least `least`."""
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise InputError(f"{parameter} is {value!r}; a whole number of {least} or more was expected.")
    return number
