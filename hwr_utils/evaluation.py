"""Measure a classifier: predictions, accuracy with intervals, per-class scores, confusions, tests between models."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd


def wilson_interval(correct: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of a proportion (Wilson, JASA 22, 1927), as two numbers in 0..1.

    Raises:
        ValueError: n is not positive, or correct is not in 0..n.
    """
    from scipy.stats import binomtest  # here, because a bare CUDA machine has no scipy and trains all the same

    low, high = binomtest(correct, n).proportion_ci(confidence, method="wilson")
    return float(low), float(high)


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """Count test images by (true class, predicted class).

    Args:
        labels: (N,) integers in 0..n_classes-1.
        predicted: (N,) integers in 0..n_classes-1.
        n_classes: C.

    Returns:
        (C, C) int64; rows are true classes.
    """
    flat = labels.astype(np.int64) * n_classes + predicted.astype(np.int64)
    return np.bincount(flat, minlength=n_classes**2).reshape(n_classes, n_classes)


def per_class(confusion: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """Score each class from a (C, C) confusion matrix.

    Returns:
        One row a class: n (test images of it), precision, recall, f1, all in 0..1. A class that was never predicted
        has precision 0; one without test images has recall and f1 NaN.
    """
    hits = np.diag(confusion).astype(float)
    n, guesses = confusion.sum(axis=1), confusion.sum(axis=0)
    recall = np.divide(hits, n, out=np.full(len(hits), np.nan), where=n > 0)
    precision = np.divide(hits, guesses, out=np.zeros(len(hits)), where=guesses > 0)
    f1 = np.where(n > 0, 2 * hits / np.maximum(n + guesses, 1), np.nan)
    return pd.DataFrame({"class": list(classes), "n": n, "precision": precision, "recall": recall, "f1": f1})


def macro_f1(confusion: np.ndarray) -> float:
    """Return the plain mean of the per-class F1 scores (0..1), over the classes that the test set has."""
    return float(per_class(confusion, [""] * len(confusion))["f1"].mean())


def most_confused(confusion: np.ndarray, classes: Sequence[str], k: int = 10) -> pd.DataFrame:
    """List the k unordered pairs of classes that are taken for each other most often.

    Returns:
        Rows (pair, errors, first_as_second, second_as_first), most errors first; pairs never confused are left out.
    """
    errors = confusion - np.diag(np.diag(confusion))
    both = np.triu(errors + errors.T)
    order = np.argsort(both, axis=None, kind="stable")[::-1][:k]
    rows = [(*divmod(int(flat), len(classes)), int(both.flat[flat])) for flat in order if both.flat[flat] > 0]
    return pd.DataFrame(
        [(f"{classes[a]} {classes[b]}", n, int(errors[a, b]), int(errors[b, a])) for a, b, n in rows],
        columns=["pair", "errors", "first_as_second", "second_as_first"],
    )


def summarise_test(
    labels: np.ndarray, ranked: np.ndarray, losses: np.ndarray, n_classes: int
) -> dict[str, float | int]:
    """Compute the figures that a record keeps of one evaluation.

    Args:
        labels: (N,) integers.
        ranked: (N, k) integers, the likeliest classes of the same N images, best first.
        losses: (N,) float, their cross-entropy in nats.
        n_classes: C.

    Returns:
        n, correct, accuracy, top5, macro_f1 (all 0..1) and loss (mean cross-entropy in nats).
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


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the sample standard deviation (n - 1) over seeds; None for a single run."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return float(np.mean(values)), deviation


def mcnemar(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[int, int, float]:
    """Test whether two models differ on the same test images: McNemar's exact test.

    Under the null hypothesis an image that just one model gets right is as likely to be the one's as the other's, so
    their numbers are binomial with one half (McNemar, Psychometrika 12, 1947).

    Args:
        labels: (N,) true classes.
        first: (N,) classes that the first model predicts.
        second: (N,) classes that the second model predicts.

    Returns:
        Images that only the first gets right, images that only the second gets right, two-sided p in 0..1.

    Raises:
        ValueError: the arrays differ in shape.
    """
    if not labels.shape == first.shape == second.shape:
        raise ValueError(f"shapes differ: labels {labels.shape}, first {first.shape}, second {second.shape}")
    only_first = int(((first == labels) & (second != labels)).sum())
    only_second = int(((first != labels) & (second == labels)).sum())
    return only_first, only_second, exact_sign_test(only_first, only_second)


def exact_sign_test(successes: int, failures: int) -> float:
    """Return the two-sided exact p (0..1) that a fair coin parts at least so unequally; 1 for no throws."""
    if successes + failures == 0:
        return 1.0
    from scipy.stats import binomtest  # here, as in wilson_interval

    return float(binomtest(successes, successes + failures, 0.5).pvalue)


def clustered_difference(
    right_a: np.ndarray,
    groups_a: np.ndarray,
    right_b: np.ndarray,
    groups_b: np.ndarray,
    seed: int = 0,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> tuple[float, float, float]:
    """Return the difference of two accuracies on two test sets, with a bootstrap interval over groups of images.

    Images of one writer are right or wrong together, so an interval that takes them as independent is too narrow. Here
    whole groups are drawn with replacement, on either side (Davison and Hinkley, Bootstrap Methods, 1997, section 3.8);
    the interval is that of the percentiles.

    Args:
        right_a: (N,) bool, which images of the first test set were read right.
        groups_a: (N,) integers, whose image each is.
        right_b: (M,) bool, the same of the second.
        groups_b: (M,) integers.
        seed: of the draws.
        resamples: how many.
        confidence: of the interval.

    Returns:
        The difference a - b and the ends of its interval, each in -1..1.

    Raises:
        ValueError: a side has no images, or its arrays differ in length.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    accuracies, draws = [], []
    for right, groups in ((right_a, groups_a), (right_b, groups_b)):
        if len(right) == 0 or len(right) != len(groups):
            raise ValueError(f"{len(right)} answers and {len(groups)} groups: expected equal numbers, above 0")
        _, index = np.unique(groups, return_inverse=True)
        sizes = np.bincount(index)
        hits = np.bincount(index, weights=right)
        chosen = (rng.random((resamples, len(sizes))) * len(sizes)).astype(np.int64)
        accuracies.append(hits.sum() / sizes.sum())
        draws.append(hits[chosen].sum(axis=1) / sizes[chosen].sum(axis=1))
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws[0] - draws[1], [tail, 1 - tail])
    return float(accuracies[0] - accuracies[1]), float(low), float(high)


def two_proportions(correct_a: int, n_a: int, correct_b: int, n_b: int) -> tuple[float, float]:
    """Test whether two accuracies differ, taking their errors as independent: the pooled two-proportion z-test.

    This is all that two published percentages allow. On one shared test set errors coincide, so a paired test on the
    predictions (`mcnemar`) usually sees smaller differences.

    Returns:
        The difference a - b (-1..1) and its two-sided p (0..1).
    """
    from scipy.stats import norm  # here, as in wilson_interval

    difference = correct_a / n_a - correct_b / n_b
    pooled = (correct_a + correct_b) / (n_a + n_b)
    error = math.sqrt(pooled * (1 - pooled) * (1 / n_a + 1 / n_b))
    return difference, float(2 * norm.sf(abs(difference) / error)) if error else 1.0


def paired_interval(only_first: int, only_second: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval of the second accuracy less the first, of two networks on the same n images, in -1..1.

    The adjusted Wald interval of Agresti and Min (Statistics in Medicine 24, 2005), who add one half to each count.

    Args:
        only_first: images that only the first network reads right.
        only_second: images that only the second reads right.
        n: all images.
        confidence: of the interval.
    """
    from scipy.stats import norm

    first, second = (only_first + 0.5) / (n + 2), (only_second + 0.5) / (n + 2)
    half = norm.ppf(0.5 + confidence / 2) * math.sqrt((first + second - (first - second) ** 2) / (n + 2))
    return float(second - first - half), float(second - first + half)


# Repetitions of a comparison: folds or seeds. They need scipy, which is imported late for the reason given above.


class Effect(NamedTuple):
    """A mean over repetitions, the ends of its interval, and the two-sided p of the hypothesis that it is 0."""

    mean: float
    low: float
    high: float
    p: float


def log_odds(correct: np.ndarray, n: np.ndarray | int) -> np.ndarray:
    """Return the log-odds of a right answer, log(p / (1 - p)), finite also for 0 or n of n.

    One half is added to both counts (Haldane, Annals of Human Genetics 20, 1956).

    Args:
        correct: (R,) right answers in each repetition.
        n: (R,) or one number of test images.
    """
    right = np.asarray(correct, float)
    return np.log((right + 0.5) / (n - right + 0.5))


def effect(differences: Sequence[float], correction: float = 0.0, confidence: float = 0.95) -> Effect:
    """Estimate a mean over repetitions by Student's t.

    The folds of a cross-validation share training images, so their differences vary less than those of independent
    repetitions would. Nadeau and Bengio (Machine Learning 52, 2003) therefore take the variance of the mean to be
    s^2 (1/R + n_test / n_train).

    Args:
        differences: (R,) one number a repetition.
        correction: n_test / n_train for the folds of a cross-validation; 0 for independent repetitions.
        confidence: of the interval.

    Raises:
        ValueError: fewer than two repetitions.
    """
    mean, error, freedom = _spread(differences, correction)
    return _by_t(mean, error, freedom, confidence)


def contrast(
    first: Sequence[float], second: Sequence[float], correction: float = 0.0, confidence: float = 0.95
) -> Effect:
    """Estimate the mean of the first repetitions less that of the second, by Welch's t; arguments as in `effect`."""
    (mean_a, error_a, freedom_a), (mean_b, error_b, freedom_b) = (
        _spread(values, correction) for values in (first, second)
    )
    error = math.hypot(error_a, error_b)
    freedom = error**4 / (error_a**4 / freedom_a + error_b**4 / freedom_b) if error else freedom_a + freedom_b
    return _by_t(mean_a - mean_b, error, freedom, confidence)


def equivalence(differences: Sequence[float], margin: float, correction: float = 0.0) -> float:
    """Return the p of two one-sided tests (TOST): below 0.05, the true mean lies within -margin to +margin.

    After Schuirmann (Journal of Pharmacokinetics and Biopharmaceutics 15, 1987). Arguments as in `effect`.
    """
    from scipy.stats import t

    mean, error, freedom = _spread(differences, correction)
    if not error:
        return 0.0 if abs(mean) < margin else 1.0
    return float(t.sf((margin - abs(mean)) / error, freedom))


def resampled(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], draws: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % interval of a mean difference in accuracy that a two-level bootstrap gives, in -1..1.

    It draws repetitions with replacement and, within each, images.

    Args:
        pairs: for each repetition, which of its test images either network reads right: two (N,) bool arrays.
        draws: how many.
        seed: of the draws.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
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
    factors = np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(np.asarray(p_values)[order] * factors))
    return adjusted.tolist()


def _spread(values: Sequence[float], correction: float) -> tuple[float, float, int]:
    if len(values) < 2:
        raise ValueError(f"found {len(values)} repetitions; a spread needs two or more")
    error = float(np.std(values, ddof=1)) * math.sqrt(1 / len(values) + correction)
    return float(np.mean(values)), error, len(values) - 1


def _by_t(mean: float, error: float, freedom: float, confidence: float) -> Effect:
    from scipy.stats import t

    if not error:
        return Effect(mean, mean, mean, 1.0 if mean == 0 else 0.0)
    half = float(t.ppf(0.5 + confidence / 2, freedom)) * error
    return Effect(mean, mean - half, mean + half, float(2 * t.sf(abs(mean) / error, freedom)))
