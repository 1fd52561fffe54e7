"""IDX files: what is written comes back, and what is damaged is named, never read."""

import gzip
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hwr_utils.data import idx
from hwr_utils.errors import InputError
from hwr_utils.files import sha256

IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
PLAIN = struct.pack(">4B3I", 0, 0, 8, 3, 2, 3, 4) + IMAGES.tobytes()
ZIPPED = gzip.compress(PLAIN, mtime=0)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("idx") / "file"


@given(arrays.arrays(np.uint8, arrays.array_shapes(min_dims=1, max_dims=3, max_side=9)), st.booleans())
def test_what_is_written_comes_back(path: Path, array: np.ndarray, compress: bool) -> None:
    for form in (array, array.T):  # by rows, whatever the order in memory
        idx.write_idx(path, form, compress)
        first = path.read_bytes()
        read = idx.read_idx(path, ndim=form.ndim)
        assert read.dtype == np.uint8 and np.array_equal(read, form)
        assert sha256(idx.serialize(form)) == sha256(gzip.decompress(first) if compress else first)
        idx.write_idx(path, form, compress)
        assert path.read_bytes() == first


@pytest.mark.parametrize(("name", "content"), [("a-ubyte", ZIPPED), ("a-ubyte.gz", PLAIN)])
def test_content_decides_about_gzip_not_the_name(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert np.array_equal(idx.read_idx(tmp_path / name, ndim=3), IMAGES)


def header(*sizes: int, kind: int = 8) -> bytes:
    return struct.pack(f">4B{len(sizes)}I", 0, 0, kind, len(sizes), *sizes)


DAMAGED = {
    "empty": (b"", "is empty"),
    "wrong type": (header(3, kind=13) + bytes(12), "IDX file of uint8 was expected"),
    "labels for images": (header(3) + b"abc", "has 1 dimension.*3 was expected"),
    "truncated": (PLAIN[:-1], r"\(2, 3, 4\), which is 24 bytes, and holds only 23"),
    "trailing bytes": (PLAIN + b"\n", "holds more"),
    "gz truncated": (ZIPPED[:-9], "is damaged"),
    "gz wrong CRC": (ZIPPED[:-8] + bytes([ZIPPED[-8] ^ 1]) + ZIPPED[-7:], "is damaged.*CRC"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damage_is_named(tmp_path: Path, case: str) -> None:
    content, message = DAMAGED[case]
    file = tmp_path / "train-images-idx3-ubyte.gz"
    file.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        idx.read_idx(file, ndim=3)
    assert str(file) in str(error.value)


bomb = zlib.compressobj(9, wbits=31)
BOMB = bomb.compress(header(4)) + b"".join(bomb.compress(bytes(2**20)) for _ in range(64)) + bomb.flush()


@pytest.mark.parametrize(
    "content", [header(2**32 - 1) + b"ab", gzip.compress(header(2**32 - 1)), BOMB], ids=["plain", "gz", "bomb"]
)
def test_memory_follows_the_content_and_the_declaration(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(InputError):
        idx.read_idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20


edits = st.lists(
    st.tuples(st.sampled_from(["set", "insert", "delete", "cut"]), st.integers(0, 99), st.integers(0, 255))
)


@given(st.sampled_from([PLAIN, ZIPPED, b"", b"\x1f\x8b\x08\0", header(2, 2)]), edits, st.binary(max_size=64))
def test_any_bytes_give_an_array_or_an_input_error(path: Path, content: bytes, edits: list, more: bytes) -> None:
    data = bytearray(content) + more * (content not in (PLAIN, ZIPPED))
    for kind, place, value in edits:
        place %= len(data) + 1
        if kind == "cut":
            del data[place:]
        elif kind == "insert":
            data.insert(place, value)
        elif place < len(data):
            data[place : place + 1] = [value] if kind == "set" else []
    path.write_bytes(data)
    try:
        read = idx.read_idx(path)
    except InputError as error:
        assert str(path) in str(error)
        return
    assert read.dtype == np.uint8 and read.size > 0
    if content == ZIPPED and data[:2] == b"\x1f\x8b":  # what gzip's CRC lets pass is what was written
        assert np.array_equal(read, IMAGES)
