"""Read and write IDX, the format of MNIST and its relatives, plain or gzipped.

Layout: two zero bytes, a type byte (8 is uint8), the number of dimensions, each dimension as a big-endian uint32, then
the elements. Source: http://yann.lecun.com/exdb/mnist/, section "The IDX file format".
"""

import gzip
import hashlib
import io
import math
import struct
import zlib
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from hwr_utils.errors import InputError
from hwr_utils.files import write_bytes

MAX_BYTES = 4 * 2**30  # EMNIST's largest file has 0.6 GB
CHUNK = 2**20
TYPES = {8: "uint8", 9: "int8", 11: "int16", 12: "int32", 13: "float32", 14: "float64"}


def read_idx(path: str | Path, ndim: int | None = None) -> NDArray[np.uint8]:
    """Return the uint8 array in an IDX file, gzipped or plain: the content decides, not the name.

    Args:
        path: the file.
        ndim: the number of dimensions that the caller needs: 3 for images, 1 for labels.

    Raises:
        InputError: the file cannot be opened, is damaged, or is not what was asked for.
    """
    try:
        with open(path, "rb") as stream:
            return read_stream(stream, str(path), ndim)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}.") from error


def read_stream(stream: IO[bytes], where: str, ndim: int | None = None) -> NDArray[np.uint8]:
    """Read as `read_idx` from an open file that can seek; `where` names it in errors.

    The memory taken is bounded by what the header declares and by what the file really holds, whichever is less.
    """
    again = "Download or write the file again."
    gzipped = stream.read(2) == b"\x1f\x8b"
    stream.seek(0)
    source: IO[bytes] | gzip.GzipFile = gzip.GzipFile(fileobj=stream) if gzipped else stream
    try:
        shape = _read_shape(source, where, ndim)
        expected = math.prod(shape)
        content = bytearray()
        # one byte more than declared, to see trailing bytes and to make gzip check its CRC
        while chunk := source.read(min(CHUNK, expected + 1 - len(content))):
            content += chunk
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{where} is a damaged or truncated gzip file: {error}. {again}") from error
    if len(content) != expected:
        found = f"only {len(content)}" if len(content) < expected else "more"
        raise InputError(f"{where} declares {shape}, which is {expected} bytes, and holds {found}. {again}")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _read_shape(source: IO[bytes] | gzip.GzipFile, where: str, ndim: int | None) -> tuple[int, ...]:
    """Parse and check the header, so that nothing is read or allocated on the word of a damaged one."""
    magic = source.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in TYPES or not 1 <= magic[3] <= 3:
        raise InputError(
            f"{where} is not an IDX file: it begins with {magic.hex() or 'nothing'}, "
            "and 00000801 (labels) or 00000803 (images) was expected."
        )
    if magic[2] != 8:
        raise InputError(f"{where} holds {TYPES[magic[2]]} values, and uint8 was expected. Convert it to uint8.")
    if ndim is not None and magic[3] != ndim:
        raise InputError(
            f"{where} has {magic[3]} dimension(s), and {ndim} was expected "
            "(images have 3, labels 1). Are the image and label files mixed up?"
        )
    sizes = source.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise InputError(f"{where} ends inside its header. Download or write the file again.")
    shape = struct.unpack(f">{magic[3]}I", sizes)
    if not 0 < math.prod(shape) <= MAX_BYTES:
        raise InputError(f"{where} declares {shape}: 1 to {MAX_BYTES} bytes were expected, so its header is damaged.")
    return shape


def _header(array: NDArray[np.uint8]) -> bytes:
    if array.dtype != np.uint8 or not 1 <= array.ndim <= 3 or array.size == 0:
        raise InputError(
            f"IDX files hold non-empty uint8 arrays of 1 to 3 dimensions; found {array.dtype} {array.shape} to write."
        )
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)


def checksum(array: NDArray[np.uint8]) -> str:
    """Return the SHA-256 of the uncompressed IDX file that holds `array`, without reading that file again."""
    digest = hashlib.sha256(_header(array))
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def write_idx(path: str | Path, array: NDArray[np.uint8], compress: bool = True) -> None:
    """Write `array` as an IDX file; equal arrays give equal bytes, since the gzip header bears no time.

    Raises:
        InputError: an array that is empty, not uint8 or not of 1 to 3 dimensions; a place that cannot be written.
    """
    data = _header(array) + array.tobytes()
    if compress:
        buffer = io.BytesIO()
        with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as file:
            file.write(data)
        data = buffer.getvalue()
    write_bytes(path, data)
