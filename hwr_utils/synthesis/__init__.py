"""Handwriting that the project draws itself.

Digits, letters and hiragana are drawn from strokes typed for it, hanzi from those of the npm package hanzi-writer-data;
where that is asked for, handwriting fonts add further hands. The datasets stand in for the published ones where these
cannot be had: same file format, same image size, simulated writers. They are no measure of how well a model reads
people.
"""

import functools
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr_utils import data, files, recipes, records
from hwr_utils import processes as pool
from hwr_utils.data import gnt, hwdb, idx
from hwr_utils.data.catalog import CATALOG
from hwr_utils.errors import InputError, warn
from hwr_utils.synthesis import drawing, fonts, hanzi, medians
from hwr_utils.synthesis.strokes import FILE

NAMES = tuple(drawing.SHEETS)
HANZI = "hanzi-synthetic"  # drawn by `hanzi`, as files only
# what each set takes: the default, the least and the greatest number
SIZES: dict[str, dict[str, tuple[Any, int, int]]] = {
    name: {"n_train": (6000, 1, 10**7), "n_test": (1000, 1, 10**7), "per_font": (0, 0, 999)} for name in NAMES
}
SIZES[HANZI] = {"writers": (300, 0, 9_999), "classes": (None, 1, 3_755), "per_font": (0, 0, 999), "mice": (0, 0, 999)}
VERSION = 2  # of the drawings of `NAMES`: raise it when the same seed comes to give other images
BYTES = 6_700  # on the disk of a sample of hanzi: some 3,500 in the GNT file, 56 x 56 + 4 in the arrays
# first numbers of writers who copy fonts, of those who draw with a mouse, and of test writers
FIRST_OF_FONTS, FIRST_OF_MICE, FIRST_OF_TEST = 10_000, 500_000, 1_000_000
LINES = "lines"  # what a writer draws with a mouse, in the place of a font's name


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
    batches, classes = -(-n // drawing.BATCH), len(CATALOG[name].classes)
    order = drawing.stream(name, seed, split, purpose=0).random((-(-batches * drawing.BATCH // classes), classes))
    labels = np.argsort(order, axis=1, kind="stable").reshape(-1)  # each row holds every class once
    runs = np.split(labels[: batches * drawing.BATCH], batches)
    images = [drawing.draw_batch(name, run, seed, split, number) for number, run in enumerate(runs)]
    return np.concatenate(images)[:n], labels[:n]


def choose(classes: int | str | None) -> str:
    """Return the characters that `classes` stands for, in the order of GB 2312.

    `classes` are the characters themselves; or a number, which stands for so many scattered over level 1, always the
    same, and some of those of any larger number; or None, for all 3,755. Raises an InputError for anything else.
    """
    if classes is None or (type(classes) is int and 1 <= classes <= len(gnt.LEVEL_1)):
        order = np.argsort(hanzi.keys_of(np.array([ord(character) for character in gnt.LEVEL_1])), kind="stable")
        return "".join(gnt.LEVEL_1[number] for number in sorted(order[:classes]))
    others = "".join(sorted(set(classes) - hwdb.LABELS.keys())) if isinstance(classes, str) else ""
    if others or not isinstance(classes, str) or not classes:
        raise InputError(
            f"classes={classes!r}: 1 to {len(gnt.LEVEL_1)} was expected, or characters of GB 2312 level 1"
            + (f", of which {others!r} is none." if others else ".")
        )
    return "".join(sorted(set(classes), key=hwdb.LABELS.__getitem__))


def hands(writers: int, per_font: int, mice: int, **_: Any) -> dict[str, tuple[int, str]]:
    """Return who writes which file: its name, the writer's number, and the font that this writer copies, or "".

    Writers who draw with a mouse have `LINES` in its place. Where fonts are copied or mice are used, the files' names
    say which part they are of. The test part is five more writers who draw from strokes with a pen.
    """
    prefix = "train-" if per_font or mice else ""
    drawn = {f"{prefix}{number + 1:04}.gnt": (number, "") for number in range(writers)}
    copied = {
        f"train-{sheet.split('/')[-2]}-{number + 1:03}.gnt": (FIRST_OF_FONTS + 1_000 * place + number, sheet)
        for place, sheet in enumerate(fonts.HANZI)
        for number in range(per_font)
    }
    lined = {f"train-mouse-{number + 1:03}.gnt": (FIRST_OF_MICE + number, LINES) for number in range(mice)}
    tested = {f"test-{number + 1:04}.gnt": (FIRST_OF_TEST + number, "") for number in range(5 if prefix else 0)}
    return drawn | copied | lined | tested


def write(name: str, data_root: str | Path, seed: int = 0, processes: int | None = None, **sizes: Any) -> Path:
    """Draw a dataset into files like those of its published model; what the same arguments have drawn before is kept.

    The set is drawn into a temporary folder, which takes its final place when it is complete: after a kill the drawing
    starts again, and two at once never mix. A set of other sizes that lay there is replaced, with a warning. The set's
    manifest.json tells what was drawn, with the checksums of the files.

    For `NAMES` the sizes are n_train and n_test, the numbers of images drawn from strokes, and per_font, how many hands
    copy each font into the training images; the files are IDX files and classes.txt. For `HANZI` they are writers,
    classes (see `choose`), per_font and mice (see `hands`); the files are GNT files, one for each writer with each
    character once, and their import. The number of `processes` (None: one a core) that draw hanzi changes nothing.
    Fewer writers are the first of the same ones, and fewer classes have the same images; characters that a font lacks
    are left out.

    Returns the folder <data_root>/synthetic/<name>. Raises an InputError as `checked`, and where the folder cannot be
    written or has too little room, the strokes or fonts are absent, or a process was killed.
    """
    values = checked(name, seed, **sizes)
    if name == HANZI:
        manifest = _plan(**values)
        needed = len(hands(**values)) * len(manifest["characters"]) * BYTES
    else:
        digest, n = files.sha256(FILE), {size: values[size] for size in ("n_train", "n_test")}
        manifest = {"dataset": name, "version": VERSION, "strokes_sha256": digest, "seed": seed, **n}
        if values["per_font"]:
            sheets = fonts.TABLES[drawing.SHEETS[name].fonts]
            fonts.verify(sheets)
            manifest |= {"per_font": values["per_font"], "fonts": sheets, "copies_version": drawing.COPIES_VERSION}
        needed = sum(n.values()) * (data.SIZE**2 + 1)
    folder = Path(data_root) / "synthetic" / name
    with suppress(InputError):  # missing or damaged, so drawn again
        found, told = data.checksums(name, data_root), records.read_json(folder / "manifest.json")
        told = {"sha256": found, "mice": 0} | told  # the first hanzi sets have neither
        if (manifest | {"sha256": found}).items() <= told.items():
            return folder
        keys = (*SIZES[name], "characters", "seed", "version")
        if other := [key for key in keys if told.get(key, 0) != manifest.get(key, 0)]:
            warn(f"{folder} holds a set that differs in {', '.join(other)}; it is replaced.")
    with files.new_folder(folder, needed) as part:
        found = _write_gnt(part, manifest, processes) if name == HANZI else _write_idx(part, manifest)
        files.write_json(part / "manifest.json", manifest | {"sha256": found})
    return folder


def _write_idx(folder: Path, manifest: dict[str, Any]) -> dict[str, str]:
    """Draw a dataset into IDX files; return the SHA-256 of each uncompressed file."""
    name, found = manifest["dataset"], {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = draw(name, manifest[f"n_{split}"], manifest["seed"], split)
        if split == "train" and "per_font" in manifest:
            copied = drawing.copy(name, manifest["seed"], manifest["per_font"])
            images, labels = np.concatenate([images, copied[0]]), np.concatenate([labels, copied[1]])
        for kind, array in (("images-idx3", images), ("labels-idx1", labels.astype(np.uint8))):
            idx.write_idx(folder / "raw" / f"{prefix}-{kind}-ubyte.gz", array)
            found[f"{prefix}-{kind}-ubyte"] = files.sha256(idx.serialize(array))
    files.write_text(folder / "classes.txt", "".join(f"{character}\n" for character in CATALOG[name].classes))
    return found


def _plan(seed: int, writers: int, classes: int | str | None, per_font: int, mice: int) -> dict[str, Any]:
    """Return what determines a set of hanzi; an InputError without any writer, or if strokes or fonts are unusable."""
    characters = choose(classes)
    if not writers and not per_font and not mice:
        raise InputError("writers=0: without fonts and mice one writer or more was expected.")
    medians.verify()
    if per_font:
        fonts.verify()
    return {
        "dataset": HANZI,
        "version": hanzi.VERSION,
        "seed": seed,
        "characters": characters,
        "strokes": f"{medians.PACKAGE.name}, {medians.LICENCE}",
        "strokes_sha256": medians.read(characters).sha256,  # before any process is forked, which then has them too
        "writers": writers,
        "per_font": per_font,
        "fonts": fonts.HANZI if per_font else {},
        "mice": mice,
    }


def _write_gnt(folder: Path, manifest: dict[str, Any], processes: int | None) -> dict[str, str]:
    """Draw hanzi into gnt/, a file a writer, see `hands`, and import that into arrays/; return its checksum."""
    step = functools.partial(_write_file, folder / "gnt", manifest["seed"], manifest["characters"])
    everyone = list(hands(**manifest).items())
    paths = pool.run(step, everyone, "drawing", "writer", processes)
    hwdb.import_gnt(paths, folder / "arrays", workers=processes)
    return {"samples": hwdb.read_import(folder / "arrays").sha256}


def _write_file(folder: Path, seed: int, characters: str, hand: tuple[str, tuple[int, str]]) -> Path:
    name, (writer, sheet) = hand
    images: list[NDArray[np.uint8] | None] = (
        hanzi.draw_from_font(seed, writer, sheet, characters)
        if sheet in fonts.HANZI
        else [*hanzi.draw(seed, writer, characters, lines=sheet == LINES)]
    )
    samples = ((gnt.encode(c), image) for c, image in zip(characters, images, strict=True) if image is not None)
    files.write_bytes(folder / name, gnt.serialize(samples))
    return folder / name
