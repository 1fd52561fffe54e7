"""Load a dataset by name: every source ends as upright uint8 images, white ink on black, and labels from 0."""

import hashlib
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr_utils import preprocessing, records
from hwr_utils.data import catalog, folders, gnt, hwdb, idx, splits
from hwr_utils.data.catalog import CATALOG as CATALOG
from hwr_utils.data.catalog import Entry
from hwr_utils.data.catalog import entry as entry
from hwr_utils.errors import InputError, MissingFiles, reading, warn
from hwr_utils.files import REPOSITORY, sha256
from hwr_utils.sources import Source, listing, walk

SIZE = 28  # pixels a side, of images that come as IDX files or in folders
TEST_SHARE = 0.2  # of the samples or writers that a split of an import holds out: K. Kim's 8:2, and HWDB1.1's 240:60
TALL = 0.95  # ink is as high as wide, or higher, in every script here: below this, images probably lie on their side


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
    drawn: dict[str, Any] | None = None  # how the project drew it, see `synthesis.write`; None of all others


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

    Warns where files of a user's own may not be what was meant: a class without images, pictures that were left out.

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
    with reading(data_root, "the folder of all datasets", "Give another."):  # its name may be too long
        promise, found = entry(name), open_import(name, data_root)
    if found is not None:
        found.verify()
        dataset = _split_import(promise, found, split, seed)
    elif split not in ("official", "folds"):
        raise InputError(
            f"split={split} of {name}, which comes with a test set of its own: only imports of GNT files are split so. "
            "Use split=official, or split=folds to cross-validate."
        )
    else:
        dataset = _load(promise, Path(data_root), download)
    if promise.joined:
        dataset = _join(dataset, load(promise.joined, data_root))
    if promise.folders[0].startswith("synthetic/"):
        dataset = replace(dataset, drawn=_manifest(promise, Path(data_root), dataset.files))
    if name not in CATALOG:
        _check_classes(dataset)
    return _split_folds(dataset, pool_size, seed) if split == "folds" else dataset


def _join(dataset: Dataset, other: Dataset) -> Dataset:
    """Add the training images of another dataset of the same classes."""
    images = np.concatenate([dataset.train_images, other.train_images])
    labels = np.concatenate([dataset.train_labels, other.train_labels])
    digests = dataset.files | {f"{other.name}/{file}": digest for file, digest in other.files.items()}
    return replace(dataset, train_images=images, train_labels=labels, files=digests, drawn=other.drawn)


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
    folder = root / promise.folders[0]
    if not (promise.imported or hwdb.is_import(folder)):
        return None
    if missing := [file for file in catalog.IMPORT if not (folder / file).is_file()]:
        raise MissingFiles(f"{name}: {folder} lacks {', '.join(missing)}. {promise.how.format(root=root)}")
    found = hwdb.read_import(folder)
    if promise.writers:
        counts = zip(("train", "test"), promise.writers, (promise.n_train, promise.n_test), strict=True)
        for part, writers, samples in counts:
            kept = [source["kept"] for source in found.manifest["sources"] if source["part"] == part]
            if (len(kept), sum(kept)) != (writers, samples):
                raise InputError(
                    f"{folder} is not {promise.title}: its {part} part has {sum(kept):,} samples in {len(kept)} files, "
                    f"and {samples:,} in {writers} were expected. If it is other data, move the folder to "
                    f"{root / 'custom' / 'NAME'} and use it as custom:NAME. {promise.how.format(root=root)}"
                )
    return found


def _manifest(promise: Entry, root: Path, found: dict[str, str]) -> dict[str, Any]:
    """Return what tells how a set was drawn, but its characters, and see that its files are those that were drawn."""
    path = (root / promise.folders[0]).parent / "manifest.json"
    told = records.read_json(path) if path.is_file() else {"sha256": None}
    if told.pop("sha256", found) != found:  # the first hanzi sets have none
        raise InputError(f"{path} is missing, or of other files than lie there. {promise.how.format(root=root)}")
    told.pop("characters", None)  # thousands of them, which are the classes
    return told


def _check_classes(dataset: Dataset) -> None:
    """Refuse classes that are only tested, and warn of those that are not tested or nowhere."""
    every, trained, tested = set(range(len(dataset.classes))), set(dataset.train_labels), set(dataset.test_labels)
    for labels, fault in ((tested - trained, ""), (every - trained, "training"), (trained - tested, "test")):
        if not labels:
            continue
        named = [dataset.classes[label] for label in sorted(labels)]
        told = f"{dataset.name}: {len(named)} classes ({', '.join(named[:5])}{' ...' if named[5:] else ''})"
        if not fault:
            raise InputError(
                f"{told} are in the test set alone, so no model can learn them. Add training images, or remove them."
            )
        warn(f"{told} have no {fault} image. Was that meant?")


def _split_import(promise: Entry, found: hwdb.Import, split: str, seed: int) -> Dataset:
    if promise.only_tested:
        train, test = np.arange(0), np.arange(len(found.labels))
    elif split == "official":
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
    labels = np.searchsorted(present, found.labels)
    return Dataset(
        name=promise.name,
        classes=tuple(gnt.LEVEL_1[label] for label in present),
        train_images=found.images[train],
        train_labels=labels[train],
        test_images=found.images[test],
        test_labels=labels[test],
        files={"samples": found.sha256},
        published=promise.published,
        test_writers=found.writers[test] if promise.files_are_writers else None,
        test_indices=test,
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
    repetition, fold = divmod(seed, splits.FOLDS)
    tested = splits.fold_numbers(labels[pool], splits.FOLDS, repetition) == fold
    train, test = pool[~tested], pool[tested]
    new = {"train_images": images[train], "train_labels": labels[train], "test_labels": labels[test]}
    return replace(dataset, test_images=images[test], test_indices=test, **new)


def _find(promise: Entry, root: Path) -> tuple[Path, dict[str, Source]]:
    """Return the folder of a set, and those of its IDX files that are there, by name, whatever their packing.

    They may be gzipped, plain or in a zip archive, in a folder of their own, and be called train-images.idx3-ubyte.
    """
    for folder in (root / place for place in promise.folders):
        top = folder.parent if folder.name == "raw" else folder
        sources = walk(top) if top.is_dir() else []
        sources.sort(key=lambda source: (source.file.suffix != ".gz", len(source.file.parts)), reverse=True)
        named = {source.file.name.lower().removesuffix(".gz").replace(".", "-"): source for source in sources}
        if found := {file: named[file] for file in promise.files if file in named}:
            return folder, found
    return root / promise.folders[0], {}


def _load(promise: Entry, root: Path, download: bool) -> Dataset:
    folder, found = _find(promise, root)
    if promise.name not in CATALOG:
        other = replace(promise, prefixes=("train", "test"))
        if len(_find(other, root)[1]) > len(found):
            promise, (folder, found) = other, _find(other, root)
        if not found and {"train", "test"} <= (parts := folders.parts(folder)).keys():
            return _load_folders(promise, parts["train"], parts["test"])
    if download and promise.md5 and len(found) < len(promise.files):
        _download(promise, folder, root)
        folder, found = _find(promise, root)
    if missing := [file for file in promise.files if file not in found]:
        lacking = promise.stored if promise.archive and not found else [f"{file}.gz" for file in missing]
        raise MissingFiles(
            f"{promise.name}: {folder} lacks {', '.join(lacking)}.{_instead(folder)} {promise.how.format(root=root)}"
        )
    return _load_idx(promise, folder, root, found)


def _instead(folder: Path) -> str:
    """Say what lies in a folder in place of a set's files, and what would make them of it."""
    top = folder.parent if folder.name == "raw" else folder
    names = [path.name for path in listing(top)] if top.is_dir() else []
    if not names:
        return ""
    told = f" Found there: {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}."
    held_out = [name for name in names if name.lower() in ("val", "valid", "validation")]
    if held_out and "train" in folders.parts(top):
        told += f" If {held_out[0]} is to be the test set, run `mv {top / held_out[0]} {top / 'test'}`."
    elif any(source.file.suffix in (".csv", ".npz", ".parquet", ".png", ".jpg") for source in walk(top)):
        told += f" To make IDX files of it, run `hwr import-images {top} --out {folder}`."
    return told


def _load_idx(promise: Entry, folder: Path, root: Path, found: dict[str, Source]) -> Dataset:
    """Read the four IDX files of a set, see whether they are the published ones, and undo how it stores them."""
    try:
        arrays = {file: idx.read_idx(source, 3 if "images" in file else 1) for file, source in found.items()}
    except InputError as error:
        raise InputError(f"{error} If you have another, remove this one. {promise.how.format(root=root)}") from error
    files = {file: idx.checksum(array) for file, array in arrays.items()}
    md5 = {source.path: "" for file, source in found.items() if files[file] != promise.sha256.get(file)}
    for path in md5 if promise.published else ():
        with path.open("rb") as stream:
            md5[path] = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if md5[path] not in promise.md5.values():
            raise InputError(
                f"{path} is not the published file of {promise.name}, or it was packed anew: its md5 is {md5[path]}, "
                f"and {' or '.join(promise.md5.values())} was expected. If it is other data, use it as custom:NAME. If "
                f"its download broke, remove it. {promise.how.format(root=root)}"
            )
    custom = promise.name not in CATALOG
    classes = promise.classes
    names_file = folder / "classes.txt"
    if custom and names_file.is_file():
        classes = _read_classes(names_file)
        files[names_file.name] = sha256(names_file)
    images, labels = ([arrays[file] for file in promise.files[start::2]] for start in (0, 1))
    for part in (0, 1):
        if len(images[part]) != len(labels[part]) or images[part].shape[1:] != (SIZE, SIZE):
            raise InputError(
                f"{folder}: {promise.files[2 * part]} holds {images[part].shape}, and {promise.files[2 * part + 1]} "
                f"{len(labels[part])} labels; as many images of {SIZE}x{SIZE} were expected. Are they of two different "
                "sets? Images of other sizes go into folders, one a class: these are resized."
            )
    values: NDArray[Any] = np.arange(len(classes)) + promise.first_label
    if custom:
        named, seen = bool(classes), np.unique(labels[0])
        values = seen if not named else values + (seen[0] > 0 and seen[-1] == len(classes))
        classes = classes or tuple(map(str, seen))
        if not np.array_equal(values, np.arange(len(values))):
            called = "the lines of classes.txt" if named else "the labels themselves, for want of a classes.txt"
            warn(
                f"{promise.name}: the labels are {values[0]} to {values[-1]}, and not 0 to {len(values) - 1}. Its "
                f"{len(values)} classes are called by {called}."
            )
    for file, found_labels in zip(promise.files[1::2], labels, strict=True):
        if not np.isin(found_labels, values).all():
            raise InputError(
                f"{folder}: {file} holds labels {found_labels.min()} to {found_labels.max()}; {values[0]} to "
                f"{values[-1]} was expected, for {len(classes)} classes. Correct the labels, or the classes."
            )
    if promise.transposed:
        images = [np.ascontiguousarray(part.transpose(0, 2, 1)) for part in images]
    if custom:
        if preprocessing.is_dark_on_light(images[0]):
            images = [255 - part for part in images]
        ink = images[0] > preprocessing.INK
        if ink.any(2).sum() < TALL * ink.any(1).sum():
            warn(
                f"{promise.name}: the ink of its images is wider than high, so they may lie transposed as those of "
                "EMNIST do. If so, turn them; EMNIST's own letters are read as emnist-letters."
            )
    train_labels, test_labels = (np.searchsorted(values, part).astype(np.int64) for part in labels)
    return Dataset(promise.name, classes, images[0], train_labels, images[1], test_labels, files, promise.published)


def _read_classes(path: Path) -> tuple[str, ...]:
    """Read the names of classes, one a line, in the order of their labels."""
    with reading(path, "one class a line in UTF-8", "Correct it."):
        classes = tuple(line.strip() for line in path.read_text("utf-8-sig").rstrip().split("\n"))
    if "" in classes or len(set(classes)) < len(classes):
        raise InputError(f"{path}: found an empty or repeated line; one different class a line was expected.")
    return classes


def _load_folders(promise: Entry, train: Path, test: Path) -> Dataset:
    """Read two folders whose folders are the classes."""
    images, labels, trained, digest = folders.read(train)
    test_images, found, tested, test_digest = folders.read(test)
    classes = tuple(dict.fromkeys((*trained, *tested)))  # of what only the second has, `_check_classes` tells
    test_labels = np.array([classes.index(name) for name in tested], np.int64)[found]
    files = {"train": digest, "test": test_digest}
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
            for file in promise.stored:
                if not (folder / file).exists():
                    os.replace(source / file, folder / file)
    # torchvision raises RuntimeError and URLError, which is an OSError; so are a full disk and a lost connection
    except (RuntimeError, OSError) as error:
        raise MissingFiles(
            f"{promise.name} could not be downloaded: {' '.join(str(error).split()).rstrip('.')}. Where there is "
            f"a network, run `hwr download {promise.name} --data-root {root}`, or get "
            f"{', '.join(promise.stored)} and put them into {folder}."
        ) from error
