"""Draw scribbles: strokes that are no character, for which a model should offer none.

Five kinds, in turn: a tangle of smooth lines, coils, zigzags, straight lines across each other, and scattered dots. The
same seed gives the same strokes on every machine: only uniform random numbers are used, and coordinates are rounded.
"""

import numpy as np

from hwr_utils.synthesis.strokes import Floats, path

Scribble = list[Floats]  # strokes in the order of drawing, each (M, 2): x and y in 0..1, y downwards

SPACING = 0.01  # between the points of a stroke, as a part of the pad
KINDS = ("tangle", "coil", "zigzag", "lines", "dots")


def draw(n: int, seed: int) -> list[Scribble]:
    """Return `n` scribbles; number i is of kind i modulo 5, and a smaller `n` gives the first of the same."""
    makers = (_tangle, _coil, _zigzag, _lines, _dots)
    found = []
    for number in range(n):
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(number,))))
        strokes = makers[number % len(KINDS)](rng)
        points = np.concatenate(strokes)
        low, side = points.min(axis=0), np.ptp(points, axis=0).max()
        found.append([np.rint((0.05 + 0.9 * (stroke - low) / side) * 4096) / 4096 for stroke in strokes])
    return found


def _tangle(rng: np.random.Generator) -> Scribble:
    """One to three smooth lines through some points each; a few points alone might make a letter."""
    count = int(rng.integers(1, 4))
    return [_curve(_points(rng, int(rng.integers(8 // count + 2, 14 // count + 3))), False) for _ in range(count)]


def _coil(rng: np.random.Generator) -> Scribble:
    """A spiral, or loops along a line; neither closes into a ring, which might be a zero."""
    turns, phase = int(rng.integers(3, 6)), 2 * np.pi * rng.random()
    time = np.linspace(0, 1, 100 * turns)[:, None]
    angle = phase + 2 * np.pi * turns * time
    circle = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
    squeeze = 0.6 + 0.4 * rng.random(2)
    if rng.random() < 0.5:
        return [squeeze * time * circle]
    way = 2 * np.pi * rng.random()
    return [time * np.array([np.cos(way), np.sin(way)]) + (0.15 + 0.1 * rng.random()) * squeeze * circle]


def _zigzag(rng: np.random.Generator) -> Scribble:
    """Six to fourteen strokes to and fro without lifting the pen, as one blackens a spot."""
    count = int(rng.integers(6, 15))
    along = np.linspace(-0.5, 0.5, count) * (0.3 + 0.7 * rng.random())
    across = np.where(np.arange(count) % 2, 0.5, -0.5) * (0.3 + 0.7 * rng.random(count))
    turn = 2 * np.pi * rng.random()
    axes = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    corners = 0.5 + 0.9 * np.stack([along, across], axis=1) @ axes + 0.04 * (rng.random((count, 2)) - 0.5)
    return [_curve(corners, True)]


def _lines(rng: np.random.Generator) -> Scribble:
    """Five to ten straight lines from anywhere to anywhere."""
    return [_curve(_points(rng, 2), True) for _ in range(int(rng.integers(5, 11)))]


def _dots(rng: np.random.Generator) -> Scribble:
    """Three to twelve dots."""
    return [_points(rng, 1) for _ in range(int(rng.integers(3, 13)))]


def _points(rng: np.random.Generator, count: int) -> Floats:
    return 0.05 + 0.9 * rng.random((count, 2))


def _curve(points: Floats, corners: bool) -> Floats:
    return path(points, np.full(len(points), corners), SPACING)
