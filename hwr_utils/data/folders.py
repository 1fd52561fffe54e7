"""Read images from folders, one folder a class."""

import hashlib
import unicodedata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwr_utils import preprocessing
from hwr_utils.errors import InputError
from hwr_utils.files import sha256

SUFFIXES = (".png", ".jpg", ".jpeg")
IGNORED = ("Thumbs.db", "desktop.ini")  # what file managers leave, beside files whose names begin with a dot


def read_class_folders(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64], tuple[str, ...]]:
    """Return (N, 28, 28) images, white on black, (N,) labels and the classes, which are the sorted folder names.

    Raises:
        InputError: no folders, a folder without images, a file of another kind, or an image that cannot be read.
    """
    found = _images(path)
    index = {name: label for label, name in enumerate(dict.fromkeys(name for name, _ in found))}
    images = np.stack([preprocessing.from_file(file) for _, file in found])
    labels = np.array([index[name] for name, _ in found], np.int64)
    return images, labels, tuple(index)


def checksum(path: Path) -> str:
    """Return one SHA-256 over the relative names and contents of the images under `path`."""
    digest = hashlib.sha256()
    for name, file in _images(path):
        digest.update(f"{name}/{_normal(file.name)}\0{sha256(file)}\n".encode())
    return digest.hexdigest()


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name)  # macOS may store が as two characters


def _listing(path: Path) -> list[Path]:
    try:
        files = [file for file in path.iterdir() if not file.name.startswith(".") and file.name not in IGNORED]
    except OSError as error:
        raise InputError(f"cannot list {path}: {error.strerror}. Folders of images were expected there.") from error
    return sorted(files, key=lambda file: _normal(file.name))


def _images(path: Path) -> list[tuple[str, Path]]:
    """List class and path of every image, sorted."""
    found: list[tuple[str, Path]] = []
    for folder in _listing(path):
        if not folder.is_dir():
            raise InputError(f"{folder} lies beside the class folders; move it into the folder of its class.")
        files = _listing(folder)
        if not files:
            raise InputError(f"{folder} holds no image. Put PNG or JPEG files there, or remove it.")
        for file in files:
            if file.suffix.lower() not in SUFFIXES or not file.is_file():
                raise InputError(f"{file} is not a file that ends in {', '.join(SUFFIXES)}. Convert or remove it.")
            found.append((_normal(folder.name), file))
    if not found:
        raise InputError(f"{path} holds no folders. One folder of PNG or JPEG images a class was expected.")
    return found
