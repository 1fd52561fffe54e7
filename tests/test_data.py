"""Datasets: what each name promises is kept, and other files are refused with a message that helps."""

import dataclasses
import gzip
import hashlib
import io
import json
import re
import shlex
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import DEFAULT, Mock

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets import EMNIST, KMNIST, MNIST

import emnist_labels
from browsing import Site
from helpers import write_easy
from hwr_utils import cli, data, facts, files, results, runs, synthesis
from hwr_utils.data import CATALOG, Dataset, convert, folders, idx, variants
from hwr_utils.data.splits import fold_numbers, stratified_split
from hwr_utils.errors import InputError, MissingFiles
from hwr_utils.recipes import configure

Real = Callable[[str], Dataset]
FILES = [f"{split}-{kind}-ubyte" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]


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


def test_published_checksums_are_torchvisions() -> None:
    assert CATALOG["mnist"].md5 == dict(MNIST.resources)
    assert CATALOG["kmnist"].md5 == dict(KMNIST.resources)
    assert CATALOG["emnist-letters"].md5 == {"gzip.zip": EMNIST.md5}
    assert CATALOG["mnist"].url in MNIST.mirrors and CATALOG["kmnist"].url in KMNIST.mirrors
    assert CATALOG["emnist-letters"].url + "gzip.zip" == EMNIST.url


@pytest.mark.parametrize("name", ["", "..", "a/b", "a b", ".a", "a\n", "C:", "字"])
def test_a_custom_name_stays_in_its_folder(name: str) -> None:
    with pytest.raises(InputError, match="letters, digits, - and _"):
        data.load(f"custom:{name}", "data")


# real files


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
    if dataset.published:
        assert dataset.train_labels[:5].tolist() == [5, 0, 4, 1, 9]  # as every reader of MNIST knows
        assert (len(dataset.train_images), len(dataset.test_images)) == (60_000, 10_000)


def test_letters_are_turned_upright(real: Real) -> None:
    """An upright T has its bar on top, an upright L has its bar at the bottom."""
    letters = real("emnist-letters-sample")
    assert letters.classes == tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
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


def test_what_has_the_published_content_is_published_whatever_its_packing(
    tmp_path: Path, data_root: Path, real: Real
) -> None:
    mnist = real("mnist")
    source = next(data_root / folder for folder in CATALOG["mnist"].folders if (data_root / folder).is_dir())
    (tmp_path / "MNIST" / FILES[2]).mkdir(parents=True)
    for file, place in zip(
        FILES, ("raw/train-images.idx3-ubyte", "Train-Labels-idx1-ubyte.gz", f"{FILES[2]}/{FILES[2]}", ""), strict=True
    ):
        content = gzip.decompress((source / f"{file}.gz").read_bytes())
        if place:
            files.write_bytes(tmp_path / "MNIST" / place, content)
        else:
            with zipfile.ZipFile(tmp_path / "MNIST/archive.zip", "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(f"raw/{file}", content)
    found = data.load("mnist", tmp_path)
    assert found.published and found.files == mnist.files
    files.write_bytes(tmp_path / "MNIST" / FILES[2] / FILES[2], content)  # the test labels in place of the images
    with pytest.raises(InputError, match=r"has 1 dimension\(s\), and 3 was expected"):
        data.load("mnist", tmp_path)


INSTEAD = {
    "mnist_train.csv": r"Found in \S*/MNIST: mnist_train\.csv",
    "mnist.tar.gz": r"Unpack \S*/MNIST/mnist\.tar\.gz first",
    "train-images-idx3-ubyte.gz": r"lacks train-labels-idx1-ubyte\.gz, t10k.*hwr download mnist --data-root",
}


@pytest.mark.parametrize("name", INSTEAD)
def test_what_lies_there_instead_is_named_with_what_mends_it(tmp_path: Path, name: str) -> None:
    files.write_bytes(tmp_path / "MNIST" / name, b"<html>")
    with pytest.raises(MissingFiles, match=INSTEAD[name]):
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
    path.unlink()
    (tmp_path / "files").rename(path.with_name("gzip"))  # its members alone have no checksum that is known
    with pytest.raises(InputError, match=r"is not the published file .*or it was packed anew.*hwr download emnist"):
        data.load("emnist-letters", tmp_path)


def test_downloads_come_from_a_server_and_are_checked(
    tmp_path: Path, data_root: Path, real: Real, monkeypatch: pytest.MonkeyPatch
) -> None:
    mnist = real("mnist")
    source = next(data_root / folder for folder in CATALOG["mnist"].folders if (data_root / folder).is_dir())
    other = write_set(tmp_path / "other")
    (other / "gzip.zip").write_bytes(b"other")
    monkeypatch.setenv("no_proxy", "*")
    servers = [Site(folder) for folder in (source, other)]
    for name, server in zip(("mnist", "kmnist", "emnist-letters"), (servers[0], servers[1], servers[1]), strict=True):
        monkeypatch.setitem(CATALOG, name, dataclasses.replace(CATALOG[name], url=server.address))
    fetched = data.load("mnist", tmp_path, download=True)
    assert fetched.files == mnist.files and np.array_equal(fetched.test_images, mnist.test_images)
    for name in ("kmnist", "emnist-letters"):
        with pytest.raises(MissingFiles, match=r"could not be downloaded.*corrupted"):
            data.load(name, tmp_path, download=True)
        assert not [path for path in (tmp_path / CATALOG[name].folders[0]).iterdir()]
    for server in servers:
        server.stop()
    assert data.load("mnist", tmp_path, download=True).published  # what is there is not fetched again


# damaged sets


BAD_SETS: dict[str, tuple[dict[str, Any], bytes | None, str]] = {
    "counts differ": ({"train_labels": np.arange(19) % 10}, None, "there are 19 labels"),
    "label out of range": ({"test_labels": np.arange(10) + 1}, None, "10 labels: 10 stands for"),
    "wrong size": ({"test_images": np.zeros((10, 32, 30), np.uint8)}, None, r"\(10, 32, 30\)"),
    "class repeated": ({}, b"a\nb\na\n", "empty or repeated"),
}


@pytest.mark.parametrize("case", BAD_SETS)
def test_a_bad_set_is_named(tmp_path: Path, case: str) -> None:
    changed, classes, message = BAD_SETS[case]
    folder = write_set(tmp_path / "custom/mine", **changed)
    if classes:
        (folder / "classes.txt").write_bytes(classes)
    with pytest.raises(InputError, match=message) as error:
        data.load("custom:mine", tmp_path)
    assert str(folder) in str(error.value)


# own data


@pytest.mark.parametrize(("prefix", "compress"), [("t10k", True), ("test", False), ("emnist-digits-test", True)])
def test_own_idx_files(tmp_path: Path, prefix: str, compress: bool) -> None:
    folder = write_set(tmp_path / "custom/mine", ("train", prefix), compress)
    mine = data.load("custom:mine", tmp_path)
    assert mine.classes == tuple("0123456789") and not mine.published
    assert sorted(mine.files) == sorted(path.name.removesuffix(".gz") for path in folder.iterdir())
    (folder / "classes.txt").write_text("\n".join("あいうえおかきくけこ") + "\n", "utf-8")
    named = data.load("custom:mine", tmp_path)
    assert named.classes == tuple("あいうえおかきくけこ")
    assert named.files.keys() - mine.files.keys() == {"classes.txt"}


def test_labels_that_do_not_begin_at_0_name_their_classes(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "custom/mine", train_labels=np.arange(20) % 10 + 1, test_labels=np.arange(10) + 1)
    with pytest.warns(UserWarning, match="labels are 1 to 10"):
        found = data.load("custom:mine", tmp_path)
    assert found.classes == tuple(map(str, range(1, 11))) and found.test_labels.tolist() == list(range(10))
    (folder / "classes.txt").write_text("\n".join("あいうえおかきくけこ"), "utf-8")
    with pytest.warns(UserWarning, match="called あ, い, う"):
        found = data.load("custom:mine", tmp_path)
    assert found.classes[0] == "あ" and found.train_labels.tolist() == [*range(10)] * 2
    (folder / "classes.txt").write_text("\n".join("ABCDEFGHIJKLMNOP"))  # is label 1 A or B?
    with pytest.warns(UserWarning, match="without a training image: A,"):
        assert data.load("custom:mine", tmp_path).classes[1] == "B"


def test_classes_without_images_are_named(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "custom/mine", test_labels=np.zeros(10))
    (folder / "classes.txt").write_text("\n".join("0123456789ab"), "utf-8")
    with pytest.warns(UserWarning) as told:
        data.load("custom:mine", tmp_path)
    missing = [str(one.message) for one in told]
    assert "training image: a, b." in missing[0] and "test image: 1, 2, 3, 4, 5 and 4 more." in missing[1]


def test_images_that_lie_transposed_are_told(tmp_path: Path, real: Real) -> None:
    upright, labels = real("emnist-letters-sample").train_images[:500], np.arange(500) % 10
    write_set(tmp_path / "custom/mine", train_images=upright, train_labels=labels)
    data.load("custom:mine", tmp_path)  # a warning would be an error
    write_set(tmp_path / "custom/mine", train_images=upright.transpose(0, 2, 1), train_labels=labels)
    with pytest.warns(UserWarning, match="may lie transposed"):
        data.load("custom:mine", tmp_path)


# class folders


def write_picture(path: Path, bar: int = 20, **options: Any) -> None:
    """Write a dark bar of its own length on light paper."""
    picture = np.full((60, 40), 230, np.uint8)
    picture[10 : 10 + bar, 18:22] = 30
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, **options)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    places = ("train/が/1.png", "train/が/2.jpg", "train/b/1.PNG", "test/b/x.webp", "test/が/x.bmp", "test/が/y.tiff")
    for number, place in enumerate(places):
        write_picture(tmp_path / "custom/mine" / place, 15 + number)
    return tmp_path / "custom/mine"


def test_own_class_folders(tmp_path: Path, pictures: Path) -> None:
    for name in ("train/b/.DS_Store", "train/@eaDir/1.png", "train/b/THUMBS.db"):
        files.write_bytes(pictures / name, b"left by a program")
    mine = data.load("custom:mine", tmp_path)
    assert mine.classes == ("b", "が")
    assert mine.train_labels.tolist() == [0, 1, 1] and mine.test_labels.tolist() == [0, 1, 1]
    assert mine.train_images.shape == (3, 28, 28) and mine.test_images.shape == (3, 28, 28)
    assert (mine.train_images.max((1, 2)) > 240).all() and (mine.train_images[:, :4] == 0).all()
    assert mine.files.keys() == {"train", "test"}
    write_set(tmp_path / "custom/other")
    pictures.rename(tmp_path / "custom/raw")  # which is torchvision's name for the folder of a published set
    assert data.load("custom:raw", tmp_path).files == mine.files


def test_checksums_of_folders_follow_names_and_contents(tmp_path: Path, pictures: Path) -> None:
    def sums() -> dict[str, str]:
        return data.load("custom:mine", tmp_path).files

    first = sums()
    # a name in the other Unicode form, as another file system may store it, is the same name
    (pictures / "train/が").rename(pictures / "train/か\u3099")
    assert sums() == first
    (pictures / "test/b/x.webp").rename(pictures / "test/b/y.webp")
    second = sums()
    assert second["train"] == first["train"] and second["test"] != first["test"]
    write_picture(pictures / "train/b/1.PNG", 31)
    assert sums()["train"] != first["train"] and sums()["test"] == second["test"]


def test_classes_lie_in_natural_order(tmp_path: Path) -> None:
    for number in range(12):
        write_picture(tmp_path / str(number) / "1.png", 10 + number)
    assert folders.read(tmp_path)[1] == [*map(str, range(12))]


@pytest.mark.parametrize(
    ("train", "test"),
    [("training", "evaluation"), ("train/images", "test/images"), ("data/images/Train", "data/images/validation")],
)
def test_parts_are_found_as_people_name_them(tmp_path: Path, pictures: Path, train: str, test: str) -> None:
    expected = data.load("custom:mine", tmp_path)
    aside = pictures.rename(tmp_path / "aside")
    for part, name in (("train", train), ("test", test)):
        (pictures / name).parent.mkdir(parents=True, exist_ok=True)
        (aside / part).rename(pictures / name)
    assert data.load("custom:mine", tmp_path).files == expected.files


def test_pictures_that_cannot_be_read_are_named_and_left_out(tmp_path: Path, pictures: Path) -> None:
    expected = data.load("custom:mine", tmp_path)
    for name, content in (("b/2.png", b"no image"), ("labels.csv", b"1")):
        files.write_bytes(pictures / "train" / name, content)
    Image.new("L", (50, 50), 200).save(pictures / "train/が/blank.png")
    with pytest.warns(UserWarning) as told:
        found = data.load("custom:mine", tmp_path)
    assert found.files == expected.files and len(found.train_labels) == len(expected.train_labels)
    for name in ("b/2.png", "labels.csv", "blank.png"):
        assert len([one for one in told if name in str(one.message)]) == 1, "a line each"


def test_what_lies_beside_the_two_parts_is_no_part(tmp_path: Path, pictures: Path) -> None:
    expected = data.load("custom:mine", tmp_path).files
    write_picture(pictures / "train_old/b/1.png")
    (pictures / "download.zip").write_bytes(b"")  # that broke off
    (pictures / "train/b/lost.png").symlink_to("nowhere")
    with pytest.warns(UserWarning, match="not from train_old"), pytest.warns(UserWarning, match="lost"):
        assert data.load("custom:mine", tmp_path).files == expected
    (pictures / "train").rename(pictures / "train1")
    with pytest.raises(InputError, match="holds train1, train_old"):
        data.load("custom:mine", tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.csv", b"<!DOCTYPE html>\n<p>", "is a web page"),
        ("train.csv", b"label" + b",\xe9" * 784 + b"\n", "UTF-8"),
        ("train.csv.gz", b"\x1f\x8b", r"Unpack .*train\.csv\.gz first"),
    ],
)
def test_what_is_no_table_is_told(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        convert.import_images([tmp_path / name], tmp_path / "out")


@pytest.mark.parametrize("place", ["English/Img", "train/images", "."])
def test_what_is_advised_for_pictures_can_be_pasted_and_works(tmp_path: Path, place: str) -> None:
    for name in "ab":
        for number in range(5):
            write_picture(tmp_path / "my data/custom/mine" / place / name / f"{number}.png")
    with pytest.raises(MissingFiles) as error:
        data.load("custom:mine", tmp_path / "my data")
    command = re.search("`(hwr import-images .*?)`", str(error.value))
    assert command
    with pytest.warns(UserWarning, match="2 test images are also training images"):  # all of a class are alike
        assert cli.main(shlex.split(command[1])[1:]) == 0
    found = data.load("custom:mine", tmp_path / "my data")
    assert found.classes == ("a", "b") and np.bincount(found.train_labels).tolist() == [4, 4]


def test_a_broken_archive_of_a_published_set_is_not_passed_over(tmp_path: Path) -> None:
    files.write_bytes(tmp_path / "EMNIST/raw/gzip.zip", b"<html>")
    with pytest.raises(InputError, match=r"gzip\.zip is a web page .*; a zip archive was expected"):
        data.load("emnist-letters", tmp_path)


def test_own_images_of_another_scale_polarity_or_number_of_classes(tmp_path: Path) -> None:
    images, labels = frames(tmp_path)
    both = {"train_labels": labels, "test_labels": labels[:10]}
    write_set(tmp_path / "custom/mine", train_images=images, test_images=255 - images[:10], **both)
    assert np.array_equal(data.load("custom:mine", tmp_path).test_images, images[:10])  # each part by itself
    write_set(tmp_path / "custom/mine", train_images=255 - images, test_images=images[:10], **both)
    assert np.array_equal(data.load("custom:mine", tmp_path).train_images, images)
    write_set(tmp_path / "custom/mine", train_images=images // 200, **both)
    with pytest.raises(InputError, match="its brightest pixel is 1"):
        data.load("custom:mine", tmp_path)
    one = {"train_labels": labels * 0, "test_labels": labels[:10] * 0}
    write_set(tmp_path / "custom/mine", train_images=images, test_images=images[:10], **one)
    with pytest.raises(InputError, match="has one class alone, 0"):
        data.load("custom:mine", tmp_path)


def test_sets_without_both_parts_are_told(tmp_path: Path, pictures: Path) -> None:
    write_picture(pictures / "test/d/1.png")
    with pytest.raises(InputError, match=r"in its test set alone.*: d"):
        data.load("custom:mine", tmp_path)
    write_picture(tmp_path / "custom/flat/1.png")
    with pytest.raises(MissingFiles, match=r"1\.png.*If CSV, npz, Parquet or class folders lie there"):
        data.load("custom:flat", tmp_path)


# what `hwr import-images` makes of other files


def frames(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return 20 images of two classes."""
    folder.mkdir(parents=True, exist_ok=True)
    images = np.zeros((20, 28, 28), np.uint8)
    images[:, 4:24, 13] = np.arange(20)[:, None] + 200
    return images, np.arange(20) % 2


def csv(folder: Path) -> None:
    images, labels = frames(folder)
    for name, part in (("mnist_train", slice(0, 15)), ("mnist_test", slice(15, 20))):
        table = pd.DataFrame(images[part].reshape(-1, 784)).add_prefix("pixel")
        table.insert(0, "label", labels[part])
        table.to_csv(folder / f"{name}.csv", index=False)


def csv_without_header(folder: Path) -> None:
    images, labels = frames(folder)
    pd.DataFrame(np.c_[labels, images.reshape(-1, 784)]).to_csv(folder / "train.csv", index=False, header=False)
    pd.DataFrame(images.reshape(-1, 784)).add_prefix("pixel").to_csv(folder / "test.csv", index=False)  # no labels


def npz(folder: Path) -> None:
    images, labels = frames(folder)
    train, test = (images / 255).reshape(-1, 1, 28, 28)[:15], (images / 255).reshape(-1, 784)[15:]
    np.savez(folder / "mnist.npz", x_train=train, y_train=labels[:15], x_test=test, y_test=labels[15:])


def parquet(folder: Path) -> None:
    pytest.importorskip("pyarrow")
    images, labels = frames(folder)
    for name, part in (("train", slice(0, 15)), ("test", slice(15, 20))):
        encoded = []
        for image in images[part]:
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "PNG")
            encoded.append({"bytes": buffer.getvalue(), "path": None})
        table = pd.DataFrame({"image": encoded, "label": labels[part]})
        table.to_parquet(folder / f"{name}-00000-of-00001.parquet")


@pytest.mark.filterwarnings("ignore::UserWarning")  # of the file without labels
@pytest.mark.parametrize("make", [csv, csv_without_header, npz, parquet])
def test_what_others_share_becomes_idx_files(tmp_path: Path, make: Callable[[Path], None]) -> None:
    source, out = tmp_path / "source", tmp_path / "custom/mine"
    make(source)
    assert cli.main(["import-images", str(source), "--out", str(out)]) == 0
    found = data.load("custom:mine", tmp_path)
    images, labels = frames(source)
    assert found.classes == ("0", "1")
    if make is csv_without_header:  # a fifth of each class is held out
        assert (len(found.train_labels), found.test_labels.tolist().count(0), len(found.test_labels)) == (16, 2, 4)
    else:
        assert np.array_equal(found.train_images, images[:15]) and np.array_equal(found.test_images, images[15:])
        assert np.array_equal(found.train_labels, labels[:15]) and np.array_equal(found.test_labels, labels[15:])
    assert cli.main(["import-images", str(source), "--out", str(out)]) == 2  # what is there is kept


@pytest.mark.parametrize(("name", "place", "mark"), [("target", 784, ";"), ("Y ", 300, "\t"), (None, 0, ",")])
def test_the_column_of_labels_may_stand_anywhere(tmp_path: Path, name: str | None, place: int, mark: str) -> None:
    images, labels = frames(tmp_path / "in")
    table = pd.DataFrame(images.reshape(-1, 784).astype(float))
    table.insert(place, name or "", labels if place else np.array(["A", "B"])[labels])
    table.to_csv(tmp_path / "in/train.csv", index=False, header=name is not None, sep=mark, float_format="%e")
    assert cli.main(["import-images", str(tmp_path / "in"), "--out", str(tmp_path / "custom/mine")]) == 0
    found = data.load("custom:mine", tmp_path)
    assert found.classes == (("0", "1") if place else ("A", "B"))
    kept = np.concatenate([found.train_images, found.test_images])
    assert sorted(one.tobytes() for one in kept) == sorted(one.tobytes() for one in images)


def test_labels_that_are_missing_or_odd(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, labels = frames(tmp_path / "in")
    images[:, -1, -1] = labels  # the last pixel is not taken for the label, though it would do
    table, out = pd.DataFrame(images.reshape(-1, 784)).add_prefix("pixel"), tmp_path / "custom/mine"
    command = ["import-images", str(tmp_path / "in/train.csv"), "--out", str(out)]
    for odd, message in (
        ([None, *labels[1:]], "found an image whose label is missing"),
        (labels * 0, "found one class alone, 0"),
    ):
        table.assign(label=odd)[["label", *table]].to_csv(tmp_path / "in/train.csv", index=False)
        assert cli.main(command) == 2 and message in capsys.readouterr().err and not out.exists()
    table.assign(label=labels + 1.0).to_csv(tmp_path / "in/train.csv", index=False)
    files.write_text(out / "classes.txt", "a\nb\n")
    assert cli.main(command) == 2 and "or their classes.txt" in capsys.readouterr().err
    (out / "classes.txt").unlink()
    assert cli.main(command) == 0
    assert data.load("custom:mine", tmp_path).classes == ("1", "2")


def test_an_import_of_images_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    csv(tmp_path / "in")
    command, out = ["import-images", str(tmp_path / "in"), "--out", str(tmp_path / "custom/mine")], tmp_path / "custom"
    with monkeypatch.context() as full:
        full.setattr(files.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 100))
        assert cli.main(command) == 2
    with monkeypatch.context() as full:
        written = [DEFAULT, DEFAULT, OSError(28, "No space left on device")]  # of training images, and of no others
        full.setattr(idx, "write_idx", Mock(wraps=idx.write_idx, side_effect=written))
        assert cli.main(command) == 2
    assert not any(path.is_file() for path in out.rglob("*"))
    assert cli.main(command) == 0 and len(data.load("custom:mine", tmp_path).test_labels) == 5
    assert sorted(path.suffix for path in (out / "mine").iterdir()) == [".gz"] * 4 + [".txt"]


# drawn sets


def test_files_of_two_drawings_are_refused(tmp_path: Path) -> None:
    for root, seed in ((tmp_path, 0), (tmp_path / "other", 1)):
        synthesis.write("digits-synthetic", root, seed=seed, n_train=20, n_test=10)
    drawn = data.load("digits-synthetic", tmp_path).drawn
    assert drawn is not None and (drawn["seed"], drawn["n_train"], drawn["version"]) == (0, 20, synthesis.VERSION)
    raw = Path("synthetic/digits-synthetic/raw/train-labels-idx1-ubyte.gz")
    (tmp_path / "other" / raw).replace(tmp_path / raw)
    for damage in (lambda: None, (tmp_path / "synthetic/digits-synthetic/manifest.json").unlink):
        damage()
        with pytest.raises(InputError, match=r"one of them was changed, or it is missing.*hwr synthesize digits"):
            data.load("digits-synthetic", tmp_path)


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


def test_some_characters_alone_in_the_order_asked_for(tmp_path: Path) -> None:
    name = write_easy(tmp_path, n_train=90, n_test=30)
    whole = data.load(name, tmp_path)
    first, _, third = whole.classes[:3]
    found = data.load(name, tmp_path, classes=third + first)
    assert found.classes == (third, first) and found.files == whole.files
    for label, place in ((0, 2), (1, 0)):
        assert np.array_equal(
            found.test_images[found.test_labels == label], whole.test_images[whole.test_labels == place]
        )
    assert len(found.train_labels) == np.isin(whole.train_labels, (0, 2)).sum()
    with pytest.raises(InputError, match=r"classes: 'ß' is unknown"):
        data.load(name, tmp_path, classes=first + "ß")
    for wrong in (first, first + first):
        with pytest.raises(InputError, match="different characters"):
            data.load(name, tmp_path, classes=wrong)


def test_half_of_the_test_set_can_take_the_place_of_training_images(tmp_path: Path) -> None:
    name = write_easy(tmp_path, n_train=90, n_test=40)
    whole, half = data.load(name, tmp_path), data.load(name, tmp_path, split="half", seed=3)
    assert half.spare is not None and half.test_indices is not None
    everything = np.concatenate([whole.train_images, whole.test_images])
    assert np.array_equal(everything[half.test_indices], half.test_images)
    assert len(half.spare) + len(half.test_images) == 40
    both = np.concatenate([half.test_images, half.train_images[half.spare]])
    assert sorted(image.tobytes() for image in both) == sorted(image.tobytes() for image in whole.test_images)
    asked = configure(name, "simple_cnn", seed=3, split="half", train_size=40)
    without, _ = runs.training_split(half, asked)
    swapped, _ = runs.training_split(half, dataclasses.replace(asked, training={**asked.training, "swap": 12}))
    assert not np.isin(without, half.spare).any() and np.isin(swapped, half.spare).sum() == 12
    # the others stay, and each class has as many images as before
    assert len(set(swapped) & set(without)) == 28
    assert np.array_equal(np.bincount(half.train_labels[swapped]), np.bincount(half.train_labels[without]))
    with pytest.raises(InputError, match="more than the"):
        runs.training_split(half, dataclasses.replace(asked, training={**asked.training, "swap": 41}))


def test_what_an_experiment_changes_in_a_set(tmp_path: Path) -> None:
    name = write_easy(tmp_path, n_train=90, n_test=40)
    whole = data.load(name, tmp_path)

    def changed(**options: Any) -> data.Dataset:
        return variants.apply(whole, configure(name, "simple_cnn", **options).training, seed=5)

    merged = changed(groups=2)
    assert len(merged.classes) == 2
    for label, character in enumerate(whole.classes):
        of_this = merged.train_labels[whole.train_labels == label]
        assert len(set(of_this)) == 1 and character in merged.classes[of_this[0]].split()
    assert np.ptp([len(group.split()) for group in merged.classes]) <= 1
    with pytest.raises(InputError, match="more than the"):
        changed(groups=len(whole.classes) + 1)
    turned = changed(fault="turned_test")
    assert np.array_equal(turned.test_images[0].T, whole.test_images[0])
    assert np.array_equal(turned.train_images, whole.train_images)
    # by hand: inked are 130 and 190, whose mean 160 becomes 200; 100 is not inked and grows as they do
    image = np.array([[[0, 100], [130, 190]], [[0, 0], [90, 0]], [[255, 0], [145, 0]]], np.uint8)
    assert variants.normalise_ink(image).tolist() == [[[0, 125], [163, 238]], [[0, 0], [90, 0]], [[255, 0], [145, 0]]]


# facts


def test_facts_of_a_set(tmp_path: Path) -> None:
    images = np.zeros((20, 28, 28), np.uint8)
    images[np.arange(18), 0, np.arange(18)] = 255  # the last two are blank, so the second of them is a duplicate
    write_set(tmp_path / "custom/mine", train_images=images, test_images=images[9:19])
    dataset = data.load("custom:mine", tmp_path)
    found = json.loads(json.dumps(facts.describe(dataset)))
    assert found["files"] == dataset.files and found["image_size"] == [28, 28]
    assert found["train"]["n"] == 20 and found["train"]["per_class"] == [2] * 10
    share = 18 / (20 * 784)
    assert found["train"]["mean"] == pytest.approx(share) and found["train"]["ink"] == pytest.approx(share)
    assert (found["train"]["duplicates"], found["test"]["duplicates"], found["test_images_in_train"]) == (1, 0, 10)


def test_complexity_by_hand() -> None:
    images = np.zeros((3, 28, 28), np.uint8)
    images[0, 4:14, 4:14] = 255  # a square: perimeter 40, area 100
    images[1, 0:2, 0:28] = 128  # a bar at the edge: perimeter 60, area 56
    found = facts.perimetric_complexity(images)
    assert found[:2] == pytest.approx([4 / np.pi, 60**2 / (4 * np.pi * 56)]) and np.isnan(found[2])


def test_keeping_the_first_letters_loses_classes(data_root: Path) -> None:
    folder = data_root / "emnist-letters-labels"
    if not folder.is_dir():
        pytest.skip(f"the original EMNIST label files are not at {folder}")
    found = emnist_labels.count(folder)
    assert found == results.facts("emnist-letters-labels")
    assert found["test"]["kept"]["per_class"] == [800] * 18 + [400] + [0] * 7


def test_a_joined_set_adds_training_images_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, n in (("letters-synthetic", 30), ("letters-mixed", 52)):
        synthesis.write("letters-synthetic", tmp_path, n_train=n, n_test=26, seed=n)
        promise = dataclasses.replace(CATALOG["letters-synthetic"], name=name, folders=(name,))
        if name == "letters-mixed":
            promise = dataclasses.replace(promise, joined="letters-synthetic")
        monkeypatch.setitem(CATALOG, name, promise)
        (tmp_path / "synthetic/letters-synthetic").rename(tmp_path / name)
    added, joined = (data.load(name, tmp_path) for name in ("letters-synthetic", "letters-mixed"))
    assert (len(added.train_images), len(joined.test_images)) == (30, 26)
    assert np.array_equal(joined.train_images[52:], added.train_images)
    assert np.array_equal(joined.train_labels[52:], added.train_labels)
    assert len(joined.train_images) == 82 and not np.array_equal(joined.test_images, added.test_images)
    assert set(joined.files) > {f"letters-synthetic/{file}" for file in added.files}
