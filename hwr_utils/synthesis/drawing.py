"""Draw characters in the hands of simulated writers, and copy those of handwriting fonts.

A sample is a shape of its class, bent by a writer's habits and by chance, laid into a box and inked by a round pen, all
in whole batches. One seed gives the same bytes on every machine: only uniform random numbers are used, coordinates are
rounded before the ink is laid, and after that each operation is one that IEEE 754 rounds exactly.
"""

import functools
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from hwr_utils import preprocessing
from hwr_utils.data import SIZE
from hwr_utils.data.catalog import CATALOG
from hwr_utils.synthesis import fonts, hanzi
from hwr_utils.synthesis.strokes import Floats, Ints, build, table

BATCH = 64  # samples drawn together, few enough for a processor's cache; another value gives other drawings
WRITERS = {"train": 400, "test": 100}
LOYALTY = 0.7  # how often a writer keeps to the one shape of a character that is theirs

# Standard deviations; a pair is one among writers and one within a writer. Lengths are parts of the unit square.
TURN = (0.07, 0.06)  # of the whole character, as the tangent of an angle
SLANT = 0.08  # within one writer; the sheet has the other
ASPECT = (0.17, 0.12)  # logarithm of width to height
WARP = (np.array([0.066] * 3 + [0.038] * 4), np.array([0.046] * 3 + [0.028] * 4))  # of the terms in `_warp`
WEIGHT = 0.08  # of the pen's width and of the ink within one writer
PRESSURE = 0.2  # of the pen's width between start and end of a stroke
JITTER = 0.017  # of each control point
SHIFT, GROWTH, TILT = 0.025, 0.09, 0.065  # of each stroke: its place, size and angle
BEND, SWAY = 0.045, 0.033  # of each stroke: into a C, into an S
REACH = 0.04  # of each stroke's ends, drawn too far or cut short

GRAIN, SPECKS = 0.25, 0.12  # greatest range of the noise in the ink and on the paper, as a part of full ink
PAPER = 0.08  # what is fainter than this is paper

COPIES_VERSION = 1  # of the copies of fonts: raise it when the same seed comes to give other images
ROOM = 12  # pixels around a glyph of `hanzi.SIDE`, into which a wide pen reaches


# what each dataset draws, and how it lays a character into an image
_TABLES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
SHEETS = {name: SimpleNamespace(**values) for name, values in _TABLES.items()}


def stream(name: str, seed: int, split: str, purpose: int, number: int = 0) -> np.random.Generator:
    """Return the random numbers of one purpose: no two datasets, seeds, splits, purposes or batches share any."""
    key = (list(SHEETS).index(name), list(WRITERS).index(split), purpose, number)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


def bell(rng: np.random.Generator, *shape: int) -> Floats:
    """Return numbers of mean 0 and deviation 1, at most 3 from 0: sums of three uniform ones.

    Bounded, so that nothing is bent beyond recognition. NumPy's own normal numbers also need a logarithm now and then,
    whose last digit differs between machines.
    """
    first, second, third = rng.random((3, *shape))
    return 2 * (first + second + third) - 3


def between(rng: np.random.Generator, limits: tuple[float, float], count: int) -> Floats:
    """Return uniform numbers; unlike rng.uniform without a fused operation, which not every machine has."""
    return limits[0] + (limits[1] - limits[0]) * rng.random(count)


@functools.lru_cache(maxsize=8)
def writers(name: str, seed: int, split: str) -> dict[str, Floats]:
    """Return the habits of a split's writers: arrays whose first axis is the writer."""
    sheet, count = SHEETS[name], WRITERS[split]
    rng = stream(name, seed, split, purpose=1)
    return {
        "pen": between(rng, sheet.pen, count),  # radius in pixels
        "edge": between(rng, sheet.edge, count),
        "ink": between(rng, (0.85, 1.3), count),  # full at 1; what is above is cut off
        "turn": TURN[0] * bell(rng, count),
        "slant": sheet.slant[0] + sheet.slant[1] * bell(rng, count),
        "aspect": ASPECT[0] * bell(rng, count),
        "warp": WARP[0][:, None] * bell(rng, count, len(WARP[0]), 2),
        "taste": rng.random((count, len(CATALOG[name].classes))),  # which shape of each class
    }


@functools.cache
def shapes_of(name: str) -> SimpleNamespace:
    """Return a dataset's shapes; a letter's capital and small forms are one class, as in EMNIST-letters."""
    typed = table()[SHEETS[name].section]
    return build([typed[c] + (typed[c.lower()] if c.lower() != c else []) for c in CATALOG[name].classes])


def draw_batch(name: str, labels: Ints, seed: int, split: str, number: int) -> NDArray[np.uint8]:
    """Draw batch `number` of a split: for labels (BATCH,) images (BATCH, 28, 28)."""
    sheet, shapes = SHEETS[name], shapes_of(name)
    rng = stream(name, seed, split, purpose=2, number=number)
    writer = rng.integers(WRITERS[split], size=BATCH)
    hand = {habit: values[writer] for habit, values in writers(name, seed, split).items()}
    loyal = rng.random(BATCH) < LOYALTY
    taste = np.where(loyal, hand["taste"][np.arange(BATCH), labels], rng.random(BATCH))
    shape = shapes.first[labels] + (taste * shapes.count[labels]).astype(np.int64)

    control = _pose(_warp(_vary_strokes(shapes, shape, rng), hand, rng), hand, rng)
    haste = rng.random((BATCH, 1, 1))
    path = ((1 - haste) * shapes.careful[shape] + haste * shapes.hurried[shape]) @ control
    radius = hand["pen"] * (1 + WEIGHT * bell(rng, BATCH))
    pressure = 1 + PRESSURE * bell(rng, BATCH)[:, None] * (0.5 - shapes.progress[shape])
    image = lay_ink(_fit(path, sheet.box - 2 * radius), radius, pressure, hand["edge"])

    image = np.minimum(image * (hand["ink"] * (1 + WEIGHT * bell(rng, BATCH)))[:, None, None], 1)
    noise = rng.random((2, BATCH, SIZE, SIZE)) - 0.5
    grain, specks = rng.random((2, BATCH, 1, 1)) ** 2  # squared: most images are rather clean
    image = image * (1 + GRAIN * grain * noise[0]) + SPECKS * specks * noise[1]
    images = np.rint(255 * np.minimum(np.where(image < PAPER, 0, image), 1)).astype(np.uint8)
    return np.stack([preprocessing.centre_mass(image) for image in images]) if sheet.by_mass else images


def _vary_strokes(shapes: SimpleNamespace, shape: Ints, rng: np.random.Generator) -> Floats:
    """Return control points (n, K, 2) with every stroke moved, turned, bent, drawn too long or too short."""
    n, stroke = np.arange(len(shape))[:, None], shapes.stroke[shape]

    def chance(deviation: float, width: int = 1) -> Floats:
        return deviation * bell(rng, len(shape), shapes.strokes, width)[n, stroke]

    arm = shapes.control[shape] - shapes.middle[shape]
    across = arm[..., ::-1] * (-1, 1)
    along = shapes.along[shape][..., None]
    belly = along * (1 - along)
    return (
        shapes.control[shape]
        + chance(SHIFT, 2)
        + chance(GROWTH) * arm
        + chance(TILT) * across
        + chance(BEND, 2) * 4 * belly
        + chance(SWAY, 2) * 10 * belly * (1 - 2 * along)
        + chance(REACH) * shapes.start[shape]
        + chance(REACH) * shapes.finish[shape]
        + JITTER * bell(rng, *arm.shape)
    )


def _warp(control: Floats, hand: dict[str, Floats], rng: np.random.Generator) -> Floats:
    """Move points by a smooth field: the terms of degree 2 and 3 about the middle, each with its coefficient."""
    x, y = np.moveaxis(2 * control - 1, -1, 0)
    terms = np.stack([x * x, x * y, y * y, x * x * x, x * x * y, x * y * y, y * y * y], axis=-1)
    return control + terms @ (hand["warp"] + WARP[1][:, None] * bell(rng, *hand["warp"].shape))


def _pose(control: Floats, hand: dict[str, Floats], rng: np.random.Generator) -> Floats:
    """Squeeze, slant and turn whole characters about their middle."""
    aspect = np.exp((hand["aspect"] + ASPECT[1] * bell(rng, len(control))) / 2)[:, None]
    slant = (hand["slant"] + SLANT * bell(rng, len(control)))[:, None]
    turn = (hand["turn"] + TURN[1] * bell(rng, len(control)))[:, None]
    x, y = (control[..., 0] - 0.5) * aspect, (control[..., 1] - 0.5) / aspect
    x = x - slant * y
    return np.stack([x - turn * y, y + turn * x], axis=-1)


def _fit(path: Floats, side: Floats) -> Floats:
    """Scale paths (n, P, 2) to boxes of `side` (n,) pixels in the middle of the image, in steps of 1/1024 pixel."""
    low, high = path.min(1, keepdims=True), path.max(1, keepdims=True)
    scale = side[:, None, None] / (high - low).max(-1, keepdims=True)
    return np.rint(((path - (low + high) / 2) * scale + SIZE / 2) * 1024) / 1024


def lay_ink(path: Floats, radius: Floats, pressure: Floats, edge: Floats) -> NDArray[np.float32]:
    """Ink the pixels around paths (n, P, 2) of x, y in pixels, neighbours about a pixel apart or less.

    The pen has a radius (n,), which the pressure (n, P) widens, and its ink fades over an edge (n,), all in pixels.
    Returns (n, 28, 28) float32, 0 for paper to 1 for ink.
    """
    n, points, _ = path.shape
    # the squared distance to a point, in radii, is a part of the column plus a part of the row: one addition a pixel
    offset = np.arange(SIZE) + 0.5 - path[..., None]
    parts = (offset / (radius[:, None] * pressure)[..., None, None]) ** 2  # (n, P, 2, 28)
    columns, rows = np.ascontiguousarray(parts.transpose(2, 1, 0, 3), dtype=np.float32)
    nearest = np.full((n, SIZE, SIZE), np.inf, np.float32)
    distance = np.empty_like(nearest)
    for i in range(points):
        np.add(rows[i, :, :, None], columns[i, :, None, :], out=distance)
        np.minimum(nearest, distance, out=nearest)
    sharpness = (radius / edge).astype(np.float32)[:, None, None]
    inside = np.clip((1 - np.sqrt(nearest)) * sharpness + 0.5, 0, 1)
    return inside * inside * (3 - 2 * inside)


def copy(name: str, seed: int, per_font: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Copy the characters of a dataset of `SHEETS` from each of its fonts in `per_font` hands with different pens.

    The hands bend the characters; those that a font lacks are left out, and fewer hands give some of the same images.
    Returns images (n, 28, 28) uint8, 0 for paper to 255 for ink, and labels (n,) int64. Errors as `fonts.draw`.
    """
    sheet = SHEETS[name]
    variants = {c: label for label, one in enumerate(CATALOG[name].classes) for c in dict.fromkeys((one, one.lower()))}
    images, labels = [], []
    for place, font in enumerate(fonts.TABLES[sheet.fonts]):
        for number in range(per_font):
            drawn = hanzi.draw_from_font(seed, 1_000 * place + number, font, "".join(variants))
            for image, label in zip(drawn, variants.values(), strict=True):
                if image is not None:
                    images.append(_ink(255 - image, number, sheet))
                    labels.append(label)
    return np.stack(images), np.array(labels, np.int64)


def _ink(image: NDArray[np.uint8], number: int, sheet: SimpleNamespace) -> NDArray[np.uint8]:
    """Draw a glyph (H, W), white on black, with the pen of a hand, as the dataset has its images."""
    glyph = Image.fromarray(preprocessing.to_square(image, hanzi.SIDE + 2 * ROOM, ROOM))
    glyph = glyph.filter(ImageFilter.MaxFilter(1 + 2 * (number % 3))).filter(ImageFilter.BoxBlur(number // 3 % 3))
    margin = round((SIZE - sheet.box) / 2)
    return preprocessing.prepare(np.asarray(glyph), SIZE, margin, "mass" if sheet.by_mass else "box")
