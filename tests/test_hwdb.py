"""The import of GNT files: what comes out, by hand; that it is whole or not there; what it refuses."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwr_utils import files
from hwr_utils.data import gnt, hwdb
from hwr_utils.data.hwdb import import_gnt
from hwr_utils.errors import InputError

SMALL = {"size": 16, "margin": 3}


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


def test_an_import_by_hand(folder: Path, tmp_path: Path) -> None:
    manifest = import_gnt([folder], tmp_path / "out", **SMALL, drop_others=True)
    found = content(tmp_path / "out")
    assert found["manifest"] == manifest
    assert (found["images"].shape, found["images"].dtype) == ((3, 16, 16), np.uint8)
    assert found["labels"].tolist() == [0, 1, 3754] and found["writers"].tolist() == [0, 0, 1]
    # fitted into the middle 10 x 10 with its shape kept: 8 x 4 becomes 10 x 5, 5 x 20 becomes 3 x 10 (2.5 goes up)
    inked = [(np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))) for image in found["images"]]
    assert [(len(rows), len(columns)) for rows, columns in inked] == [(5, 10), (10, 10), (10, 3)]
    assert [(rows[0], columns[0]) for rows, columns in inked] == [(5, 3), (3, 3), (3, 6)]
    assert all(set(np.unique(image)) == {0, 255} for image in found["images"])  # white ink on black
    keys = ("name", "writer", "samples", "kept")
    listed = [tuple(source[key] for key in keys) for source in manifest["sources"]]
    assert listed == [("1001.gnt", "1001", 3, 2), ("1002.gnt", "1002", 1, 1)]
    assert manifest["sources"][0]["others"] == {"，": 1} and str(tmp_path) not in json.dumps(manifest)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "set"]


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Return five files of three samples each."""
    rng = np.random.Generator(np.random.PCG64(0))
    for number in range(5):
        images = [rng.integers(0, 256, (9, 12 + number), dtype=np.uint8) for _ in range(3)]
        write(tmp_path / "plain" / f"{number}.gnt", list(zip("啊阿埃", images, strict=True)))
    return tmp_path / "plain"


def test_the_same_import_is_kept_and_another_refused(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()  # an empty folder is none
    import_gnt([plain], tmp_path / "out", **SMALL)
    before = (tmp_path / "out" / "images.npy").stat()
    import_gnt([plain], tmp_path / "out", **SMALL)
    assert (tmp_path / "out" / "images.npy").stat() == before
    with pytest.raises(InputError, match="out holds another import"):
        import_gnt([plain], tmp_path / "out", size=20, margin=3)
    write(plain / "0.gnt", [("啊", bar(3, 3))])
    with pytest.raises(InputError, match="out holds another import"):
        import_gnt([plain], tmp_path / "out", **SMALL)


def test_what_is_there_and_no_import_is_left_alone(plain: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "mine" / "notes.txt", tmp_path / "file"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    for name, told in (("mine", "is there, and is no import"), ("file", "is a file")):
        with pytest.raises(InputError, match=f"{name} {told}"):
            import_gnt([plain], tmp_path / name, **SMALL)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "mine", "plain"]


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("step", ["_scan", "_convert"])
def test_an_import_that_fails_leaves_nothing(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(hwdb, step, die)
        with pytest.raises(InputError, match="a process was killed while"):
            import_gnt([plain], tmp_path / "out", **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["plain"]
    import_gnt([plain], tmp_path / "out", **SMALL)


REFUSED: dict[str, tuple[Callable[[Path], object], dict[str, int], str]] = {
    "size": (lambda _: None, {"size": 8}, "size=8 and margin=3"),
    "twice": (lambda plain: shutil.copy(plain / "3.gnt", plain / "6.gnt"), SMALL, r"6\.gnt has the same content as"),
    "others": (lambda plain: write(plain / "3.gnt", [("，", bar(3, 3))]), SMALL, "，.*--drop-others"),
}


@pytest.mark.parametrize(("harm", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_imported_is_told(
    plain: Path, tmp_path: Path, harm: Callable[[Path], object], options: dict[str, int], message: str
) -> None:
    harm(plain)
    with pytest.raises(InputError, match=message):
        import_gnt([plain], tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow  # what comes out of an import is tested by hand above
def test_the_real_subset_is_what_the_records_name(data_root: Path, tmp_path: Path) -> None:
    source = data_root / "HWDB-subset"
    if not source.is_dir():
        pytest.skip(f"HWDB-subset is not under {data_root}")
    import_gnt([source], tmp_path / "out")
    recorded = files.REPOSITORY.glob("results/hwdb-subset-inception*/record.json")
    assert {json.loads(path.read_text("utf-8"))["dataset"]["files"]["samples"] for path in recorded} == {
        hwdb.read_import(tmp_path / "out").sha256
    }
