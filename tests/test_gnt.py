"""GNT files: known answers by hand, round trips, real files, and bytes that nobody meant to be one."""

import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hwr_utils.data import gnt
from hwr_utils.errors import InputError

# 啊, the first character of level 1, as an image of 3x2, written down byte by byte from the format's description
RECORD = bytes([16, 0, 0, 0, 0xB0, 0xA1, 3, 0, 2, 0, 255, 254, 253, 0, 1, 2])


def test_a_record_is_read_and_written_by_hand() -> None:
    (sample,) = gnt.parse(RECORD, "file")
    assert sample.character == "啊" and sample.code == gnt.encode("啊") == b"\xb0\xa1"
    assert sample.image.tolist() == [[255, 254, 253], [0, 1, 2]] and sample.image.dtype == np.uint8
    assert not sample.image.flags.writeable
    assert gnt.serialize([(sample.code, sample.image)]) == RECORD
    assert [found.image.shape for found in gnt.parse(RECORD * 3, "file")] == [(2, 3)] * 3


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
        *((b"\xff\xff", None), (b"\x80\0", None), (b"\xd7\xfa", None)),
    ],
)
def test_other_tags_are_symbols_or_nothing(code: bytes, character: str | None) -> None:
    assert gnt.Sample(code, np.zeros((1, 1), np.uint8)).character == character


images = arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)))


@given(st.lists(st.tuples(st.binary(min_size=2, max_size=2), images), min_size=1, max_size=5))
def test_what_is_written_is_read_again(samples: list[tuple[bytes, np.ndarray]]) -> None:
    content = gnt.serialize(samples)
    found = list(gnt.parse(content, "file"))
    assert [sample.code for sample in found] == [code for code, _ in samples]
    assert all(np.array_equal(sample.image, image) for sample, (_, image) in zip(found, samples, strict=True))
    assert gnt.serialize((sample.code, sample.image) for sample in found) == content


DAMAGED = {
    "empty": (b"", r"file is empty"),
    "header cut": (RECORD + RECORD[:7], r"file ends within the header of a record, at byte 23"),
    "image cut": (RECORD + RECORD[:-1], r"file is cut off: the record at byte 16 needs 16 bytes, and 15 are left"),
    "size": (b"\x11" + RECORD[1:] + b"\0", r"at byte 0 declares 17 bytes, and its image of 3x2 needs 16"),
    "no width": (struct.pack("<I2sHH", 10, b"\xb0\xa1", 0, 2), r"declares an image of 0x2"),
    "absurd": (struct.pack("<I2sHH", 10 + 5000 * 2, b"\xb0\xa1", 5000, 2), r"image of 5000x2; 1 to 4096 pixels"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + b"\0" * 8, r"byte 0 declares"),
}


@pytest.mark.parametrize(("content", "message"), DAMAGED.values(), ids=DAMAGED)
def test_damage_is_told_with_its_place(content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(gnt.parse(content, "file"))


def test_records_before_the_damage_are_sound() -> None:
    found = []
    with pytest.raises(InputError):
        for sample in gnt.parse(RECORD + RECORD[:-1], "file"):
            found.append(sample.character)
    assert found == ["啊"]


FUZZ = int(os.environ.get("HWR_FUZZ_EXAMPLES", "50")) * 20  # 1,000 in `make test`, 100,000 in `make test-all`


@settings(max_examples=FUZZ)
@given(st.data())
def test_any_bytes_end_in_records_or_a_message(data: st.DataObject) -> None:
    """Random bytes, and sound files with bytes changed or added: no other error, and never more than they hold."""
    content = bytearray(data.draw(st.sampled_from([RECORD, RECORD * 4, b""])) + data.draw(st.binary(max_size=40)))
    for place in data.draw(st.lists(st.integers(0, max(0, len(content) - 1)), max_size=4)):
        if content:
            content[place] = data.draw(st.integers(0, 255))
    pixels = 0
    try:
        for sample in gnt.parse(bytes(content), "file"):
            assert sample.image.size > 0
            pixels += sample.image.size + gnt.HEADER.size
    except InputError:
        assert pixels <= len(content)
    else:
        assert pixels == len(content) > 0


@pytest.mark.parametrize(
    ("code", "image", "message"),
    [
        (b"a", np.zeros((1, 1), np.uint8), r"record 0: found the code b'a', expected two bytes"),
        (b"ab", np.zeros((1, 1), np.int64), r"found int64 \(1, 1\), expected a uint8 image"),
        (b"ab", np.zeros((0, 1), np.uint8), r"found uint8 \(0, 1\)"),
        (b"ab", np.zeros((1, 5000), np.uint8), r"found uint8 \(1, 5000\)"),
    ],
)
def test_what_the_format_cannot_hold_is_refused(code: bytes, image: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        gnt.serialize([(code, image)])


def test_a_character_without_a_code_is_refused() -> None:
    with pytest.raises(InputError, match="'🙂' is not in GB 2312"):
        gnt.encode("🙂")


# where files lie


def test_files_folders_and_archives_give_the_same_files(tmp_path: Path) -> None:
    folder = tmp_path / "set" / "deep"
    folder.mkdir(parents=True)
    for name in ("b.gnt", "a.GNT"):
        (folder / name).write_bytes(RECORD)
    (folder / "readme.txt").write_text("no data")
    archive = tmp_path / "set.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("x/deep/b.gnt", "x/deep/a.GNT", "x/readme.txt", "__MACOSX/x/._a.gnt"):
            file.writestr(name, RECORD)
        file.mkdir("x/folder.gnt")
    for path in (tmp_path / "set", archive):
        sources = gnt.find(path)
        assert [source.writer for source in sources] == ["a", "b"]
        assert all(source.read() == RECORD for source in sources)
    assert [source.writer for source in gnt.find(folder / "b.gnt")] == ["b"]


def bad_crc(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.gnt", RECORD)
    content = path.read_bytes()
    path.write_bytes(content.replace(RECORD, RECORD[:-1] + b"\x09"))


def bomb(path: Path) -> None:
    """Write a member that declares 3 GB, without their bytes."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.gnt", RECORD)
    content = path.read_bytes()
    place = content.index(b"PK\x01\x02") + 24  # the uncompressed size in the directory
    path.write_bytes(content[:place] + struct.pack("<I", 3 * 2**30) + content[place + 4 :])


def empty_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.txt", "")


PLACES = {
    "absent": ("absent.gnt", None, r"absent\.gnt is not there"),
    "folder": ("folder", lambda path: path.mkdir(), r"folder holds no \.gnt file, at any depth\.$"),
    "alz": ("a.alz", lambda path: path.write_bytes(b"ALZ"), r"a\.alz is a \.alz archive.*unalz"),
    "rar": ("a.rar", lambda path: path.write_bytes(b"Rar!"), r"a\.rar is a \.rar archive.*Unpack it"),
    "other": ("a.png", lambda path: path.write_bytes(b"x"), r"a\.png is neither a \.gnt file"),
    "no zip": ("a.zip", lambda path: path.write_bytes(b"PK\x03\x04nothing"), r"a\.zip is not a readable zip archive"),
    "no gnt": ("a.zip", empty_zip, r"a\.zip holds no \.gnt file among its 1 members"),
    "bomb": ("a.zip", bomb, r"a\.gnt declares 3221225472 bytes, and at most 268435456 are expected"),
    "crc": ("a.zip", bad_crc, r"a\.zip: a\.gnt cannot be read: Bad CRC-32"),
}


@pytest.mark.parametrize(("name", "make", "message"), PLACES.values(), ids=PLACES)
def test_what_is_no_source_is_told(tmp_path: Path, name: str, make: object, message: str) -> None:
    path = tmp_path / name
    if callable(make):
        make(path)
    with pytest.raises(InputError, match=message):
        [source.read() for source in gnt.find(path)]


def test_a_folder_of_other_archives_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.RAR").write_bytes(b"")
    with pytest.raises(InputError, match=r"holds no \.gnt file, at any depth\. Its \.rar archives have to be unpacked"):
        gnt.find(tmp_path)


def test_archives_in_a_folder_are_read_in_place(tmp_path: Path) -> None:
    (tmp_path / "b.gnt").write_bytes(RECORD)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("1.gnt", RECORD)
    assert [source.short for source in gnt.find(tmp_path)] == ["a.zip: 1.gnt", "b.gnt"]


def test_the_real_subset_is_read_and_written_byte_for_byte(data_root: Path) -> None:
    folder = data_root / "HWDB-subset"
    if not folder.is_dir():
        pytest.skip(f"HWDB-subset is not under {data_root}")
    counts, characters = {}, set()
    for part in ("trn", "tst"):
        sources = gnt.find(folder / f"HWDB-subset-{part}_gnt.zip")
        counts[part] = 0
        for number, source in enumerate(sources):
            content = source.read()
            samples = list(gnt.parse(content, source.name))
            counts[part] += len(samples)
            characters |= {sample.character for sample in samples}
            if number % 10 == 0:
                assert gnt.serialize((sample.code, sample.image) for sample in samples) == content
                # dark ink on light paper, cut out along the ink
                assert np.mean([sample.image.mean() for sample in samples]) > 128
    assert counts == {"trn": 36_702, "tst": 9_076}  # as the folder's description has it
    assert len(characters) == 64 and characters <= set(gnt.LEVEL_1)
