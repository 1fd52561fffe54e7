"""Write files and folders so that a reader sees the old content or the new, never a half."""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from hwr_utils.errors import InputError, writing

_PARENT = Path(__file__).resolve().parent.parent
# The checkout that the package is used from: its results/ and data/ are the defaults wherever a notebook is started.
# Where the package is installed without one, they are those of the current folder.
REPOSITORY = _PARENT if (_PARENT / "pyproject.toml").exists() else Path.cwd()

UNFINISHED = ".part"  # the ending of names of files and folders that are still being written


def write_bytes(path: str | Path, data: bytes) -> None:
    """Replace `path` by `data` in one step, making its folder; if that raises an InputError, an older file stays."""
    path = Path(path)
    # in the same folder, because a rename is atomic only within one file system
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}{UNFINISHED}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "xb") as file:  # not by tempfile, which makes files for their owner alone
                file.write(data)
                file.flush()
                os.fsync(file.fileno())  # or a power cut could leave the new name on empty content
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def only_one(lock: Path, doing: str) -> AbstractContextManager[Any]:
    """Take a lock, which the system gives back however this process ends; an InputError where another one holds it."""
    from filelock import FileLock, Timeout

    with writing(lock):
        try:
            return FileLock(lock).acquire(timeout=0)
        except Timeout as error:
            raise InputError(f"another process is {doing}. Stop it, or wait, and run your command again.") from error


@contextmanager
def new_folder(path: str | Path, needed: int = 0) -> Iterator[Path]:
    """Yield an empty folder beside `path`, which replaces it when the block ends well; until then `path` is untouched.

    What a killed process left is removed by the next one that makes the same folder. Raises an InputError where another
    process makes it, less than the `needed` bytes are free, or the place cannot be written.
    """
    path = Path(path).resolve()  # a link stays one
    part, old, lock = (path.with_name(f".{path.name}{ending}") for ending in (UNFINISHED, ".old", ".lock"))
    with writing(path), ExitStack() as held:
        for place in (path, path.parent):
            if place.is_file():
                raise InputError(f"{place} is a file, where a folder was to be made. Move it, or give another place.")
        held.enter_context(only_one(lock, f"making {path}"))
        held.callback(lock.unlink, missing_ok=True)
        free = shutil.disk_usage(path.parent).free
        if needed > free:
            told = f"needs some {needed / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free"
            raise InputError(f"{path} {told}. Free some space, or ask for less.")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        try:
            yield part
            with suppress(FileNotFoundError):
                os.replace(path, old)
            os.replace(part, path)
        finally:
            if old.exists() and not path.exists():
                os.replace(old, path)
            for folder in (part, old):
                shutil.rmtree(folder, ignore_errors=True)


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
