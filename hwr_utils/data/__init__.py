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
from hwr_utils.data import folders, gnt, hwdb, idx, splits
from hwr_utils.data.catalog import CATALOG, Entry, entry
from hwr_utils.data.splits import Indices
from hwr_utils.errors import InputError, MissingFiles, reading, warn
from hwr_utils.files import REPOSITORY, sha256
from hwr_utils.recipes import known
from hwr_utils.sources import Source, listing, natural, packed, part_of, walk

SIZE = 28  # pixels a side, of images that come as IDX files or in folders
TEST_SHARE = 0.2  # of the samples or writers, held out by split=random or writer: as K. Kim's 8:2 and HWDB1.1's 240:60
TALL = 0.95  # least height of the ink per width in any script here; images below it probably lie on their side


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
    test_indices: NDArray[np.int64] | None = None  # (N,) their places in the import, or in train followed by test
    drawn: dict[str, Any] | None = None  # how the project drew it, see `synthesis.write`; None for other datasets
    spare: Indices | None = None  # with split=half, which training images come from the official test set


@dataclass(frozen=True)
class _Whole:
    """All samples of a dataset before it is split."""

    classes: tuple[str, ...]
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    tested: NDArray[np.bool_] | None  # (N,) is it in the test set that the files define? None where they define none
    files: dict[str, str]
    writers: NDArray[np.int64] | None = None


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
    classes: str | None = None,
) -> Dataset:
    """Return a dataset from its files.

    Warns where a user's own files may not be what was meant: a class has no images, or pictures were left out.

    Args:
        name: a name in `CATALOG`, or custom:NAME.
        data_root: the folder of all datasets, laid out as torchvision does.
        download: fetch a published dataset whose files are missing.
        split: how the test set is chosen. "official" is the one that the files come with; "random" is `TEST_SHARE` of
            each class; "writer" is that share of the writers, with nobody on both sides; "folds" is one fold of a
            cross-validation of all images; "half" is half of each class of the official test set, and the other half
            joins the training images (`Dataset.spare`).
        seed: of the split, 0 or more. With "folds", seeds 0 to 4 are the five folds of one partition, so each image is
            a test image once; seeds 5 to 9 are the folds of another partition of the same images, and so on.
        pool_size: with "folds", how many images to use: a stratified sample, the same for every seed; None uses all.
        classes: use only the images of these characters, which become the classes in this order; None uses all.

    Raises an InputError for an unknown name; files that are missing, damaged, or other than what the name promises; a
    split that they do not allow; or a character that the set does not have.
    """
    promise, root = entry(name), Path(data_root)
    with reading(root, "the folder of all datasets", "Give another."):  # its name may be too long
        found = open_import(name, root)
    whole = _read(promise, root, download) if found is None else _of_import(promise, found)
    if name not in CATALOG:
        _check_classes(name, whole)
    whole = _only(whole, classes) if classes else whole
    train, test = _split(name, whole, split, seed, pool_size)
    images, labels, digests, drawn = whole.images[train], whole.labels[train], whole.files, None
    if promise.folders[0].startswith("synthetic/"):
        drawn = _manifest(promise, root, digests)
    if promise.joined:
        other = load(promise.joined, root, classes=classes)
        images = np.concatenate([images, other.train_images])
        labels = np.concatenate([labels, other.train_labels])
        digests = digests | {f"{other.name}/{file}": digest for file, digest in other.files.items()}
        drawn = other.drawn
    return Dataset(
        name=name,
        classes=whole.classes,
        train_images=images,
        train_labels=labels,
        test_images=whole.images[test],
        test_labels=whole.labels[test],
        files=digests,
        published=promise.published,
        test_writers=None if whole.writers is None else whole.writers[test],
        test_indices=None if found is None and split == "official" else test,
        drawn=drawn,
        spare=np.flatnonzero(whole.tested[train]) if split == "half" and whole.tested is not None else None,
    )


def checksums(name: str, data_root: Path | str) -> dict[str, str]:
    """Return `Dataset.files` of a dataset; the images of an import are not read for it. Errors as `load`."""
    found = open_import(name, data_root)
    return {"samples": found.sha256} if found else load(name, data_root).files


def open_import(name: str, data_root: Path | str) -> hwdb.Import | None:
    """Return a dataset that is an import of GNT files, its images on the disk, or None; errors as `load`."""
    promise, root = entry(name), Path(data_root)
    folder = root / promise.folders[0]
    if not hwdb.is_import(folder):
        if not promise.imported:
            return None
        raise MissingFiles(f"{name}: {folder} lacks {', '.join(promise.stored)}. {promise.advice(root)}")
    found = hwdb.read_import(folder)
    counts = zip(("train", "test"), promise.writers or (), (promise.n_train, promise.n_test), strict=False)
    for part, writers, samples in counts:  # of a published one
        kept = [source["kept"] for source in found.manifest["sources"] if source["part"] == part]
        if (len(kept), sum(kept)) != (writers, samples):
            told = f"its {part} part has {sum(kept):,} samples in {len(kept)} files, and {samples:,} in {writers} were"
            custom = f"If it is other data, move the folder to {root}/custom/NAME and use it as custom:NAME."
            raise InputError(f"{folder} is not {promise.title}: {told} expected. {custom}")
    return found


def _manifest(promise: Entry, root: Path, found: dict[str, str]) -> dict[str, Any]:
    """Return how a set was drawn, without its characters; an InputError where its files are not the drawn ones."""
    path = (root / promise.folders[0]).parent / "manifest.json"
    told = records.read_json(path) if path.is_file() else {"sha256": None}
    if told.pop("sha256", found) != found:  # the first hanzi sets have none
        raise InputError(
            f"the files of {promise.name} beside {path} are not those that it tells of: one of them was changed, or it "
            f"is missing. Draw the set again: {promise.advice(root)}"
        )
    told.pop("characters", None)  # thousands of them, which are the classes
    return told


def _check_classes(name: str, whole: _Whole) -> None:
    """Refuse a single class and classes with test images alone; warn of classes without test images or any images."""
    if len(whole.classes) < 2:
        raise InputError(f"{name} has one class alone, {whole.classes[0]}. Add images of other classes.")
    if whole.tested is None:
        return
    every, trained, tested = range(len(whole.classes)), whole.labels[~whole.tested], whole.labels[whole.tested]
    for labels, others, fault in ((tested, trained, ""), (every, trained, "training"), (trained, tested, "test")):
        named = [whole.classes[label] for label in np.setdiff1d(labels, others)]
        told = f"{', '.join(named[:5])}{f' and {len(named) - 5} more' if named[5:] else ''}"
        if named and not fault:
            remedy = "Add some for training, or remove them."
            raise InputError(f"{name} has classes in its test set alone, which no model can learn: {told}. {remedy}")
        if named:
            warn(f"{name} has classes without a {fault} image: {told}. Was that meant?")


def _only(whole: _Whole, classes: str) -> _Whole:
    """Return the samples of some characters, which are the classes in their order."""
    for character in classes:
        known("classes: ", character, whole.classes)
    if len(set(classes)) < max(2, len(classes)):
        raise InputError(f"classes={classes!r}: two or more different characters were expected, each once.")
    places = {character: place for place, character in enumerate(classes)}
    labels = np.array([places.get(character, -1) for character in whole.classes])[whole.labels]
    kept = labels >= 0
    tested = None if whole.tested is None else whole.tested[kept]
    writers = None if whole.writers is None else whole.writers[kept]
    return _Whole(tuple(classes), whole.images[kept], labels[kept], tested, whole.files, writers)


def _split(name: str, whole: _Whole, split: str, seed: int, pool_size: int | None) -> tuple[Indices, Indices]:
    """Return which samples are training samples, and which test samples."""
    labels, wanted = whole.labels, pool_size or len(whole.labels)
    if split in ("official", "half"):
        if whole.tested is None:
            told = "its files do not lie in archives or folders named trn and tst, as CASIA's do"
            raise InputError(f"{name} comes without a test set: {told}. Use split=random or split=writer.")
        train, test = np.flatnonzero(~whole.tested), np.flatnonzero(whole.tested)
        if split == "official":
            return train, test
        kept, spare = splits.stratified_split(labels[test], 0.5, seed)
        return np.concatenate([train, test[spare]]), test[kept]
    if split == "random":
        return splits.stratified_split(labels, TEST_SHARE, seed)
    if split == "writer":
        writers = np.arange(0) if whole.writers is None else whole.writers
        everyone, writer = np.unique(writers, return_inverse=True)
        if len(everyone) < 2:
            told = f"{len(everyone)} writers of its samples are known, and two or more were expected"
            raise InputError(f"{name} cannot be split by writers: {told}. Use split=official or split=random.")
        held_out = np.isin(writer, splits.stratified_split(np.zeros(len(everyone), np.int64), TEST_SHARE, seed)[1])
        return np.flatnonzero(~held_out), np.flatnonzero(held_out)
    known("split=", split, ("official", "random", "writer", "folds", "half"))
    if wanted > len(labels):
        raise InputError(f"pool_size={wanted} is more than the {len(labels)} images of {name}. Use a smaller one.")
    pool = splits.stratified_sample(labels, wanted, seed=0)
    repetition, fold = divmod(seed, splits.FOLDS)
    tested = splits.fold_numbers(labels[pool], splits.FOLDS, repetition) == fold
    return pool[~tested], pool[tested]


def _of_import(promise: Entry, found: hwdb.Import) -> _Whole:
    for array, expected in found.manifest.get("arrays", {}).items():  # the first imports have no checksums
        if sha256(found.folder / array) != expected:
            raise InputError(f"{found.folder / array} is damaged: it is not what was written. {hwdb.AGAIN}")
    present, labels = np.unique(found.labels, return_inverse=True)
    classes = tuple(gnt.LEVEL_1[label] for label in present)
    tested = found.parts == "test" if set(found.parts) == {"train", "test"} else None
    if promise.only_tested:
        tested = np.ones(len(labels), np.bool_)
    writers = found.writers if promise.files_are_writers else None
    return _Whole(classes, found.images, labels, tested, {"samples": found.sha256}, writers)


def _top(promise: Entry, folder: Path) -> Path:
    return folder.parent if folder.name == "raw" and promise.name in CATALOG else folder  # torchvision's place


def _find(promise: Entry, root: Path) -> tuple[Entry, Path, dict[str, Source]]:
    """Return the entry of a set, its folder, and by its name there those of its IDX files that were found.

    The files may be gzipped, plain or in a zip archive, lie in a folder of their own, and be called
    train-images.idx3-ubyte. A user's own may also have a prefix, as emnist-digits-train-images-idx3-ubyte does; the
    entry that is returned then has this prefix.
    """
    for folder in (root / place for place in promise.folders):
        top = _top(promise, folder)
        sources = walk(top, strict=promise.name in CATALOG) if top.is_dir() else []
        sources.sort(key=lambda source: (source.file.suffix != ".gz", len(source.file.parts)), reverse=True)
        named = {source.file.name.lower().removesuffix(".gz").replace(".", "-"): source for source in sources}
        if promise.name not in CATALOG:
            starts = [name.partition("-images-idx3")[0] for name in named if "-images-idx3" in name]
            own = {part_of(start.replace("t10k", "test")): start for start in starts}
            promise = replace(promise, prefixes=(own.get("train", "train"), own.get("test", "t10k")))
        if found := {file: named[file] for file in promise.files if file in named}:
            return promise, folder, found
    return promise, root / promise.folders[0], {}


def _read(promise: Entry, root: Path, download: bool) -> _Whole:
    """Read a set of IDX files, or of class folders."""
    promise, folder, found = _find(promise, root)
    if promise.name not in CATALOG and not found and folder.is_dir() and "test" in (parts := folders.parts(folder)):
        return _read_folders(parts)
    if download and promise.md5 and len(found) < len(promise.files):
        _download(promise, folder)
        promise, folder, found = _find(promise, root)
    if missing := [f"{file}.gz" for file in promise.files if file not in found]:
        told = f"{promise.name}: {folder} lacks {', '.join(missing if found else promise.stored)}."
        top = _top(promise, folder)
        if inside := walk(top, strict=False) if top.is_dir() else []:
            told += f" Found in {top}: {', '.join(path.name for path in listing(top)[:5])}.{packed(inside)}"
        raise MissingFiles(f"{told} {promise.advice(root)}")
    return _read_idx(promise, folder, root, found)


def _read_idx(promise: Entry, folder: Path, root: Path, found: dict[str, Source]) -> _Whole:
    """Read the four IDX files of a set, see whether they are the published ones, and undo how it stores them."""
    arrays = {file: idx.read_idx(source, 3 if "images" in file else 1) for file, source in found.items()}
    files = {file: sha256(idx.serialize(array)) for file, array in arrays.items()}
    if promise.published:
        # either the content has the known checksum, or the file has the md5 of the published one
        for path in dict.fromkeys(found[file].path for file in files if files[file] != promise.sha256.get(file)):
            with path.open("rb") as stream:
                md5 = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            if md5 not in promise.md5.values():
                raise InputError(
                    f"{path} is not the published file of {promise.name}, or it was packed anew: its md5 is {md5}, and "
                    f"{' or '.join(promise.md5.values())} was expected. If it is other data, use it as custom:NAME. If "
                    f"its download broke, remove it. {promise.advice(root)}"
                )
    images, labels = ([arrays[file] for file in promise.files[start::2]] for start in (0, 1))
    classes, values = tuple(promise.classes), np.arange(len(promise.classes), dtype=np.int64) + promise.first_label
    if promise.name not in CATALOG:
        names = folder / "classes.txt"
        classes, values = _own_classes(names, labels[0])
        files |= {names.name: sha256(names)} if names.is_file() else {}
    for name, some, numbers in zip(promise.files[::2], images, labels, strict=True):
        odd = ", ".join(f"{value} stands for no class" for value in np.setdiff1d(numbers, values)[:5])
        if len(some) != len(numbers) or some.shape[1:] != (SIZE, SIZE) or odd:
            raise InputError(
                f"{folder}: {name} holds {some.shape}, and there are {len(numbers)} labels{odd and ': '}{odd}. As many "
                f"images of {SIZE}x{SIZE} as labels were expected, and {values[0]} to {values[-1]} for the "
                f"{len(classes)} classes. Images in class folders may have other sizes."
            )
    pictures = np.concatenate(images if promise.name in CATALOG else _upright(promise.name, images))
    if promise.transposed:
        pictures = np.ascontiguousarray(pictures.transpose(0, 2, 1))
    from_0 = np.searchsorted(values, np.concatenate(labels)).astype(np.int64)
    return _Whole(classes, pictures, from_0, np.repeat([False, True], [len(part) for part in labels]), files)


def _own_classes(path: Path, labels: NDArray[np.uint8]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the classes of a user's own set, which its classes.txt may name, and the label of each."""
    seen = values = np.unique(labels).astype(np.int64)
    classes = tuple(map(str, seen))
    if path.is_file():
        with reading(path, "one class a line in UTF-8", "Correct it."):
            classes = tuple(line.strip() for line in path.read_text("utf-8-sig").rstrip().split("\n"))
        if "" in classes or len(set(classes)) < len(classes):
            raise InputError(f"{path}: found an empty or repeated line; a class of its own in each line was expected.")
        values = np.arange(len(classes), dtype=np.int64) + int(seen[0] > 0 and seen[-1] == len(classes))
    if not np.array_equal(values, np.arange(len(values))):
        told = f"{path.parent}: the labels are {values[0]} to {values[-1]}, and not 0 to {len(values) - 1}."
        warn(f"{told} Its {len(classes)} classes are called {', '.join(classes[:5])} ...")
    return classes, values


def _upright(name: str, images: list[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Return the images of a user's own set as white ink on black, and warn where they may lie on their side."""
    for part in images:
        if part.max() < preprocessing.MIN_CONTRAST:
            raise InputError(f"{name}: its brightest pixel is {part.max()}; up to 255 was expected. Scale the pixels.")
    images = [255 - part if preprocessing.is_dark_on_light(part) else part for part in images]
    ink = images[0] > preprocessing.INK
    if ink.any(2).sum() < TALL * ink.any(1).sum():
        warn(
            f"{name}: the ink of its images is wider than high, so they may lie transposed as those of EMNIST do. If "
            "so, turn them, in NumPy by images.transpose(0, 2, 1); EMNIST's own letters are read as emnist-letters."
        )
    return images


def _read_folders(parts: dict[str, Path]) -> _Whole:
    """Read two folders whose folders are the classes."""
    images, names, digests = zip(*(folders.read(parts[part]) for part in ("train", "test")), strict=True)
    classes = sorted({*names[0], *names[1]}, key=natural)
    labels = np.array([classes.index(name) for part in names for name in part], np.int64)
    tested = np.repeat([False, True], [len(part) for part in names])
    return _Whole(tuple(classes), np.concatenate(images), labels, tested, {"train": digests[0], "test": digests[1]})


def _download(promise: Entry, folder: Path) -> None:
    """Fetch the missing published files through a temporary folder, so that a broken download leaves nothing behind."""
    from torchvision.datasets.utils import download_url  # slow to import, and seldom needed

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as temporary:
            for file, md5 in promise.md5.items():
                if not (folder / file).exists():
                    download_url(promise.url + file, temporary, file, md5)
                    os.replace(Path(temporary, file), folder / file)
    # torchvision raises RuntimeError and URLError, which is an OSError; so are a full disk and a lost connection
    except (RuntimeError, OSError) as error:
        raise MissingFiles(
            f"{promise.name} could not be downloaded: {' '.join(str(error).split()).rstrip('.')}. Where there is a "
            f"network, run the command again, or get {', '.join(promise.stored)} and put them into {folder}."
        ) from error
