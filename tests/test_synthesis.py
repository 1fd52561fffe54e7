"""The drawn datasets: same bytes from the same seed, balanced, recognisable, hard enough, and whole on disk."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwr_utils import files, synthesis
from hwr_utils.data import idx, load
from hwr_utils.errors import InputError
from hwr_utils.synthesis import drawing, fonts

COUNTS = {"digits-synthetic": 10, "letters-synthetic": 26, "hiragana-synthetic": 46}
# of the first 200 training images of seed 1; when they change on purpose, raise synthesis.VERSION
PINNED = {
    "digits-synthetic": "fc0d3177237b0db076f922f1fd771eb94cc905d0a54b56b4f4a94e0a06822ed6",
    "letters-synthetic": "d610525a427808c58f7e70c1d37937cdb1e04e9d6ffdcdd10d69526f8202436b",
    "hiragana-synthetic": "3b89e30644ec6410bdd46a40d1e19e2d569ed79e4a0d5064628bd7e1468ca79d",
}
every_name = pytest.mark.parametrize("name", synthesis.NAMES)


@every_name
def test_same_seed_gives_same_bytes_on_every_machine(name: str) -> None:
    images, labels = synthesis.draw(name, 200, seed=1)
    assert files.sha256(images.tobytes() + labels.astype("<i8").tobytes()) == PINNED[name]


@every_name
def test_same_seed_gives_same_bytes_in_any_order(name: str) -> None:
    images, labels = synthesis.draw(name, 150, seed=2)
    for other in synthesis.NAMES:
        synthesis.draw(other, 10, seed=3, split="test")
    drawing.writers.cache_clear()
    again, same_labels = synthesis.draw(name, 150, seed=2)
    fewer, first_labels = synthesis.draw(name, 70, seed=2)
    assert np.array_equal(images, again) and np.array_equal(labels, same_labels)
    assert np.array_equal(images[:70], fewer) and np.array_equal(labels[:70], first_labels)


@every_name
@pytest.mark.parametrize("n", [1, 333])
def test_shapes_types_and_balance(name: str, n: int) -> None:
    images, labels = synthesis.draw(name, n, seed=0)
    assert images.shape == (n, 28, 28) and images.dtype == np.uint8
    assert labels.shape == (n,) and labels.dtype == np.int64
    counts = np.bincount(labels, minlength=COUNTS[name])
    assert len(counts) == COUNTS[name] and counts.max() - counts.min() <= 1
    assert n < 10 or (np.diff(labels) < 0).sum() > n / 4, "labels are not shuffled"


@every_name
def test_splits_and_seeds_have_nothing_in_common(name: str) -> None:
    drawn = [synthesis.draw(name, 300, seed, split)[0] for seed, split in ((0, "train"), (0, "test"), (1, "train"))]
    for a, b in ((0, 1), (0, 2)):
        assert not {image.tobytes() for image in drawn[a]} & {image.tobytes() for image in drawn[b]}
    habits = [drawing.writers(name, 0, split) for split in ("train", "test")]
    for habit in ("pen", "slant", "taste"):
        assert not np.intersect1d(habits[0][habit], habits[1][habit]).size


def test_written_files_are_read_back(tmp_path: Path) -> None:
    for name in synthesis.NAMES:
        folder = synthesis.write(name, tmp_path, seed=4, n_train=120, n_test=50)
        assert folder == tmp_path / "synthetic" / name
        dataset = load(name, tmp_path)
        assert len(dataset.classes) == COUNTS[name] and not dataset.published
        assert tuple((folder / "classes.txt").read_text("utf-8").split()) == dataset.classes
        for split, n in (("train", 120), ("test", 50)):
            images, labels = synthesis.draw(name, n, 4, split)
            assert np.array_equal(getattr(dataset, f"{split}_images"), images)
            assert np.array_equal(getattr(dataset, f"{split}_labels"), labels)
        manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
        assert manifest["sha256"] == dataset.files
        assert (manifest["dataset"], manifest["seed"], manifest["n_train"], manifest["n_test"]) == (name, 4, 120, 50)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_set_is_drawn_anew_when_it_is_damaged_or_another_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(**changed: int) -> dict[str, bytes]:
        return content(synthesis.write("digits-synthetic", tmp_path, **{"n_train": 70, "n_test": 20} | changed))

    first = write()
    with monkeypatch.context() as patch:
        patch.setattr(synthesis, "draw", lambda *_: pytest.fail("drawn again"))
        assert write() == first
    folder = tmp_path / "synthetic" / "digits-synthetic"
    labels = folder / "raw/t10k-labels-idx1-ubyte.gz"
    for path, damage in ((labels, b"\x1f\x8bno"), (labels, None), (folder / "manifest.json", b'{"version": ')):
        path.unlink() if damage is None else path.write_bytes(damage)
        assert content(folder) != first
        assert write() == first
    idx.write_idx(labels, np.zeros(20, np.uint8))
    assert write() == first
    for changed, other in (({"seed": 1}, "seed"), ({"n_train": 71}, "n_train, seed")):
        with pytest.warns(UserWarning, match=f"differs in {other};"):
            assert write(**changed)["manifest.json"] != first["manifest.json"]
    monkeypatch.setattr(synthesis, "VERSION", synthesis.VERSION + 1)
    with pytest.warns(UserWarning, match="version"):
        assert json.loads(write()["manifest.json"])["version"] == synthesis.VERSION


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("hiragana", {}, "'hiragana'.*did you mean 'hiragana-synthetic'"),
        ("digits-synthetic", {"n_train": 2.5}, "n_train=2.5"),
    ],
)
def test_bad_input_is_refused(name: str, change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        synthesis.write(name, tmp_path, **change)
    assert not any(tmp_path.iterdir())


def test_fonts_add_hands_to_the_training_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fonts.TABLES, "latin", dict(list(fonts.TABLES["latin"].items())[:5]))
    for name, per_class in (("letters-synthetic", {0: 2, 25: 2}), ("hiragana-synthetic", {0: 1})):
        folder = synthesis.write(name, tmp_path, n_train=COUNTS[name], n_test=COUNTS[name], per_font=1)
        dataset = load(name, tmp_path)
        sheets = fonts.TABLES[drawing.SHEETS[name].fonts]
        assert dataset.drawn is not None and dataset.drawn["fonts"] == sheets and dataset.drawn["per_font"] == 1
        counts = np.bincount(dataset.train_labels)
        assert all(counts[label] == 1 + n * len(sheets) for label, n in per_class.items())
        assert np.array_equal(dataset.train_images[: COUNTS[name]], synthesis.draw(name, COUNTS[name], 0)[0])
        assert dataset.train_images[COUNTS[name] :].max((1, 2)).min() == 255
        assert len(dataset.test_images) == COUNTS[name]
        before = (folder / "manifest.json").stat().st_mtime_ns
        synthesis.write(name, tmp_path, n_train=COUNTS[name], n_test=COUNTS[name], per_font=1)
        assert (folder / "manifest.json").stat().st_mtime_ns == before, "it was there already"
