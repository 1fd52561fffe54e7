"""Handwriting that the project draws itself.

Digits, letters and hiragana are drawn from strokes typed for it, hanzi from those of the npm package hanzi-writer-data;
where that is asked for, handwriting fonts add further hands.
The datasets stand in for the published ones where these cannot be had: same file format, same image size, simulated
writers. They are no measure of how well a model reads people.
"""

import operator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr_utils import files, records
from hwr_utils.errors import InputError
from hwr_utils.recipes import nearest
from hwr_utils.synthesis import copies, drawing, fonts
from hwr_utils.synthesis.strokes import source, strokes_for

__all__ = ["HANZI", "NAMES", "SIZES", "VERSION", "classes", "draw", "strokes_for", "write"]

NAMES = tuple(drawing.SHEETS)
HANZI = "hanzi-synthetic"  # drawn by `hanzi`, as files only
# and their defaults
SIZES: dict[str, dict[str, Any]] = {name: {"n_train": 6000, "n_test": 1000, "per_font": 0} for name in NAMES}
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
    """Draw a dataset into the files of its published model, unless they are there already and of the same arguments.

    The set is drawn into a folder of its own, which takes its place when it is whole: what was killed starts again, and
    two at once never mix. Its manifest.json tells what was drawn, and what `data.load` then finds there.

    Args:
        name: one of `NAMES`, or `HANZI`.
        data_root: the folder of all datasets.
        seed: 0 or more.
        processes: that draw hanzi; None takes one a core.
        sizes: what `SIZES` has for this dataset. Of `NAMES`: n_train and n_test, the numbers of images that are drawn
            from strokes, and per_font, how many hands copy each font into the training images, see `copies`. They are
            written as IDX files, raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz, and classes.txt, a class a line,
            by label. Of `HANZI`: writers, classes and per_font, written as GNT files and imported, see `hanzi_gnt`.

    Returns:
        The folder <data_root>/synthetic/<name>.

    Raises:
        InputError: an unknown name or size, an impossible number, a folder that cannot be written or has too little
            room; of `HANZI`, that the strokes or fonts are absent or a process was killed.
    """
    from hwr_utils import data  # here: it lies above synthesis, and only writing needs it

    defaults = SIZES[_known(name)]
    if unknown := sorted(set(sizes) - set(defaults)):
        raise InputError(f"{name} has no size {unknown[0]!r}; {' and '.join(defaults)} were expected.")
    sizes = {**defaults, **sizes}
    seed = _whole("seed", seed, 0)
    if name == HANZI:
        from hwr_utils.synthesis import hanzi_gnt  # imports processes and the reader of GNT files, for this alone

        writers, per_font = (_whole(size, sizes[size], 0) for size in ("writers", "per_font"))
        manifest = hanzi_gnt.plan(seed, writers, sizes["classes"], per_font)
        needed, make = hanzi_gnt.needed(manifest), hanzi_gnt.write
    else:
        manifest = {
            "dataset": name,
            "version": VERSION,
            "strokes_sha256": files.sha256(source().encode()),
            "seed": seed,
        }
        per_font = _whole("per_font", sizes.pop("per_font"), 0)
        manifest |= {size: _whole(size, value, 1) for size, value in sizes.items()}
        if per_font:
            manifest |= {"per_font": per_font, "fonts": copies.fonts_of(name), "copies_version": copies.VERSION}
            fonts.verify(manifest["fonts"])
        needed, make = (sizes["n_train"] + sizes["n_test"]) * (data.SIZE**2 + 1), _write_idx
    folder = Path(data_root) / "synthetic" / name
    with suppress(InputError):  # missing or damaged, so drawn again
        found, told = data.checksums(name, data_root), records.read_json(folder / "manifest.json")
        told.setdefault("sha256", found)  # the first hanzi sets have none
        if (manifest | {"sha256": found}).items() <= told.items():
            return folder
    with files.new_folder(folder, needed) as part:
        found = make(part, manifest, processes)
        files.write_json(part / "manifest.json", manifest | {"sha256": found})
    return folder


def _write_idx(folder: Path, manifest: dict[str, Any], processes: int | None = None) -> dict[str, str]:
    """Draw a dataset into IDX files, in this process; return the SHA-256 of each uncompressed file."""
    from hwr_utils.data import idx

    name, found = manifest["dataset"], {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = draw(name, manifest[f"n_{split}"], manifest["seed"], split)
        if split == "train" and "per_font" in manifest:
            copied = copies.draw(name, manifest["seed"], manifest["per_font"])
            images, labels = np.concatenate([images, copied[0]]), np.concatenate([labels, copied[1]])
        for kind, array in (("images-idx3", images), ("labels-idx1", labels.astype(np.uint8))):
            idx.write_idx(folder / "raw" / f"{prefix}-{kind}-ubyte.gz", array)
            found[f"{prefix}-{kind}-ubyte"] = idx.checksum(array)
    files.write_text(folder / "classes.txt", "".join(f"{character}\n" for character in classes(name)))
    return found


def _whole(parameter: str, value: int, least: int) -> int:
    """Return a whole number of at least `least`."""
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise InputError(f"{parameter} is {value!r}; a whole number of {least} or more was expected.")
    return number
