"""Numbers that others published, each with its source. The study's own numbers are in records and never here."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """An accuracy that a paper reports."""

    dataset: str  # a name of the catalogue
    architecture: str  # the study's name of the network
    accuracy: float  # 0..1
    n_test: int  # test images that the paper says it has
    citation: str = "song2023resnet50"  # key in the bibliography


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


@dataclass(frozen=True)
class Hanzi:
    """An accuracy on handwritten Chinese characters, offline, at the 3,755 classes of GB 2312 level 1."""

    who: str  # the authors, and what reads the characters
    accuracy: float  # 0..1, of a single network where it is one
    test: str  # the test images
    megabytes: float | None  # 10^6 bytes of the model as published; None where the source gives none
    citation: str  # key in the bibliography


# K. Kim, sections 3.2 and 4: what he calls test is, by his text, the fifth that he calls validation. "About", he says.
KIM = Hanzi("K. Kim: an Inception network", 0.94, "HWDB1.1, a random fifth", 3.23, "kim2020inception")
# The data and the steps that he gives: 897,000 images in batches of 48 are 18,688 steps, so one epoch and not twenty.
KIM_TRAIN_IMAGES, KIM_STEPS, KIM_BATCH = 897_000, 18_000, 48

_ICDAR = "ICDAR 2013 competition, 60 other writers"
HANZI = (
    Hanzi("Yin et al.: people", 0.9613, _ICDAR, None, "yin2013icdar"),
    Hanzi("Zhong et al.: GoogLeNet on Gabor features", 0.9635, _ICDAR, None, "zhong2015googlenet"),
    Hanzi("Zhang et al.: direction maps and a convolutional network", 0.9695, _ICDAR, None, "zhang2017directmap"),
    Hanzi("Xiao et al.: a compressed convolutional network", 0.9709, _ICDAR, 2.3, "xiao2017compact"),
    Hanzi("Melnyk et al.: a convolutional network", 0.9761, _ICDAR, None, "melnyk2020"),
)

# More models that were made to be small, as their abstracts describe them. Wu et al.'s names neither the part of
# CASIA-HWDB that it was tested on nor the number of characters.
COMPACT = (
    Hanzi("Li et al.: global weighted average pooling", 0.971, _ICDAR, 3.3, "li2018gwap"),
    Hanzi("Wu et al.: a pruned network of 8 bits", 0.9736, "CASIA-HWDB, images not named", 1.06, "wu2023squeezenext"),
)
