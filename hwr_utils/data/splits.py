"""Split training records into train and validation, class by class."""

import numpy as np
from numpy.typing import NDArray

from hwr_utils.errors import InputError


def stratified_split(
    labels: NDArray[np.int64], fraction: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the sorted indices of train and validation; equal labels, fraction and seed give equal splits.

    Args:
        labels: (N,) class of each record.
        fraction: share of each class that becomes validation, in (0, 1), rounded to the nearest record; a class of two
            or more keeps at least one record on each side, and a single record stays in train.
        seed: 0 or more.

    Raises:
        InputError: a fraction or seed out of range.
    """
    if not 0 < fraction < 1:
        raise InputError(f"validation fraction: found {fraction}, expected a number between 0 and 1, such as 0.1.")
    if seed < 0:
        raise InputError(f"seed: found {seed}, expected 0 or more.")
    # every record draws one number and the lowest of each class are chosen: plain uniform draws are the part of
    # NumPy's generators least likely to change between versions
    draws = np.random.Generator(np.random.PCG64(seed)).random(len(labels))
    chosen = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = int(len(members) * fraction + 0.5)
        count = min(max(count, 1), len(members) - 1)
        chosen[members[np.argsort(draws[members], kind="stable")[:count]]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)
