"""Draw scribbles: strokes that are no character, for which a model should offer none.

Thirteen kinds, in turn: a tangle of smooth lines, coils, zigzags, straight lines across each other, scattered dots,
waves, strokes of characters thrown together, two characters over each other, rings, hatching, the outlines of stars
and clouds, what people doodle, such as a face or a house, and signs such as ? and &. The same seed gives the same
strokes on every machine: only uniform random numbers are used, and coordinates are rounded.
"""

from pathlib import Path

import numpy as np

from hwr_utils.synthesis.strokes import Floats, parse, path, strokes_for, table, typed

Scribble = list[Floats]  # strokes in the order of drawing, each (M, 2): x and y in 0..1, y downwards

SPACING = 0.01  # between the points of a stroke, as a part of the pad
TYPED = Path(__file__).with_name("doodles.json")  # kind -> figure -> variants, as in strokes.json
KINDS = (
    *("tangle", "coil", "zigzag", "lines", "dots", "wave", "jumble", "pair", "rings", "hatching", "outline"),
    *("doodle", "symbol"),  # those of the file
)


def draw(n: int, seed: int) -> list[Scribble]:
    """Return `n` scribbles; number i is of kind i modulo 13, and a smaller `n` gives the first of the same."""
    makers = (_tangle, _coil, _zigzag, _lines, _dots, _wave, _jumble, _pair, _rings, _hatching, _outline)
    found = []
    for number in range(n):
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(number,))))
        kind = number % len(KINDS)
        strokes = makers[kind](rng) if kind < len(makers) else _figure(rng, KINDS[kind])
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
    corners = 0.5 + 0.9 * _turned(np.stack([along, across], axis=1), rng) + 0.04 * (rng.random((count, 2)) - 0.5)
    return [_curve(corners, True)]


def _lines(rng: np.random.Generator) -> Scribble:
    """Five to ten straight lines from anywhere to anywhere."""
    return [_curve(_points(rng, 2), True) for _ in range(int(rng.integers(5, 11)))]


def _dots(rng: np.random.Generator) -> Scribble:
    """Three to twelve dots."""
    return [_points(rng, 1) for _ in range(int(rng.integers(3, 13)))]


def _wave(rng: np.random.Generator) -> Scribble:
    """Three to seven waves along a line, as one signs."""
    count = int(rng.integers(3, 8))
    time = np.linspace(0, 1, 100 * count)[:, None]
    height = 0.05 + 0.25 * rng.random()
    return [_turned(np.concatenate([time, height * np.sin(2 * np.pi * count * time)], axis=1), rng)]


def _jumble(rng: np.random.Generator) -> Scribble:
    """Two to six strokes of any characters, each turned and somewhere else."""
    found = []
    for _ in range(int(rng.integers(2, 7))):
        strokes = _character(rng)
        stroke = strokes[rng.integers(len(strokes))]
        found.append((0.5 + rng.random()) * _turned(stroke - stroke.mean(axis=0), rng) + 0.4 * rng.random(2))
    return found


def _pair(rng: np.random.Generator) -> Scribble:
    """Two characters over each other, each slanted and squeezed."""
    found: Scribble = []
    for _ in range(2):
        strokes, slant, wide = _character(rng), 0.5 * (rng.random() - 0.5), 0.7 + 0.6 * rng.random()
        found += [stroke @ np.array([[wide, 0], [-slant, 1]]) for stroke in strokes]
    return found


def _rings(rng: np.random.Generator) -> Scribble:
    """Three to six circles or ovals anywhere; two might be an 8."""
    angle = np.linspace(0, 2 * np.pi, 60)[:, None]
    circle = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
    sizes = 0.06 + 0.2 * rng.random((int(rng.integers(3, 7)), 2))
    return [_turned(circle * size, rng) + _points(rng, 1) for size in sizes]


def _hatching(rng: np.random.Generator) -> Scribble:
    """Five to ten parallel lines, with others across them or not."""
    found, turn = [], 2 * np.pi * rng.random()
    for across in range(int(rng.integers(1, 3))):
        count, way = int(rng.integers(5, 11)), np.pi / 2 * across + turn + 0.3 * (rng.random() - 0.5)
        along, aside = np.array([np.cos(way), np.sin(way)]), np.array([-np.sin(way), np.cos(way)])
        for place in np.linspace(-0.4, 0.4, count):
            ends = np.array([[-0.35], [0.35]]) + 0.15 * (rng.random((2, 1)) - 0.5)
            found.append(_curve(0.5 + ends * along + (place + 0.03 * (rng.random() - 0.5)) * aside, True))
    return found


def _outline(rng: np.random.Generator) -> Scribble:
    """A closed line in and out four to eight times, as of a star or a cloud, sharp or round."""
    count, sharp = 2 * int(rng.integers(4, 9)), rng.random() < 0.5
    angle = 2 * np.pi * (np.arange(count) + 0.4 * rng.random(count)) / count
    far = np.where(np.arange(count) % 2, 0.5, 0.3) - 0.15 * rng.random(count)
    corners = 0.5 + far[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return [_curve(np.concatenate([corners, corners[:1]]), sharp)]


def _figure(rng: np.random.Generator, kind: str) -> Scribble:
    """A figure as typed, turned a little, slanted, squeezed and perhaps mirrored; each of its points is moved."""
    figures = [*table(TYPED)[kind].values()]
    variants = figures[rng.integers(len(figures))]
    turn, slant, (wide, moved, mirrored) = 0.6 * (rng.random() - 0.5), 0.6 * (rng.random() - 0.5), rng.random(3)
    way = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    way = np.array([[(0.7 + 0.6 * wide) * (-1 if mirrored < 0.5 else 1), 0], [-slant, 1]]) @ way
    found = []
    for stroke in variants[rng.integers(len(variants))]:
        points, corners = parse(stroke)
        far = 0.12 * moved * max(np.ptp(points, axis=0).max(), 0.2)
        points = (points + far * (rng.random(points.shape) - 0.5)) @ way
        found.append(path(points, corners, SPACING) if len(points) > 1 else points)
    return found


def _character(rng: np.random.Generator) -> Scribble:
    """Return the strokes of a random character that the project draws, of any script."""
    characters = [*typed()]
    variants = strokes_for(characters[rng.integers(len(characters))])
    return variants[rng.integers(len(variants))]


def _turned(points: Floats, rng: np.random.Generator) -> Floats:
    turn = 2 * np.pi * rng.random()
    return points @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])


def _points(rng: np.random.Generator, count: int) -> Floats:
    return 0.05 + 0.9 * rng.random((count, 2))


def _curve(points: Floats, corners: bool) -> Floats:
    return path(points, np.full(len(points), corners), SPACING)
