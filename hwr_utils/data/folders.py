"""Read pictures from folders, one folder a class."""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwr_utils import preprocessing
from hwr_utils.errors import InputError, warn
from hwr_utils.files import sha256
from hwr_utils.sources import listing, natural, normal, part_of


def parts(folder: Path) -> dict[str, Path]:
    """Return the folders of the training and the test pictures by "train" and "test": those that are there.

    They are found however they are called and nested: `Training`, `train/train`, `NAME/data/train`.
    """
    inside = [path for path in listing(folder) if path.is_dir()] if folder.is_dir() else []
    if len(inside) == 1 and (deeper := parts(inside[0])):
        return deeper
    found: dict[str, Path] = {}
    for part in ("train", "test"):
        named = [path for path in inside if part_of(path.name) == part]
        whole = [path for path in named if re.fullmatch("trn|tst|(train|test)(ing)?", path.name.lower())]
        if len(named) > 1 and len(whole) != 1:
            told = ", ".join(path.name for path in named)
            raise InputError(f"{folder} holds {told}, and one {part} folder was expected. Rename or remove the others.")
        if named:
            found[part] = (whole or named)[0]
    others = [path.name for path in inside if path not in found.values()]
    for part, path in found.items():
        inner = listing(path)
        if len(inner) == 1 and inner[0].is_dir() and part_of(inner[0].name) == part:
            found[part] = inner[0]
    if len(found) == 2 and others:
        warn(f"{folder}: only its training and test folders are read, not {', '.join(others)}.")
    return found


def read(path: Path) -> tuple[NDArray[np.uint8], list[str], str]:
    """Read a folder of class folders, and leave out what is no readable picture, or a blank one, with a warning.

    Raises an InputError where there are no folders, one holds no readable picture, or its name is not UTF-8.

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
            bad.append(f"{folder} lies beside the class folders")
            continue
        name, before = normal(folder.name), len(images)
        if not name.isprintable():  # which a name that is not UTF-8 is not either
            raise InputError(f"the folder {folder} has characters in its name that cannot be shown. Rename it.")
        for file in listing(folder):
            try:
                image = preprocessing.from_file(file)
                if np.ptp(image) < preprocessing.MIN_CONTRAST:
                    raise InputError(f"{file} is blank")
            except InputError as error:
                bad.append(str(error).rstrip("."))
                continue
            images.append(image)
            classes.append(name)
            told += f"{name}/{normal(file.name)}\0{sha256(file)}\n"
        if len(images) == before:
            raise InputError(
                f"{folder} holds no picture that can be read. Put some there, or remove it. {'; '.join(bad[-3:])}"
            )
    if not images:
        raise InputError(f"{path} holds no folders. One folder of pictures a class was expected.")
    if bad:
        warn(f"{path}: {len(bad)} files were left out: {'; '.join(bad)}.")
    digest = sha256(told.encode(errors="surrogateescape"))
    return np.stack(images), classes, digest
