"""Draw characters in the hands of simulated writers.

A sample is a shape of its class, bent by a writer's habits and by chance, laid into a box and inked by a round pen.
All of it is arithmetic on whole batches. Only uniform random numbers are used, and coordinates are rounded before the
ink is laid, so that one seed gives the same bytes on every machine.
"""

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hwr_utils.synthesis.strokes import Floats, Ints, Shapes, build, table

SIZE = 28  # pixels a side
BATCH = 64  # samples drawn together, few enough for a processor's cache; another value gives other drawings
WRITERS = {"train": 400, "test": 100}
LOYALTY = 0.7  # how often a writer keeps to the one shape of a character that is theirs

# Standard deviations. Lengths are parts of the unit square, turns and slants tangents of angles.
TURN = (0.08, 0.07)  # of the whole character: among writers, and within one writer
SLANT = 0.1  # within one writer; among writers it is the sheet's
ASPECT = (0.2, 0.14)  # width to height, as an exponent of e
WARP = (np.repeat((0.08, 0.045), (3, 4)), np.repeat((0.055, 0.035), (3, 4)))  # each coefficient of the smooth warp
JITTER = 0.02  # of each control point
SHIFT, GROWTH, TILT, BEND, SWAY, REACH = 0.03, 0.11, 0.08, 0.055, 0.04, 0.05  # of each stroke; REACH moves its ends out or in
PRESSURE = 0.2  # how much thicker than the end of a stroke its start is
GRAIN, SPECKS = 0.25, 0.12  # greatest noise in the ink and on the paper, as a part of full ink
ROUGH = 0.0
FLOOR = 0.08  # what a scanner takes for paper


@dataclass(frozen=True)
class Sheet:
    """What a dataset draws, and how it lays a character into an image."""

    section: str  # of strokes.json
    classes: tuple[str, ...]
    box: float  # side in pixels of the square that the ink fills, its aspect kept
    by_mass: bool  # is the centre of mass put at the image's centre, as in MNIST, or the middle of the ink's box?
    pen: tuple[float, float]  # least and greatest radius of a writer's pen in pixels
    edge: tuple[float, float]  # least and greatest width in pixels of the rim where a stroke fades into paper
    slant: tuple[float, float]  # mean and standard deviation among writers; hands lean to the right


SHEETS = {
    "digits-synthetic": Sheet("digits", tuple(table()["digits"]), 20, True, (0.75, 1.9), (0.8, 1.6), (0.12, 0.24)),
    "letters-synthetic": Sheet("letters", tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), 23, False, (0.9, 2.3), (1.2, 2.6), (0.15, 0.25)),
    "hiragana-synthetic": Sheet("hiragana", tuple(table()["hiragana"]), 24, False, (0.75, 1.9), (0.8, 1.8), (0.05, 0.1)),
}


def stream(name: str, seed: int, split: str, purpose: int, number: int = 0) -> np.random.Generator:
    """Return the random numbers of one purpose: no two datasets, seeds, splits, purposes or batches share any."""
    key = (list(SHEETS).index(name), list(WRITERS).index(split), purpose, number)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


def bell(rng: np.random.Generator, *shape: int) -> Floats:
    """Return numbers of mean 0, deviation 1 and at most 3 apart from 0: sums of three uniform ones.

    Bounded, so that no sample is bent beyond recognition; and made by addition alone, where the tails of NumPy's
    normal numbers need a logarithm that differs in the last digit between machines.
    """
    return 2 * rng.random((*shape, 3)).sum(-1) - 3


def labels_of(name: str, n: int, seed: int, split: str) -> Ints:
    """Return labels (n,): each run of as many labels as there are classes holds every class once, shuffled."""
    count = len(SHEETS[name].classes)
    rng = stream(name, seed, split, purpose=0)
    return np.argsort(rng.random((-(-n // count), count)), axis=1, kind="stable").reshape(-1)[:n]


@functools.lru_cache(maxsize=8)
def writers(name: str, seed: int, split: str) -> dict[str, Floats]:
    """Return the habits of a split's writers, each an array whose first axis is the writer."""
    sheet, count = SHEETS[name], WRITERS[split]
    rng = stream(name, seed, split, purpose=1)
    return {
        "pen": rng.uniform(*sheet.pen, count),  # radius in pixels
        "edge": rng.uniform(*sheet.edge, count),
        "ink": rng.uniform(0.85, 1.3, count),  # full at 1; more than that is cut off
        "turn": TURN[0] * bell(rng, count),
        "slant": sheet.slant[0] + sheet.slant[1] * bell(rng, count),
        "aspect": ASPECT[0] * bell(rng, count),
        "warp": WARP[0][:, None] * bell(rng, count, 7, 2),
        "taste": rng.random((count, len(sheet.classes))),  # picks the shape of each class
    }


@functools.cache
def _shapes(name: str) -> Shapes:
    sheet, typed = SHEETS[name], table()[SHEETS[name].section]
    # a letter's capital and small form are one class, as in EMNIST-letters
    return build([[*typed[c], *(typed[c.lower()] if c.lower() != c else [])] for c in sheet.classes])


def draw_batch(name: str, labels: Ints, seed: int, split: str, number: int) -> npt.NDArray[np.uint8]:
    """Draw batch `number` of a split: for labels (BATCH,) images (BATCH, 28, 28)."""
    sheet, shapes = SHEETS[name], _shapes(name)
    rng = stream(name, seed, split, purpose=2, number=number)
    writer = rng.integers(WRITERS[split], size=BATCH)
    hand = {habit: values[writer] for habit, values in writers(name, seed, split).items()}
    usual = hand["taste"][np.arange(BATCH), labels]
    taste = np.where(rng.random(BATCH) < LOYALTY, usual, rng.random(BATCH))
    shape = shapes.first[labels] + (taste * shapes.count[labels]).astype(np.int64)

    control = _pose(_warp(_vary_strokes(shapes, shape, rng), hand, rng), hand, rng)
    haste = rng.random((BATCH, 1, 1))
    path = (shapes.curve[shape] * (1 - haste) + shapes.hurried[shape] * haste) @ control
    radius = hand["pen"] * (1 + 0.08 * bell(rng, BATCH))
    pressure = 1 + PRESSURE * bell(rng, BATCH)[:, None] * (0.5 - shapes.progress[shape])
    path = _fit(path, sheet.box - 2 * radius)
    if ROUGH:
        k=rng.random((BATCH,1,1))**2
        path += np.rint(1024*ROUGH*k*bell(rng, *path.shape))/1024
        pressure = pressure*(1+ROUGH*k[...,0]*bell(rng,*path.shape[:2]))
    image = lay_ink(path, radius[:, None] * pressure, hand["edge"])

    image *= (hand["ink"] * (1 + 0.08 * bell(rng, BATCH)))[:, None, None]
    noise = rng.random((2, BATCH, SIZE, SIZE)) - 0.5
    level = rng.random((2, BATCH, 1, 1)) ** 2  # most images are clean
    image = np.minimum(image, 1) * (1 + GRAIN * level[0] * noise[0]) + SPECKS * level[1] * noise[1]
    image[image < FLOOR] = 0
    images = np.rint(255 * np.minimum(image, 1)).astype(np.uint8)
    return _centre_by_mass(images) if sheet.by_mass else images


def _vary_strokes(shapes: Shapes, shape: Ints, rng: np.random.Generator) -> Floats:
    """Return control points (n, K, 2) with every stroke moved, turned, bent, drawn longer or shorter."""
    n, stroke = np.arange(len(shape))[:, None], shapes.stroke[shape]

    def chance(deviation: float, width: int = 1) -> Floats:
        return deviation * bell(rng, len(shape), shapes.strokes, width)[n, stroke]

    arm = shapes.control[shape] - shapes.centre[shape]
    across = arm[..., ::-1] * (-1, 1)
    along = shapes.along[shape][..., None]
    return (
        shapes.control[shape]
        + chance(GROWTH) * arm
        + chance(TILT) * across
        + chance(SHIFT, 2)
        + chance(BEND, 2) * 4 * along * (1 - along)
        + chance(SWAY, 2) * 10 * along * (1 - along) * (1 - 2 * along)
        + chance(REACH) * shapes.start[shape]
        + chance(REACH) * shapes.finish[shape]
        + JITTER * bell(rng, *arm.shape)
    )


def _warp(control: Floats, hand: dict[str, Floats], rng: np.random.Generator) -> Floats:
    """Move points by a smooth field: polynomials of degree 2 and 3 about the middle, each with its coefficient."""
    x, y = (2 * control - 1)[..., 0], (2 * control - 1)[..., 1]
    terms = np.stack([x * x, x * y, y * y, x * x * x, x * x * y, x * y * y, y * y * y], axis=-1)
    return control + terms @ (hand["warp"] + WARP[1][:, None] * bell(rng, *hand["warp"].shape))


def _pose(control: Floats, hand: dict[str, Floats], rng: np.random.Generator) -> Floats:
    """Slant, squeeze and turn whole characters about their middle."""
    aspect = np.exp((hand["aspect"] + ASPECT[1] * bell(rng, len(control))) / 2)[:, None]
    slant = (hand["slant"] + SLANT * bell(rng, len(control)))[:, None]
    turn = (hand["turn"] + TURN[1] * bell(rng, len(control)))[:, None]
    x, y = (control[..., 0] - 0.5) * aspect, (control[..., 1] - 0.5) / aspect
    x = x - slant * y
    return np.stack([x - turn * y, y + turn * x], axis=-1)


def _fit(path: Floats, box: Floats) -> Floats:
    """Scale paths (n, P, 2) into boxes of sides (n,) in the middle of the image; the result is in pixels."""
    low, high = path.min(1, keepdims=True), path.max(1, keepdims=True)
    path = (path - (low + high) / 2) * (box[:, None, None] / (high - low).max(-1, keepdims=True)) + SIZE / 2
    # sums and exponentials may differ in the last digit between machines; from here on every operation is exact
    return np.rint(path * 1024) / 1024


def _centre_by_mass(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Move images by whole pixels, so that their centre of mass comes next to pixel (14, 14), where MNIST has it."""
    middle = SIZE // 2
    ink = images.astype(np.int64)
    mass = ink.sum((1, 2))
    pixels = np.arange(SIZE)
    moved = [middle - np.rint((ink.sum(axis) * pixels).sum(1) / mass).astype(np.int64) for axis in (2, 1)]
    down, right = (np.clip(by, -4, 4) for by in moved)  # the box leaves four pixels, so that no ink goes round an edge
    rows, columns = pixels - down[:, None], pixels - right[:, None]
    return images[np.arange(len(images))[:, None, None], rows[:, :, None] % SIZE, columns[:, None, :] % SIZE]


def lay_ink(path: Floats, radius: Floats, edge: Floats) -> npt.NDArray[np.float32]:
    """Ink the pixels around paths.

    Args:
        path: (n, P, 2) x, y in pixels, neighbours about a pixel apart or less.
        radius: (n, P) of the pen at each point, in pixels.
        edge: (n,) pixels over which the ink fades at the rim of the stroke.

    Returns:
        (n, 28, 28) float32, 0 for paper to 1 for ink.
    """
    n, count, _ = path.shape
    grid = np.arange(SIZE) + 0.5
    # the squared distance in radii splits into a part of the column and a part of the row: one addition a pixel
    parts = ((grid - path[..., None]) / radius[..., None, None]) ** 2  # (n, P, 2, 28)
    columns, rows = np.ascontiguousarray(parts.transpose(2, 1, 0, 3), dtype=np.float32)
    nearest = np.full((n, SIZE, SIZE), np.inf, np.float32)
    distance = np.empty_like(nearest)
    for i in range(count):
        np.add(rows[i, :, :, None], columns[i, :, None, :], out=distance)
        np.minimum(nearest, distance, out=nearest)
    mean = radius.mean(1)[:, None, None]
    inside = np.clip(0.5 + (1 - np.sqrt(nearest)) * (mean / edge[:, None, None]), 0, 1)
    return (inside * inside * (3 - 2 * inside)).astype(np.float32)
