"""Read and write IDX, the format of MNIST and its relatives, plain or gzipped.

Layout: two zero bytes, a type byte (8 is uint8), the number of dimensions, each dimension as a big-endian uint32, then
the elements. Source: http://yann.lecun.com/exdb/mnist/, section "The IDX file format".
"""

import gzip
import math
import struct
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from hwr_utils.errors import InputError, kind
from hwr_utils.files import write_bytes
from hwr_utils.sources import AGAIN, Source

MAX_BYTES = 4 * 2**30  # EMNIST's largest file has 0.6 GB
CHUNK = 2**20


def read_idx(source: str | Path | Source, ndim: int | None = None) -> NDArray[np.uint8]:
    """Return the uint8 array in an IDX file, gzipped or plain: the content decides, not the name.

    It takes no more memory than the header declares or the file holds. Raises an InputError where the file cannot be
    opened, is damaged, or does not have the `ndim` dimensions that the caller needs: 3 for images, 1 for labels.
    """
    source = source if isinstance(source, Source) else Source(Path(source))
    with source.open("an IDX file") as stream:
        gzipped = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        unpacked: IO[bytes] | gzip.GzipFile = gzip.GzipFile(fileobj=stream) if gzipped else stream
        magic = unpacked.read(4)
        n = magic[3] if len(magic) == 4 else 0
        sizes = unpacked.read(4 * n)
        if magic[:3] != b"\0\0\x08" or not 1 <= n <= 3 or len(sizes) < 4 * n:
            raise InputError(f"{source} is {kind(magic + sizes)}; an IDX file of uint8 was expected. {AGAIN}")
        if ndim not in (None, n):
            raise InputError(f"{source} has {n} dimension(s), and {ndim} was expected. Are images and labels mixed up?")
        shape = struct.unpack(f">{n}I", sizes)
        expected = math.prod(shape)
        if not 0 < expected <= MAX_BYTES:
            raise InputError(f"{source} declares {shape}; 1 to {MAX_BYTES} bytes were expected. {AGAIN}")
        content = bytearray()
        # one byte more than declared, to see trailing bytes and to make gzip check its CRC
        while chunk := unpacked.read(min(CHUNK, expected + 1 - len(content))):
            content += chunk
    if len(content) != expected:
        found = f"only {len(content)}" if len(content) < expected else "more"
        raise InputError(f"{source} declares {shape}, which is {expected} bytes, and holds {found}. {AGAIN}")
    return np.frombuffer(content, np.uint8).reshape(shape)


def serialize(array: NDArray[np.uint8]) -> bytes:
    """Return the content of a plain IDX file that holds an array of 1 to 3 dimensions."""
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_idx(path: str | Path, array: NDArray[np.uint8], compress: bool = True) -> None:
    """Write an array as an IDX file; equal arrays give equal bytes, since the gzip header bears no time."""
    write_bytes(path, gzip.compress(serialize(array), mtime=0) if compress else serialize(array))
