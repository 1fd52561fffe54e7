"""What the command line tells without a traceback: bad input, and a device that failed.

`reading` and `writing` are the one place where what libraries raise about a file becomes a sentence.
"""

import re
import tomllib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_BEGINNINGS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))


def kind(content: bytes) -> str:
    """Say what a file is, by how its content begins; for messages."""
    beginning = content[:64].decode("latin-1")
    known = (name for start, name in _BEGINNINGS.items() if re.match(start, beginning, re.DOTALL))
    return next(known, f"of an unknown kind (its first bytes are {content[:4].hex()})")


def printable(text: str) -> str:
    """Escape control characters, which could steer a terminal, and what is not UTF-8 in the names of files."""
    return "".join(c if c.isprintable() or c == "\u3000" else c.encode("unicode_escape").decode() for c in text)


class InputError(ValueError):
    """Say which file or parameter is wrong, what was found, what was expected and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class MissingFiles(InputError):
    """The files of a dataset are not there; says which, where to put them and how to get them."""


class DeviceError(RuntimeError):
    """The GPU failed while it trained; says when, what is kept and how to go on."""


def warn(message: str) -> None:
    """Warn of what a user should know about the input although the work goes on, in words as an `InputError`."""
    warnings.warn(printable(message), stacklevel=3)


@contextmanager
def reading(path: object, expected: str, remedy: str) -> Iterator[None]:
    """Turn whatever is raised in the block while a file is read into an `InputError`; one of these passes as it is.

    It names the file by `path`, what was `expected`, such as "a zip archive", and a `remedy`: "Download it again."
    """
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # zipfile, zlib, struct, json, Pillow, NumPy: each has its own for damaged bytes
        said = f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": .")
        found = f"{path} is damaged ({said})"
        if isinstance(error, NotImplementedError) or "is encrypted" in said:  # of zip archives
            found = f"{path} is sound and cannot be read here ({said})"
            remedy = "Unpack it first."
        if isinstance(error, OSError) and error.strerror:  # of the system, and not zlib's, gzip's or Pillow's
            found = f"cannot read {path}: {error.strerror}"
        raise InputError(f"{found}; expected {expected}. {remedy}") from error


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn an error of the system while `path` is written into an `InputError`, which says that nothing is lost."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}. Nothing already written is lost; free some space or make "
            f"{Path(path).parent} writable, and run the same command again."
        ) from error
