"""Write files so that a reader sees the old content or the new, never a half."""

import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

from hwr_utils.errors import InputError

# the checkout that the package is used from: its results/ and data/ are the defaults wherever a notebook is started
REPOSITORY = Path(__file__).resolve().parent.parent

UNFINISHED = ".part"  # how the names of files end that are still being written


def write_bytes(path: str | Path, data: bytes) -> None:
    """Replace `path` by `data` in one step, making its folder where it is missing.

    Raises:
        InputError: the folder cannot be written or the disk is full; an older file at `path` is left as it was.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # in the same folder, because os.replace is atomic only within one file system
        name = path.with_name(f".{path.name}.{secrets.token_hex(8)}{UNFINISHED}")
        # not by tempfile, which makes files for their owner alone, and asking for the umask is not safe in threads
        handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        temporary = name
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # or a power cut could leave the new name on empty content
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise InputError(
            f"cannot write {path}: {error.strerror or error}. Nothing already written is lost; "
            f"free some space or make {path.parent} writable, and run the same command again."
        ) from error


def remove_unfinished(folder: str | Path) -> None:
    """Remove what a writer that was killed left in `folder`; for a caller that is the only one to write there."""
    for path in Path(folder).glob(f".*{UNFINISHED}"):
        path.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Replace `path` by `text` (UTF-8) in one step; errors as `write_bytes`."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, value: Any) -> None:
    """Replace `path` by `value` as indented JSON that diffs well; errors as `write_bytes`."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def sha256(source: bytes | str | Path) -> str:
    """Return the SHA-256 of bytes, or of a file's content, as 64 hexadecimal digits."""
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    with open(source, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
