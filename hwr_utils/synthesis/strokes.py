"""The pen strokes of each character: `strokes.json` read, and its control points turned into smooth curves.

The file maps a character to its variants. A variant is a list of strokes in writing order; a stroke is a string of
control points `x,y` on a square of side 100 with y downwards, and `!` after a point makes it a sharp corner. The curve
passes through every point. All points were typed for this project.
"""

import functools
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Variant = list[str]  # the strokes of one way to write a character, as typed

FILE = Path(__file__).with_suffix(".json")
POINTS = 128  # on the curves of one character, all strokes together: about a pixel apart on a 28x28 image
SPACING = 0.02  # of the unit square, between the points of the paths that `strokes_for` returns
NEAR = 0.06  # of a character's side, by which a line may miss a stroke that it stands for
MEET = 0.1  # of that side, from which on an end of a straight line stands free of other strokes
BEYOND = 0.15  # of that side, up to which a line that ends near the corner of a box is made to end there
CLOSE = 0.6  # of a line's length, up to which it goes on to the next side of a box
LEVEL = (0.3, 0.2)  # slopes up to which a line becomes upright, or level, if it is to be
ENDS = ((0, 1), (-1, -2))  # of a line, and the points before them
CUT = 10  # points to either side over which a hurried pen cuts a corner


@functools.cache
def table(file: Path = FILE) -> dict[str, dict[str, list[Variant]]]:
    """Return strokes.json, or another file of its form: section -> character -> variants."""
    content: dict[str, dict[str, list[Variant]]] = json.loads(file.read_text("utf-8"))
    return content


@functools.cache
def typed() -> dict[str, list[Variant]]:
    """Return the variants of each character of strokes.json, in its order."""
    return {character: variants for section in table().values() for character, variants in section.items()}


def strokes_for(character: str) -> list[list[Floats]]:
    """Return every variant of a digit, a letter (A and a are two characters here) or a basic hiragana.

    A variant is a list of strokes in writing order, each an (M, 2) float64 array of x, y in the unit square, y
    downwards, its points evenly spaced at most 0.02 apart. Raises a KeyError for other characters.
    """
    return [[path(*parse(stroke), SPACING) for stroke in variant] for variant in typed()[character]]


def straight(strokes: Sequence[Floats], square: bool = False) -> list[Floats]:
    """Return strokes (n, 2) as with a mouse: `straightened`, and ends that nearly meet another stroke lie on it.

    Where they are to be `square`, lines that are nearly level or upright become so, and boxes close, as far as they do
    in print.
    """
    lines = [straightened(np.asarray(stroke)) for stroke in strokes]
    if square and lines:
        _close_boxes(lines)
    for number, line in enumerate(lines):
        others = lines[:number] + lines[number + 1 :]
        for end, before in ENDS if np.hypot(*np.ptp(line, axis=0)) > 1.5 * MEET else ():  # a dot would vanish
            points = [_nearest(line[end], other) for other in others]
            distances = [np.hypot(*(point - line[end])) for point in points]
            if min(distances, default=MEET) < MEET and not (square and (line[end] == line[before]).any()):
                line[end] = points[int(np.argmin(distances))]
    return lines


def _close_boxes(lines: list[Floats]) -> None:
    """Make nearly level and upright lines (n, 2) so, in place, and let them end where others then cross their way.

    Those are lines that are near, and, for a line that starts at a side of a box, its next side. What goes a little
    beyond a corner is cut.
    """
    gaps = np.array([[[_nearest(a[end], b) - a[end] for b in lines] for end, _ in ENDS] for a in lines])
    near = np.hypot(*np.moveaxis(gaps, -1, 0)) < MEET  # (n, 2, n): does an end of a line nearly meet another one?
    near[range(len(lines)), :, range(len(lines))] = False
    meet = near[:, 0] | near[:, 1]
    meet = meet | meet.T
    for pair in (line[n : n + 2] for line in lines for n in range(len(line) - 1)):
        across = np.ptp(pair, axis=0)
        if across.min() < LEVEL[across.argmin()] * across.max():
            pair[:, across.argmin()] = pair[:, across.argmin()].mean()
    owner = np.repeat(np.arange(len(lines)), [len(line) - 1 for line in lines])  # (m,) of the pieces of all lines
    start = np.concatenate([line[:-1] for line in lines])
    way = np.concatenate([np.diff(line, axis=0) for line in lines])
    ends = np.array([line[[0, -1]] for line in lines])[owner]
    for number, line in enumerate(lines):
        for place, (end, before) in enumerate(ENDS):
            here, back = line[end], line[before] - line[end]
            if back.all():
                continue
            along, across = int(back[0] == 0), int(back[0] != 0)
            share = (here[across] - start[:, across]) / np.where(way[:, across], way[:, across], np.inf)
            cross = start + np.clip(share, 0, 1)[:, None] * way
            missed, cross[:, across] = np.abs(cross[:, across] - here[across]), here[across]
            length, gap = abs(back[along]), (here - cross)[:, along] * np.sign(back[along])  # above 0 it goes on
            corner = np.hypot(*(ends - cross[:, None]).T).min(0) < BEYOND
            side = (near[number, 1 - place] | meet[near[number, 1 - place]].any(0))[owner] & (gap < CLOSE * length)
            found = (gap >= 0) & (side | (gap < MEET)) | corner & (np.abs(gap) < np.where(gap < 0, length / 4, BEYOND))
            found &= (owner != number) & (missed < MEET) & (np.abs(gap) < np.where(gap < 0, BEYOND, length))
            if found.any():
                line[end, along] = cross[np.where(found, np.abs(gap), np.inf).argmin(), along]


def _nearest(point: Floats, line: Floats) -> Floats:
    """Return the point (2,) of a line (n, 2) with corners that is nearest to another."""
    start, way = line[:-1], np.diff(line, axis=0)
    share = ((point - start) * way).sum(1) / np.maximum((way**2).sum(1), 1e-12)
    on = start + np.clip(share, 0, 1)[:, None] * way
    return np.asarray(on[((on - point) ** 2).sum(1).argmin()])


def straightened(stroke: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ends and corners of a stroke (n, 2), which straight lines between them leave by less than `NEAR`.

    It is the algorithm of Ramer (Computer Graphics and Image Processing 1, 1972).
    """
    (x, y), (right, down) = (stroke - stroke[0]).T, stroke[-1] - stroke[0]
    away = np.abs(x * down - y * right) / max(float(np.hypot(right, down)), NEAR)
    if len(stroke) < 3 or away.max() < NEAR:
        return stroke[[0, -1]]
    corner = int(away.argmax())
    return np.concatenate([straightened(stroke[: corner + 1])[:-1], straightened(stroke[corner:])])


def path(points: Floats, corners: NDArray[np.bool_], spacing: float) -> Floats:
    """Return points (M, 2) on the smooth curve through control points (K, 2), evenly spaced at most so far apart."""
    matrix = spline(points, corners)
    return even(matrix, points, int(lengths(matrix @ points)[-1] / spacing) + 2) @ points


def parse(stroke: str) -> tuple[Floats, NDArray[np.bool_]]:
    """Return a typed stroke's control points (K, 2) in the unit square and which of them are corners (K,)."""
    words = stroke.split()
    points = np.array([[float(number) for number in word.rstrip("!").split(",")] for word in words]) / 100
    return points, np.array([word.endswith("!") for word in words])


def spline(points: Floats, corners: NDArray[np.bool_]) -> Floats:
    """Return the matrix (R, K) that turns K control points into R points of the smooth curve through them.

    The curve is a centripetal Catmull-Rom spline, which makes no loops or cusps of its own, broken at the corners. Its
    knots come from `points`; with them fixed it is linear in the control points, so that one matrix serves every
    deformed copy of the character.
    """
    unit = np.eye(len(points))
    u = np.linspace(0, 1, 16, endpoint=False)[:, None]
    breaks = [0, *(np.flatnonzero(corners[1:-1]) + 1), len(points) - 1]
    rows = []
    for first, last in itertools.pairwise(breaks):
        piece = unit[first : last + 1]
        steps = np.sqrt(np.linalg.norm(np.diff(points[first : last + 1], axis=0), axis=1))[:, None]
        slopes = np.diff(piece, axis=0) / steps
        tangents = np.concatenate([slopes[:1], slopes])  # stays so for a piece of two points: a straight line
        if len(piece) > 2:
            tangents[1:-1] = (steps[1:] * slopes[:-1] + steps[:-1] * slopes[1:]) / (steps[1:] + steps[:-1])
            tangents[[0, -1]] = 1.5 * slopes[[0, -1]] - 0.5 * tangents[[1, -2]]  # no curvature at the ends
        rows += [
            (1 + 2 * u) * (1 - u) ** 2 * piece[i]
            + u * (1 - u) ** 2 * step * tangents[i]
            + u**2 * (3 - 2 * u) * piece[i + 1]
            - u**2 * (1 - u) * step * tangents[i + 1]
            for i, step in enumerate(steps)
        ]
    return np.concatenate([*rows, unit[-1:]])


def even(matrix: Floats, points: Floats, count: int) -> Floats:
    """Return `count` rows of a spline's matrix whose points lie evenly spaced along the curve, both ends kept."""
    length = lengths(matrix @ points)
    position = np.interp(np.linspace(0, length[-1], count), length, np.arange(len(matrix)))
    before = np.minimum(position.astype(np.int64), len(matrix) - 2)
    part = (position - before)[:, None]
    return matrix[before] * (1 - part) + matrix[before + 1] * part


def lengths(path: Floats) -> Floats:
    """Return the length of a path up to each of its points."""
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])


def smooth(rows: Floats) -> Floats:
    """Return running means over up to CUT rows to either side, fewer towards the ends, which stay in place."""
    total = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows, axis=0)])
    i = np.arange(len(rows))
    reach = np.minimum(CUT, np.minimum(i, i[::-1]))
    return (total[i + reach + 1] - total[i - reach]) / (2 * reach + 1)[:, None]


def build(classes: list[list[Variant]]) -> SimpleNamespace:
    """Return the shapes of C classes, each given as its variants: G shapes of at most K control points, padded."""
    parsed = [[parse(stroke) for stroke in variant] for variants in classes for variant in variants]
    count = np.array([len(variants) for variants in classes])
    size = (len(parsed), max(sum(len(points) for points, _ in variant) for variant in parsed))
    shapes = SimpleNamespace(
        first=np.cumsum(count) - count,  # (C,) the shapes of a class follow one another: its first one,
        count=count,  # and how many it has
        strokes=max(len(variant) for variant in parsed),  # the most that a shape has
        control=np.zeros((*size, 2)),  # in the unit square
        stroke=np.zeros(size, np.int64),  # which stroke a control point belongs to
        middle=np.zeros((*size, 2)),  # of that stroke
        along=np.zeros(size),  # 0 at the stroke's start, 1 at its end
        start=np.zeros((*size, 2)),  # at a stroke's first point the unit vector that prolongs it, elsewhere 0
        finish=np.zeros((*size, 2)),  # the same at its last point
        careful=np.zeros((size[0], POINTS, size[1])),  # control points -> evenly spaced points of all strokes
        hurried=np.zeros((size[0], POINTS, size[1])),  # the same with corners cut
        progress=np.zeros((size[0], POINTS)),  # 0 at the start of a stroke, 1 at its end
    )
    for g, variant in enumerate(parsed):
        matrices = [spline(points, corners) for points, corners in variant]
        ends = np.cumsum([lengths(m @ points)[-1] for m, (points, _) in zip(matrices, variant, strict=True)])
        # each stroke gets its share of the points; rounding the cumulated lengths keeps the sum
        stops = [0, *np.round(ends / ends[-1] * POINTS).astype(int)]
        columns = np.cumsum([0, *(len(points) for points, _ in variant)])
        for number, ((points, _), matrix) in enumerate(zip(variant, matrices, strict=True)):
            rows, here = slice(*stops[number : number + 2]), slice(*columns[number : number + 2])
            shapes.control[g, here], shapes.stroke[g, here] = points, number
            shapes.middle[g, here] = (points.min(0) + points.max(0)) / 2
            shapes.along[g, here] = lengths(points) / lengths(points)[-1]
            shapes.start[g, here.start] = _unit(points[0] - points[1])
            shapes.finish[g, here.stop - 1] = _unit(points[-1] - points[-2])
            shapes.careful[g, rows, here] = even(matrix, points, rows.stop - rows.start)
            shapes.hurried[g, rows, here] = smooth(shapes.careful[g, rows, here])
            shapes.progress[g, rows] = np.linspace(0, 1, rows.stop - rows.start)
    return shapes


def _unit(vector: Floats) -> Floats:
    return vector / np.linalg.norm(vector)
