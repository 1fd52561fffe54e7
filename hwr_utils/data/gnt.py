"""Read and write GNT, the format of CASIA-HWDB's isolated characters: plain files, folders of them, zip archives.

Layout of a record, little-endian: uint32 size of the whole record, two bytes of a GB code, uint16 width, uint16 height,
then width x height gray bytes, row by row, 255 = paper. Records follow each other without a header. Source: CASIA's
description of its offline database, https://nlpr.ia.ac.cn/databases/handwriting/Offline_database.html, section "File
formats". In HWDB a file is a writer.
"""

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwr_utils.errors import InputError, kind, warn
from hwr_utils.sources import AGAIN, ARCHIVES, Source, walk

HEADER = struct.Struct("<I2sHH")
MAX_SIDE = 4096  # pixels; the largest of HWDB has some hundreds
MAX_BYTES = 2**28  # of one file, of which each process of an import holds one; the largest of HWDB1.1 has about 20 MB

# the 3,755 most frequent characters in the order of their codes, which follows their pronunciation: rows 16 to 55 of
# GB 2312, with 94 characters in each row and 89 in the last
LEVEL_1 = tuple(bytes((0xA0 + 16 + n // 94, 0xA1 + n % 94)).decode("gb2312") for n in range(3755))


def parse(content: bytes, where: object) -> Iterator[tuple[bytes, NDArray[np.uint8]]]:
    """Yield the records in the whole content of a GNT file, which messages name by `where`.

    A record is the two bytes of its tag, see `decode`, and its image (H, W), 0 = ink, 255 = paper, read-only: a view
    into the content. Raises an InputError where a record is cut off, its size is not that of its image, or a side is 0
    or beyond `MAX_SIDE`. What was yielded before is sound.
    """
    start, end = 0, len(content)
    while start < end or not content:
        header = content[start : start + HEADER.size].ljust(HEADER.size, b"\0")  # zeros mark a cut-off one as faulty
        size, code, width, height = HEADER.unpack(header)
        sound = 0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and size == HEADER.size + width * height
        if not sound or start + size > end:
            found = f"the record at byte {start} declares {size} bytes and an image of {width}x{height}"
            found += f", and {end - start} bytes are left" + ("" if start else f"; the file is {kind(content)}")
            remedy = "Rename it to .zip." if content.startswith(b"PK") else AGAIN
            raise InputError(f"{where} is no sound GNT file: {found}. {remedy}")
        image = np.frombuffer(content, np.uint8, width * height, start + HEADER.size).reshape(height, width)
        yield code, image
        start += size


def serialize(samples: Iterable[tuple[bytes, NDArray[np.uint8]]]) -> bytes:
    """Return the content of a GNT file with a record for each code (two bytes) and image (H, W) uint8, 255 = paper."""
    return b"".join(
        HEADER.pack(HEADER.size + image.size, code, *image.shape[::-1]) + image.tobytes() for code, image in samples
    )


def encode(character: str) -> bytes:
    """Return the two-byte tag of a character of GB 2312; an ASCII character's single byte is followed by a zero."""
    return character.encode("gb2312").ljust(2, b"\0")


def decode(code: bytes) -> str:
    """Return the character that a tag means, or the tag in hexadecimal where it means nothing."""
    try:
        return (code[:1] if code[1] == 0 else code).decode("gb2312")
    except UnicodeDecodeError:
        return code.hex()


def find(path: str | Path) -> list[Source]:
    """Return the GNT files at a path in the order of their names, and warn of archives beside them that are not zip.

    The path is that of a `.gnt` file, of a zip archive, whose members are read in place, or of a folder with these at
    any depth. Raises an InputError where there is none, or an archive is damaged or has to be unpacked first.
    """
    found = walk(Path(path))
    by_suffix = {source.file.suffix.lower(): source for source in reversed(found)}
    told = "".join(f" Unpack {source} first." for suffix, source in by_suffix.items() if suffix in ARCHIVES)
    if ".gnt" not in by_suffix:
        kinds = ", ".join(suffix or "no ending" for suffix in by_suffix) or "none"
        remedy = "Give .gnt files of isolated characters, or a folder or zip archive of them."
        raise InputError(f"{path}: found no .gnt file, but {len(found):,} others ({kinds}).{told} {remedy}")
    if told:
        warn(f"{path}: only its .gnt files are read.{told}")
    return [source for source in found if source.file.suffix.lower() == ".gnt"]
