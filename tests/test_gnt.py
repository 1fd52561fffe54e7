"""GNT files: known answers by hand, round trips, real files, and bytes that nobody meant to be one."""

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hwr_utils.data import gnt
from hwr_utils.errors import InputError

# 啊, the first character of level 1, as an image of 3x2, written down byte by byte from the format's description
RECORD = bytes([16, 0, 0, 0, 0xB0, 0xA1, 3, 0, 2, 0, 255, 254, 253, 0, 1, 2])


def test_a_record_is_read_and_written_by_hand() -> None:
    ((code, image),) = gnt.parse(RECORD, "file")
    assert gnt.decode(code) == "啊" and code == gnt.encode("啊") == b"\xb0\xa1"
    assert image.tolist() == [[255, 254, 253], [0, 1, 2]] and image.dtype == np.uint8
    assert not image.flags.writeable
    assert gnt.serialize([(code, image)]) == RECORD
    assert [found.shape for _, found in gnt.parse(RECORD * 3, "file")] == [(2, 3)] * 3


def test_level_1_is_the_standards_first_3755_hanzi() -> None:
    assert len(gnt.LEVEL_1) == len(set(gnt.LEVEL_1)) == 3755
    assert gnt.LEVEL_1[0] == "啊" and gnt.LEVEL_1[-1] == "座"
    assert all("\u4e00" <= character <= "\u9fff" for character in gnt.LEVEL_1)
    codes = [gnt.encode(character) for character in gnt.LEVEL_1]
    assert codes == sorted(codes) and codes[-1] == b"\xd7\xf9"


@pytest.mark.parametrize(
    ("code", "character"),
    [
        *((b"A\0", "A"), (b"\xa3\xac", "，"), (b"\xd8\xa1", "亍")),
        *((b"\xff\xff", "ffff"), (b"\x80\0", "8000"), (b"\xd7\xfa", "d7fa")),
    ],
)
def test_other_tags_are_symbols_or_nothing(code: bytes, character: str) -> None:
    assert gnt.decode(code) == character


images = arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)))


@given(st.lists(st.tuples(st.binary(min_size=2, max_size=2), images), min_size=1, max_size=5))
def test_what_is_written_is_read_again(samples: list[tuple[bytes, np.ndarray]]) -> None:
    content = gnt.serialize(samples)
    found = list(gnt.parse(content, "file"))
    assert [code for code, _ in found] == [code for code, _ in samples]
    assert all(np.array_equal(one, image) for (_, one), (_, image) in zip(found, samples, strict=True))
    assert gnt.serialize(found) == content


DAMAGED = {
    "empty": (b"", r"the file is empty"),
    "image cut": (RECORD + RECORD[:-1], r"at byte 16 declares 16 bytes and an image of 3x2, and 15 bytes are left"),
    "size": (b"\x11" + RECORD[1:] + b"\0", r"at byte 0 declares 17 bytes and an image of 3x2"),
    "absurd": (struct.pack("<I2sHH", 10 + 5000 * 2, b"\xb0\xa1", 5000, 2) + bytes(10_000), r"image of 5000x2"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + b"\0" * 8, r"the file is a PNG picture"),
}


@pytest.mark.parametrize(("content", "message"), DAMAGED.values(), ids=DAMAGED)
def test_damage_is_told_with_its_place(content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(gnt.parse(content, "file"))


@given(st.data())
def test_any_bytes_end_in_records_or_a_message(data: st.DataObject) -> None:
    """Random bytes, and sound files with bytes changed or added: no other error, and never more than they hold."""
    content = bytearray(data.draw(st.sampled_from([RECORD, RECORD * 4, b""])) + data.draw(st.binary(max_size=40)))
    for place in data.draw(st.lists(st.integers(0, max(0, len(content) - 1)), max_size=4)):
        if content:
            content[place] = data.draw(st.integers(0, 255))
    pixels = 0
    try:
        for _, image in gnt.parse(bytes(content), "file"):
            assert image.size > 0
            pixels += image.size + gnt.HEADER.size
    except InputError:
        assert pixels <= len(content)
    else:
        assert pixels == len(content) > 0


# where files lie


def read(path: Path) -> list[tuple[str, bytes]]:
    return [(source.file.name, source.read("a GNT file", 100)) for source in gnt.find(path)]


LEFT = ["__MACOSX/x/._a.gnt", "x/deep/@EADIR/b.gnt", "x/.ipynb_checkpoints/a.gnt", "x/THUMBS.DB", "x/readme.txt"]
LEFT += ["x\\@eaDir\\a.gnt"]  # as some programs on Windows write archives


def test_files_folders_and_archives_give_the_same_files(tmp_path: Path) -> None:
    archive = tmp_path / "set.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("x/deep/b.gnt", "x/deep/a.GNT"):
            file.writestr(name, RECORD)
        for name in LEFT:
            file.writestr(name, b"no data")
        file.mkdir("x/folder.gnt")
        file.extractall(tmp_path / "set")
    for path in (tmp_path / "set", archive):
        assert read(path) == [("a.GNT", RECORD), ("b.gnt", RECORD)]
    assert read(tmp_path / "set/x/deep/b.gnt") == [("b.gnt", RECORD)]
    archive.rename(tmp_path / "set" / "a.zip")  # archives in a folder are read in place
    assert len(read(tmp_path / "set")) == 4


def zipped(name: str, content: bytes) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, content)
    return archive.getvalue()


PLACES = {
    "alz": ("a.alz", b"ALZ", r"Unpack \S*a\.alz first"),
    "no zip": ("a.zip", b"PK\x03\x04nothing", r"a\.zip is damaged"),
    "zip in zip": ("a.zip", zipped("b.zip", b"PK"), r"Unpack \S*a\.zip: b\.zip first"),
    "bomb": ("a.zip", zipped("a.gnt", bytes(10**6)), r"a\.zip: a\.gnt has more than 100 bytes"),
}


@pytest.mark.parametrize(("name", "content", "message"), PLACES.values(), ids=PLACES)
def test_what_is_no_source_is_told(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path / name)
    if name == "a.alz":  # beside what can be read, it is told and left out
        (tmp_path / "b.gnt").write_bytes(RECORD)
        with pytest.warns(UserWarning, match=message):
            assert read(tmp_path) == [("b.gnt", RECORD)]
