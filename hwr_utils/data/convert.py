"""Make IDX files of the other forms in which people share small images: CSV, npz, Parquet, class folders."""

import importlib.util
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hwr_utils import files, preprocessing
from hwr_utils.data import SIZE, TEST_SHARE, folders, idx, splits
from hwr_utils.errors import InputError, kind, warn
from hwr_utils.sources import AGAIN, Source, listing, natural, packed, walk

LABELS = ("label", "labels", "class", "target", "y", "digit", "character")  # names that a column of labels may have
COLUMN = "Labels are read from the column whose header is label, or else from the first; all others hold pixels."
Part = tuple[str, Any, Any]  # train or test, images, labels; images and labels may come one after the other


def import_images(paths: Sequence[str | Path], out: str | Path) -> dict[str, int]:
    """Write train-images-idx3-ubyte.gz and so on into `out`, and the labels' names into classes.txt.

    Each row of Kaggle's CSV has a label and the pixels of an image; Keras' npz has x_train, y_train, x_test and y_test;
    Hugging Face's Parquet has the columns image and label. The names of files and arrays tell training from test data;
    where nothing is called test, a fifth of each class is held out. Returns how many there are in train and in test,
    and how many classes. An InputError where nothing can be read, images lack labels, or `out` holds such files.
    """
    found: dict[str, tuple[list[Any], list[Any]]] = {"train": ([], []), "test": ([], [])}
    where = ", ".join(map(str, paths))
    for name, *new in (part for path in paths for part in _parts(Path(path))):
        for kept, values in zip(found[name], new, strict=True):
            kept.extend(values)
    (train, train_labels), (test, test_labels) = found.values()
    if not train or (len(train), len(test)) != (len(train_labels), len(test_labels)):
        raise InputError(
            f"{where}: found {len(train)} training images and {len(train_labels)} labels, {len(test)} test images and "
            f"{len(test_labels)} labels; training images with a label each were expected. Give other files."
        )
    low, high = (end([end(image) for image in (*train, *test)]) for end in (np.min, np.max))
    if not (low >= 0 and high <= 255):  # both comparisons are False for NaN, a missing pixel
        raise InputError(f"{where}: found pixels of {low} to {high}; expected 0 to 255, or 0 to 1. Scale them.")
    scale = 255.0 if high <= 1 else 1.0
    grays = ((image * scale).round().astype(np.uint8) for image in (*train, *test))
    images = np.stack([gray if gray.shape == (SIZE, SIZE) else preprocessing.fit(gray, SIZE) for gray in grays])
    given = pd.Series([*train_labels, *test_labels]).convert_dtypes()  # 3.0 becomes 3
    if given.isna().any():
        raise InputError(f"{where}: found an image whose label is missing. Give it one, or remove it.")
    told = [label.decode() if isinstance(label, bytes) else str(label) for label in given]
    names = sorted(set(told), key=natural)
    if not 2 <= len(names) <= 256:
        found_classes = f"one class alone, {names[0]}" if len(names) == 1 else f"{len(names)} classes"
        raise InputError(f"{where}: found {found_classes}; expected 2 to 256. {COLUMN}")
    labels = np.array([names.index(name) for name in told], np.int64)
    split = np.split(np.arange(len(labels)), [len(train)]) if test else splits.stratified_split(labels, TEST_SHARE, 0)
    seen = {image.tobytes() for image in images[split[0]]}
    if twice := sum(image.tobytes() in seen for image in images[split[1]]):
        warn(f"{where}: {twice:,} test images are also training images, so that a test on them says too much.")
    out = Path(out)
    if any([*out.glob("*ubyte*"), *out.glob("classes.txt")]):
        raise InputError(f"{out} holds IDX files or their classes.txt. Give another folder, or remove them.")
    with files.new_folder(ready := out / ".import", images.nbytes) as made:
        files.write_text(made / "classes.txt", "".join(f"{name}\n" for name in names))
        for prefix, chosen in zip(("train", "t10k"), split, strict=True):
            idx.write_idx(made / f"{prefix}-images-idx3-ubyte.gz", images[chosen])
            idx.write_idx(made / f"{prefix}-labels-idx1-ubyte.gz", labels[chosen].astype(np.uint8))
    for path in sorted(ready.iterdir()):  # what else lies in `out`, maybe the sources, stays
        path.rename(out / path.name)
    ready.rmdir()
    return {"train": len(split[0]), "test": len(split[1]), "classes": len(names)}


def _parts(path: Path) -> Iterator[Part]:
    # by suffix, with what `kind` says of such files
    readers = {".csv": (_csv, "of an unknown kind"), ".npz": (_npz, "a zip"), ".parquet": (_parquet, "a Parquet")}
    inside, tables = walk(path), list[Part]()
    sources = [source for source in inside if source.file.suffix.lower() in readers]
    for source in sources:
        read, expected = readers[suffix := source.file.suffix.lower()]
        with source.open("images with their labels, text as UTF-8") as stream:
            if not (found := kind(stream.read(16))).startswith(expected):
                raise InputError(f"{source} is {found}, and no {suffix} file. {AGAIN}")
            stream.seek(0)
            tables += read(stream, source)
    yield from tables
    if not tables and path.is_dir() and any(one.is_dir() for one in listing(path)):
        for name, folder in folders.parts(path).items():
            images, labels, _ = folders.read(folder)
            yield name, images, labels
    elif not sources:
        told = "Put pictures into a folder for each class. IDX files need no import, and .gnt files `hwr import-hwdb`."
        raise InputError(f"{path} holds no .csv, .npz or .parquet file, and no class folders.{packed(inside)} {told}")


def _csv(stream: Any, source: Source) -> Iterator[Part]:
    line = stream.readline().decode(errors="replace").replace('"', "").strip()
    words = line.split(mark := max(",", ";", "\t", key=line.count))
    side = math.isqrt(len(words) - 1)
    if side < 8 or side * side != len(words) - 1:
        warn(f"{source} was left out: it has {len(words)} columns, and a label and N x N pixels were expected.")
        return
    header = 0 if len(set(words)) == len(words) else None  # names differ; of pixels some are equal
    stream.seek(0)
    table = pd.read_csv(stream, header=header, sep=mark)
    label = next((column for column in table if str(column).strip().lower() in LABELS), table.columns[0])
    pixels = table.drop(columns=label).to_numpy()
    if pixels.dtype.kind not in "biuf" or pd.isna(pixels).any():
        raise InputError(f"{source} has cells that are empty or no numbers, where pixels were expected. {COLUMN}")
    yield source.part or "train", pixels.reshape(-1, side, side), table[label].to_numpy()


def _npz(stream: Any, source: Source) -> Iterator[Part]:
    for name, array in np.load(stream, allow_pickle=False).items():
        part = "test" if "test" in name else "train" if "train" in name else source.part or "train"
        shape, side = array.shape, math.isqrt(array.shape[-1])
        if array.size == len(array):
            yield part, [], array.ravel()
        elif array.ndim == 4 and (channels := [axis for axis in (3, 1) if shape[axis] in (1, 3)]):
            yield part, array.mean(channels[0]), []
        elif array.ndim == 2 and side >= 8 and side * side == shape[1]:
            yield part, array.reshape(-1, side, side), []
        elif array.ndim == 3:
            yield part, array, []
        else:
            raise InputError(f"{source}: {name} has shape {shape}; N images of H x W pixels or N labels were expected.")


def _parquet(stream: Any, source: Source) -> Iterator[Part]:
    if importlib.util.find_spec("pyarrow") is None:
        raise InputError(f"{source}: to read Parquet, run `pip install pyarrow`.")
    table = pd.read_parquet(stream)
    if not {"image", "label"} <= set(table):
        raise InputError(f"{source} has the columns {', '.join(map(str, table))}; image and label were expected.")
    pictures = (value["bytes"] if isinstance(value, dict) else value for value in table["image"])
    images = [preprocessing.decode(one, f"{source}: the picture in row {row}") for row, one in enumerate(pictures)]
    yield source.part or "train", images, table["label"].to_numpy()
