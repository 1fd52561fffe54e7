"""What each dataset name promises: its files, classes and terms. The promises themselves are in `catalog.toml`."""

import re
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hwr_utils import recipes
from hwr_utils.errors import InputError


@dataclass(frozen=True)
class Entry:
    """One dataset, as the loader and the pages see it."""

    name: str
    title: str
    licence: str
    folders: Sequence[str]  # under the data root; the first that holds a file is read
    how: str  # how to get the files; {root} stands for the data root
    classes: str = ""  # characters by label; a custom set names its own
    prefixes: Sequence[str] = ("train", "t10k")  # of the train and test files' names
    citation: Sequence[str] = ()  # keys in the bibliography
    url: str = ""  # of the folder that the published files are fetched from
    md5: Mapping[str, str] = field(default_factory=dict)  # of the published .gz or .zip files, by name
    sha256: Mapping[str, str] = field(default_factory=dict)  # of the uncompressed content, by name without .gz
    joined: str = ""  # the set whose training images are added to its own
    first_label: int = 0
    transposed: bool = False  # images are stored column by column
    pictures: bool = True  # may its images be shown?
    imported: bool = False  # is it an import of GNT files (data.hwdb) and not IDX files?
    files_are_writers: bool = True  # of an import: did each file come from one hand?
    only_tested: bool = False  # of an import: are all its samples test images, which no network learns from?
    n_train: int | None = None
    n_test: int | None = None
    writers: Sequence[int] | None = None  # how many people wrote the training and the test samples

    @property
    def published(self) -> bool:
        """Whether the name stands for published files, known by checksums or, where none are published, by counts."""
        return bool(self.md5 or self.writers)

    def advice(self, root: Path) -> str:
        """Say how to get the files, in commands that can be pasted."""
        return self.how.format(root=shlex.quote(str(root)))

    @property
    def files(self) -> tuple[str, ...]:
        """Name the IDX files, without .gz: train images and labels, test images and labels."""
        return tuple(f"{prefix}-{kind}-ubyte" for prefix in self.prefixes for kind in ("images-idx3", "labels-idx1"))

    @property
    def stored(self) -> tuple[str, ...]:
        """Name the files as they are published."""
        if self.imported:  # what `data.hwdb` makes of GNT files
            return ("images.npy", "labels.npy", "writers.npy", "manifest.json")
        return tuple(self.md5) or tuple(f"{file}.gz" for file in self.files)


_TABLES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
CATALOG = {name: Entry(name, **values) for name, values in _TABLES.items()}


def entry(name: str) -> Entry:
    """Return what `name` promises; `custom:NAME` is a set of the user's own.

    Raises an InputError for an unknown dataset, with the nearest known one, or a NAME that could leave the data folder.
    """
    if name in CATALOG:
        return CATALOG[name]
    kind, _, own = name.partition(":")
    if kind != "custom":
        recipes.known("dataset ", name, [*CATALOG, "custom:NAME"], " (your own, in custom/NAME, is called custom:NAME)")
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,99}", own):
        raise InputError(f"dataset {name!r}: after 'custom:' come 1 to 99 letters, digits, - and _; rename the folder.")
    place = f"{{root}}/custom/{own}"
    how = "Or put images there as train/CLASS/*.png and test/CLASS/*.png (or .jpg). If CSV, npz, Parquet or class "
    how += f"folders lie there, make IDX files of them by `hwr import-images {place} --out {place}`."
    return Entry(name, f"Own data: {own}", "the user's own", (f"custom/{own}",), how)
