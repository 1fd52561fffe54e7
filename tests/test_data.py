"""Datasets: what each name promises is kept, and other files are refused with a message that helps."""

import dataclasses
import functools
import gzip
import hashlib
import http.server
import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from helpers import write_easy
from hwr_utils import data, facts
from hwr_utils.data import CATALOG, Dataset, idx
from hwr_utils.data.splits import fold_numbers, stratified_split
from hwr_utils.errors import InputError, MissingFiles
from hwr_utils.files import sha256
from hwr_utils.synthesis import drawing

Real = Callable[[str], Dataset]
FILES = [f"{split}-{kind}-ubyte" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
DIGITS = "synthetic/digits-synthetic/raw"


def write_set(
    folder: Path, prefixes: tuple[str, str] = ("train", "t10k"), compress: bool = True, **changed: Any
) -> Path:
    """Write 20 training and 10 test images of 10 classes; `changed` arrays (train_images, ...) take their places."""
    rng = np.random.Generator(np.random.PCG64(0))
    for split, prefix, n in (("train", prefixes[0], 20), ("test", prefixes[1], 10)):
        images = changed.get(f"{split}_images", rng.integers(0, 256, (n, 28, 28)).astype(np.uint8) // 4)
        labels = changed.get(f"{split}_labels", np.arange(n) % 10)
        suffix = ".gz" if compress else ""
        idx.write_idx(folder / f"{prefix}-images-idx3-ubyte{suffix}", images, compress)
        idx.write_idx(folder / f"{prefix}-labels-idx1-ubyte{suffix}", labels.astype(np.uint8), compress)
    return folder


# names


def test_every_entry_keeps_to_its_form() -> None:
    for name, entry in CATALOG.items():
        assert name == entry.name and len(set(entry.classes)) == len(entry.classes)
        assert entry.imported or len(entry.classes) >= 10  # an import brings its own
        assert all(len(character) == 1 for character in entry.classes)
        assert entry.title and entry.licence and entry.how.format(root="data")
        assert entry.published == (entry.n_train is not None) == (entry.n_test is not None)
        assert entry.published == bool(entry.md5 or entry.writers)
        assert set(entry.md5) in (set(), set(entry.stored))


def test_published_checksums_are_torchvisions() -> None:
    from torchvision.datasets import EMNIST, KMNIST, MNIST

    assert CATALOG["mnist"].md5 == dict(MNIST.resources)
    assert CATALOG["kmnist"].md5 == dict(KMNIST.resources)
    assert CATALOG["emnist-letters"].md5 == {"gzip.zip": EMNIST.md5}


def test_synthetic_classes_are_what_is_drawn() -> None:
    assert {name: sheet.classes for name, sheet in drawing.SHEETS.items()} == {
        name: entry.classes for name, entry in CATALOG.items() if name.endswith("-synthetic") and not entry.imported
    }


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("minst", "mnist"),
        ("EMNIST-letter", "emnist-letters"),
        ("MNIST", "mnist"),
        ("k-mnist-sample", "kmnist-sample"),
        ("", ""),
    ],
)
def test_an_unknown_name_gets_the_nearest(name: str, near: str) -> None:
    with pytest.raises(InputError, match=f"found '{name}', which is unknown. Did you mean '{near}.*custom:NAME"):
        data.load(name, "data")


@pytest.mark.parametrize("name", ["", "..", "a/b", "a b", ".a", "a\n", "C:", "字"])
def test_a_custom_name_stays_in_its_folder(name: str) -> None:
    with pytest.raises(InputError, match="letters, digits, - and _"):
        data.load(f"custom:{name}", "data")


def test_the_data_root_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWR_DATA_ROOT", "somewhere")
    assert data.default_root() == Path("somewhere")
    monkeypatch.setenv("HWR_DATA_ROOT", "")
    assert data.default_root() == Path(data.__file__).parents[2] / "data"


# real files


def test_mnist_is_the_published_one(real: Real) -> None:
    mnist = real("mnist")
    assert mnist.published and mnist.classes == tuple("0123456789")
    assert (len(mnist.train_images), len(mnist.test_images)) == (CATALOG["mnist"].n_train, CATALOG["mnist"].n_test)
    assert mnist.train_labels[:5].tolist() == [5, 0, 4, 1, 9]  # as every reader of MNIST knows
    assert list(mnist.files) == FILES


def test_checksums_are_of_the_uncompressed_files(data_root: Path, real: Real) -> None:
    dataset = real("kmnist-sample")
    for name, found in dataset.files.items():
        assert found == sha256(gzip.decompress((data_root / "sample/KMNIST/raw" / f"{name}.gz").read_bytes()))


@pytest.mark.parametrize("name", ["mnist", "kmnist-sample", "emnist-letters-sample"])
def test_real_data_comes_in_the_promised_form(real: Real, name: str) -> None:
    dataset = real(name)
    for images, labels in (
        (dataset.train_images, dataset.train_labels),
        (dataset.test_images, dataset.test_labels),
    ):
        assert images.shape == (len(labels), 28, 28) and images.dtype == np.uint8 and labels.dtype == np.int64
        assert images.flags.c_contiguous
        assert labels.min() >= 0 and labels.max() < len(dataset.classes)
        assert images[:, 0].mean() < 64 < images[:, 10:18, 10:18].mean()  # white ink on black
    assert dataset.published == (name == "mnist")


def test_letters_are_turned_upright_and_counted_from_0(data_root: Path, real: Real) -> None:
    letters = real("emnist-letters-sample")
    folder = data_root / "sample/EMNIST/raw"
    stored = idx.read_idx(folder / "emnist-letters-test-images-idx3-ubyte.gz")
    labels = idx.read_idx(folder / "emnist-letters-test-labels-idx1-ubyte.gz")
    assert np.array_equal(letters.test_images, stored.transpose(0, 2, 1))
    assert np.array_equal(letters.test_labels + 1, labels)
    assert letters.classes == tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    present = {letters.classes[label] for label in letters.train_labels}
    assert set(letters.classes) - present == set("JQXYZ")
    # an upright T has its bar on top, an upright L has its bar at the bottom
    for letter, top in (("T", True), ("L", False)):
        mean = letters.train_images[letters.train_labels == letters.classes.index(letter)].mean(0)
        assert (mean[:14].sum() > mean[14:].sum()) == top


# published names


def test_other_files_under_a_published_name_are_refused(tmp_path: Path) -> None:
    write_set(tmp_path / "KMNIST/raw")
    with pytest.raises(InputError) as error:
        data.load("kmnist", tmp_path)
    message = str(error.value)
    for part in (
        str(tmp_path / "KMNIST/raw/train-images-idx3-ubyte.gz"),
        CATALOG["kmnist"].md5["train-images-idx3-ubyte.gz"],
        "custom:NAME",
        f"hwr download kmnist --data-root {tmp_path}",
    ):
        assert part in message


@pytest.mark.parametrize("name", CATALOG)
def test_missing_files_are_named_with_their_place_and_the_command(tmp_path: Path, name: str) -> None:
    with pytest.raises(MissingFiles) as error:
        data.load(name, tmp_path)
    entry = CATALOG[name]
    assert f"{tmp_path / entry.folders[0]} lacks {', '.join(entry.stored)}" in str(error.value)
    if entry.md5:
        assert f"hwr download {name} --data-root {tmp_path}" in str(error.value)


def test_one_missing_file_is_named_alone(tmp_path: Path) -> None:
    write_set(tmp_path / DIGITS)
    (tmp_path / DIGITS / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(MissingFiles, match=r"lacks t10k-labels-idx1-ubyte\.gz\. Run"):
        data.load("digits-synthetic", tmp_path)


def test_published_files_are_needed_as_published(tmp_path: Path) -> None:
    write_set(tmp_path / "MNIST/raw", compress=False)
    with pytest.raises(MissingFiles, match=r"lacks train-images-idx3-ubyte\.gz"):
        data.load("mnist", tmp_path)


def test_letters_are_read_inside_the_published_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = write_set(
        tmp_path / "files",
        ("emnist-letters-train", "emnist-letters-test"),
        train_labels=np.arange(20) + 1,
        test_labels=np.arange(10) + 17,
    )
    path = tmp_path / "EMNIST/raw/gzip.zip"
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as archive:
        for file in stored.iterdir():
            archive.write(file, f"gzip/{file.name}")
    md5 = {"gzip.zip": hashlib.md5(path.read_bytes()).hexdigest()}
    monkeypatch.setitem(CATALOG, "emnist-letters", dataclasses.replace(CATALOG["emnist-letters"], md5=md5))
    letters = data.load("emnist-letters", tmp_path)
    assert letters.published and letters.test_labels.tolist() == list(range(16, 26))
    images = idx.read_idx(stored / "emnist-letters-train-images-idx3-ubyte.gz")
    assert np.array_equal(letters.train_images, images.transpose(0, 2, 1))
    assert sorted(letters.files) == sorted(file.name.removesuffix(".gz") for file in stored.iterdir())


# download, from a server on this machine


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], str]]:
    """Return a function that serves a folder and gives its address."""
    monkeypatch.setenv("no_proxy", "*")
    running: list[http.server.ThreadingHTTPServer] = []

    def serve(folder: Path) -> str:
        handler = functools.partial(Quiet, directory=str(folder))
        running.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=running[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{running[-1].server_port}/"

    yield serve
    for each in running:
        each.shutdown()
        each.server_close()


def test_download_fetches_what_is_missing(
    tmp_path: Path, data_root: Path, real: Real, server: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import MNIST

    mnist = real("mnist")
    source = next(data_root / folder for folder in CATALOG["mnist"].folders if (data_root / folder).is_dir())
    monkeypatch.setattr(MNIST, "mirrors", [server(source)])
    fetched = data.load("mnist", tmp_path, download=True)
    assert fetched.files == mnist.files and np.array_equal(fetched.test_images, mnist.test_images)
    assert sorted(path.name for path in (tmp_path / "MNIST/raw").iterdir()) == sorted(CATALOG["mnist"].stored)
    monkeypatch.setattr(MNIST, "mirrors", [])
    assert data.load("mnist", tmp_path, download=True).published  # what is there is not fetched again


def test_download_refuses_other_files(
    tmp_path: Path, server: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import EMNIST, KMNIST

    other = write_set(tmp_path / "other")
    (other / "gzip.zip").write_bytes(b"other")
    monkeypatch.setattr(KMNIST, "mirrors", [server(other)])
    monkeypatch.setattr(EMNIST, "url", f"{server(other)}gzip.zip")
    for name in ("kmnist", "emnist-letters"):
        with pytest.raises(MissingFiles, match=r"could not be downloaded.*corrupted"):
            data.load(name, tmp_path, download=True)
        assert not [path for path in (tmp_path / CATALOG[name].folders[0]).iterdir()]


def test_download_without_a_network_says_what_to_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import EMNIST, KMNIST, MNIST

    monkeypatch.setenv("no_proxy", "*")
    nowhere = "http://127.0.0.1:9/"  # the discard port, where nothing answers
    monkeypatch.setattr(MNIST, "mirrors", [nowhere])
    monkeypatch.setattr(KMNIST, "mirrors", [nowhere])
    monkeypatch.setattr(EMNIST, "url", f"{nowhere}gzip.zip")
    for name in ("mnist", "kmnist", "emnist-letters"):
        with pytest.raises(MissingFiles, match=r"could not be downloaded.*put them into") as error:
            data.load(name, tmp_path, download=True)
        for part in (*CATALOG[name].stored, str(tmp_path / CATALOG[name].folders[0]), f"hwr download {name}"):
            assert part in str(error.value)


# damaged sets


BAD_SETS: dict[str, tuple[dict[str, Any], str]] = {
    "counts differ": ({"train_labels": np.arange(19) % 10}, "holds 20 images and train-labels-idx1-ubyte 19 labels"),
    "label out of range": ({"test_labels": np.arange(10) + 1}, "labels 1 to 10; 0 to 9 was expected, for 10 classes"),
    "wrong size": ({"test_images": np.zeros((10, 32, 30), np.uint8)}, "images of 32x30; 28x28 was expected"),
    "flat images": ({"train_images": np.zeros((20, 784), np.uint8)}, "has 2 dimension.*3 was expected"),
}


@pytest.mark.parametrize("case", BAD_SETS)
def test_a_bad_set_is_named(tmp_path: Path, case: str) -> None:
    changed, message = BAD_SETS[case]
    write_set(tmp_path / DIGITS, **changed)
    with pytest.raises(InputError, match=message) as error:
        data.load("digits-synthetic", tmp_path)
    assert str(tmp_path / DIGITS) in str(error.value)


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = write_set(tmp_path / DIGITS) / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=f"{path} is a damaged or truncated gzip file"):
        data.load("digits-synthetic", tmp_path)


def test_a_letter_label_of_0_is_out_of_range(tmp_path: Path) -> None:
    write_set(tmp_path / "sample/EMNIST/raw", ("emnist-letters-train", "emnist-letters-test"))
    with pytest.raises(InputError, match="labels 0 to 9; 1 to 26 was expected"):
        data.load("emnist-letters-sample", tmp_path)


# own data


@pytest.mark.parametrize("prefix", ["t10k", "test"])
@pytest.mark.parametrize("compress", [True, False])
def test_own_idx_files(tmp_path: Path, prefix: str, compress: bool) -> None:
    folder = write_set(tmp_path / "custom/mine", ("train", prefix), compress)
    mine = data.load("custom:mine", tmp_path)
    assert mine.classes == tuple("0123456789") and not mine.published
    assert sorted(mine.files) == sorted(path.name.removesuffix(".gz") for path in folder.iterdir())
    (folder / "classes.txt").write_text("\n".join("あいうえおかきくけこ") + "\n", "utf-8")
    named = data.load("custom:mine", tmp_path)
    assert named.classes == tuple("あいうえおかきくけこ")
    assert named.files.keys() - mine.files.keys() == {"classes.txt"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a\n\nb\n", "empty or repeated"),
        (b"a\nb\na\n", "empty or repeated"),
        (b"\xff\xfe", "UTF-8 was expected"),
        (b"a\nb\n", "0 to 1 was expected, for 2 classes"),
    ],
)
def test_bad_class_names(tmp_path: Path, text: bytes, message: str) -> None:
    (write_set(tmp_path / "custom/mine") / "classes.txt").write_bytes(text)
    with pytest.raises(InputError, match=message):
        data.load("custom:mine", tmp_path)


def test_own_idx_files_of_dark_ink_are_inverted(tmp_path: Path) -> None:
    images = np.full((20, 28, 28), 255, np.uint8)
    images[:, 8:20, 13:15] = 0
    write_set(tmp_path / "custom/dark", train_images=images, test_images=images[:10])
    dark = data.load("custom:dark", tmp_path)
    assert np.array_equal(dark.train_images, 255 - images)
    assert np.array_equal(dark.test_images, 255 - images[:10])


def write_picture(path: Path, bar: int = 20) -> None:
    """Write a dark bar of its own length on light paper."""
    picture = np.full((60, 40), 230, np.uint8)
    picture[10 : 10 + bar, 18:22] = 30
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for place, bar in (("train/が/1.png", 20), ("train/が/2.jpg", 25), ("train/b/1.PNG", 30), ("test/b/x.jpeg", 15)):
        write_picture(tmp_path / "custom/mine" / place, bar)
    return tmp_path / "custom/mine"


def test_own_class_folders(tmp_path: Path, pictures: Path) -> None:
    (pictures / "train/b/.DS_Store").write_bytes(b"left by a file manager")
    mine = data.load("custom:mine", tmp_path)
    assert mine.classes == ("b", "が")
    assert mine.train_labels.tolist() == [0, 1, 1] and mine.test_labels.tolist() == [0]
    assert mine.train_images.shape == (3, 28, 28) and mine.test_images.shape == (1, 28, 28)
    assert (mine.train_images.max((1, 2)) > 240).all() and (mine.train_images[:, :4] == 0).all()
    assert mine.files.keys() == {"train", "test"}


def test_checksums_of_folders_follow_names_and_contents(tmp_path: Path, pictures: Path) -> None:
    def files() -> dict[str, str]:
        return data.load("custom:mine", tmp_path).files

    first = files()
    # a name in the other Unicode form, as another file system may store it, is the same name
    (pictures / "train/が").rename(pictures / "train/か\u3099")
    assert files() == first
    (pictures / "test/b/x.jpeg").rename(pictures / "test/b/y.jpeg")
    second = files()
    assert second["train"] == first["train"] and second["test"] != first["test"]
    write_picture(pictures / "train/b/1.PNG", 31)
    assert files()["train"] != first["train"] and files()["test"] == second["test"]


def test_bad_folders_are_named(tmp_path: Path, pictures: Path) -> None:
    def refused(path: Path, message: str) -> None:
        with pytest.raises(InputError, match=message) as error:
            data.load("custom:mine", tmp_path)
        assert str(path) in str(error.value)

    for place, content, message in (
        ("train/b/2.png", b"no image", "is neither PNG nor JPEG"),
        ("train/b/2.bmp", b"BM", "Convert or remove it"),
        ("train/note.txt", b"", "beside the class folders"),
    ):
        path = pictures / place
        path.write_bytes(content)
        refused(path, message)
        path.unlink()
    (pictures / "train/c").mkdir()
    refused(pictures / "train/c", "holds no image")
    write_picture(pictures / "train/c/1.png")
    write_picture(pictures / "test/d/1.png")
    refused(pictures / "test", "class 'd' is not in")
    (pictures / "test").rename(tmp_path / "test")
    refused(pictures / "test", "Folders of images were expected")
    (pictures / "test").mkdir()
    refused(pictures / "test", "holds no folders")


# splits


@given(
    st.lists(st.integers(0, 6), max_size=300),
    st.floats(0.001, 0.999),
    st.integers(0, 2**32),
)
def test_splits_are_complete_disjoint_stratified_and_repeatable(labels: list[int], fraction: float, seed: int) -> None:
    array = np.array(labels, np.int64)
    train, validation = stratified_split(array, fraction, seed)
    assert train.dtype == validation.dtype == np.int64
    assert np.array_equal(np.sort(np.concatenate([train, validation])), np.arange(len(array)))
    assert (np.diff(train) > 0).all() and (np.diff(validation) > 0).all()
    for label in set(labels):
        count, kept = labels.count(label), int((array[validation] == label).sum())
        assert kept == 0 if count == 1 else 1 <= kept <= count - 1
        assert abs(kept - count * fraction) <= 0.5 or kept in (0, 1, count - 1)
    again = stratified_split(array, fraction, seed)
    assert np.array_equal(again[0], train) and np.array_equal(again[1], validation)


def test_a_split_is_the_same_on_every_machine_and_another_for_another_seed() -> None:
    labels = np.arange(40) % 4
    assert stratified_split(labels, 0.1, 0)[1].tolist() == [2, 11, 13, 20]
    assert stratified_split(labels, 0.1, 1)[1].tolist() != stratified_split(labels, 0.1, 0)[1].tolist()


@pytest.mark.parametrize(("fraction", "seed"), [(0, 0), (1, 0), (-0.1, 0), (float("nan"), 0), (0.1, -1)])
def test_impossible_splits(fraction: float, seed: int) -> None:
    with pytest.raises(InputError, match="expected"):
        stratified_split(np.zeros(10, np.int64), fraction, seed)


def test_each_image_is_a_test_image_in_exactly_one_of_five_folds(tmp_path: Path) -> None:
    name = write_easy(tmp_path, n_train=90, n_test=30)
    folds = [data.load(name, tmp_path, split="folds", seed=seed, pool_size=50) for seed in range(5)]
    tested = np.concatenate([fold.test_indices for fold in folds if fold.test_indices is not None])
    assert len(tested) == 50 == len(set(tested.tolist()))
    whole = data.load(name, tmp_path)
    images = np.concatenate([whole.train_images, whole.test_images])
    for fold in folds:
        assert fold.test_indices is not None and np.array_equal(images[fold.test_indices], fold.test_images)
        assert len(fold.train_images) == 40
        assert np.ptp(np.bincount(fold.test_labels)) <= 1
    again = [data.load(name, tmp_path, split="folds", seed=seed, pool_size=50) for seed in range(5, 10)]
    # the same images, parted anew
    assert sorted(tested) == sorted(np.concatenate([fold.test_indices for fold in again]))
    assert not np.array_equal(again[0].test_indices, folds[0].test_indices)
    with pytest.raises(InputError, match="more than the 120 images"):
        data.load(name, tmp_path, split="folds", pool_size=121)
    with pytest.raises(InputError, match="needs 5"):
        fold_numbers(np.zeros(3, np.int64), 5, 0)


# facts


def test_facts_of_a_set(tmp_path: Path) -> None:
    images = np.zeros((20, 28, 28), np.uint8)
    images[np.arange(18), 0, np.arange(18)] = 255  # the last two are blank, so the second of them is a duplicate
    write_set(tmp_path / DIGITS, train_images=images, test_images=images[9:19])
    dataset = data.load("digits-synthetic", tmp_path)
    found = json.loads(json.dumps(facts.describe(dataset)))
    assert found["files"] == dataset.files and found["image_size"] == [28, 28]
    assert found["train"]["n"] == 20 and found["train"]["per_class"] == [2] * 10
    share = 18 / (20 * 784)
    assert found["train"]["mean"] == pytest.approx(share) and found["train"]["ink"] == pytest.approx(share)
    assert found["train"]["std"] == pytest.approx((images / 255).std())
    assert (found["train"]["duplicates"], found["test"]["duplicates"], found["test_images_in_train"]) == (1, 0, 10)


def test_complexity_by_hand() -> None:
    images = np.zeros((3, 28, 28), np.uint8)
    images[0, 4:14, 4:14] = 255  # a square: perimeter 40, area 100
    images[1, 0:2, 0:28] = 128  # a bar at the edge: perimeter 60, area 56
    found = facts.perimetric_complexity(images)
    assert found[:2] == pytest.approx([4 / np.pi, 60**2 / (4 * np.pi * 56)]) and np.isnan(found[2])


def test_facts_of_real_mnist(real: Real) -> None:
    found = facts.describe(real("mnist"))
    assert found["train"]["per_class"] == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert (round(found["train"]["mean"], 4), round(found["train"]["std"], 4)) == (0.1307, 0.3081)  # the usual pair


def test_sample_sheet(real: Real) -> None:
    letters = real("emnist-letters-sample")
    sheet = facts.sample_sheet(letters, per_class=5)
    assert sheet.shape == (26, 5, 28, 28) and sheet.dtype == np.uint8
    for label, row in enumerate(sheet):
        own = letters.train_images[letters.train_labels == label]
        assert row.any() == bool(len(own))
        assert all((own == image).all((1, 2)).any() for image in row if image.any())
    assert np.array_equal(sheet, facts.sample_sheet(letters, per_class=5))
    assert not np.array_equal(sheet, facts.sample_sheet(letters, per_class=5, seed=1))
    with pytest.raises(InputError, match="per_class"):
        facts.sample_sheet(letters, per_class=0)


def test_keeping_the_first_letters_loses_classes(data_root: Path) -> None:
    folder = data_root / "emnist-letters-labels"
    if not folder.is_dir():
        pytest.skip(f"the original EMNIST label files are not at {folder}")
    train, test = (folder / f"emnist-letters-{split}-labels-idx1-ubyte.gz" for split in ("train", "test"))
    found = json.loads(json.dumps(facts.label_file_facts(train, test)))
    assert (found["train"]["n"], found["test"]["n"]) == (124_800, 20_800)
    assert found["test"]["sorted"] and found["test"]["runs"] == {"count": 26, "shortest": 800, "longest": 800}
    assert not found["train"]["sorted"] and found["train"]["per_class"] == [4800] * 26
    kept = found["test"]["kept"]
    assert kept["per_class"] == [800] * 18 + [400] + [0] * 7
    assert kept["missing"] == list("TUVWXYZ") and kept["classes"] == 18.5
    assert found["train"]["kept"]["n"] == 88_800 and found["train"]["kept"]["missing"] == []
    assert found["train_tail"] == {"n": 20_800, "per_class": [800] * 26}
    with pytest.raises(InputError, match="keeping 20801 of them is impossible"):
        facts.label_file_facts(train, test, kept_test=20_801)
    with pytest.raises(InputError, match="labels 0 to 9; 1 to 26"):
        facts.label_file_facts(data_root / "canonical/MNIST/raw/t10k-labels-idx1-ubyte.gz", test)
