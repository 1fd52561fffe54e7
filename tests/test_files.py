"""Files and folders are written whole or not at all; a failure names the place and loses nothing."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import DEFAULT, Mock

import psutil
import pytest

from helpers import LIMIT, environment, until
from hwr_utils import errors, files
from hwr_utils.errors import InputError


@pytest.mark.parametrize("call", ["builtins.open", "os.fsync", "os.replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = tmp_path / "a.json"
    files.write_bytes(path, b"old")
    with monkeypatch.context() as full:
        full.setattr(call, Mock(side_effect=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
        with pytest.raises(InputError, match=r"cannot write .*a\.json: No space left on device.*free some space"):
            files.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["file/b.json", "folder"])
def test_what_is_in_the_way_is_named_and_kept(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder" / "kept").mkdir(parents=True)
    with pytest.raises(InputError, match=f"cannot write {tmp_path}/{name}"):
        files.write_bytes(tmp_path / name, b"")
    assert (tmp_path / "file").read_text() == "in the way" and (tmp_path / "folder" / "kept").is_dir()
    assert len(list(tmp_path.iterdir())) == 2


# folders


def put(folder: Path, text: str) -> None:
    with files.new_folder(folder) as part:
        for name in "ab":
            (part / name).write_text(text)


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "set"
    put(folder, "old")
    with pytest.raises(KeyError), files.new_folder(folder) as part:
        (part / "a").write_text("new")
        raise KeyError
    assert [(folder / name).read_text() for name in "ab"] == ["old", "old"]
    put(folder, "new")
    assert [(folder / name).read_text() for name in "ab"] == ["new", "new"]
    assert list(folder.parent.iterdir()) == [folder]


def test_two_at_once_do_not_mix(tmp_path: Path) -> None:
    with files.new_folder(tmp_path / "set") as first:
        with pytest.raises(InputError, match="another process is making"):
            put(tmp_path / "set", "second")
        (first / "a").write_text("first")
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["a"]
    put(tmp_path / "set", "third")


@pytest.mark.parametrize("failing", [1, 2])
def test_a_failed_rename_keeps_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    put(tmp_path / "set", "old")
    calls = [*[DEFAULT] * (failing - 1), OSError(errno.EIO, os.strerror(errno.EIO)), DEFAULT]
    monkeypatch.setattr(files.os, "replace", Mock(wraps=os.replace, side_effect=calls))
    with pytest.raises(InputError, match=r"cannot write .*set: .*Nothing already written is lost"):
        put(tmp_path / "set", "new")
    assert (tmp_path / "set" / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


KILLED = """
import os, sys
from pathlib import Path
from hwr_utils import files, processes

def wait(gate):
    open(gate).read()

with files.new_folder(sys.argv[1]) as part:
    (part / "half").touch()
    processes.run(wait, [sys.argv[2]] * 2, "waiting", workers=2)
"""


def test_a_killed_process_leaves_no_half_and_no_workers(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    started = subprocess.Popen(
        [sys.executable, "-c", KILLED, tmp_path / "set", gate], env=environment(), cwd=files.REPOSITORY
    )
    process = psutil.Process(started.pid)
    with gate.open("w"):  # which returns when the first worker waits there
        until(lambda: len(process.children()) == 2)
        workers = process.children()
        started.kill()
        started.wait()
        assert psutil.wait_procs(workers, LIMIT)[1] == []
    assert not (tmp_path / "set").exists() and (tmp_path / ".set.part" / "half").exists()
    put(tmp_path / "set", "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gate", "set"]


# what libraries raise


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (FileNotFoundError(2, "No such file"), "cannot read a: No such file"),
        (EOFError("ended\nearly"), r"a is damaged \(EOFError: ended early\)"),
        (RecursionError(), r"a is damaged"),
        (InputError("told"), "^told$"),
    ],
)
def test_whatever_is_raised_while_reading_becomes_one_line(raised: Exception, message: str) -> None:
    with pytest.raises(InputError, match=message), errors.reading("a", "a picture", "Replace it."):
        raise raised


def test_no_name_of_a_file_steers_the_terminal() -> None:
    name = os.fsdecode(b"\x1b[2J\xff\r\n") + "\u202eが"
    for message in (str(InputError(name)), errors.printable(name)):
        assert message == "\\x1b[2J\\udcff\\r\\n\\u202eが"
    with pytest.warns(UserWarning, match=r"^\\x07$"):
        errors.warn("\a")
