"""Split records by a seed, class by class. Equal arguments give equal splits on every machine."""

import numpy as np
from numpy.typing import NDArray

from hwr_utils.errors import InputError

FOLDS = 5  # of a cross-validation
Indices = NDArray[np.int64]  # sorted


def stratified_split(labels: NDArray[np.int64], fraction: float, seed: int) -> tuple[Indices, Indices]:
    """Split records with (N,) labels; return the indices of those that are kept and of those that are held out.

    The fraction (0..1) of each class that is held out is rounded to the nearest record; a class of two or more keeps at
    least one record on each side, and a single record is kept.
    """
    draws = _draws(len(labels), seed)
    chosen = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(max(int(len(members) * fraction + 0.5), 1), len(members) - 1)
        chosen[members[np.argsort(draws[members], kind="stable")[:count]]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def stratified_sample(labels: NDArray[np.int64], size: int, seed: int) -> Indices:
    """Return the indices of exactly `size` of the records; each class keeps its share, by largest remainder."""
    classes, members = np.unique(labels, return_counts=True)
    # whole numbers throughout, so that no machine rounds otherwise
    counts, remainders = np.divmod(members * size, len(labels))
    counts[np.argsort(-remainders, kind="stable")[: size - counts.sum()]] += 1
    order = np.argsort(_draws(len(labels), seed), kind="stable")
    return np.sort(np.concatenate([order[labels[order] == c][:n] for c, n in zip(classes, counts, strict=True)]))


def fold_numbers(labels: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """Return the fold (N,) of each record, 0 to folds - 1, in which it is a test record.

    Class by class the records are dealt out in a random order, one fold after the other, so the folds differ by one
    record at most, in each class and as a whole. Raises an InputError where there are fewer records than folds.
    """
    if len(labels) < folds:
        raise InputError(f"found {len(labels)} records; cross-validation with {folds} folds needs {folds} or more.")
    found = np.empty(len(labels), np.int64)
    found[np.lexsort((_draws(len(labels), seed), labels))] = np.arange(len(labels)) % folds
    return found


def swap(labels: NDArray[np.int64], kept: Indices, spare: Indices, size: int, seed: int) -> Indices:
    """Return `kept` with exactly `size` of its records replaced by some of `spare`, each by one of its own class.

    The new ones are a stratified sample of `spare`; both are indices into `labels`. Raises an InputError where `spare`
    has fewer records than `size`, or `kept` has too few of a class to replace.
    """
    if size > len(spare):
        raise InputError(f"swap={size} is more than the {len(spare)} images of the other half. Use a smaller one.")
    new = spare[stratified_sample(labels[spare], size, seed)]
    order = kept[np.argsort(_draws(len(kept), seed), kind="stable")]
    stay = [order[labels[order] == label][np.sum(labels[new] == label) :] for label in np.unique(labels[kept])]
    found = np.sort(np.concatenate([*stay, new]))
    if len(found) != len(kept):
        raise InputError(f"swap={size} takes more images of some class than there are to replace. Use a smaller one.")
    return found


def _draws(count: int, seed: int) -> NDArray[np.float64]:
    """Draw a number for each: plain uniform draws are the part of NumPy's generators least likely to change."""
    return np.random.Generator(np.random.PCG64(seed)).random(count)
