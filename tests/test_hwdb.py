"""The import of GNT files: what comes out, by hand; stopping and going on; what it refuses."""

import errno
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hwr_utils import cli
from hwr_utils.data import gnt, hwdb
from hwr_utils.data.hwdb import Options, import_gnt
from hwr_utils.errors import InputError

SMALL = Options(size=16, margin=3)


def bar(height: int, width: int) -> np.ndarray:
    """Return paper that is all ink, as HWDB's images are cut out along the ink."""
    return np.zeros((height, width), np.uint8)


def write(path: Path, samples: list[tuple[str, np.ndarray]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gnt.serialize((gnt.encode(character), image) for character, image in samples))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return two writers' files: three samples of level 1 and one other."""
    write(tmp_path / "set" / "1002.gnt", [("座", bar(20, 5))])
    write(tmp_path / "set" / "1001.gnt", [("啊", bar(4, 8)), ("，", bar(3, 3)), ("阿", bar(30, 30))])
    return tmp_path / "set"


def content(out: Path) -> dict[str, Any]:
    arrays = {name: np.load(out / f"{name}.npy", allow_pickle=False) for name in ("images", "labels", "writers")}
    return arrays | {"manifest": json.loads((out / "manifest.json").read_text("utf-8"))}


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first["manifest"] == second["manifest"] and all(
        np.array_equal(first[name], second[name]) for name in ("images", "labels", "writers")
    )


def test_an_import_by_hand(folder: Path, tmp_path: Path) -> None:
    manifest = import_gnt([folder], tmp_path / "out", Options(16, 3, drop_others=True))
    found = content(tmp_path / "out")
    assert found["manifest"] == manifest
    assert (found["images"].shape, found["images"].dtype) == ((3, 16, 16), np.uint8)
    assert found["labels"].tolist() == [0, 1, 3754] and found["writers"].tolist() == [0, 0, 1]
    # fitted into the middle 10 x 10 with its shape kept: 8 x 4 becomes 10 x 5, 5 x 20 becomes 3 x 10 (2.5 goes up)
    inked = [(np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))) for image in found["images"]]
    assert [(len(rows), len(columns)) for rows, columns in inked] == [(5, 10), (10, 10), (10, 3)]
    assert [(rows[0], columns[0]) for rows, columns in inked] == [(5, 3), (3, 3), (3, 6)]
    assert all(set(np.unique(image)) == {0, 255} for image in found["images"])  # white ink on black
    classes = (tmp_path / "out" / "classes.txt").read_text("utf-8").splitlines()
    assert classes == list(gnt.LEVEL_1)
    keys = ("name", "writer", "samples", "kept")
    listed = [tuple(source[key] for key in keys) for source in manifest["sources"]]
    assert listed == [("1001.gnt", "1001", 3, 2), ("1002.gnt", "1002", 1, 1)]
    assert manifest["sources"][0]["others"] == {"，": 1} and str(tmp_path) not in json.dumps(manifest)
    assert [path.name for path in tmp_path.iterdir()] in (["set", "out"], ["out", "set"])


def test_other_characters_are_counted_and_not_dropped_unasked(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"1 of 4 samples are of 1 characters that .*: ， \(1\)\. .* --drop-others"):
        import_gnt([folder], tmp_path / "out", SMALL)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Return five files of three samples each."""
    rng = np.random.Generator(np.random.PCG64(0))
    for number in range(5):
        images = [rng.integers(0, 256, (9, 12 + number), dtype=np.uint8) for _ in range(3)]
        write(tmp_path / "plain" / f"{number}.gnt", list(zip("啊阿埃", images, strict=True)))
    return tmp_path / "plain"


class Stop(Exception):
    """Stands for whatever ends a process."""


def test_an_import_that_was_stopped_goes_on(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import_gnt([plain], tmp_path / "whole", SMALL)
    run, converted = hwdb._run, []

    def stopping(pool: Any, steps: list[Any], title: str) -> list[Any]:
        if title != "converting":
            return run(pool, steps, title)
        converted.append(len(steps))
        run(pool, steps[:2], title)
        if len(steps) > 2:
            raise Stop
        return []

    monkeypatch.setattr(hwdb, "_run", stopping)
    for _ in range(2):
        with pytest.raises(Stop):
            import_gnt([plain], tmp_path / "out", SMALL)
        assert not (tmp_path / "out").exists()
    import_gnt([plain], tmp_path / "out", SMALL)
    assert converted == [5, 3, 1]
    assert same(content(tmp_path / "out"), content(tmp_path / "whole"))
    import_gnt([plain], tmp_path / "out", SMALL)  # which is done, and is found so
    assert converted == [5, 3, 1]


def test_a_full_disk_is_told_and_the_import_completes_later(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(hwdb, "_reserve", full)
        with pytest.raises(InputError, match=r"out\.part: No space left on device\. What is done stays"):
            import_gnt([plain], tmp_path / "out", SMALL)
    import_gnt([plain], tmp_path / "out", SMALL)
    assert content(tmp_path / "out")["labels"].tolist() == [0, 1, 2] * 5


def test_one_folder_holds_one_import(plain: Path, tmp_path: Path) -> None:
    import_gnt([plain], tmp_path / "out", SMALL)
    with pytest.raises(InputError, match="out holds another import"):
        import_gnt([plain], tmp_path / "out", Options(20, 3))
    write(plain / "0.gnt", [("啊", bar(3, 3))])
    with pytest.raises(InputError, match="out holds another import"):
        import_gnt([plain], tmp_path / "out", SMALL)


def test_a_beginning_of_another_import_is_not_mixed_in(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = hwdb._run

    def stopping(pool: Any, steps: list[Any], title: str) -> list[Any]:
        if title == "converting":
            raise Stop
        return run(pool, steps, title)

    with monkeypatch.context() as patch:
        patch.setattr(hwdb, "_run", stopping)
        with pytest.raises(Stop):
            import_gnt([plain], tmp_path / "out", SMALL)
    with pytest.raises(InputError, match=r"out\.part is the beginning of another import"):
        import_gnt([plain], tmp_path / "out", Options(20, 3))


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def test_what_is_there_and_no_import_is_left_alone(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    import_gnt([plain], tmp_path / "out", SMALL)  # an empty folder is none
    for path in (tmp_path / "mine" / "notes.txt", tmp_path / "file"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    for name in ("mine", "file"):
        with pytest.raises(InputError, match=f"{name} is there, and is no import"):
            import_gnt([plain], tmp_path / name, SMALL)
    assert not list(tmp_path.glob("*.part"))
    (tmp_path / "out" / "manifest.json").write_text("{")
    with pytest.raises(InputError, match=r"manifest\.json: not a readable JSON"):
        import_gnt([plain], tmp_path / "out", SMALL)


def test_two_processes_do_not_import_into_one_folder(plain: Path, tmp_path: Path) -> None:
    message = r"another process is importing into .*out\.part"
    with hwdb._only_one(tmp_path / "out.part"), pytest.raises(InputError, match=message):
        import_gnt([plain], tmp_path / "out", SMALL)
    import_gnt([plain], tmp_path / "out", SMALL)


def _die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_is_told(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(hwdb, "_scan", _die)
        with pytest.raises(InputError, match="a process of the import was killed"):
            import_gnt([plain], tmp_path / "out", SMALL)


def test_writers_of_one_name_keep_their_pictures(tmp_path: Path) -> None:
    paths = [write(tmp_path / part / "001.gnt", [("啊", bar(9, n))]) for n, part in enumerate(("trn", "tst"), 5)]
    import_gnt(paths, tmp_path / "out", SMALL, tmp_path / "png")
    assert sorted(path.name for path in tmp_path.rglob("*.png")) == ["0-001-0.png", "1-001-0.png"]


REFUSED: dict[str, tuple[Callable[[Path], object], Options, str]] = {
    "size": (lambda _: None, Options(size=8), "size=8 is out of range"),
    "margin": (lambda _: None, Options(16, 8), "margin=8 leaves no room in 16 pixels"),
    "damaged": (lambda plain: damage(plain / "3.gnt"), SMALL, r"3\.gnt is cut off: the record at byte"),
    "twice": (lambda plain: shutil.copy(plain / "3.gnt", plain / "6.gnt"), SMALL, r"6\.gnt has the same content as"),
    "empty": (lambda plain: (plain / "3.gnt").write_bytes(b""), SMALL, r"3\.gnt is empty"),
}


@pytest.mark.parametrize(("harm", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_imported_is_told(
    plain: Path, tmp_path: Path, harm: Callable[[Path], object], options: Options, message: str
) -> None:
    harm(plain)
    with pytest.raises(InputError, match=message):
        import_gnt([plain], tmp_path / "out", options)
    assert not (tmp_path / "out").exists()


def test_nothing_of_level_1_is_nothing_to_import(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gnt", [("，", bar(3, 3))])
    with pytest.raises(InputError, match="none of the samples is of a level-1 character"):
        import_gnt([path], tmp_path / "out", Options(drop_others=True))


def test_the_command_writes_arrays_and_pictures(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, png = tmp_path / "out", tmp_path / "png"
    argv = ["import-hwdb", str(folder / "1001.gnt"), str(folder / "1002.gnt"), "--out", str(out), "--size", "16"]
    assert cli.main(argv) == 2 and "--drop-others" in capsys.readouterr().err
    assert cli.main([*argv, "--drop-others", "--png", str(png)]) == 0
    assert "3 samples of 2 files; 1 of other characters left out" in capsys.readouterr().out
    pictures = sorted(path.relative_to(png).as_posix() for path in png.rglob("*.png"))
    assert pictures == ["啊/0-1001-0.png", "座/1-1002-0.png", "阿/0-1001-1.png"]
    with Image.open(png / pictures[0]) as image:
        assert np.array_equal(255 - np.asarray(image), content(out)["images"][0])  # dark ink on white


def test_the_real_subset_is_imported_whole(data_root: Path, tmp_path: Path) -> None:
    source = data_root / "HWDB-subset" / "HWDB-subset-tst_gnt.zip"
    if not source.is_file():
        pytest.skip(f"HWDB-subset is not under {data_root}")
    import_gnt([source], tmp_path / "out")
    found = content(tmp_path / "out")
    assert found["images"].shape == (9_076, 56, 56) and len(np.unique(found["labels"])) == 64
    assert np.bincount(found["writers"]).tolist() == [500] * 18 + [76]
    images = found["images"]
    assert not images[:, :3].any() and not images[:, :, -3:].any()  # the margin
    # nearly all reach the edge of the room that they are fitted into, on one axis at least
    reach = (images[:, 3].any(1) & images[:, -4].any(1)) | (images[:, :, 3].any(1) & images[:, :, -4].any(1))
    assert reach.mean() > 0.95
    assert images.mean() < 100  # white on black
