"""Numbers that others published, from `literature.toml`, each with its source. The study's own are in records."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

_TABLES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Published:
    """An accuracy that a paper reports."""

    dataset: str  # a name of the catalogue
    architecture: str  # the study's name of the network
    accuracy: float  # 0..1
    n_test: int  # test images that the paper says it has
    citation: str = "song2023resnet50"  # key in the bibliography


@dataclass(frozen=True)
class Hanzi:
    """An accuracy on handwritten Chinese characters, offline, at the 3,755 classes of GB 2312 level 1."""

    who: str  # the authors, and what reads the characters
    accuracy: float  # 0..1, of a single network where it is one
    test: str  # the test images
    megabytes: float | None  # 10^6 bytes of the model as published; None where the source gives none
    citation: str  # key in the bibliography


SONG_TABLE_1 = {name: tuple(counts) for name, counts in _TABLES["song_table_1"].items()}  # training, test images
SONG_TABLE_2 = tuple(
    Published(dataset, architecture, accuracy, SONG_TABLE_1[dataset][1])
    for dataset, row in _TABLES["song_table_2"].items()
    for architecture, accuracy in row.items()
)
KIM = Hanzi(**_TABLES["kim"])
# The data and the steps that he gives: 897,000 images in batches of 48 are 18,688 steps, so one epoch and not twenty.
KIM_TRAIN_IMAGES, KIM_STEPS, KIM_BATCH = 897_000, 18_000, 48
HANZI, COMPACT = (tuple(Hanzi(**{"megabytes": None} | row) for row in _TABLES[name]) for name in ("hanzi", "compact"))
