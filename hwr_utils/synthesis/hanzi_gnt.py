"""Write drawn hanzi as GNT files, one a writer as in HWDB, and import them as HWDB is imported."""

import functools
from pathlib import Path
from typing import Any

import numpy as np

from hwr_utils import files
from hwr_utils import processes as pool
from hwr_utils.data import gnt, hwdb
from hwr_utils.errors import InputError
from hwr_utils.synthesis import hanzi, medians

BYTES = 6_700  # on the disk of a sample: some 3,500 in the GNT file, 56 x 56 + 4 in the arrays


def choose(classes: int | str | None) -> str:
    """Return the characters that `classes` stands for, in the order of GB 2312.

    Args:
        classes: the characters themselves; or how many, which takes as many of level 1, scattered over it and always
            the same, a smaller number some of those of a larger one; or None for all 3,755.

    Raises:
        InputError: an impossible number, no character, one twice, or one that is not of level 1.
    """
    if classes is None:
        return "".join(gnt.LEVEL_1)
    if isinstance(classes, int) and not isinstance(classes, bool):
        if not 1 <= classes <= len(gnt.LEVEL_1):
            raise InputError(f"classes is {classes}; 1 to {len(gnt.LEVEL_1)} was expected, or characters.")
        order = np.argsort(hanzi.keys_of(np.array([ord(character) for character in gnt.LEVEL_1])), kind="stable")
        return "".join(gnt.LEVEL_1[number] for number in sorted(order[:classes]))
    if not isinstance(classes, str) or not classes:
        raise InputError(f"classes is {classes!r}; a number of classes or their characters were expected.")
    if others := sorted(set(classes) - hwdb.LABELS.keys()):
        raise InputError(f"classes: {''.join(others[:5])!r} is not among the 3,755 characters of GB 2312 level 1.")
    if len(set(classes)) < len(classes):
        twice = next(character for character in classes if classes.count(character) > 1)
        raise InputError(f"classes: {twice!r} is given twice; different characters were expected.")
    return "".join(sorted(classes, key=hwdb.LABELS.__getitem__))


def plan(seed: int, writers: int, classes: int | str | None) -> dict[str, Any]:
    """Return what determines a set: each character once in the hand of each writer.

    Fewer writers are the first of the same writers, and fewer classes the same images of these.

    Args:
        seed: 0 to 2^64 - 1.
        writers: 1 to 9,999.
        classes: see `choose`.

    Raises:
        InputError: an impossible argument, or the stroke data are absent.
    """
    characters = choose(classes)
    if not 1 <= writers <= 9_999:
        raise InputError(f"writers is {writers}; 1 to 9999 was expected.")
    if not 0 <= seed < 2**64:
        raise InputError(f"seed is {seed}; 0 to 2^64 - 1 was expected.")
    return {
        "dataset": "hanzi-synthetic",
        "version": hanzi.VERSION,
        "seed": seed,
        "characters": characters,
        "strokes": f"{medians.PACKAGE.name}, {medians.LICENCE}",
        "strokes_sha256": medians.read(characters).sha256,  # before any process is forked, which then has them too
        "writers": writers,
        "samples": writers * len(characters),
    }


def needed(manifest: dict[str, Any]) -> int:
    """Return the bytes that a set takes on the disk."""
    return manifest["samples"] * BYTES


def write(folder: Path, manifest: dict[str, Any], processes: int | None = None) -> dict[str, str]:
    """Draw a set into gnt/0001.gnt and so on, a file a writer, and import that into arrays/; return its checksum.

    The same manifest gives the same bytes whatever the number of processes. Errors as `synthesis.write`.
    """
    (folder / "gnt").mkdir()
    step = functools.partial(_write_file, folder / "gnt", manifest["seed"], manifest["characters"])
    paths = pool.run(step, range(manifest["writers"]), "drawing", "writer", processes)
    hwdb.import_gnt(paths, folder / "arrays", workers=processes)
    return {"samples": hwdb.read_import(folder / "arrays").sha256}


def _write_file(folder: Path, seed: int, characters: str, writer: int) -> Path:
    images = hanzi.draw(seed, writer, characters)
    path = folder / f"{writer + 1:04}.gnt"
    files.write_bytes(path, gnt.serialize(zip(map(gnt.encode, characters), images, strict=True)))
    return path
