"""Calibrate the scores of a network, and let it decline what is no character.

The scores of a network that was trained until it errs no more are too high. Dividing its logits by one number, the
temperature, puts that right and changes no answer (Guo et al., On Calibration of Modern Neural Networks, ICML 2017).
The number is found on images that the network was neither trained on nor is tested on. Where the best score is then
below a limit, no candidate is likely: the picture shows a scribble, or a character that the network does not know. The
limit is such that few of those images fall below it, whatever becomes of scribbles; how many it declines is measured.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr_utils import canvas, prediction
from hwr_utils.synthesis import scribbles

DECLINED = 0.02  # share of real characters that may be declined
BINS = 15  # of the expected calibration error, as Guo et al. have
BOUNDS = (0.1, 10.0)  # of the temperature: where every answer is right, lower would always be better
SCRIBBLES = 500
SEEDS = (0, 1)  # of the scribbles by which two measures are compared, and of those that are counted

Images = NDArray[np.uint8]
Predict = Callable[[Images], NDArray[np.float32]]  # (N, H, W) prepared images -> (N, C) logits


def measure(
    predict: Predict,
    framing: Mapping[str, Any],
    held_out: tuple[Images, NDArray[np.int64]],
    test: tuple[NDArray[np.float32], NDArray[np.int64]],
) -> dict[str, Any]:
    """Find the temperature of a network and the limit below which it declines, and say what they achieve.

    Args:
        predict: the network.
        framing: size, margin and centre of the images that it takes, see `prediction`.
        held_out: (N, H, W) images, one or more, that it was neither trained on nor is tested on; their (N,) labels.
        test: (M, C) logits of test images; their (M,) labels.

    Returns:
        temperature; decline_below; ece: the expected calibration error of the test images, before and after; declined:
        shares of the held-out images, of the test images and of scribbles, the last by kind, too; auc: how well two
        measures tell held-out images from scribbles of another seed. They are score, the best one after calibration,
        and energy, the logarithm of the summed exponentials of the logits (Liu et al., Energy-based
        Out-of-distribution Detection, NeurIPS 2020).
    """
    logits, (tested, truth) = predict(held_out[0]), test
    drawn = [predict(pictures(SCRIBBLES, seed, framing, pen(held_out[0]))) for seed in SEEDS]
    heat = temperature(logits, held_out[1])
    known, counted = best_scores(logits, heat), best_scores(drawn[1], heat)
    limit = threshold(known, DECLINED)
    right = tested.argmax(axis=1) == truth
    return {
        "temperature": heat,
        "decline_below": limit,
        "ece": {
            "before": calibration_error(best_scores(tested), right),
            "after": calibration_error(best_scores(tested, heat), right),
        },
        "declined": {
            "held_out": float((known < limit).mean()),
            "test": float((best_scores(tested, heat) < limit).mean()),
            "scribbles": float((counted < limit).mean()),
            "by_kind": {
                kind: float((counted[number :: len(scribbles.KINDS)] < limit).mean())
                for number, kind in enumerate(scribbles.KINDS)
            },
        },
        "auc": {
            "score": separation(known, best_scores(drawn[0], heat)),
            "energy": separation(energy(logits), energy(drawn[0])),
        },
    }


def temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Return the number within `BOUNDS` that (N, C) logits are divided by for the least mean cross-entropy.

    Args:
        logits: of images that the network has not seen.
        labels: (N,) their true classes.
    """
    from scipy.optimize import minimize_scalar  # here, as in evaluation

    wide = logits.astype(np.float64)
    true = np.take_along_axis(wide, labels[:, None], axis=1)[:, 0]

    def loss(exponent: float) -> float:
        heat = float(np.exp(exponent))
        return float((energy(wide / heat) - true / heat).mean())

    found = minimize_scalar(loss, bounds=np.log(BOUNDS), method="bounded", options={"xatol": 1e-6})
    return round(float(np.exp(found.x)), 4)


def best_scores(logits: NDArray[np.floating], heat: float = 1.0) -> NDArray[np.float64]:
    """Return the score (N,) of the best class of (N, C) logits, by softmax at a temperature."""
    scores: NDArray[np.float64] = prediction.softmax(logits, heat).max(axis=1)
    return scores


def energy(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the logarithm (N,) of the summed exponentials of (N, C) logits, which is Liu et al.'s energy negated."""
    wide = logits.astype(np.float64)
    top = wide.max(axis=1)
    total: NDArray[np.float64] = top + np.log(np.exp(wide - top[:, None]).sum(axis=1))
    return total


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


def separation(high: NDArray[np.float64], low: NDArray[np.float64]) -> float:
    """Return the area under the ROC curve: how often one of `high` exceeds one of `low`, ties counted half."""
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(high, low).statistic / (len(high) * len(low)))


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
