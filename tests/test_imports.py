"""Datasets that are imports of GNT files: what may be their test set, and what is found damaged."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from helpers import write_easy
from hwr_utils import data, facts, recipes, results, runs
from hwr_utils.data import CATALOG, gnt, hwdb, splits
from hwr_utils.errors import InputError
from hwr_utils.sources import Source

CHARACTERS = "啊阿埃"
SMALL = {"size": 16, "margin": 3}
Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Return a function that writes writers' files, a picture of its own for each sample, and imports them."""

    def _make(name: str = "custom/hands", folders: bool = True) -> Path:
        train, test, per_class = 8, 2, 5
        sources = tmp_path / "sources" / name
        for number in range(train + test):
            rng = np.random.Generator(np.random.PCG64(number))
            samples = [
                (gnt.encode(character), rng.integers(0, 200, (12, 9), dtype=np.uint8))
                for character in CHARACTERS * per_class
            ]
            part = ("trn_gnt" if number < train else "tst_gnt") if folders else "all"
            path = sources / part / f"{1001 + number}.gnt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(gnt.serialize(samples))
        hwdb.import_gnt([sources], tmp_path / name, **SMALL, workers=1)
        return tmp_path

    return _make


def pictures(images: np.ndarray) -> set[bytes]:
    return {image.tobytes() for image in images}


def test_the_official_split_is_that_of_the_archives(make: Make) -> None:
    root = make()
    found = data.load("custom:hands", root)
    assert found.classes == tuple(CHARACTERS) and not found.published
    assert (len(found.train_labels), len(found.test_labels)) == (8 * 15, 2 * 15)
    assert found.train_images.shape == (120, 16, 16) and found.train_images.dtype == np.uint8
    assert found.train_labels.dtype == found.test_labels.dtype == np.int64
    assert found.test_writers is not None and sorted(set(found.test_writers)) == [8, 9]
    again = hwdb.read_import(root / "custom" / "hands")
    assert np.array_equal(found.test_images, again.images[found.test_indices])
    assert [gnt.LEVEL_1[label] for label in again.labels[found.test_indices]] == [
        found.classes[label] for label in found.test_labels
    ]


def test_the_random_split_holds_out_a_fifth_of_each_class(make: Make) -> None:
    root = make()
    found = data.load("custom:hands", root, split="random", seed=3)
    assert np.bincount(found.test_labels).tolist() == [10] * 3 and np.bincount(found.train_labels).tolist() == [40] * 3
    assert not pictures(found.train_images) & pictures(found.test_images)
    assert len(pictures(found.train_images) | pictures(found.test_images)) == 150
    # which is what leaks writers: all ten are on both sides or nearly so
    assert found.test_writers is not None and len(set(found.test_writers)) > 5
    same, other = (data.load("custom:hands", root, split="random", seed=seed) for seed in (3, 4))
    assert np.array_equal(same.test_images, found.test_images) and not np.array_equal(
        other.test_indices, found.test_indices
    )
    assert same.files == other.files == data.checksums("custom:hands", root)


def test_a_sample_keeps_the_shares_of_the_classes_and_its_seed_decides_it() -> None:
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    first, again, other = (splits.stratified_sample(labels, 20, seed) for seed in (0, 0, 1))
    assert np.bincount(labels[first]).tolist() == np.bincount(labels[other]).tolist() == [12, 6, 2]
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_the_writer_split_leaks_nobody(make: Make) -> None:
    root, held_out = make(), set()
    for seed in range(5):
        found = data.load("custom:hands", root, split="writer", seed=seed)
        held_out.add(frozenset(found.test_writers.tolist() if found.test_writers is not None else ()))
        assert found.test_writers is not None and len(set(found.test_writers)) == 2
        whole = hwdb.read_import(root / "custom" / "hands")
        train = np.setdiff1d(np.arange(150), found.test_indices)
        assert not set(whole.writers[train]) & set(found.test_writers)
        assert np.array_equal(whole.images[train], found.train_images)
    assert len(held_out) > 1, "the seed decides who"


def test_files_that_are_no_writers_refuse_to_be_split_by_them(make: Make) -> None:
    root = make("hwdb-subset")
    with pytest.raises(InputError, match="hwdb-subset cannot be split by writers"):
        data.load("hwdb-subset", root, split="writer")
    found = data.load("hwdb-subset", root, split="random")
    assert found.test_writers is None and found.test_indices is not None


def test_an_import_without_parts_has_no_official_split(make: Make) -> None:
    root = make(folders=False)
    with pytest.raises(InputError, match="comes without a test set"):
        data.load("custom:hands", root)
    assert len(data.load("custom:hands", root, split="writer").test_labels) == 30


def test_a_set_with_its_own_test_set_may_be_split_anew(tmp_path: Path) -> None:
    found = data.load(write_easy(tmp_path), tmp_path, split="random", seed=1)
    assert np.bincount(found.test_labels).tolist() == [10] * 4 and len(found.train_labels) == 160
    assert not pictures(found.train_images) & pictures(found.test_images)
    with pytest.raises(InputError, match="cannot be split by writers"):
        data.load("custom:easy", tmp_path, split="writer")


def test_who_is_only_tested_is_all_test_set_and_never_trained_on(make: Make) -> None:
    root = make("icdar2013-c016")
    dataset = data.load("icdar2013-c016", root)
    assert (len(dataset.train_labels), len(dataset.test_labels)) == (0, 150)
    config = recipes.configure("icdar2013-c016", "compact_hccr", "best")
    with pytest.raises(InputError, match="test images alone"):
        runs.training_split(dataset, config)


def test_other_samples_under_the_published_name_are_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make("hwdb1.1")
    assert CATALOG["hwdb1.1"].published
    with pytest.raises(InputError, match=r"is not CASIA-HWDB1\.1: .*120 samples in 8 files, and 897,758 in 240"):
        data.load("hwdb1.1", root)
    small = dataclasses.replace(CATALOG["hwdb1.1"], n_train=120, n_test=30, writers=(8, 2))
    monkeypatch.setitem(CATALOG, "hwdb1.1", small)
    assert data.load("hwdb1.1", root).published


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


def test_damaged_arrays_are_found(make: Make) -> None:
    root = make()
    folder = root / "custom" / "hands"
    flip(folder / "images.npy")
    with pytest.raises(InputError, match=r"images\.npy is damaged"):
        data.load("custom:hands", root)
    flip(folder / "images.npy")
    np.save(folder / "labels.npy", np.zeros(149, np.uint16))
    with pytest.raises(InputError, match=r"labels\.npy is damaged"):
        data.load("custom:hands", root)
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"schema_version": 0}))
    with pytest.raises(InputError, match="schema_version is 0"):
        data.load("custom:hands", root)


def test_the_name_of_an_import_is_its_samples(make: Make, tmp_path: Path) -> None:
    """Other content, options or parts give another checksum; the place gives the same."""
    sums = [data.checksums("custom:hands", make())["samples"]]
    source = tmp_path / "sources" / "custom" / "hands"
    hwdb.import_gnt([source / "trn_gnt", source / "tst_gnt"], tmp_path / "custom" / "moved", **SMALL, workers=1)
    assert data.checksums("custom:moved", tmp_path)["samples"] == sums[0]
    hwdb.import_gnt([source], tmp_path / "custom" / "wide", size=16, margin=2, workers=1)
    sums.append(data.checksums("custom:wide", tmp_path)["samples"])
    (source / "tst_gnt").rename(source / "u")
    hwdb.import_gnt([source], tmp_path / "custom" / "parts", **SMALL, workers=1)
    sums.append(data.checksums("custom:parts", tmp_path)["samples"])
    hwdb.import_gnt([source / "trn_gnt"], tmp_path / "custom" / "fewer", **SMALL, workers=1)
    sums.append(data.checksums("custom:fewer", tmp_path)["samples"])
    assert len(set(sums)) == 4


def test_the_facts_of_an_import(make: Make, tmp_path: Path) -> None:
    root = make()
    facts.record("custom:hands", tmp_path / "results", root)
    found, sheet = (read("custom:hands", tmp_path / "results") for read in (results.facts, results.samples))
    assert pictures(sheet.reshape(-1, 16, 16)) <= pictures(hwdb.read_import(root / "custom" / "hands").images)
    assert (found["n"], found["classes"], found["per_class"]) == (150, list(CHARACTERS), [50, 50, 50])
    assert found["writers"] == [15] * 10 and found["parts"] == {"train": 120, "test": 30} and found["others"] == 0
    assert found["strokes"] == [10, 7, 10]  # of 啊, 阿 and 埃 as they are printed


def test_the_part_is_the_nearest_name() -> None:
    for path, member, part in (
        ("a/HWDB1.1trn_gnt.zip", "1001-c.gnt", "train"),
        ("a/HWDB1.1tst_gnt/1241-c.gnt", "", "test"),
        ("trn/HWDB1.1tst_gnt.zip", "x/1241-c.gnt", "test"),
        ("all.zip", "TRN/1.gnt", "train"),
        ("all.zip", "1.gnt", None),
        ("Gnt1.1TrainPart1.zip", "1001.gnt", "train"),
        ("Gnt1.1Test.zip", "1241.gnt", "test"),
        ("test/all/1.gnt", "", None),  # how the folder above is called is not about the files
    ):
        assert Source(Path(path), member).part == part
