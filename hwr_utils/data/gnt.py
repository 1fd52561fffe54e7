"""Read and write GNT, the format of CASIA-HWDB's isolated characters: plain files, folders of them, zip archives.

Layout of a record, little-endian: uint32 size of the whole record, two bytes of a GB code, uint16 width, uint16 height,
then width x height gray bytes, row by row, 255 = paper. Records follow each other without a header. Source: CASIA's
description of its offline database, https://nlpr.ia.ac.cn/databases/handwriting/Offline_database.html, section "File
formats". In HWDB a file is a writer.
"""

import re
import struct
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from hwr_utils.errors import InputError

HEADER = struct.Struct("<I2sHH")
MAX_SIDE = 4096  # pixels; the largest of HWDB has some hundreds
MAX_BYTES = 2**28  # of one file, of which each process of an import holds one; the largest of HWDB1.1 has about 20 MB
ARCHIVES = (".alz", ".rar", ".7z", ".tar", ".gz", ".tgz")  # that it cannot read in place


def _level_1() -> tuple[str, ...]:
    """Decode rows 16 to 55 of GB 2312, of 94 cells each; the last row ends with cell 89."""
    codes = [(row, cell) for row in range(16, 56) for cell in range(1, 95) if (row, cell) < (55, 90)]
    return tuple(bytes((0xA0 + row, 0xA0 + cell)).decode("gb2312") for row, cell in codes)


# the 3,755 most frequent characters, in the order of their codes, which is by pronunciation
LEVEL_1 = _level_1()


@dataclass(frozen=True)
class Sample:
    """One record."""

    code: bytes  # the two bytes of the tag
    image: NDArray[np.uint8]  # (H, W), 0 = ink, 255 = paper, read-only: a view into the file's content

    @property
    def character(self) -> str | None:
        """What the tag means by GB 2312, or ASCII filled up with a zero byte; None where it means nothing."""
        code = self.code[:1] if self.code[1] == 0 else self.code
        try:
            return code.decode("gb2312")
        except UnicodeDecodeError:
            return None


@dataclass(frozen=True)
class Source:
    """One GNT file, on the disk or in a zip archive."""

    path: Path  # of the file, or of the archive
    member: str = ""  # its name in the archive

    @property
    def name(self) -> str:
        """Its path, in an archive after a colon: for messages."""
        return f"{self.path}: {self.member}" if self.member else str(self.path)

    @property
    def short(self) -> str:
        """Its name without folders of this machine."""
        return f"{self.path.name}: {self.member}" if self.member else self.path.name

    @property
    def writer(self) -> str:
        """Its name without folders and ending."""
        return PurePosixPath(self.member or self.path.name).stem

    @property
    def part(self) -> str | None:
        """The side of the published split, "train" or "test", by a name with a word that begins so, or with trn or tst.

        So CASIA names its archives: HWDB1.1trn_gnt_P1.zip, or Gnt1.1TrainPart1.zip. The names nearest to the file
        decide: its own, those inside its archive, that of its archive, and at last that of the folder it lies in.
        """
        for name in reversed((*self.path.parts[-2:], *PurePosixPath(self.member).parts)):
            if found := re.search(r"(?<![a-z])(?:(trn|train)|tst|test)", name.lower()):
                return "train" if found[1] else "test"
        return None

    def read(self) -> bytes:
        """Return the whole content.

        Raises:
            InputError: it cannot be read, is damaged, or is larger than `MAX_BYTES` or than it declares.
        """
        return self._read_member() if self.member else self._read_file()

    def _read_file(self) -> bytes:
        try:
            size = self.path.stat().st_size
            if size > MAX_BYTES:
                raise InputError(f"{self.name} has {size} bytes; at most {MAX_BYTES} are expected of a GNT file.")
            return self.path.read_bytes()
        except OSError as error:
            raise InputError(f"cannot read {self.name}: {error.strerror or error}.") from error

    def _read_member(self) -> bytes:
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as stream:
                declared = archive.getinfo(self.member).file_size
                # never more than declared, whatever the compressed bytes unfold to
                content = stream.read(declared + 1)
        except Exception as error:  # zipfile, zlib, lzma and bz2 each raise their own on damaged bytes
            raise InputError(f"{self.name} cannot be read: {error}. Download the archive again.") from error
        if len(content) != declared:
            raise InputError(f"{self.name} declares {declared} bytes, and holds another number. Download it again.")
        return content


def parse(content: bytes, where: str) -> Iterator[Sample]:
    """Yield the records of a GNT file in their order.

    Args:
        content: the whole file.
        where: its name, for messages.

    Raises:
        InputError: a record is cut off, its size is not that of its image, or a side is 0 or beyond `MAX_SIDE`; says at
            which byte. What was yielded before is sound.
    """
    if not content:
        raise InputError(f"{where} is empty; records of a GNT file were expected. Unpack or download it again.")
    again = "Unpack or download it again."
    start, end, header = 0, len(content), HEADER.size
    while start < end:
        if start + header > end:
            raise InputError(f"{where} ends within the header of a record, at byte {end}. {again}")
        size, code, width, height = HEADER.unpack_from(content, start)
        if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
            raise InputError(
                f"{where}: the record at byte {start} declares an image of {width}x{height}; 1 to {MAX_SIDE} pixels a "
                f"side were expected. {again}"
            )
        if size != header + width * height:
            raise InputError(
                f"{where}: the record at byte {start} declares {size} bytes, and its image of {width}x{height} needs "
                f"{header + width * height}. Is it a GNT file? {again}"
            )
        if start + size > end:
            raise InputError(
                f"{where} is cut off: the record at byte {start} needs {size} bytes, and {end - start} are left. "
                f"{again}"
            )
        image = np.frombuffer(content, np.uint8, width * height, start + header).reshape(height, width)
        yield Sample(code, image)
        start += size


def serialize(samples: Iterable[tuple[bytes, NDArray[np.uint8]]]) -> bytes:
    """Return the content of a GNT file; what `parse` reads from it is what was given, and the other way round.

    Args:
        samples: code (two bytes) and image (H, W) uint8, 255 = paper, of each record.

    Raises:
        InputError: a code that is not two bytes, or an image that the format cannot hold.
    """
    content = bytearray()
    for number, (code, image) in enumerate(samples):
        if len(code) != 2:
            raise InputError(f"record {number}: found the code {code!r}, expected two bytes.")
        if image.dtype != np.uint8 or image.ndim != 2 or not all(0 < side <= MAX_SIDE for side in image.shape):
            raise InputError(
                f"record {number}: found {image.dtype} {image.shape}, expected a uint8 image (height, width) of 1 to "
                f"{MAX_SIDE} pixels a side."
            )
        height, width = image.shape
        content += HEADER.pack(HEADER.size + width * height, code, width, height) + image.tobytes()
    return bytes(content)


def encode(character: str) -> bytes:
    """Return a character's tag.

    Raises:
        InputError: it is not in GB 2312.
    """
    try:
        return character.encode("gb2312").ljust(2, b"\0")
    except UnicodeEncodeError as error:
        raise InputError(f"{character!r} is not in GB 2312, and a GNT file cannot name it.") from error


def find(path: str | Path) -> list[Source]:
    """Return the GNT files at a path, in the order of their names, so that a path always gives the same list.

    Args:
        path: a `.gnt` file, a zip archive, whose members are read in place, or a folder with these at any depth.

    Raises:
        InputError: there is none, an archive is damaged or of a kind that has to be unpacked first, or a member
            declares an absurd size; says which and what to do.
    """
    path = Path(path)
    if path.is_dir():
        inside = sorted(file for file in path.rglob("*") if file.is_file())
        found = [source for file in inside if file.suffix.lower() in (".gnt", ".zip") for source in find(file)]
        if not found:
            packed = sorted({file.suffix.lower() for file in inside} & set(ARCHIVES))
            hint = f" Its {', '.join(packed)} archives have to be unpacked first." if packed else ""
            raise InputError(f"{path} holds no .gnt file, at any depth.{hint}")
        return found
    if not path.is_file():
        raise InputError(f"{path} is not there. Expected a .gnt file, a folder of them or a zip archive.")
    suffix = path.suffix.lower()
    if suffix in ARCHIVES:
        raise InputError(
            f"{path} is a {suffix} archive, which is not read in place. Unpack it (7-Zip reads .rar and .7z; .alz "
            "needs `unalz`), and give the folder."
        )
    if suffix == ".gnt":
        return [Source(path)]
    if suffix == ".zip":
        return _in_zip(path)
    raise InputError(f"{path} is neither a .gnt file, nor a folder, nor a zip archive.")


def _in_zip(path: Path) -> list[Source]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = sorted(archive.infolist(), key=lambda member: member.filename)
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise InputError(f"{path} is not a readable zip archive: {error}. Download it again.") from error
    # what macOS adds to archives has the same endings, and is no data
    chosen = [
        member
        for member in members
        if member.filename.lower().endswith(".gnt") and "__MACOSX" not in PurePosixPath(member.filename).parts
    ]
    if not chosen:
        raise InputError(f"{path} holds no .gnt file among its {len(members)} members.")
    for member in chosen:
        if member.file_size > MAX_BYTES:
            raise InputError(
                f"{path}: {member.filename} declares {member.file_size} bytes, and at most {MAX_BYTES} are expected of "
                "a GNT file. Is it what it says?"
            )
    return [Source(path, member.filename) for member in chosen]
