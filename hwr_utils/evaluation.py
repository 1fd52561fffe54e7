"""Measure a classifier: accuracy with intervals, scores of classes, confusions, and tests between models.

scipy is imported where it is used, because a bare CUDA machine has none and trains all the same.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % score interval of a proportion (JASA 22, 1927), as two numbers in 0..1."""
    from scipy.stats import binomtest

    low, high = binomtest(correct, n).proportion_ci(method="wilson")
    return float(low), float(high)


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """Count (N,) images by true class (rows) and predicted class (columns), as (n_classes, n_classes) int64."""
    flat = labels.astype(np.int64) * n_classes + predicted.astype(np.int64)
    return np.bincount(flat, minlength=n_classes**2).reshape(n_classes, n_classes)


def per_class(confusion: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """Score each class from a (C, C) confusion matrix: a row with class, n (its test images), precision, recall, f1.

    These are in 0..1. A class that was never predicted has precision 0; one without test images recall and f1 NaN.
    """
    hits, n, guesses = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    table = pd.DataFrame({"class": list(classes), "n": n, "precision": hits / np.maximum(guesses, 1)})
    table["recall"] = hits / table["n"].where(n > 0)
    table["f1"] = 2 * hits / (table["n"] + guesses).where(n > 0)
    return table


def macro_f1(confusion: np.ndarray) -> float:
    """Return the plain mean of the per-class F1 scores (0..1), over the classes that the test set has."""
    return float(per_class(confusion, [""] * len(confusion))["f1"].mean())


def most_confused(confusion: np.ndarray, classes: Sequence[str], k: int = 10) -> pd.DataFrame:
    """List the k unordered pairs of classes that are taken for each other most often, most errors first.

    Its columns are pair, errors, first_as_second and second_as_first; pairs never confused are left out.
    """
    both = np.triu(confusion + confusion.T, 1)
    order = np.argsort(both, axis=None, kind="stable")[::-1][:k]
    first, second = np.unravel_index(order[both.flat[order] > 0], both.shape)
    return pd.DataFrame(
        {
            "pair": [f"{classes[a]} {classes[b]}" for a, b in zip(first, second, strict=True)],
            "errors": both[first, second],
            "first_as_second": confusion[first, second],
            "second_as_first": confusion[second, first],
        }
    )


def summarise_test(
    labels: np.ndarray, ranked: np.ndarray, losses: np.ndarray, n_classes: int
) -> dict[str, float | int]:
    """Compute the figures that a record keeps of one evaluation: counts, rates in 0..1 and the mean loss.

    Of N images it takes (N,) labels, (N, k) likeliest classes, best first, and (N,) cross-entropies in nats.
    """
    correct = int((ranked[:, 0] == labels).sum())
    return {
        "n": len(labels),
        "correct": correct,
        "accuracy": correct / len(labels),
        "top5": float((ranked[:, :5] == labels[:, None]).any(axis=1).mean()),
        "macro_f1": macro_f1(confusion_matrix(labels, ranked[:, 0], n_classes)),
        "loss": float(losses.mean()),
    }


def mcnemar(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[int, int, float]:
    """Test whether two trained networks differ on the same images: McNemar's exact test (Psychometrika 12, 1947).

    It takes (N,) true classes and (N,) predictions of either, and returns how many images only the first reads right,
    how many only the second, and the two-sided p. It speaks of these two networks and not of the methods that made
    them: two runs of one method that differ in their seed alone often differ, too.
    """
    from scipy.stats import binomtest

    only_first = int(((first == labels) & (second != labels)).sum())
    only_second = int(((first != labels) & (second == labels)).sum())
    n = only_first + only_second
    return only_first, only_second, float(binomtest(only_first, n).pvalue) if n else 1.0


def clustered_difference(
    right_a: np.ndarray, groups_a: np.ndarray, right_b: np.ndarray, groups_b: np.ndarray
) -> tuple[float, float, float]:
    """Return the difference of two accuracies on two test sets, with a bootstrap interval over groups of images.

    Images of one writer are right or wrong together, so an interval that takes them as independent is too narrow. Here
    whole groups are drawn with replacement on either side (Davison and Hinkley, Bootstrap Methods, 1997, section 3.8).
    Each side has (N,) bool, which images were read right, and (N,) integers, whose image each is. Returns a - b and the
    ends of its 95 % interval of percentiles, each in -1..1; always the same ones.
    """
    from scipy.stats import bootstrap

    (hits_a, sizes_a), (hits_b, sizes_b) = (
        pd.Series(right).groupby(groups).agg(["sum", "size"]).to_numpy().T
        for right, groups in ((right_a, groups_a), (right_b, groups_b))
    )

    def difference(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
        return hits_a[a].sum(axis) / sizes_a[a].sum(axis) - hits_b[b].sum(axis) / sizes_b[b].sum(axis)

    groups = (np.arange(len(sizes_a)), np.arange(len(sizes_b)))
    rng = np.random.default_rng(0)
    found = bootstrap(groups, difference, method="percentile", n_resamples=2000, rng=rng).confidence_interval
    return float(difference(*groups, axis=0)), float(found.low), float(found.high)


def paired_interval(only_first: int, only_second: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of the second accuracy less the first, of two networks on the same n images, in -1..1.

    The adjusted Wald interval of Agresti and Min (Statistics in Medicine 24, 2005), who add one half to each count.
    `only_first` and `only_second` count the images that just that network reads right.
    """
    from scipy.stats import norm

    first, second = (only_first + 0.5) / (n + 2), (only_second + 0.5) / (n + 2)
    half = norm.ppf(0.975) * math.sqrt((first + second - (first - second) ** 2) / (n + 2))
    return float(second - first - half), float(second - first + half)


# Repetitions of a comparison: folds or seeds. The rest of this module is what book/plan.md promises to compute.


class Effect(NamedTuple):
    """A mean over repetitions, the ends of its interval, and the two-sided p of the hypothesis that it is 0."""

    mean: float
    low: float
    high: float
    p: float


def log_odds(correct: np.ndarray, n: np.ndarray | int) -> np.ndarray:
    """Return log(p / (1 - p)) of (R,) right answers of n, finite also for 0 or n of n.

    One half is added to both counts (Haldane, Annals of Human Genetics 20, 1956).
    """
    return np.log((correct + 0.5) / (n - correct + 0.5))


def effect(differences: Sequence[float], correction: float = 0.0, confidence: float = 0.95) -> Effect:
    """Estimate a mean over two or more repetitions by Student's t, with an interval of a confidence in 0..1.

    The folds of a cross-validation share training images, so their differences vary less than those of independent
    repetitions would. Nadeau and Bengio (Machine Learning 52, 2003) therefore take the variance of the mean to be
    s^2 (1/R + n_test / n_train): that ratio is the `correction`, which is 0 for independent repetitions.
    """
    from scipy.stats import ttest_1samp

    return _as_effect(float(np.mean(differences)), ttest_1samp(_spread(differences, correction), 0), confidence)


def contrast(first: Sequence[float], second: Sequence[float], correction: float = 0.0) -> Effect:
    """Estimate the mean of the first repetitions less that of the second, by Welch's t; see `effect`."""
    from scipy.stats import ttest_ind

    sides = [_spread(values, correction) for values in (first, second)]
    return _as_effect(float(np.mean(first) - np.mean(second)), ttest_ind(*sides, equal_var=False), 0.95)


def equivalence(differences: Sequence[float], margin: float, correction: float = 0.0) -> float:
    """Return the p of two one-sided tests (TOST): below 0.05, the true mean lies within -margin to +margin.

    After Schuirmann (Journal of Pharmacokinetics and Biopharmaceutics 15, 1987); see `effect`.
    """
    from scipy.stats import ttest_1samp

    sides = {"less": margin, "greater": -margin}
    values = _spread(differences, correction)
    return max(float(ttest_1samp(values, limit, alternative=side).pvalue) for side, limit in sides.items())


def _spread(values: Sequence[float], correction: float) -> np.ndarray:
    """Spread values about their mean so that the usual variance of a mean, s^2 / R, becomes s^2 (1/R + correction)."""
    return np.mean(values) + (np.asarray(values) - np.mean(values)) * math.sqrt(1 + len(values) * correction)


def _as_effect(mean: float, test: Any, confidence: float) -> Effect:
    interval = test.confidence_interval(confidence)
    return Effect(mean, float(interval.low), float(interval.high), float(test.pvalue))


def resampled(pairs: Sequence[tuple[np.ndarray, np.ndarray]], draws: int = 10_000) -> tuple[float, float]:
    """Return the 95 % interval of a mean difference in accuracy by drawing repetitions and, within each, images.

    Each of the `pairs` tells for one repetition which of its images either network reads right: two (N,) bool arrays.
    """
    rng = np.random.Generator(np.random.PCG64(0))
    # an image counts 1, 0 or -1, so a draw of N images is a draw of how many count what
    shares = [np.array([(first & ~second).mean(), (second & ~first).mean()]) for first, second in pairs]
    sizes = [len(first) for first, _ in pairs]
    means = np.empty(draws)
    for row, chosen in enumerate(rng.integers(len(pairs), size=(draws, len(pairs)))):
        counts = [rng.multinomial(sizes[fold], [*shares[fold], 1 - shares[fold].sum()]) for fold in chosen]
        means[row] = np.mean([(up - down) / sizes[fold] for (up, down, _), fold in zip(counts, chosen, strict=True)])
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for being several (Holm, Scandinavian Journal of Statistics 6, 1979), in their order."""
    order = np.argsort(p_values)
    adjusted = np.sort(p_values) * np.arange(len(order), 0, -1)
    return np.minimum(1, np.maximum.accumulate(adjusted))[np.argsort(order)].tolist()
