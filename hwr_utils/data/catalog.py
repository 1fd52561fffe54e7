"""What each dataset name promises: its files, classes and terms."""

import difflib
import re
import string
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hwr_utils.errors import InputError

LETTERS = tuple(string.ascii_uppercase)
IMPORT = ("images.npy", "labels.npy", "writers.npy", "manifest.json")  # what `data.hwdb` makes of GNT files
HIRAGANA = tuple("あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわをん")


@dataclass(frozen=True)
class Entry:
    """One dataset, as the loader and the pages see it."""

    name: str
    title: str
    licence: str
    folders: tuple[str, ...]  # under the data root; the first that holds a file is read
    how: str  # how to get the files; {root} stands for the data root
    classes: tuple[str, ...] = ()  # characters by label; a custom set names its own
    prefixes: tuple[str, str] = ("train", "t10k")  # of the train and test files' names
    citation: tuple[str, ...] = ()  # keys in the bibliography
    md5: Mapping[str, str] = field(default_factory=dict)  # of the published .gz or .zip files, by name
    archive: str = ""  # the zip file that holds the IDX files, under gzip/
    first_label: int = 0
    transposed: bool = False  # images are stored column by column
    pictures: bool = True  # may its images be shown?
    imported: bool = False  # is it an import of GNT files (data.hwdb) and not IDX files?
    files_are_writers: bool = True  # of an import: did each file come from one hand?
    n_train: int | None = None
    n_test: int | None = None
    writers: tuple[int, int] | None = None  # of the train and test samples

    @property
    def published(self) -> bool:
        """Whether the name means the published files, known by checksum, or by their counts where none is published."""
        return bool(self.md5 or self.writers)

    @property
    def files(self) -> tuple[str, ...]:
        """Name the IDX files, without .gz: train images and labels, test images and labels."""
        return tuple(f"{prefix}-{kind}-ubyte" for prefix in self.prefixes for kind in ("images-idx3", "labels-idx1"))

    @property
    def stored(self) -> tuple[str, ...]:
        """Name the files as they lie in the folder."""
        if self.imported:
            return IMPORT
        return (self.archive,) if self.archive else tuple(f"{file}.gz" for file in self.files)


# the md5s are those of torchvision.datasets.{MNIST,KMNIST}.resources and EMNIST.md5; a test compares them
_MNIST = Entry(
    name="mnist",
    title="MNIST",
    licence="CC BY-SA 3.0",
    folders=("MNIST/raw", "canonical/MNIST/raw"),
    how="With a network, run `hwr download mnist --data-root {root}`; or copy the files there.",
    classes=tuple(string.digits),
    citation=("lecun1998mnist",),
    md5={
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    n_train=60_000,
    n_test=10_000,
)
_KMNIST = Entry(
    name="kmnist",
    title="Kuzushiji-MNIST",
    licence="CC BY-SA 4.0",
    folders=("KMNIST/raw", "canonical/KMNIST/raw"),
    how="With a network, run `hwr download kmnist --data-root {root}`; or copy the files there.",
    classes=tuple("おきすつなはまやれを"),
    citation=("clanuwat2018kmnist",),
    md5={
        "train-images-idx3-ubyte.gz": "bdb82020997e1d708af4cf47b453dcf7",
        "train-labels-idx1-ubyte.gz": "e144d726b3acfaa3e44228e80efcd344",
        "t10k-images-idx3-ubyte.gz": "5c965bf0a639b31b8f53240b1b52f4d7",
        "t10k-labels-idx1-ubyte.gz": "7320c461ea6c1c855c0b718fb2a4b134",
    },
    n_train=60_000,
    n_test=10_000,
)
_LETTERS = Entry(
    name="emnist-letters",
    title="EMNIST letters",
    licence="derived from NIST Special Database 19",
    folders=("EMNIST/raw", "canonical/EMNIST/raw"),
    how="With a network, run `hwr download emnist-letters --data-root {root}`; or copy the files there.",
    classes=LETTERS,
    prefixes=("emnist-letters-train", "emnist-letters-test"),
    citation=("cohen2017emnist",),
    md5={"gzip.zip": "58c8d27c78d21e728a6bc7b3cc06412e"},
    archive="gzip.zip",
    first_label=1,
    transposed=True,
    n_train=124_800,
    n_test=20_800,
)

_HWDB = Entry(
    name="hwdb1.1",
    title="CASIA-HWDB1.1",
    licence="CASIA, for research only",
    folders=("hwdb1.1",),
    how=(
        "Get its archives from CASIA, HWDB1.1trn_gnt and HWDB1.1tst_gnt, in a folder HWDB1.1, and run "
        "`hwr import-hwdb HWDB1.1 --drop-others --out {root}/hwdb1.1`."
    ),
    citation=("liu2011casia",),
    pictures=False,
    imported=True,
    # CASIA publishes no checksums: the study knows the set by these, which are of the 3,755 characters alone
    n_train=897_758,
    n_test=223_991,
    writers=(240, 60),
)


def _sample(whole: Entry, folder: str, note: str) -> Entry:
    return replace(
        whole,
        name=f"{whole.name}-sample",
        title=f"{whole.title}, a sample: {note}",
        folders=(folder,),
        how="This sample is not distributed; where you have it, copy its four files there.",
        md5={},
        archive="",
        n_train=None,
        n_test=None,
    )


def _synthetic(name: str, classes: tuple[str, ...]) -> Entry:
    return Entry(
        name=f"{name}-synthetic",
        title=f"{name.capitalize()} drawn by this project",
        licence="CC BY 4.0",
        folders=(f"synthetic/{name}-synthetic/raw",),
        how=f"Run `hwr synthesize {name}-synthetic --data-root {{root}}`, which draws it in a minute.",
        classes=classes,
    )


CATALOG: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        _MNIST,
        _KMNIST,
        _LETTERS,
        _sample(_KMNIST, "sample/KMNIST/raw", "its 10,000 test images split again"),
        _sample(_LETTERS, "sample/EMNIST/raw", "21,305 images, none of J, Q, X, Y and Z"),
        _synthetic("digits", _MNIST.classes),
        _synthetic("letters", LETTERS),
        _synthetic("hiragana", HIRAGANA),
        _HWDB,
        Entry(
            name="hwdb-subset",
            title="CASIA-HWDB1.1, 64 of its characters",
            licence=_HWDB.licence,
            folders=("hwdb-subset",),
            how=(
                "This subset is not distributed; where you have it, run `hwr import-hwdb HWDB-subset "
                "--out {root}/hwdb-subset`."
            ),
            citation=_HWDB.citation,
            pictures=False,
            imported=True,
            files_are_writers=False,
        ),
        Entry(
            name="hanzi-synthetic",
            title="Hanzi drawn by this project",
            licence="CC BY 4.0; drawn from strokes under the Arphic Public License and fonts under the OFL 1.1",
            folders=("synthetic/hanzi-synthetic/arrays",),
            how="Run `hwr synthesize hanzi-synthetic --data-root {root}`, which draws it.",
            imported=True,
        ),
    )
}


def entry(name: str) -> Entry:
    """Return what `name` promises; `custom:NAME` is a set of the user's own.

    Raises:
        InputError: an unknown dataset, with the nearest known one, or a NAME that could leave the data folder.
    """
    if name in CATALOG:
        return CATALOG[name]
    kind, _, own = name.partition(":")
    if kind == "custom":
        if not re.fullmatch(r"[A-Za-z0-9_-]+", own):
            raise InputError(f"dataset {name!r}: after 'custom:' come letters, digits, - and _; rename the folder.")
        return Entry(
            name=name,
            title=f"Own data: {own}",
            licence="the user's own",
            folders=(f"custom/{own}",),
            how="Or put images there as train/CLASS/*.png and test/CLASS/*.png (or .jpg).",
        )
    near = difflib.get_close_matches(name.lower(), [*CATALOG, "custom:NAME"], n=1, cutoff=0.0)[0]
    raise InputError(
        f"dataset: found {name!r}, which is unknown. Did you mean {near!r}? Known: {', '.join(CATALOG)}, custom:NAME."
    )
