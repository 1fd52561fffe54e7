"""Handwriting that the project draws itself.

Digits, letters and hiragana are drawn from strokes typed for it, hanzi from those of the npm package hanzi-writer-data.
The datasets stand in for the published ones where these cannot be had: same file format, same image size, simulated
writers. They are no measure of how well a model reads people.
"""

import json
import operator
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr_utils import files
from hwr_utils.errors import InputError
from hwr_utils.recipes import nearest
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
        known = ", ".join(names)
        raise InputError(f"unknown synthetic dataset {name!r}; expected one of {known}{nearest(name, names)}")
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


def write(name: str, data_root: str | Path, seed: int = 0, processes: int | None = None, **sizes: Any) -> Path:
    """Draw a dataset into the files of its published model, unless it is there already, of the same arguments.

    It is drawn into a folder beside, which takes the set's place when it is whole. So what is there is never a mixture
    of two sets, whatever stops the drawing.

    Args:
        name: one of `NAMES`, or `HANZI`.
        data_root: the folder of all datasets.
        seed: 0 or more.
        processes: that draw hanzi; None takes one a core.
        sizes: what `SIZES` has for this dataset. Of `NAMES`: n_train and n_test, the numbers of images, written as IDX
            files, with classes.txt (a class a line, by label). Of `HANZI`: writers, classes and per_font, written as
            GNT files and imported, see `hanzi_gnt`.

    Returns:
        The folder <data_root>/synthetic/<name>. Its manifest.json tells what was drawn.

    Raises:
        InputError: an unknown name or size, an impossible number, a folder that cannot be written, another process that
            draws the same set; of `HANZI`, whatever `hanzi_gnt` raises.
    """
    from filelock import FileLock, Timeout  # here, because a bare CUDA machine trains without

    defaults = SIZES[_known(name)]
    if unknown := sorted(set(sizes) - set(defaults)):
        raise InputError(f"{name} has no size {unknown[0]!r}; {' and '.join(defaults)} were expected.")
    given = {**defaults, **sizes}
    given = {key: value if key == "classes" else _whole(key, value, int(key[0] == "n")) for key, value in given.items()}
    planned: dict[str, Any] = {"dataset": name, "seed": _whole("seed", seed, 0)}
    if name == HANZI:
        from hwr_utils.synthesis import hanzi_gnt  # imports processes and the reader of GNT files, for this alone

        planned |= hanzi_gnt.plan(seed, **given)
    else:
        planned |= {"version": VERSION, "strokes_sha256": files.sha256(source().encode()), **given}
    folder = Path(data_root) / "synthetic" / name
    part = folder.with_name(f".{name}{files.UNFINISHED}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{part}.lock", timeout=0):
            if _is_there(folder, planned):
                return folder
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            done = hanzi_gnt.draw(part, planned, processes) if name == HANZI else _draw_idx(part, planned)
            files.write_json(part / "manifest.json", {**planned, **done})
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(part, folder)
    except Timeout as error:
        raise InputError(f"another process is drawing {name} into {folder}. Wait for it, or stop it.") from error
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror or error}. Make it writable.") from error
    return folder


def _is_there(folder: Path, planned: dict[str, Any]) -> bool:
    """Tell whether a set of this plan is in its folder, and its IDX files are what was written."""
    from hwr_utils.data import idx  # here: data lies above synthesis, and only writing needs it

    try:
        told = json.loads((folder / "manifest.json").read_text("utf-8"))
        if planned["dataset"] == HANZI:  # whose arrays are checked when they are loaded
            return bool(planned.items() <= told.items()) and (folder / "arrays").is_dir()
        named = (folder / "classes.txt").read_text("utf-8") == _class_list(planned["dataset"])
        found = {file: idx.checksum(idx.read_idx(folder / "raw" / f"{file}.gz")) for file in told["sha256"]}
        return bool(told == {**planned, "sha256": found}) and named
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
        return False  # missing or damaged, so it is drawn again


def _class_list(name: str) -> str:
    return "".join(f"{character}\n" for character in classes(name))


def _draw_idx(folder: Path, planned: dict[str, Any]) -> dict[str, Any]:
    """Write raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz and classes.txt; return the checksums of the former."""
    from hwr_utils.data import idx

    name, found = planned["dataset"], {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = draw(name, planned[f"n_{split}"], planned["seed"], split)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels.astype(np.uint8))):
            file = f"{prefix}-{kind}-ubyte"
            idx.write_idx(folder / "raw" / f"{file}.gz", array)
            found[file] = idx.checksum(array)
    files.write_text(folder / "classes.txt", _class_list(name))
    return {"sha256": found}


def _whole(parameter: str, value: int, least: int) -> int:
    """Return a whole number of at least `least`."""
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise InputError(f"{parameter} is {value!r}; a whole number of {least} or more was expected.")
    return number
