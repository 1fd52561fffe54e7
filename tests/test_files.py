"""Files are written whole or not at all, and a failure names the place and loses nothing."""

import errno
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from hwr_utils import files
from hwr_utils.errors import InputError


def test_what_is_written_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "made" / "on the way" / "a.bin"
    files.write_bytes(path, b"old" * 1000)
    files.write_bytes(str(path), b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_text_is_utf8_and_json_diffs_well(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a.txt", "はい\n")
    assert (tmp_path / "a.txt").read_bytes() == "はい\n".encode()
    files.write_json(tmp_path / "a.json", {"b": [1], "a": "を"})
    assert (tmp_path / "a.json").read_text("utf-8") == '{\n "b": [\n  1\n ],\n "a": "を"\n}\n'


@pytest.mark.parametrize("value", [0.1 + 0.2, 5e-324, 1.7976931348623157e308, -0.0, 2**64, "\u2028\0", [], {}, None])
def test_json_comes_back_bit_for_bit(tmp_path: Path, value: Any) -> None:
    files.write_json(tmp_path / "a.json", {"value": value})
    assert repr(json.loads((tmp_path / "a.json").read_bytes())["value"]) == repr(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_has_no_nan(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError):
        files.write_json(tmp_path / "a.json", {"loss": value})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_rights_are_those_that_open_would_give(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        files.write_bytes(tmp_path / "a", b"")
        (tmp_path / "b").open("wb").close()
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


class Full(io.FileIO):
    """A file on a full disk, which takes a part of what it is given."""

    def write(self, data: Any) -> int:
        super().write(data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["open", "fsync", "fdopen", "replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = tmp_path / "a.json"
    files.write_bytes(path, b"old")

    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, call, Full if call == "fdopen" else fail)
    with pytest.raises(InputError, match=r"cannot write .*a\.json: No space left on device.*free some space"):
        files.write_bytes(path, b"new" * 100)
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_in_the_folders_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("in the way")
    with pytest.raises(InputError, match=f"cannot write {tmp_path}/results/a/b.json.*make {tmp_path}/results/a writ"):
        files.write_bytes(tmp_path / "results" / "a" / "b.json", b"")
    assert (tmp_path / "results").read_text() == "in the way"


def test_a_folder_in_the_files_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json" / "kept").mkdir(parents=True)
    with pytest.raises(InputError, match=r"cannot write .*a\.json"):
        files.write_bytes(tmp_path / "a.json", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json" / "kept").is_dir()


def test_only_unfinished_files_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write_bytes(tmp_path / "a.part", b"the user's own")
    files.write_bytes(tmp_path / ".hidden", b"the user's own")
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)  # a process that is killed does not tidy up

    def fail(*_: Any) -> None:
        raise OSError

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(InputError):
        files.write_bytes(tmp_path / "b", b"half")
    monkeypatch.undo()
    assert len(list(tmp_path.iterdir())) == 3
    files.remove_unfinished(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"a.part", ".hidden"}
    files.remove_unfinished(tmp_path / "absent")


def test_sha256_of_bytes_and_files(tmp_path: Path) -> None:
    # the digest of "abc" in FIPS 180-4's examples
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (tmp_path / "a").write_bytes(b"abc")
    assert files.sha256(b"abc") == files.sha256(tmp_path / "a") == files.sha256(str(tmp_path / "a")) == expected
