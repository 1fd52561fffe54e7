"""Read pictures from folders, one folder a class."""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwr_utils import preprocessing
from hwr_utils.errors import InputError, warn
from hwr_utils.files import sha256
from hwr_utils.sources import listing, natural, normal, part_of

MOST = 25  # at most so many left-out pictures are named, each in a warning of its own
HELD_OUT = "val(id(ation)?)?|eval(uation)?|dev|hold[-_ ]?out"


def parts(folder: Path) -> dict[str, Path]:
    """Return the folders of training and of test pictures, under the keys "train" and "test".

    They may be called and nested as in `Training`, `train/images` or `NAME/data/train`. Where no folder is called test,
    one whose name matches `HELD_OUT` is taken. Where none is called train, all is training pictures.
    """
    folder, found = _inner(folder), dict[str, Path]()
    inside = [path for path in listing(folder) if path.is_dir()]
    for part in ("train", "test"):
        named = [path for path in inside if part_of(path.name) == part]
        if part == "test" and found and not named:
            named = [path for path in inside if re.fullmatch(HELD_OUT, path.name.lower())]
        whole = [path for path in named if re.fullmatch("trn|tst|(train|test)(ing)?", path.name.lower())]
        if len(named) > 1 and len(whole) != 1:
            told = ", ".join(path.name for path in named)
            raise InputError(f"{folder} holds {told}, and one {part} folder was expected. Rename or remove the others.")
        if named:
            found[part] = (whole or named)[0]
    if "train" not in found:  # then a "test" folder may be a class, such as "test tube"
        return {"train": folder}
    if others := [path.name for path in inside if path not in found.values()]:
        read_from = " and ".join(path.name for path in found.values())
        warn(f"{folder}: images are read from {read_from} alone, not from {', '.join(others)}.")
    return {part: _inner(path) for part, path in found.items()}


def _inner(folder: Path) -> Path:
    """Return the folder that holds several folders, or folders of pictures alone, where others are around it."""
    inside = [path for path in listing(folder) if path.is_dir()]
    nested = len(inside) == 1 and any(path.is_dir() for path in listing(inside[0]))
    return _inner(inside[0]) if nested else folder


def read(path: Path) -> tuple[NDArray[np.uint8], list[str], str]:
    """Read a folder of class folders; pictures that are blank or cannot be read are left out with a warning.

    Raises an InputError where there are no folders, or one holds no readable picture or has a name that is not UTF-8.

    Returns:
        (N, 28, 28) images, white on black; the class of each, which is its folder's name; one SHA-256 over the names
        and contents of the images.
    """
    images: list[NDArray[np.uint8]] = []
    classes: list[str] = []
    bad: list[str] = []
    told = ""
    for folder in sorted(listing(path), key=lambda one: natural(one.name)):
        if not folder.is_dir():
            bad.append(f"{folder} lies beside the class folders.")
            continue
        name, before = normal(folder.name), len(images)
        if not name.isprintable():  # a name that is not UTF-8 is not printable either
            raise InputError(f"the folder {folder} has characters in its name that cannot be shown. Rename it.")
        for file in listing(folder):
            try:
                image = preprocessing.fit(preprocessing.read_gray(file))
                if np.ptp(image) < preprocessing.MIN_CONTRAST:
                    raise InputError(f"{file} is blank.")
            except InputError as error:
                bad.append(str(error))
                continue
            images.append(image)
            classes.append(name)
            told += f"{name}/{normal(file.name)}\0{sha256(file)}\n"
        if len(images) == before:
            raise InputError(
                f"{folder} holds no picture that can be read, and {path} was expected to hold folders of pictures, one "
                f"a class. Put some there, or remove it. {' '.join(bad[-3:])}"
            )
    if not images:
        raise InputError(f"{path} holds no folders. One folder of pictures a class was expected.")
    for one in bad[:MOST]:
        warn(f"left out: {one}")
    if bad:
        warn(f"{path}: {len(bad):,} left out; pictures in class folders were expected.")
    return np.stack(images), classes, sha256(told.encode(errors="surrogateescape"))
