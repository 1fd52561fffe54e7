"""Numbers that others published, each with its source. The study's own numbers are in records and never here."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """An accuracy that a paper reports.

    Attributes:
        dataset: a name of the catalogue.
        architecture: the study's name of the network.
        accuracy: in 0..1.
        n_test: test images that the paper says it has.
        citation: key in the bibliography.
    """

    dataset: str
    architecture: str
    accuracy: float
    n_test: int
    citation: str = "song2023resnet50"


# Song, Si and Kim, Table 1: dataset -> training and test images.
SONG_TABLE_1 = {"mnist": (60_000, 10_000), "emnist-letters": (88_000, 14_800), "kmnist": (60_000, 10_000)}

# Song, Si and Kim, Table 2. Single runs: no seeds and no spread are given.
SONG_TABLE_2 = tuple(
    Published(dataset, architecture, accuracy, SONG_TABLE_1[dataset][1])
    for dataset, simple, resnet in (
        ("mnist", 0.9915, 0.9872),
        ("emnist-letters", 0.8218, 0.9209),
        ("kmnist", 0.9469, 0.9520),
    )
    for architecture, accuracy in (("simple_cnn", simple), ("resnet50", resnet))
)


def song_accuracy(dataset: str, architecture: str) -> float | None:
    """Return Song, Si and Kim's accuracy (0..1) on a published dataset, or None where they give none."""
    found = [row.accuracy for row in SONG_TABLE_2 if (row.dataset, row.architecture) == (dataset, architecture)]
    return found[0] if found else None
