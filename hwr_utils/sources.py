"""Find files where people keep them: in folders at any depth and in zip archives."""

import re
import unicodedata
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from hwr_utils.errors import InputError, kind, reading

# what file managers, macOS and network disks leave beside the data, besides names that begin with a dot
LEFT_BEHIND = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "@eadir", "__macosx", "$recycle.bin", "#recycle"}
LEFT_BEHIND |= {"system volume information", "lost+found", "ehthumbs_vista.db", "@synoresource", "#snapshot"}
LEFT_BEHIND |= {"@recycle", "@recently-snapshot", "network trash folder", "temporary items"}
AGAIN = "Download or copy it again."
ARCHIVES = {".alz", ".egg", ".rar", ".7z", ".tar", ".gz", ".tgz", ".xz", ".bz2", ".zst", ".zip", ".z01", ".001"}


def is_data(name: str) -> bool:
    """Tell whether none of the parts of a relative path is hidden or left behind by a program."""
    parts = PurePosixPath(name.replace("\\", "/")).parts  # as some programs on Windows write them into archives
    return not any(part.startswith(".") or part.lower() in LEFT_BEHIND for part in parts)


def normal(name: str) -> str:
    """Return a name in one Unicode form: macOS may store が as two characters."""
    return unicodedata.normalize("NFC", name)


def natural(name: str) -> tuple[list[tuple[str, int]], str]:
    """Return a key that sorts names as people do: 2 before 10."""
    return [(text, int(digits or 0)) for text, digits in re.findall(r"(\D*)(\d*)", normal(name))], normal(name)


def part_of(name: str) -> str | None:
    """Return "train" or "test" if a word in a name begins with it, or with trn or tst; else None."""
    found = re.search(r"(?<![a-z])(?:(trn|train)|tst|test)", name.lower())
    return found and ("train" if found[1] else "test")


def listing(folder: Path) -> list[Path]:
    """Return what lies in a folder, by name, without what is no data."""
    with reading(folder, "a folder", "Check its name; of an archive, give the folder that it unpacks to."):
        return sorted((path for path in folder.iterdir() if is_data(path.name)), key=lambda path: normal(path.name))


@dataclass(frozen=True)
class Source:
    """One file, on the disk or in a zip archive."""

    path: Path  # of the file, or of the archive
    member: str = ""  # its name in the archive

    def __str__(self) -> str:
        """Its path, in an archive after a colon: for messages."""
        return f"{self.path}: {self.member}" if self.member else str(self.path)

    @property
    def file(self) -> PurePosixPath:
        """Its path in its archive, or on the disk."""
        return PurePosixPath(self.member.replace("\\", "/") or self.path.as_posix())

    @property
    def part(self) -> str | None:
        """What `part_of` says of the nearest name: its own, those in its archive, the archive's or its folder's.

        CASIA names its archives HWDB1.1trn_gnt_P1.zip or Gnt1.1TrainPart1.zip.
        """
        names = (*self.path.parts[-2:], *PurePosixPath(self.member).parts)
        return next(filter(None, map(part_of, reversed(names))), None)

    @contextmanager
    def open(self, expected: str) -> Iterator[IO[bytes]]:
        """Open it; what is raised while it is read becomes an `InputError` that tells what was `expected`."""
        with reading(self, expected, AGAIN):
            if not self.member:
                with self.path.open("rb") as stream:
                    yield stream
            else:
                with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as stream:
                    yield stream

    def read(self, expected: str, limit: int) -> bytes:
        """Return the whole content, of at most `limit` bytes, whatever an archive declares; errors as `open`."""
        with self.open(expected) as stream:
            content = stream.read(limit + 1)
        if len(content) > limit:
            raise InputError(f"{self} has more than {limit:,} bytes, too many for {expected}. Is it what it says?")
        return content


def walk(path: Path, strict: bool = True) -> list[Source]:
    """Return the files at a path, in the order of their names: itself, or those in a folder or zip archive.

    Raises an InputError for what cannot be read; in a folder it is left out where `strict` is False.
    """
    with reading(path, "a file, a folder or a zip archive", "Check its name, or copy it again."):
        path.stat()
        if path.is_dir():
            found_inside: list[Source] = []
            for inside in listing(path):
                with nullcontext() if strict else suppress(InputError):
                    found_inside += walk(inside, strict)
            return found_inside
        if path.suffix.lower() != ".zip":
            return [Source(path)]
        with path.open("rb") as stream:
            found = kind(stream.read(16))
        if not (zipfile.is_zipfile(path) or found == "a zip archive"):
            remedy = "Unpack it first." if found.endswith(("archive", "gzip file")) else AGAIN
            raise InputError(f"{path} is {found}; a zip archive was expected. {remedy}")
        with zipfile.ZipFile(path) as archive:
            members = sorted(archive.namelist())
    return [Source(path, name) for name in members if is_data(name) and not name.endswith("/")]


def packed(found: list[Source]) -> str:
    """Say which archives to unpack; IDX files are read where they are."""
    others = (one.path for one in found if "ubyte" not in one.file.name)
    archives = dict.fromkeys(str(path) for path in others if path.suffix.lower() in ARCHIVES)
    return f" Unpack {', '.join(archives)} first." if archives else ""
