"""Write drawn hanzi as GNT files, one a writer as in HWDB, and import them as HWDB is imported."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr_utils import files
from hwr_utils import processes as pool
from hwr_utils.data import gnt, hwdb
from hwr_utils.errors import InputError
from hwr_utils.synthesis import fonts, hanzi, medians

BYTES = 6_700  # on the disk of a sample: some 3,500 in the GNT file, 56 x 56 + 4 in the arrays
FIRST_OF_FONTS, FIRST_OF_TEST = 10_000, 1_000_000  # numbers of writers that copy fonts, and of those of the test part


def choose(classes: int | str | None) -> str:
    """Return the characters that `classes` stands for, in the order of GB 2312.

    They are given themselves; or as a number, which takes as many of level 1, scattered over it and always the same, a
    smaller number some of those of a larger one; None means all 3,755. Raises an InputError for what is neither.
    """
    if classes is None or (type(classes) is int and 1 <= classes <= len(gnt.LEVEL_1)):
        order = np.argsort(hanzi.keys_of(np.array([ord(character) for character in gnt.LEVEL_1])), kind="stable")
        return "".join(gnt.LEVEL_1[number] for number in sorted(order[:classes]))
    others = "".join(sorted(set(str(classes)) - hwdb.LABELS.keys()))
    if others or not classes:
        raise InputError(
            f"classes={classes!r}: 1 to {len(gnt.LEVEL_1)} was expected, or characters of GB 2312 level 1, of which "
            f"{others!r} is none."
        )
    return "".join(sorted(set(str(classes)), key=hwdb.LABELS.__getitem__))


def hands(writers: int, per_font: int) -> dict[str, tuple[int, str]]:
    """Return who writes which file: its name, the writer's number, and the font that this writer copies, or "".

    Where fonts are copied too, the files' names say which part they are of. The test part is five more writers who draw
    from strokes.
    """
    prefix = "train-" if per_font else ""
    drawn = {f"{prefix}{number + 1:04}.gnt": (number, "") for number in range(writers)}
    copied = {
        f"train-{sheet.split('/')[-2]}-{number + 1:03}.gnt": (FIRST_OF_FONTS + 1_000 * place + number, sheet)
        for place, sheet in enumerate(fonts.HANZI)
        for number in range(per_font)
    }
    tested = {f"test-{number + 1:04}.gnt": (FIRST_OF_TEST + number, "") for number in range(5 if per_font else 0)}
    return drawn | copied | tested


def plan(seed: int, writers: int, classes: int | str | None, per_font: int) -> dict[str, Any]:
    """Return what determines a set: each character once in the hand of each writer.

    Fewer writers are the first of the same writers, and fewer classes the same images of these. What a font lacks is
    left out. Raises an InputError where nobody would write, or the strokes or a font are not those of
    package-lock.json; see also `choose`.
    """
    characters = choose(classes)
    if not writers and not per_font:
        raise InputError("writers=0: without fonts one writer or more was expected.")
    if per_font:
        fonts.verify()
    return {
        "dataset": "hanzi-synthetic",
        "version": hanzi.VERSION,
        "seed": seed,
        "characters": characters,
        "strokes": f"{medians.PACKAGE.name}, {medians.LICENCE}",
        "strokes_sha256": medians.read(characters).sha256,  # before any process is forked, which then has them too
        "writers": writers,
        "per_font": per_font,
        "fonts": fonts.HANZI if per_font else {},
    }


def needed(manifest: dict[str, Any]) -> int:
    """Return the bytes that a set takes on the disk, at most."""
    return len(hands(manifest["writers"], manifest["per_font"])) * len(manifest["characters"]) * BYTES


def write(folder: Path, manifest: dict[str, Any], processes: int | None = None) -> dict[str, str]:
    """Draw a set into gnt/, a file a writer, see `hands`, and import that into arrays/; return its checksum.

    The same manifest gives the same bytes whatever the number of processes. Errors as `synthesis.write`.
    """
    (folder / "gnt").mkdir()
    step = functools.partial(_write_file, folder / "gnt", manifest["seed"], manifest["characters"])
    everyone = list(hands(manifest["writers"], manifest["per_font"]).items())
    paths = pool.run(step, everyone, "drawing", "writer", processes)
    hwdb.import_gnt(paths, folder / "arrays", workers=processes)
    return {"samples": hwdb.read_import(folder / "arrays").sha256}


def _write_file(folder: Path, seed: int, characters: str, hand: tuple[str, tuple[int, str]]) -> Path:
    name, (writer, sheet) = hand
    images: list[NDArray[np.uint8] | None] = (
        hanzi.draw_from_font(seed, writer, sheet, characters) if sheet else [*hanzi.draw(seed, writer, characters)]
    )
    samples = ((gnt.encode(c), image) for c, image in zip(characters, images, strict=True) if image is not None)
    files.write_bytes(folder / name, gnt.serialize(samples))
    return folder / name
