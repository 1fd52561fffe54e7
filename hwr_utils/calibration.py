"""Calibrate the scores of a network, and let it decline what is no character.

The scores of a network that was trained until it errs no more are too high. Dividing its logits by one number, the
temperature, puts that right and changes no answer (Guo et al., On Calibration of Modern Neural Networks, ICML 2017).
The number is found on images that the network was neither trained on nor is tested on.

A good score does not make a picture a character: of 3,755 hanzi one resembles any scribble. So a `prediction.Rejector`
learns to tell the logits of those images from those of scribbles that the project draws. Scribbles to learn from are
the idea of Hendrycks, Mazeika and Dietterich (Deep Anomaly Detection with Outlier Exposure, ICLR 2019); here they do
not touch the network, so that its answers stay as they are. The limit is such that few of the images are declined,
whatever becomes of scribbles; how many are declined is measured on others, and on kinds that the rejector never saw.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr_utils import canvas, prediction
from hwr_utils.prediction import Rejector
from hwr_utils.synthesis import scribbles

DECLINED = 0.02  # share of real characters that may be declined
BINS = 15  # of the expected calibration error, as Guo et al. have
BOUNDS = (0.1, 10.0)  # of the temperature: where every answer is right, lower would always be better
LEARNED, COUNTED = (2000, 0), (500, 2)  # number and seed of scribbles; by those of seed 1 the features were chosen
DECAY = 1e-4  # of the rejector's weights

Images = NDArray[np.uint8]
Predict = Callable[[Images], NDArray[np.float32]]  # (N, H, W) prepared images -> (N, C) logits


def measure(
    predict: Predict,
    framing: Mapping[str, Any],
    held_out: tuple[Images, NDArray[np.int64]],
    test: tuple[NDArray[np.float32], NDArray[np.int64]],
) -> tuple[dict[str, Any], Rejector]:
    """Find the temperature of a network and its rejector, and say what they achieve.

    Args:
        predict: the network.
        framing: size, margin and centre of the images that it takes, see `prediction`.
        held_out: (N, H, W) images, one or more, that it was neither trained on nor is tested on; their (N,) labels.
        test: (M, C) logits of test images; their (M,) labels.

    Returns:
        What is recorded, and the rejector. Recorded are temperature; ece: the expected calibration error of the test
        images, before and after; declined: shares of the test images and of scribbles, the last by kind, too, and of
        each kind by a rejector that has learned from the other kinds alone (unseen); and by_score: shares of both that
        would be declined by their best score after calibration, with a limit below which as many held-out images are.
    """
    logits, (tested, truth) = predict(held_out[0]), test
    width = pen(held_out[0])
    learned, counted = (predict(pictures(n, seed, framing, width)) for n, seed in (LEARNED, COUNTED))
    heat, rejector = temperature(logits, held_out[1]), fit_rejector(logits, learned)
    limit = threshold(best_scores(logits, heat), DECLINED)
    right = tested.argmax(axis=1) == truth
    kind, learned_kind = (np.arange(len(drawn)) % len(scribbles.KINDS) for drawn in (counted, learned))

    def unseen(number: int) -> float:
        other = fit_rejector(logits, learned[learned_kind != number])
        return _declined(other, counted[kind == number])

    return {
        "temperature": heat,
        "ece": {
            "before": calibration_error(best_scores(tested), right),
            "after": calibration_error(best_scores(tested, heat), right),
        },
        "declined": {
            "test": _declined(rejector, tested),
            "scribbles": _declined(rejector, counted),
            "by_kind": {
                name: _declined(rejector, counted[kind == number]) for number, name in enumerate(scribbles.KINDS)
            },
            "unseen": {name: unseen(number) for number, name in enumerate(scribbles.KINDS)},
            "by_score": {
                "test": float((best_scores(tested, heat) < limit).mean()),
                "scribbles": float((best_scores(counted, heat) < limit).mean()),
            },
        },
    }, rejector


def _declined(rejector: Rejector, logits: NDArray[np.float32]) -> float:
    return float((~rejector.accepts(logits)).mean())


def fit_rejector(known: NDArray[np.float32], drawn: NDArray[np.float32]) -> Rejector:
    """Learn to tell characters from scribbles: by logistic regression, both having the same weight.

    Args:
        known: (N, C) logits of characters that the network has not seen. It learns from a half of them; of the other
            half at most `DECLINED` fall below the limit.
        drawn: (M, C) logits of scribbles.

    Returns:
        The rejector, its weights rounded to six digits.
    """
    from scipy.optimize import minimize  # here, as in evaluation

    order = np.random.Generator(np.random.PCG64(0)).permutation(len(known))
    rows = prediction.features(np.concatenate([known[order[::2]], drawn]))
    mean, spread = rows.mean(axis=0), rows.std(axis=0)
    spread[spread == 0] = np.inf  # what never varies says nothing
    rows = (rows - mean) / spread
    sign = np.where(np.arange(len(rows)) < len(rows) - len(drawn), 1.0, -1.0)
    share = np.where(sign > 0, 0.5 / (sign > 0).sum(), 0.5 / len(drawn))

    def loss(solution: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights, bias = solution[:-1], solution[-1]
        away = -sign * (rows @ weights + bias)
        slope = -sign * share / (1 + np.exp(-away))
        value = share @ np.logaddexp(0, away) + DECAY / 2 * weights @ weights
        return float(value), np.append(slope @ rows + DECAY * weights, slope.sum())

    found = minimize(loss, np.zeros(rows.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 500}).x
    weights = np.array([f"{weight:.6g}" for weight in found[:-1] / spread], np.float64)
    rest = prediction.features(known[order[1::2]] if len(known) > 1 else known) @ weights
    return Rejector(weights, -threshold(rest, DECLINED))


def temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Return the number within `BOUNDS` that (N, C) logits are divided by for the least mean cross-entropy.

    Args:
        logits: of images that the network has not seen.
        labels: (N,) their true classes.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    wide = logits.astype(np.float64)
    true = np.take_along_axis(wide, labels[:, None], axis=1)[:, 0]

    def loss(exponent: float) -> float:
        heat = float(np.exp(exponent))
        return float((logsumexp(wide / heat, axis=1) - true / heat).mean())

    found = minimize_scalar(loss, bounds=np.log(BOUNDS), method="bounded", options={"xatol": 1e-6})
    return round(float(np.exp(found.x)), 4)


def best_scores(logits: NDArray[np.floating], heat: float = 1.0) -> NDArray[np.float64]:
    """Return the score (N,) of the best class of (N, C) logits, by softmax at a temperature."""
    scores: NDArray[np.float64] = prediction.softmax(logits, heat).max(axis=1)
    return scores


def calibration_error(scores: NDArray[np.float64], right: NDArray[np.bool_], bins: int = BINS) -> float:
    """Return the expected calibration error: how far scores are from the share of right answers, 0..1.

    Answers are sorted into bins of equal width by their score; it is the mean over answers of the difference, in their
    bin, between the mean score and the share that is right.

    Args:
        scores: (N,) of the answers, 0..1.
        right: (N,) which answers are.
        bins: how many.
    """
    where = np.minimum((scores * bins).astype(np.int64), bins - 1)
    excess = np.bincount(where, weights=scores - right, minlength=bins)
    return float(np.abs(excess).sum() / len(scores))


def threshold(scores: NDArray[np.float64], share: float) -> float:
    """Return the greatest limit that at most this share of the (N,) scores is below, cut to four decimals."""
    limit = np.sort(scores)[int(share * len(scores))]
    return float(np.floor(limit * 10_000) / 10_000)


def pen(images: Images) -> float:
    """Return the median of `canvas.pen_width` over the (N, H, W) images that have ink; 0.1 where none has."""
    widths = canvas.pen_width(images[images.any(axis=(1, 2))])
    return float(np.clip(np.median(widths), 0.01, 0.5)) if len(widths) else 0.1


def pictures(n: int, seed: int, framing: Mapping[str, Any], width: float) -> Images:
    """Draw scribbles as a network takes them.

    Args:
        n: how many.
        seed: of `scribbles.draw`.
        framing: size, margin and centre, see `prediction`.
        width: of the pen, as a part of the longer side of the scribble.

    Returns:
        (n, size, size) uint8, white on black.
    """
    form = {name: framing[name] for name in ("size", "margin", "centre")}
    drawn = ([stroke.tolist() for stroke in strokes] for strokes in scribbles.draw(n, seed))
    return np.stack([canvas.prepare(strokes, width, **form) for strokes in drawn])
