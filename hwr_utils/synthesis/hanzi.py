"""Draw hanzi in the hands of simulated writers.

A sample is a character's strokes, bent by a writer's habits and by chance, joined where the writer does not lift the
pen, and inked. Every random number is a hash of the seed, the writer, the character and its own place, so a sample is
the same whatever else is drawn, in whichever process. The ink is laid as points on a grid and then blurred, all in
whole batches: coordinates and weights are rounded before, so that their sums are exact.
"""

import functools
import itertools
import tomllib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr_utils.synthesis import fonts, medians
from hwr_utils.synthesis.medians import POINTS, Strokes
from hwr_utils.synthesis.strokes import Floats, Ints, straight

VERSION = 7  # of the drawings: raise it when the same arguments come to give other images
SIDE = 60  # pixels of an image's longer side: what CASIA's subset has been scaled to
CANVAS = 68  # pixels a side to draw on
WIDE = 100  # the same for glyphs of fonts, which a hand may make larger
BATCH = 64  # samples drawn together
JOIN = 6  # points between two strokes that are joined
SPACING = 0.7  # pixels between two points of ink, at most, unless a stroke has grown
SCALE = 1024  # coordinates, and amounts of ink, are rounded to 1 / SCALE
PAPER = 0.09  # what is fainter is paper
NIB = np.array([(-1, 0), (1, 0), (0, -1), (0, 1)])  # where a pen touches the paper, in radii

_TABLES: dict[str, Any] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
HABITS, PRINT_TO_HAND = _TABLES["habits"], np.array(_TABLES["print_to_hand"])

Keys = NDArray[np.uint64]
Hand = SimpleNamespace  # see `hand`
Batch = SimpleNamespace  # see `batch`


def mix(keys: Keys) -> Keys:
    """Scramble 64-bit numbers: the output function of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))


def keys_of(*words: int | Ints) -> Keys:
    """Return a key (n,) for each combination of numbers, of which the last may be many."""
    key = np.zeros(1, np.uint64)
    for word in words:
        key = mix(key + np.atleast_1d(np.asarray(word, np.uint64)) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(1))
    return key


class Chance:
    """Random numbers by key: each call of a method gives the next ones of every key."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self.drawn = 0

    def _next(self, *shape: int) -> Keys:
        count = int(np.prod(shape, dtype=np.int64))
        at = np.arange(self.drawn + 1, self.drawn + count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        self.drawn += count
        return mix(self.keys[:, None] + at).reshape(len(self.keys), *shape)

    def uniform(self, *shape: int) -> Floats:
        """Return numbers, of this shape for each key, from 0 to below 1."""
        return (self._next(*shape) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def bell(self, *shape: int) -> Floats:
        """Return numbers of mean 0 and deviation 1, of this shape for each key, at most 3 from 0: sums of three."""
        bits = self._next(*shape)
        low = np.uint64(2**21 - 1)
        total = (bits & low) + (bits >> np.uint64(21) & low) + (bits >> np.uint64(42) & low)
        return total.astype(np.float64) * (2 / (2**21 - 1)) - 3

    def noise(self, count: int) -> NDArray[np.uint8]:
        """Return bytes (keys, count); `count` is a multiple of 8."""
        return self._next(count // 8).astype("<u8").view(np.uint8)


def hand(seed: int, writer: int) -> Hand:
    """Return the habits of a writer of a seed by the names in hanzi.toml; writers count from 0.

    Besides, `spread` (2, 2) is how much larger each half of a character is in x and y, and `warp` (7, 2) are the
    coefficients of the terms in `_pose`.
    """
    chance, habits = Chance(keys_of(seed, writer)), {}
    for name, (kind, first, second) in HABITS.items():
        drawn = chance.uniform()[0] if kind == "uniform" else chance.bell()[0]
        habits[name] = float(first + (second - first if kind == "uniform" else second) * drawn)
    habits["haste"] = max(habits["haste"], habits.pop("again"))
    spread, warp = 0.08 * chance.bell(2, 2)[0], PRINT_TO_HAND + 0.035 * chance.bell(7, 2)[0]
    return SimpleNamespace(**habits, spread=spread, warp=warp)


def mouse(seed: int, writer: int) -> Hand:
    """Return the habits of a writer who draws straight lines of even ink with a mouse, as `hand`."""
    habits = hand(seed, writer)
    habits.haste, habits.taper, habits.fall, habits.reach, habits.press, habits.grain = 0, 0, 0, 0, 0.05, 0.2
    habits.rise -= HABITS["rise"][1]
    for name in ("looseness", "slant", "rise", "spread", "warp"):
        setattr(habits, name, 0.25 * getattr(habits, name))
    return habits


@functools.lru_cache(maxsize=4)
def _in_lines(strokes: Strokes, square: bool) -> Strokes:
    """Return the strokes of characters as straight lines, see `straight`; each line between two corners is a stroke."""
    paths, first = [], [0]
    for a, b in itertools.pairwise(strokes.first):
        for stroke in straight(list(strokes.paths[a:b]), square):
            paths += [np.linspace(*line, POINTS) for line in itertools.pairwise(stroke)]
        first.append(len(paths))
    return replace(strokes, paths=np.array(paths), first=np.array(first))


@functools.lru_cache(maxsize=128)
def batch(strokes: Strokes, start: int, stop: int) -> Batch:
    """Prepare the strokes of the samples from `start` to before `stop`, and where their m points of ink lie on them.

    The result is the same for all writers and is cached, so nobody may change it.
    """
    first = strokes.first[start : stop + 1] - strokes.first[start]
    paths = strokes.paths[strokes.first[start] : strokes.first[stop]]
    samples = np.split(paths, first[1:-1])
    owner = np.repeat(np.arange(len(samples)), np.diff(first))
    joinable = np.append(owner[1:] == owner[:-1], False)
    after = np.append(paths[1:, 0], paths[-1:, -1], axis=0)
    gap = np.sqrt(((after - paths[:, -1]) ** 2).sum(-1)) * joinable
    inner = np.sqrt((np.diff(paths, axis=1) ** 2).sum(-1))
    length = np.concatenate([inner, np.repeat(gap[:, None] / (JOIN + 1), JOIN + 1, axis=1)], axis=1)
    extent = np.array([np.ptp(sample, axis=(0, 1)).max() for sample in samples])
    pixels = SIDE * length / extent[owner][:, None]
    # strokes may grow when they are bent; their lengths after that decide how much ink each point holds
    count = np.where(length > 0, np.ceil(pixels / SPACING), 0).astype(np.int64).ravel()
    segment = np.repeat(np.arange(count.size), count)
    within = np.arange(len(segment)) - np.repeat(np.cumsum(count) - count, count)
    offset = (within + 0.5) / count[segment]
    half = 2 * owner + np.concatenate([medians.halves(sample) for sample in samples])
    many = np.maximum(np.bincount(half, minlength=2 * len(samples)), 1)
    middle = [np.bincount(half, paths[..., axis].mean(1), len(many)) / many for axis in (0, 1)]
    stroke, step = segment // (POINTS + JOIN), segment % (POINTS + JOIN)
    return SimpleNamespace(
        paths=paths,  # (s, POINTS, 2) of the strokes
        owner=owner,  # (s,) the sample of each stroke
        first=first[:-1],  # (samples,) the first stroke of each
        half=half,  # (s,) twice the sample, plus the stroke's half
        middle=np.stack(middle, axis=1),  # (2 * samples, 2) of the halves
        joinable=joinable,  # (s,) is the next stroke of the same sample?
        codes=np.array([ord(c) for c in strokes.characters[start:stop]]),  # (samples,) code points
        segment=segment,  # (m,) the control point after which a point of ink lies, of all in order
        offset=offset,  # (m,) how far it is from there to the next control point, 0 to 1
        share=1 / count[segment],  # (m,) the part of the segment's ink that it holds
        sample=owner[stroke],  # (m,) its sample
        progress=(step + offset) / (POINTS - 1),  # (m,) its place on the stroke, 0 to 1; beyond on what joins two
    )


def draw(seed: int, writer: int, characters: str, lines: bool = False) -> list[NDArray[np.uint8]]:
    """Draw each of some characters once, in a writer's hand or, in straight `lines`, with a mouse.

    A sample is decided by the seed, the writer (both 0 or more) and the character alone, not by what else is drawn.
    Returns an image (H, W) uint8 of each, cropped to the ink, the longer side about 60; 0 = ink, 255 = paper. Errors as
    `medians.read`.
    """
    strokes, habits = medians.read(characters), hand(seed, writer)
    if lines:
        strokes, habits = _in_lines(strokes, square=writer % 2 == 1), mouse(seed, writer)
    starts = range(0, len(characters), BATCH)
    batches = (batch(strokes, start, min(start + BATCH, len(characters))) for start in starts)
    return [image for prepared in batches for image in _draw_batch(prepared, habits, seed, writer)]


def in_a_hand(strokes: list[Floats], seed: int, writer: int) -> list[Floats]:
    """Return the strokes (M, 2) of any character, x and y with y downwards, as a writer's hand would draw them.

    They are bent and moved as those of hanzi are, and not joined; each has `medians.POINTS` points, about the origin.
    """
    unit, habits = medians.unit(strokes), hand(seed, writer)
    moved = _vary_strokes(unit, Chance(keys_of(seed, writer, 3, np.arange(len(unit)))), habits)
    owner, chance = np.zeros(len(unit), np.int64), Chance(keys_of(seed, writer, 4))
    return list(np.moveaxis(_pose(np.moveaxis(moved, -1, 0), owner, chance, habits), 0, -1))


def draw_from_font(seed: int, writer: int, sheet: str, characters: str) -> list[NDArray[np.uint8] | None]:
    """Draw characters as a font has them, see `fonts.draw`, bent and squeezed by a writer's habits and by chance.

    Returns an image of each as `draw` does, and None where the font has a hole. The same seed and writer have the same
    habits in both functions.
    """
    habits = hand(seed, writer)
    there = {number: glyph for number, c in enumerate(characters) if (glyph := fonts.draw(sheet, c)) is not None}
    images: list[NDArray[np.uint8] | None] = [None] * len(characters)
    for start in range(0, len(there), BATCH):
        some = list(there)[start : start + BATCH]
        keys = keys_of(seed, writer, 2, np.array([ord(characters[number]) for number in some]))
        for number, image in zip(some, _bend([there[n] for n in some], Chance(keys), habits), strict=True):
            images[number] = _crop(image)
    return images


def _bend(glyphs: list[NDArray[np.uint8]], chance: Chance, hand: Hand) -> NDArray[np.uint8]:
    """Lay glyphs on paper (n, WIDE, WIDE), each pixel of which looks up its ink where `_pose` sends it."""
    n, side = len(glyphs), 2 * CANVAS
    paper = np.zeros((n, side, side), np.float32)
    for sheet, glyph in zip(paper, glyphs, strict=True):
        height, width = glyph.shape
        top, left = (side - height) // 2, (side - width) // 2
        sheet[top : top + height, left : left + width] = (255 - glyph) / np.float32(255)
    line = 0.5 + (np.arange(WIDE) + 0.5 - WIDE / 2) / SIDE
    pixels = np.stack(np.meshgrid(line, line)).reshape(2, 1, -1)
    # beyond the glyph's square the terms of degree 3 would turn back and show it again, so there they stay
    inside = np.clip(pixels, 0, 1)
    posed = _pose(inside, np.arange(n), chance, hand) + 2 * (pixels - inside)
    place = np.clip(np.rint((side + SIDE * posed) / 2 * SCALE) / SCALE - 0.5, 0, side - 2)
    column, row = corner = place.astype(np.int64)
    right, down = (place - corner).astype(np.float32)
    flat, first = paper.ravel(), (np.arange(n)[:, None] * side + row) * side + column
    upper = flat[first] * (1 - right) + flat[first + 1] * right
    lower = flat[first + side] * (1 - right) + flat[first + side + 1] * right
    ink = _blur((upper * (1 - down) + lower * down).reshape(n, WIDE, WIDE), hand.soft)
    return np.rint(255 - 255 * np.minimum(ink / np.maximum(ink.max((1, 2), keepdims=True), 0.1), 1)).astype(np.uint8)


def _draw_batch(batch: Batch, hand: Hand, seed: int, writer: int) -> list[NDArray[np.uint8]]:
    keys = keys_of(seed, writer, 1, batch.codes)
    within = np.arange(len(batch.owner)) - batch.first[batch.owner]  # number of the stroke in its sample
    by_sample = Chance(keys)
    by_stroke = Chance(mix(keys[batch.owner] + within.astype(np.uint64) * np.uint64(0xD1342543DE82EF95)))

    paths = _vary_strokes(batch.paths, by_stroke, hand)
    paths = _vary_halves(paths, batch, by_sample, hand)
    control, joined = _join(paths, batch, by_stroke, hand)
    posed = _pose(np.moveaxis(control, -1, 0), batch.owner, by_sample, hand)
    path = _fit(posed, batch, SIDE - 2 * hand.pen).reshape(2, -1)

    way = np.diff(path, append=path[:, -1:])
    pressure = _press(by_stroke, hand).ravel()
    change = np.diff(pressure, append=0)
    ink = np.sqrt((way**2).sum(0)) + hand.fall * way[1]
    stroke = batch.segment // (POINTS + JOIN)
    kept = (batch.progress <= 1) | joined[stroke]
    segment, offset = batch.segment[kept], batch.offset[kept]
    weight = ink[segment] * batch.share[kept] * np.maximum(pressure[segment] + offset * change[segment], 0.05)
    place = path.take(segment, 1) + offset * way.take(segment, 1)
    image = _lay_ink(place, weight, batch.sample[kept], by_sample, hand)
    return [_crop(gray) for gray in np.rint(255 - 255 * np.minimum(image, 1)).astype(np.uint8)]


def _vary_strokes(paths: Floats, chance: Chance, hand: Hand) -> Floats:
    """Move, turn, scale, bend and shake strokes (s, POINTS, 2), each about its middle."""
    loose = hand.looseness
    middle = paths.mean(1, keepdims=True)
    arm = paths - middle
    chord = paths[:, -1:] - paths[:, :1]
    # tools/learn_deformations.py: a hand's strokes are shorter than printed ones, and the shorter a stroke is, the more
    # its length and angle vary
    length = np.maximum(np.sqrt((np.diff(paths, axis=1) ** 2).sum(-1)).sum(1), 0.08)[:, None, None]
    grow = 1 + hand.reach + (0.04 / length + 0.07) * loose * chance.bell(1, 1)
    grow = np.clip(grow, 0.4, 2) + 0.05 * loose * chance.bell(1, 2)
    turn = 0.03 / length * loose * chance.bell(1, 1)
    along = np.linspace(0, 1, POINTS)[:, None]
    belly = 4 * along * (1 - along)
    across = chord[..., ::-1] * (-1, 1)
    bow = (0.05 * loose * chance.bell(1, 1) + 0.06 * loose * chance.bell(1, 1) * (1 - 2 * along)) * belly
    shift = 0.026 * loose * chance.bell(1, 2)
    shake = 0.005 * loose * chance.bell(POINTS, 2)
    return middle + arm * grow + arm[..., ::-1] * (-1, 1) * turn + across * bow + shift + shake


def _vary_halves(paths: Floats, batch: Batch, chance: Chance, hand: Hand) -> Floats:
    """Move and scale the two halves of each character, by the writer's habit and by chance."""
    many = len(batch.codes)
    grow = (1 + hand.spread + 0.07 * hand.looseness * chance.bell(2, 2)).reshape(2 * many, 2)
    shift = 0.04 * hand.looseness * chance.bell(2, 2).reshape(2 * many, 2)
    middle = batch.middle[batch.half][:, None]
    return middle + (paths - middle) * grow[batch.half][:, None] + shift[batch.half][:, None]


def _join(paths: Floats, batch: Batch, chance: Chance, hand: Hand) -> tuple[Floats, NDArray[np.bool_]]:
    """Append to strokes the way to the next (s, POINTS + JOIN, 2), and tell (s,) which of these ways are inked.

    The path of the pen is then smoothed, over the joins too, which rounds the corners of a hasty hand.
    """
    end = paths[:, -1:]
    way = np.append(paths[1:, :1], end[-1:], axis=0) - end
    far = np.sqrt((way[:, 0] ** 2).sum(-1))
    joined = batch.joinable & (chance.uniform() < hand.haste * (1.3 - 1.4 * far))
    steps = np.arange(1, JOIN + 1)[:, None] / (JOIN + 1)
    control = np.concatenate([paths, end + steps * way], axis=1)
    rate = np.empty(control.shape[:2])
    rate[:] = 0.15 + 0.35 * hand.haste
    rate[:, POINTS - 1] *= joined  # where the pen is lifted, ends stay
    rate[1:, 0] *= joined[:-1]
    rate[0, 0] = 0
    flat, by = control.reshape(-1, 2), rate.reshape(-1, 1)[1:-1]
    for _ in range(1 + int(9 * hand.haste * hand.haste)):
        flat[1:-1] += by * ((flat[:-2] + flat[2:]) / 2 - flat[1:-1])
    return control, joined


def _press(chance: Chance, hand: Hand) -> Floats:
    """Return how much ink there is at each control point (s, POINTS + JOIN), about 1."""
    pressure = 1 + hand.press * (chance.bell(1) + 0.8 * chance.bell(POINTS + JOIN))
    end = np.maximum(np.arange(POINTS) / (POINTS - 1) - 0.6, 0) / 0.4
    pressure[:, :POINTS] *= 1 - hand.taper * end * chance.uniform(1)
    pressure[:, POINTS:] *= hand.thread
    return pressure


def _pose(path: Floats, owner: Ints, chance: Chance, hand: Hand) -> Floats:
    """Warp, squeeze, slant and turn characters of a path (2, s, P), or (2, 1, P) if all have one; return (2, s, P)."""
    x, y = 2 * path - 1
    warp = hand.warp + 0.035 * hand.looseness * chance.bell(7, 2)
    terms = (x * x, x * y, y * y, x * x * x, x * x * y, x * y * y, y * y * y)
    to_x, to_y = (sum(warp[owner, n, axis, None] * term for n, term in enumerate(terms)) for axis in (0, 1))
    x, y = x + to_x, y + to_y
    wide, slant, rise = (
        (mean + deviation * hand.looseness * chance.bell())[owner][:, None]
        for mean, deviation in ((1 + hand.aspect, 0.15), (hand.slant, 0.04), (hand.rise, 0.04))
    )
    return np.stack([wide * x - slant * y, y - rise * x])


def _fit(path: Floats, batch: Batch, side: float) -> Floats:
    """Scale characters to `side` pixels, the longer way, in the middle of the canvas, in steps of 1/SCALE pixel."""
    strokes = path[..., :POINTS]
    low, high = (end.reduceat(end.reduce(strokes, axis=2), batch.first, axis=1) for end in (np.minimum, np.maximum))
    scale = side / np.maximum((high - low).max(0), 0.1)
    shift = CANVAS / 2 - scale * (low + high) / 2
    moved = path * scale[batch.owner][:, None] + shift[:, batch.owner, None]
    # a join that is warped may leave the box of the strokes, but must not leave the canvas
    return np.clip(np.rint(moved * SCALE) / SCALE, 4, CANVAS - 4)


def _lay_ink(place: Floats, weight: Floats, sample: Ints, chance: Chance, hand: Hand) -> NDArray[np.float32]:
    """Share the weight of points (2, m) among pixels; return (n, CANVAS, CANVAS), 0 for paper to 1 for full ink."""
    weight = np.rint(weight * SCALE) / SCALE
    n = len(chance.keys)
    pixels = np.empty((len(NIB), 4, len(weight)), np.int64)
    shares = np.empty(pixels.shape)
    for touch, pixel, share in zip(NIB, pixels, shares, strict=True):
        touched = np.rint((place + 0.75 * hand.pen * touch[:, None]) * SCALE) / SCALE - 0.5
        corner = touched.astype(np.int64)
        (right, down), (column, row) = touched - corner, corner
        np.add((sample * CANVAS + row) * CANVAS + column, np.array([[0], [1], [CANVAS], [CANVAS + 1]]), out=pixel)
        lower, upper = weight * down, weight * (1 - down)
        share[1], share[3] = upper * right, lower * right
        share[0], share[2] = upper - share[1], lower - share[3]
    total = np.bincount(pixels.ravel(), shares.ravel(), n * CANVAS * CANVAS)
    noise = chance.noise(CANVAS * CANVAS).reshape(n, CANVAS, CANVAS).astype(np.float32)
    flow, grain = np.float32(hand.flow / (1 + 0.5 * hand.pen)), np.float32(hand.grain / 127.5)
    image = total.astype(np.float32).reshape(n, CANVAS, CANVAS) * flow
    image *= np.maximum(1 + grain * (noise - np.float32(127.5)), 0)
    image = _blur(image, hand.edge)
    dry = 1 - np.minimum(image * np.float32(0.5), 1)
    ink = np.maximum((1 - dry * dry) - np.float32(PAPER), 0) * np.float32(1 / (1 - PAPER))
    image = _blur(ink, hand.soft)
    # CASIA's images are scaled to the whole range of gray, nearly
    darkest = np.rint(SCALE * (1 - 0.08 * chance.uniform() ** 2)) / SCALE / np.maximum(image.max((1, 2)), 0.1)
    return image * darkest.astype(np.float32)[:, None, None]


def _blur(image: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    """Give each pixel of (n, H, W) a share of each neighbour, in rows and then in columns."""
    side, middle = np.float32(share), np.float32(1 - 2 * share)
    flat = image.reshape(len(image), -1)
    for step in (1, image.shape[2]):
        blurred = middle * flat
        blurred[:, step:] += side * flat[:, :-step]
        blurred[:, :-step] += side * flat[:, step:]
        flat = blurred
    return flat.reshape(image.shape)


def _crop(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    ink = gray < 240
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    return gray[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
