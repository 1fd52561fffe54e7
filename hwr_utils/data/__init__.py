"""Load a dataset by name: every source ends as upright uint8 images, white ink on black, and labels from 0."""

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr_utils import preprocessing, records
from hwr_utils.data import catalog, folders, gnt, hwdb, idx, splits
from hwr_utils.data.catalog import CATALOG, Entry, entry
from hwr_utils.errors import InputError, MissingFiles
from hwr_utils.files import REPOSITORY, sha256

__all__ = [
    "CATALOG",
    "FOLDS",
    "SIZE",
    "TEST_SHARE",
    "Dataset",
    "Entry",
    "checksums",
    "default_root",
    "entry",
    "load",
    "open_import",
]

SIZE = 28  # pixels a side, of images that come as IDX files or in folders
FOLDS = 5  # of a cross-validation
TEST_SHARE = 0.2  # of the samples or writers that a split of an import holds out: K. Kim's 8:2, and HWDB1.1's 240:60

Reader = Callable[[str, int], NDArray[np.uint8]]  # file name without .gz, dimensions -> array


@dataclass(frozen=True)
class Dataset:
    """A dataset in memory."""

    name: str
    classes: tuple[str, ...]  # the characters, by label
    train_images: NDArray[np.uint8]  # (N, H, W), 0 = paper, 255 = ink; 28x28 unless imported at another size
    train_labels: NDArray[np.int64]  # (N,), 0 to len(classes) - 1
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    files: dict[str, str]  # file name without .gz -> SHA-256 of its uncompressed content; see `hwdb.Import.sha256`
    published: bool  # are these the published files?
    test_writers: NDArray[np.int64] | None = None  # (N,) who wrote each test image, where that is known
    test_indices: NDArray[np.int64] | None = None  # (N,) its place in an import, or in train and then test
    drawn: dict[str, Any] | None = None  # of a set that the project draws, how: what its manifest says


def default_root() -> Path:
    """Return the folder of all datasets: the environment's HWR_DATA_ROOT, else `data` in the checkout."""
    return Path(os.environ.get("HWR_DATA_ROOT") or REPOSITORY / "data")


def load(
    name: str,
    data_root: Path | str,
    download: bool = False,
    split: str = "official",
    seed: int = 0,
    pool_size: int | None = None,
) -> Dataset:
    """Return the dataset `name` from the files under `data_root`.

    Args:
        name: a name in `CATALOG`, or custom:NAME.
        data_root: the folder of all datasets, laid out as torchvision does.
        download: fetch a published dataset whose files are missing.
        split: what is its test set. "official" is the one that the files come with; of an import of GNT files, "random"
            holds out `TEST_SHARE` of each class, and "writer" the same share of the writers, nobody on both sides. Of
            IDX files and folders, "folds" is one fold of a cross-validation of training and test images together.
        seed: of these splits, 0 or more. Seeds 0 to 4 are the five folds of one partition, so that each image is a test
            image once; seeds 5 to 9 are those of another partition of the same images, and so on.
        pool_size: with "folds", cross-validate on so many images, stratified, the same for every seed; None takes all.

    Raises:
        InputError: an unknown name; files that are missing, damaged, or other than what the name promises; a split that
            they do not allow.
    """
    promise = entry(name)
    root = Path(data_root)
    try:
        found = open_import(name, root)
        if found is None:
            if split not in ("official", "folds"):
                raise InputError(
                    f"split={split} of {name}, which comes with a test set of its own: only imports of GNT files are "
                    "split so. Use split=official, or split=folds to cross-validate."
                )
            dataset = replace(_load(promise, _folder(promise, root), root, download), drawn=_drawn(promise, root))
            return _split_folds(dataset, pool_size, seed) if split == "folds" else dataset
        found.verify()
        return replace(_split_import(promise, found, split, seed), drawn=_drawn(promise, root))
    except OSError as error:
        raise InputError(f"{name}: cannot read {error.filename or root}: {error.strerror or error}.") from error


def _drawn(promise: Entry, root: Path) -> dict[str, Any] | None:
    """Return what the manifest of a drawn set says beside names and checksums: generator, seed, hands, fonts."""
    path = _folder(promise, root).parent / "manifest.json"
    if not promise.name.endswith("-synthetic") or not path.is_file():
        return None
    return {key: value for key, value in records.read_json(path).items() if key not in ("characters", "sha256")}


def checksums(name: str, data_root: Path | str) -> dict[str, str]:
    """Return `Dataset.files` of a dataset; of an import without reading its images. Errors as `load`."""
    found = open_import(name, data_root)
    return {"samples": found.sha256} if found else load(name, data_root).files


def open_import(name: str, data_root: Path | str) -> hwdb.Import | None:
    """Open a dataset that is an import of GNT files, and see whether it is what the name promises.

    Returns:
        The import, its images on the disk; None where the dataset is no import. Errors as `load`.
    """
    promise, root = entry(name), Path(data_root)
    folder = _folder(promise, root)
    return _open_import(promise, folder, root) if promise.imported or hwdb.is_import(folder) else None


def _folder(promise: Entry, root: Path) -> Path:
    candidates = [root / path for path in promise.folders]
    return next((path for path in candidates if _paths(promise, path)), candidates[0])


def _open_import(promise: Entry, folder: Path, root: Path) -> hwdb.Import:
    """Open an import, and see whether it is what the name promises."""
    if missing := [file for file in catalog.IMPORT if not (folder / file).is_file()]:
        raise MissingFiles(f"{promise.name}: {folder} lacks {', '.join(missing)}. {promise.how.format(root=root)}")
    found = hwdb.read_import(folder)
    if promise.writers is None:
        return found
    counts = zip(("train", "test"), promise.writers, (promise.n_train, promise.n_test), strict=True)
    for part, writers, samples in counts:
        kept = [source["kept"] for source in found.manifest["sources"] if source["part"] == part]
        if (len(kept), sum(kept)) != (writers, samples):
            raise InputError(
                f"{folder} is not {promise.title}: its {part} part has {sum(kept):,} samples in {len(kept)} files, and "
                f"{samples:,} in {writers} were expected. If it is other data, move the folder to "
                f"{root / 'custom' / 'NAME'} and use it as custom:NAME. {promise.how.format(root=root)}"
            )
    return found


def _split_import(promise: Entry, found: hwdb.Import, split: str, seed: int) -> Dataset:
    if split == "official":
        if set(found.parts) != {"train", "test"}:
            raise InputError(
                f"{promise.name} comes without a test set: its files do not lie in archives or folders named trn and "
                "tst, as CASIA's do. Use split=random or split=writer."
            )
        train, test = (np.flatnonzero(found.parts == part) for part in ("train", "test"))
    elif split == "random":
        train, test = splits.stratified_split(found.labels, TEST_SHARE, seed)
    elif split == "writer":
        if not promise.files_are_writers:
            raise InputError(
                f"{promise.name} cannot be split by writers: its files are not one writer's each, so who wrote a "
                "sample is not known. Use split=official or split=random."
            )
        train, test = splits.writer_split(found.writers, TEST_SHARE, seed)
    else:
        raise InputError(f"split={split!r} is unknown, expected official, random or writer.")
    present = np.unique(found.labels)
    if len(lonely := np.setdiff1d(found.labels[test], found.labels[train])):
        raise InputError(
            f"{promise.name}, split={split}: {len(lonely)} classes, {gnt.LEVEL_1[lonely[0]]} among them, are in the "
            "test set alone, so no model can learn them. Import more files, or use split=random."
        )
    labels = np.searchsorted(present, found.labels)
    return Dataset(
        promise.name,
        tuple(gnt.LEVEL_1[label] for label in present),
        found.images[train],
        labels[train],
        found.images[test],
        labels[test],
        {"samples": found.sha256},
        promise.published,
        found.writers[test] if promise.files_are_writers else None,
        test,
    )


def _split_folds(dataset: Dataset, pool_size: int | None, seed: int) -> Dataset:
    """Return one fold of a cross-validation of a dataset's training and test images together."""
    images = np.concatenate([dataset.train_images, dataset.test_images])
    labels = np.concatenate([dataset.train_labels, dataset.test_labels])
    size = pool_size or len(labels)
    if size > len(labels):
        raise InputError(
            f"pool_size={size} is more than the {len(labels)} images of {dataset.name}. Use a smaller one, or none."
        )
    pool = splits.stratified_sample(labels, size, seed=0)
    repetition, fold = divmod(seed, FOLDS)
    numbers = splits.fold_numbers(labels[pool], FOLDS, repetition)
    train, test = pool[numbers != fold], pool[numbers == fold]
    return replace(
        dataset,
        train_images=images[train],
        train_labels=labels[train],
        test_images=images[test],
        test_labels=labels[test],
        test_indices=test,
    )


def _load(promise: Entry, folder: Path, root: Path, download: bool) -> Dataset:
    if promise.name.startswith("custom:"):
        if (folder / "train").is_dir():
            return _load_folders(promise, folder)
        if any(folder.glob("test-images-idx3-ubyte*")):
            promise = replace(promise, prefixes=("train", "test"))
    paths = _paths(promise, folder)
    if download and promise.md5 and len(paths) < len(promise.stored):
        _download(promise, folder, root)
        paths = _paths(promise, folder)
    if missing := [file for file in promise.stored if file not in paths]:
        raise MissingFiles(f"{promise.name}: {folder} lacks {', '.join(missing)}. {promise.how.format(root=root)}")
    for file, expected in promise.md5.items():
        with open(paths[file], "rb") as stream:
            found = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if found != expected:
            raise InputError(
                f"{paths[file]} is not the published file of {promise.name}: its md5 is {found}, and {expected} was "
                "expected. If it is other data, use it as custom:NAME. If its download broke, remove it. "
                + promise.how.format(root=root)
            )
    if not promise.archive:
        return _load_idx(promise, folder, lambda file, ndim: idx.read_idx(paths[f"{file}.gz"], ndim))
    with zipfile.ZipFile(paths[promise.archive]) as archive:

        def read_member(file: str, ndim: int) -> NDArray[np.uint8]:
            with archive.open(f"gzip/{file}.gz") as stream:
                return idx.read_stream(stream, f"{archive.filename}: gzip/{file}.gz", ndim)

        return _load_idx(promise, folder, read_member)


def _paths(promise: Entry, folder: Path) -> dict[str, Path]:
    """Return where the files of a set are, by name: only those that are there."""
    paths = {file: folder / file for file in promise.stored}
    if not promise.published:  # no checksum of the compressed file is known, so an unpacked one will do
        paths = {file: path if path.is_file() else path.with_suffix("") for file, path in paths.items()}
    return {file: path for file, path in paths.items() if path.is_file()}


def _load_idx(promise: Entry, folder: Path, read: Reader) -> Dataset:
    """Read the four IDX files of a set and undo how it stores them."""
    files: dict[str, str] = {}
    classes = promise.classes
    names_file = folder / "classes.txt"
    if not classes and names_file.is_file():
        classes = _read_classes(names_file)
        files[names_file.name] = sha256(names_file)
    images_of, labels_of = [], []  # train, test
    for images_file, labels_file in (promise.files[:2], promise.files[2:]):
        images, raw_labels = read(images_file, 3), read(labels_file, 1)
        files |= {images_file: idx.checksum(images), labels_file: idx.checksum(raw_labels)}
        if len(images) != len(raw_labels):
            raise InputError(
                f"{folder}: {images_file} holds {len(images)} images and {labels_file} {len(raw_labels)} labels; "
                "equal counts were expected. Are they of two different sets?"
            )
        if images.shape[1:] != (SIZE, SIZE):
            raise InputError(
                f"{folder}: {images_file} holds images of {images.shape[1]}x{images.shape[2]}; {SIZE}x{SIZE} was "
                "expected. Images of other sizes go into folders, one a class: these are resized."
            )
        labels = raw_labels.astype(np.int64) - promise.first_label
        # a custom set without classes.txt has the classes that its training labels name
        classes = classes or tuple(str(label) for label in range(int(labels.max()) + 1))
        if not 0 <= labels.min() <= labels.max() < len(classes):
            low, high = promise.first_label, promise.first_label + len(classes) - 1
            raise InputError(
                f"{folder}: {labels_file} holds labels {raw_labels.min()} to {raw_labels.max()}; "
                f"{low} to {high} was expected, for {len(classes)} classes. Correct the labels, or the classes."
            )
        images_of.append(np.ascontiguousarray(images.transpose(0, 2, 1)) if promise.transposed else images)
        labels_of.append(labels)
    if promise.name.startswith("custom:") and preprocessing.is_dark_on_light(images_of[0]):
        images_of = [255 - images for images in images_of]
    return Dataset(
        promise.name, classes, images_of[0], labels_of[0], images_of[1], labels_of[1], files, promise.published
    )


def _read_classes(path: Path) -> tuple[str, ...]:
    """Read the names of classes, one a line, in the order of their labels."""
    try:
        classes = tuple(line.strip() for line in path.read_text("utf-8").rstrip().split("\n"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: {error}. One class a line in UTF-8 was expected.") from error
    if "" in classes or len(set(classes)) < len(classes):
        raise InputError(f"{path}: found an empty or repeated line; one different class a line was expected.")
    return classes


def _load_folders(promise: Entry, folder: Path) -> Dataset:
    """Read train/ and test/, whose folders are the classes; test/ may lack some classes, and adds none."""
    images, labels, classes = folders.read_class_folders(folder / "train")
    test_images, found, test_classes = folders.read_class_folders(folder / "test")
    if extra := sorted(set(test_classes) - set(classes)):
        raise InputError(
            f"{folder / 'test'}: class {extra[0]!r} is not in {folder / 'train'}, so no model can learn it. "
            "Add training images of it, or remove it."
        )
    test_labels = np.array([classes.index(name) for name in test_classes], np.int64)[found]
    files = {split: folders.checksum(folder / split) for split in ("train", "test")}
    return Dataset(promise.name, classes, images, labels, test_images, test_labels, files, published=False)


def _download(promise: Entry, folder: Path, root: Path) -> None:
    """Fetch the published files; progress bars and checksums are torchvision's.

    They arrive in a temporary folder and are moved when complete, so a broken download leaves nothing behind, and
    files of the user's own are not overwritten.
    """
    from torchvision.datasets import EMNIST, KMNIST, MNIST  # slow to import, and seldom needed
    from torchvision.datasets.utils import download_url

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as temporary:
            if promise.archive:
                # EMNIST(download=True) would unpack every split as well: 1.7 GB, of which this study reads 0.1
                download_url(EMNIST.url, temporary, promise.archive, EMNIST.md5)
                source = Path(temporary)
            else:
                source = Path({"mnist": MNIST, "kmnist": KMNIST}[promise.name](temporary, download=True).raw_folder)
            for file in set(promise.stored) - set(_paths(promise, folder)):
                os.replace(source / file, folder / file)
    # torchvision raises RuntimeError and URLError, which is an OSError; so are a full disk and a lost connection
    except (RuntimeError, OSError) as error:
        raise MissingFiles(
            f"{promise.name} could not be downloaded: {' '.join(str(error).split()).rstrip('.')}. Where there is "
            f"a network, run `hwr download {promise.name} --data-root {root}`, or get "
            f"{', '.join(promise.stored)} and put them into {folder}."
        ) from error
