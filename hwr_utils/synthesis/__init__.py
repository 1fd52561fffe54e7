"""Handwriting that the project draws itself.

Digits, letters and hiragana are drawn from strokes typed for it, hanzi from those of the npm package hanzi-writer-data;
where that is asked for, handwriting fonts add further hands. The datasets stand in for the published ones where these
cannot be had: same file format, same image size, simulated writers. They are no measure of how well a model reads
people.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr_utils import data, files, recipes, records
from hwr_utils.data import idx
from hwr_utils.errors import InputError
from hwr_utils.synthesis import drawing, fonts, hanzi_gnt
from hwr_utils.synthesis.strokes import FILE
from hwr_utils.synthesis.strokes import strokes_for as strokes_for

NAMES = tuple(drawing.SHEETS)
HANZI = "hanzi-synthetic"  # drawn by `hanzi`, as files only
# what each set takes: the default, the least and the greatest number
SIZES: dict[str, dict[str, tuple[Any, int, int]]] = {
    name: {"n_train": (6000, 1, 10**7), "n_test": (1000, 1, 10**7), "per_font": (0, 0, 999)} for name in NAMES
}
SIZES[HANZI] = {"writers": (300, 0, 9_999), "classes": (None, 1, 3_755), "per_font": (0, 0, 999)}
VERSION = 1  # of the drawings of `NAMES`: raise it when the same seed comes to give other images


def checked(name: str, seed: int = 0, **sizes: Any) -> dict[str, Any]:
    """Return the seed and all sizes of a dataset, with the defaults of `SIZES`.

    Raises an InputError for an unknown name or size, with the nearest known one, and for an impossible number.
    """
    recipes.known("synthetic dataset ", name, SIZES)
    known = SIZES[name] | {"seed": (0, 0, 2**64 - 1)}
    for key, value in (sizes | {"seed": seed}).items():
        recipes.known(f"{name}: key ", key, known)
        _, least, most = known[key]
        if key != "classes" and not (type(value) is int and least <= value <= most):
            raise InputError(f"{name}: {key}={value!r}, expected a whole number of {least} to {most}.")
    return {key: default for key, (default, *_) in known.items()} | sizes | {"seed": seed}


def draw(name: str, n: int, seed: int, split: str = "train") -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw `n` samples of a dataset of `NAMES`, for "train" or "test", which share no writer and no random number.

    The same arguments give the same bytes on every machine, and a smaller `n` the first of the same samples. Returns
    images (n, 28, 28) uint8, upright, 0 for paper to 255 for ink, and their labels (n,) int64, shuffled and balanced.
    """
    recipes.known("synthetic dataset ", name, NAMES)
    batches = -(-n // drawing.BATCH)
    labels = drawing.draw_labels(name, batches * drawing.BATCH, seed, split)
    runs = np.split(labels, batches)
    images = [drawing.draw_batch(name, run, seed, split, number) for number, run in enumerate(runs)]
    return np.concatenate(images)[:n], labels[:n]


def write(name: str, data_root: str | Path, seed: int = 0, processes: int | None = None, **sizes: Any) -> Path:
    """Draw a dataset into the files of its published model, unless they are there already and of the same arguments.

    The set is drawn into a folder of its own, which takes its place when it is whole: what was killed starts again, and
    two at once never mix. Its manifest.json tells what was drawn, and what `data.load` then finds there.

    Of `NAMES` the sizes are n_train and n_test, the numbers of images that are drawn from strokes, and per_font, how
    many hands copy each font into the training images; the files are IDX, and classes.txt. Of `HANZI` they are writers,
    classes and per_font, see `hanzi_gnt`; the files are GNT, imported. Hanzi are drawn by so many processes, None: one
    a core.

    Returns the folder <data_root>/synthetic/<name>. Raises an InputError as `checked`, and where the folder cannot be
    written or has too little room, the strokes or fonts are absent, or a process was killed.
    """
    values = checked(name, seed, **sizes)
    if name == HANZI:
        manifest = hanzi_gnt.plan(**values)
        needed, make = hanzi_gnt.needed(manifest), hanzi_gnt.write
    else:
        digest, n = files.sha256(FILE), {size: values[size] for size in ("n_train", "n_test")}
        manifest = {"dataset": name, "version": VERSION, "strokes_sha256": digest, "seed": seed, **n}
        if values["per_font"]:
            sheets = drawing.fonts_of(name)
            fonts.verify(sheets)
            manifest |= {"per_font": values["per_font"], "fonts": sheets, "copies_version": drawing.COPIES_VERSION}
        needed, make = sum(n.values()) * (data.SIZE**2 + 1), _write_idx
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
    name, found = manifest["dataset"], {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = draw(name, manifest[f"n_{split}"], manifest["seed"], split)
        if split == "train" and "per_font" in manifest:
            copied = drawing.copy(name, manifest["seed"], manifest["per_font"])
            images, labels = np.concatenate([images, copied[0]]), np.concatenate([labels, copied[1]])
        for kind, array in (("images-idx3", images), ("labels-idx1", labels.astype(np.uint8))):
            idx.write_idx(folder / "raw" / f"{prefix}-{kind}-ubyte.gz", array)
            found[f"{prefix}-{kind}-ubyte"] = idx.checksum(array)
    files.write_text(folder / "classes.txt", "".join(f"{character}\n" for character in drawing.SHEETS[name].classes))
    return found
