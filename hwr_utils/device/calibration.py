"""Calibrate the scores of a network, and let it decline what is no character.

Dividing the logits of a network by one number, the temperature, makes its scores honest and changes no answer (Guo et
al., On Calibration of Modern Neural Networks, ICML 2017). The number is found on images that the network was neither
trained on nor is tested on.

A good score does not make a picture a character: one of 3,755 hanzi resembles any scribble. So a `recognizer.Rejector`
learns to tell those images and their logits from scribbles that the project draws, from characters that the network
does not know, and from two of those images in one picture. Learning from what is not a character is the idea of
Hendrycks, Mazeika and Dietterich (Deep Anomaly Detection with Outlier Exposure, ICLR 2019); here it does not touch the
network. How many are declined is measured on other scribbles, and on kinds that the rejector never saw; how many
characters it may decline is chosen on a third set.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from hwr_utils import preprocessing
from hwr_utils.device import canvas
from hwr_utils.device.recognizer import DRAWN, RANKED, Rejector, features, softmax
from hwr_utils.synthesis import hanzi, medians, scribbles
from hwr_utils.synthesis.strokes import straight, strokes_for, table, typed

# Shares of characters that a rejector may decline. It takes the first at which `ENOUGH` of the scribbles of kinds that
# it never learned are declined, in the mean of the kinds, or else the last. Of other hands it declines up to two points
# more.
SHARES, ENOUGH = (0.02, 0.025, 0.03), 0.9
BINS = 15  # of the expected calibration error, as Guo et al. have
BOUNDS = (0.1, 10.0)  # of the temperature: if every answer is right, a lower one is always better
LEARNED, CHOOSING, COUNTED = (400, 0), (100, 1), (100, 2)  # scribbles of each kind, and their seed
PENS = (0.6, 1.7)  # least and greatest width of a pen that scribbles, where 1 is that of the characters
STRANGERS, DOTS = "others", 0.05  # the name of the kind for unknown characters, and the share of dots among them
WRITTEN = 5000  # drawings of known characters with the pens of scribbles; without them it would decline such pens
ALIKE = ("0O", "1IJL", "2Z", "5S", "6BG8", "9QG")  # characters of different scripts that look alike
STRENGTH = 1e4  # weight of all scribbles and characters against the regression's preference for small weights
HIDDEN = {"hidden_layer_sizes": (32,), "alpha": 0.1, "learning_rate_init": 0.002, "max_iter": 80, "random_state": 0}

Images = NDArray[np.uint8]  # (N, H, W)
Logits = NDArray[np.float32]  # (N, C)
Labels = NDArray[np.int64]  # (N,)
Features = NDArray[np.float64]  # (N, F), see `recognizer.features`
Predict = Callable[[Images], Logits]  # of prepared images
Labelled = tuple[Images, Labels]
Tested = tuple[Images, Logits, Labels]
Fitted = tuple[Rejector, NDArray[np.float64]]  # see `fit_rejector`


def measure(
    predict: Predict, form: Mapping[str, Any], classes: Sequence[str], held_out: Labelled, test: Tested
) -> tuple[dict[str, Any], Rejector]:
    """Find the temperature of a network and its rejector, and say what they achieve.

    The network (`predict`) reads images of this form, that is their size, margin and centre, and knows these classes.
    Both are found on held-out images, on which it was neither trained nor is tested. `test` holds images, the network's
    logits for them, and their labels.

    Returns:
        What is recorded, described by `quantization.schema.json`, and the rejector.
    """
    logits, (images, tested, truth), width = predict(held_out[0]), test, pen(held_out[0])
    pens = width * np.random.Generator(np.random.PCG64(0)).uniform(*PENS, WRITTEN)
    seen = features(logits, held_out[0])
    known = seen, seen[:0]
    if both := drawable(dict.fromkeys(c for one in classes for c in (one, one.lower()))):  # capitals and small letters
        own = pictures(written(both, WRITTEN, 0, simple=True), form, pens)
        known = seen, features(predict(own), own)
    inked = held_out[0][held_out[0].any(axis=(1, 2))]
    learned, choosing, counted = (
        _drawn(predict, form, classes, width, inked[first::3], *number_and_seed)
        for first, number_and_seed in enumerate((LEARNED, CHOOSING, COUNTED))
    )
    fitted = fit_rejector(*known, np.concatenate([*learned.values()]))
    strange = {
        name: fit_rejector(*known, np.concatenate([rows for kind, rows in learned.items() if kind != name]))
        for name in tqdm(counted, desc="what is no character", unit="kind")
    }
    share = _share_to_decline(strange, choosing)
    heat, rejector = temperature(logits, held_out[1]), limited(*fitted, share)
    scribbled = np.concatenate([counted[name] for name in scribbles.KINDS])
    groups = {"test": features(tested, images), "scribbles": scribbled}
    shares: dict[str, Any] = {name: _declined(rejector, rows) for name, rows in groups.items()}
    shares["by_kind"] = {name: _declined(rejector, rows) for name, rows in counted.items()}
    shares["unseen"] = {name: _declined(limited(*strange[name], share), rows) for name, rows in counted.items()}
    shares["allowed"] = share
    right, heats = tested.argmax(axis=1) == truth, {"before": 1.0, "after": heat}
    ece = {name: calibration_error(softmax(tested, one).max(axis=1), right) for name, one in heats.items()}
    return {"temperature": heat, "ece": ece, "declined": shares}, rejector


def _drawn(
    predict: Predict, form: Mapping[str, Any], classes: Sequence[str], width: float, inked: Images, n: int, seed: int
) -> dict[str, Features]:
    """Return the features of n scribbles of each kind, 2 n strangers, and 2 n pictures of two `inked` images each.

    Each of n pairs of images makes two pictures: one image over the other, and one beside the other.
    """
    found, rng = scribbles.draw(n * len(scribbles.KINDS), seed), np.random.Generator(np.random.PCG64(seed))
    # every other point is enough, and half the work
    coarse = [[np.concatenate([stroke[:-1:2], stroke[-1:]]) for stroke in one] for one in found]
    kinds = {name: coarse[number :: len(scribbles.KINDS)] for number, name in enumerate(scribbles.KINDS)}
    kinds[STRANGERS] = written(strangers(classes), 2 * n, seed, DOTS)
    drawn = {name: pictures(one, form, width * rng.uniform(*PENS, len(one))) for name, one in kinds.items()}
    pairs = [(inked[a], inked[b]) for a, b in rng.integers(len(inked), size=(n, 2))]
    drawn["over"] = np.stack([preprocessing.prepare(np.maximum(*pair), **form) for pair in pairs])
    beside = (np.concatenate([np.trim_zeros(one, axis=1) for one in pair], axis=1) for pair in pairs)
    drawn["beside"] = np.stack([preprocessing.prepare(pair, **form) for pair in beside])
    return {name: features(predict(images), images) for name, images in drawn.items()}


def strangers(classes: Sequence[str]) -> list[str]:
    """Return the characters of scripts that a network does not know, repeated until all scripts are about as frequent.

    Characters that look like one of its classes are left out: for instance the digit 0 where the letter O is known.
    """
    known = set("".join(classes).upper())
    known |= {one for group in ALIKE if known & set(group) for one in group}
    scripts = [script for script in table().values() if not known >= {one.upper() for one in script}]
    strange = [[one for one in script if one.upper() not in known] for script in scripts]
    longest = max(map(len, strange))
    return [one for script in strange if script for one in script * (longest // len(script))]


def drawable(names: Iterable[str]) -> list[str]:
    """Return those of some classes' names that are characters which the project can draw, such as 3 and 中, not α."""
    return [one for one in names if one in typed() or (len(one) == 1 and medians.is_there(one))]


def written(
    characters: Sequence[str], n: int, seed: int, dots: float = 0.0, simple: bool = False
) -> list[scribbles.Scribble]:
    """Draw n of these characters, each in a hand of its own; a share of `dots`, 0..1, are a single dot instead.

    All characters are equally likely. With `simple`, one of s strokes is drawn in proportion to s**-3. Of five such
    drawings, one is as in print, and two more, one in print and one in a hand, are `straight`, as with a mouse.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    shapes = [strokes_for(one) if one in typed() else [list(medians.read(one).paths)] for one in characters]
    often = np.array([len(variants[0]) for variants in shapes], np.float64) ** (-3 * simple)
    found = []
    for number, chosen in enumerate(rng.choice(len(shapes), n, p=often / often.sum())):
        strokes = shapes[chosen][rng.integers(len(shapes[chosen]))]
        is_dot, form = rng.random() < dots, number % 5 if simple else None
        if form not in (0, 1):
            strokes = hanzi.in_a_hand(strokes, seed, number)
        if form in (1, 2):
            strokes = straight(strokes, square=number % 2 == 0)
        found.append([np.zeros((1, 2))] if is_dot else strokes)
    return found


def _share_to_decline(strange: Mapping[str, Fitted], drawn: Mapping[str, Features]) -> float:
    """Return the one of `SHARES` to take, by what is declined of the kinds of scribbles that each did not learn."""
    for share in SHARES:
        found = [_declined(limited(*strange[name], share), drawn[name]) for name in scribbles.KINDS]
        if round(float(np.mean(found)), 6) >= ENOUGH:
            return share
    return SHARES[-1]


def _declined(rejector: Rejector, rows: Features) -> float:
    return float((rejector.judge(rows) < 0).mean())


def fit_rejector(known: Features, own: Features, drawn: Features) -> Fitted:
    """Learn to tell features of characters (`known` and `own`) from those of scribbles and other drawings (`drawn`).

    Returns the rejector, and for `limited` how classifiers that learned from the other thirds judge each of the `known`
    characters, which the network has not seen. The project's `own` drawings of characters are learned from, but do not
    move the limit. The first step gives both sides the same weight. The second learns from what the first says of a
    third that it has not learned from (Wolpert, Stacked generalization, Neural Networks 5, 1992).
    """
    rows = np.concatenate([known, own, drawn])
    is_known, wide = np.arange(len(rows)) < len(rows) - len(drawn), rows[:, :-DRAWN]
    regression = LogisticRegression(C=STRENGTH / len(rows), class_weight="balanced", max_iter=500)
    first, second = (make_pipeline(StandardScaler(), one) for one in (regression, MLPClassifier(**HIDDEN)))
    thirds, others = (StratifiedKFold(3, shuffle=True, random_state=seed) for seed in (0, 1))
    told = cross_val_predict(first, wide, is_known, cv=thirds, method="decision_function")
    scaler, found = first.fit(wide, is_known)
    weights = found.coef_[0] / scaler.scale_
    seen = np.column_stack([told - found.intercept_[0] + weights @ scaler.mean_, rows[:, -RANKED - DRAWN :]])
    # it stops early, which keeps it from learning by heart
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        judged = cross_val_predict(second, seen, is_known, cv=others, method="predict_proba")[: len(known), 1]
        scaler, network = second.fit(seen, is_known)
    (into, out), (before, after) = network.coefs_, network.intercepts_
    into = into / scaler.scale_[:, None]
    hidden = np.column_stack([before - scaler.mean_ @ into, into.T])
    fitted = (weights, hidden, np.append(after, out))
    return Rejector(*(np.vectorize(lambda one: float(f"{one:.6g}"))(one) for one in fitted)), logit(judged)


def limited(rejector: Rejector, judged: NDArray[np.float64], share: float) -> Rejector:
    """Return a rejector of `fit_rejector` with a limit below which at most this share of what it `judged` (N,) lies."""
    limit = np.floor(np.sort(judged)[int(share * len(judged))] * 10_000) / 10_000
    first, *rest = rejector.output
    return replace(rejector, output=np.array([round(first - limit, 6), *rest]))


def temperature(logits: Logits, labels: Labels) -> float:
    """Return the number within `BOUNDS` by which logits are divided for the least mean cross-entropy."""

    def loss(exponent: float) -> float:
        return float(log_loss(labels, softmax(logits, np.exp(exponent)), labels=range(logits.shape[1])))

    found = minimize_scalar(loss, bounds=np.log(BOUNDS), method="bounded", options={"xatol": 1e-6})
    return round(float(np.exp(found.x)), 4)


def calibration_error(scores: NDArray[np.float64], right: NDArray[np.bool_], bins: int = BINS) -> float:
    """Return the expected calibration error of answers, 0..1, by their (N,) scores and whether they are right.

    It is the mean distance between the mean score of an answer's bin and the share of right answers in it.
    """
    where = np.minimum((scores * bins).astype(np.int64), bins - 1)
    return float(np.abs(np.bincount(where, weights=scores - right)).sum() / len(scores))


def pen(images: Images) -> float:
    """Return the median of `canvas.pen_width` over the (N, H, W) images that have ink; 0.1 where none has."""
    widths = canvas.pen_width(images[images.any(axis=(1, 2))])
    return float(np.clip(np.median(widths), 0.01, 0.5)) if len(widths) else 0.1


def pictures(drawings: Iterable[scribbles.Scribble], form: Mapping[str, Any], widths: Iterable[float]) -> Images:
    """Return drawings (n, size, size) as a network of this form takes them, each drawn with a pen of its own width."""
    shapes = [[stroke.tolist() for stroke in one] for one in drawings]
    bar = tqdm(zip(shapes, widths, strict=True), "drawing", len(shapes), leave=False, unit="picture")
    return np.stack([canvas.prepare(strokes, min(width, 0.5), **form) for strokes, width in bar])
