"""Change a loaded dataset on purpose, as experiments of book/plan.md ask."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr_utils.data import Dataset, splits
from hwr_utils.errors import InputError

INKED = 127  # pixels above this are inked
INK = 200  # their mean, in an image with normalised ink


def apply(dataset: Dataset, options: Mapping[str, Any], seed: int) -> Dataset:
    """Return a dataset as the `ink`, `groups` and `fault` of a run's parameters ask; the others change nothing here.

    With groups=G the classes are merged at random into G groups, whose sizes differ by one at most, and a group is
    called by the names of its classes. With fault=turned_test the test images lie on their side, transposed as EMNIST's
    files have them. An InputError where there are fewer classes than groups.
    """
    if options["ink"] == "normalised":
        inked = normalise_ink(dataset.train_images), normalise_ink(dataset.test_images)
        dataset = replace(dataset, train_images=inked[0], test_images=inked[1])
    if count := options["groups"]:
        if count > len(dataset.classes):
            raise InputError(f"groups={count} is more than the {len(dataset.classes)} classes of {dataset.name}.")
        group = splits.fold_numbers(np.zeros(len(dataset.classes), np.int64), count, seed)
        named = (np.array(dataset.classes)[group == number] for number in range(count))
        classes = tuple(" ".join(names) for names in named)
        train, test = group[dataset.train_labels], group[dataset.test_labels]
        dataset = replace(dataset, classes=classes, train_labels=train, test_labels=test)
    if options["fault"] == "turned_test":
        turned = np.ascontiguousarray(dataset.test_images.transpose(0, 2, 1))
        dataset = replace(dataset, test_images=turned)
    return dataset


def normalise_ink(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Scale the gray values of each of (N, H, W) images so that the mean of its pixels above `INKED` becomes `INK`.

    What is scaled beyond 255 becomes 255; an image without such pixels stays as it is.
    """
    changed = images.copy()
    for image in changed:
        if (inked := image[image > INKED]).size:
            image[:] = np.minimum(image * np.float32(INK / inked.mean()) + 0.5, 255)
    return changed
