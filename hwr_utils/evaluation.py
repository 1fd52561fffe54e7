"""Measure a classifier: accuracy with intervals, scores of classes, confusions, and tests between models.

Only the functions that need SciPy import it, so that a GPU machine that only trains can do without it.
"""

import math
from collections.abc import Sequence
from typing import TypeVar, cast

import numpy as np
import pandas as pd

Number = TypeVar("Number", float, pd.Series)


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

    The scores are in 0..1. A class that was never predicted has precision 0. A class without test images has NaN as
    recall and f1.
    """
    hits, n, guesses = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    table = pd.DataFrame({"class": list(classes), "n": n, "precision": hits / np.maximum(guesses, 1)})
    table["recall"] = hits / table["n"].where(n > 0)
    table["f1"] = 2 * hits / (table["n"] + guesses).where(n > 0)
    return table


def most_confused(confusion: np.ndarray, classes: Sequence[str], k: int = 10) -> pd.DataFrame:
    """List the k unordered pairs of classes that are taken for each other most often, most errors first.

    Its columns are pair, errors, first_as_second and second_as_first; pairs never confused are left out.
    """
    both = np.triu(confusion + confusion.T, 1)
    order = np.argsort(both, axis=None, kind="stable")[::-1][:k]
    first, second = np.unravel_index(order[both.flat[order] > 0], both.shape)
    pairs = [f"{classes[a]} {classes[b]}" for a, b in zip(first, second, strict=True)]
    counts = {"errors": both, "first_as_second": confusion, "second_as_first": confusion.T}
    return pd.DataFrame({"pair": pairs} | {name: found[first, second] for name, found in counts.items()})


def summarise_test(labels: np.ndarray, ranked: np.ndarray, losses: np.ndarray, n_classes: int) -> dict[str, float]:
    """Compute the figures that a record keeps of one evaluation: counts, rates in 0..1 and the mean loss.

    Of N images it takes (N,) labels, (N, k) likeliest classes, best first, and (N,) cross-entropies in nats.
    """
    correct = int((ranked[:, 0] == labels).sum())
    scores = per_class(confusion_matrix(labels, ranked[:, 0], n_classes), [""] * n_classes)
    return {
        "n": len(labels),
        "correct": correct,
        "accuracy": correct / len(labels),
        "top5": float((ranked[:, :5] == labels[:, None]).any(axis=1).mean()),
        "macro_f1": float(scores["f1"].mean()),  # over the classes that the test set has
        "loss": float(losses.mean()),
    }


def paired_interval(only_first: Number, only_second: Number, n: Number) -> tuple[Number, Number]:
    """Return the 95 % interval of the second accuracy less the first, of two networks on the same n images, in -1..1.

    The adjusted Wald interval of Agresti and Min (Statistics in Medicine 24, 2005), who add one half to each count.
    `only_first` and `only_second` count the images that just that network reads right. Columns of a table will do, too.
    """
    from scipy.stats import norm

    first, second = (only_first + 0.5) / (n + 2), (only_second + 0.5) / (n + 2)
    half = norm.ppf(0.975) * np.sqrt((first + second - (first - second) ** 2) / (n + 2))
    return second - first - half, second - first + half


def corrected(values: Sequence[float], correction: float) -> np.ndarray:
    """Spread the differences (R,) of two networks in R folds about their mean, so that SciPy's tests hold for folds.

    The folds of a cross-validation share training images, so their differences vary less than those of independent
    repetitions would. Nadeau and Bengio (Machine Learning 52, 2003) therefore take the variance of the mean to be
    s^2 (1/R + n_test / n_train), and not s^2 / R: that ratio is the `correction`. The analyses of book/plan.md
    are then SciPy's: `ttest_1samp`, for which see `effect`, and for contrasts `ttest_ind` by Welch.
    """
    mean = np.mean(values)
    return mean + (np.asarray(values) - mean) * math.sqrt(1 + len(values) * correction)


def effect(differences: Sequence[float], correction: float = 0.0, margin: float | None = None) -> pd.Series:
    """Judge by Student's t the differences (R,) between two networks in R repetitions.

    Returns mean, low and high (the ends of its 95 % interval) and p (of the test that the mean is zero). For folds,
    give the `correction` that `corrected` explains. With a `margin`, in the unit of the differences, there is also
    p_same, the p-value of two one-sided tests (Schuirmann 1987): below 0.05, the mean is shown to lie within the margin
    of zero.
    """
    from scipy.stats import ttest_1samp

    values = corrected(differences, correction)
    test = ttest_1samp(values, 0)
    found = {"mean": values.mean(), **test.confidence_interval()._asdict(), "p": test.pvalue}
    if margin is not None:
        sides = ttest_1samp(values, -margin, alternative="greater"), ttest_1samp(values, margin, alternative="less")
        found["p_same"] = max(side.pvalue for side in sides)
    return pd.Series(found, dtype=float)


def holm(p: pd.Series) -> pd.Series:
    """Correct the p-values of one family of tests after Holm (Scandinavian Journal of Statistics 6, 1979)."""
    ordered = p.sort_values()
    return (ordered * np.arange(len(p), 0, -1)).cummax().clip(upper=1).reindex(p.index)


def log_odds(accuracy: Number, n: Number) -> Number:
    """Return the log-odds (natural logarithm) of accuracies (0..1) on n images each.

    One half is added to the counts of right and of wrong answers, so that the result is finite if one of them is zero.
    """
    return cast(Number, np.log((n * accuracy + 0.5) / (n - n * accuracy + 0.5)))


def pigeonhole_interval(gained: np.ndarray, n: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of what a first network gains over a second, as a share of the test images (-1..1).

    For S repetitions and C classes, `n` (S, C) counts the test images, and `gained` (S, C) those that the first network
    reads right, minus those that the second reads right. The pigeonhole bootstrap (Owen, Annals of Applied Statistics
    1(2), 2007) draws repetitions and classes anew, both with replacement and independently, 10,000 times. So the
    interval speaks of other trainings and other characters. It takes repetitions for independent, which folds are not.
    """
    rng, (repetitions, classes) = np.random.default_rng(0), gained.shape
    rows = rng.integers(repetitions, size=(10_000, repetitions, 1))
    columns = rng.integers(classes, size=(10_000, 1, classes))
    shares = gained[rows, columns].sum(axis=2) / n[rows, columns].sum(axis=2)
    low, high = np.quantile(shares.mean(axis=1), [0.025, 0.975])
    return float(low), float(high)
