"""The pen strokes of each character: `strokes.json` read, and its control points turned into smooth curves.

The file maps a character to its variants. A variant is a list of strokes; a stroke is a string of control points `x,y`
on a square of side 100 with y downwards, in writing order; `!` after a point is a sharp corner. The curve passes
through every point. All points were typed for this project.
"""

import functools
import json
from dataclasses import dataclass
from importlib import resources

import numpy as np
import numpy.typing as npt

from hwr_utils.errors import InputError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PATH = 128  # points on the curves of one character, all strokes together: under 1 pixel apart on a 28x28 image
SPACING = 0.02  # of the unit square, between the points of a stroke that `strokes_for` returns


@functools.cache
def source() -> str:
    """Return the text of strokes.json."""
    return resources.files(__package__).joinpath("strokes.json").read_text("utf-8")


@functools.cache
def table() -> dict[str, dict[str, list[list[str]]]]:
    """Return strokes.json: section -> character -> variants -> strokes as typed."""
    content: dict[str, dict[str, list[list[str]]]] = json.loads(source())
    return content


def strokes_for(character: str) -> list[list[Floats]]:
    """Return every variant of a character as the paths of a pen.

    Args:
        character: a digit, a letter (capital and small are separate characters here) or a basic hiragana.

    Returns:
        A list of variants, each a list of strokes in writing order, each an (M, 2) float64 array of x, y in the unit
        square, y downwards, its points evenly spaced about 0.02 apart.

    Raises:
        InputError: the project has no strokes for this character.
    """
    for characters in table().values():
        if character in characters:
            return [[_path(stroke) for stroke in variant] for variant in characters[character]]
    known = "".join(character for characters in table().values() for character in characters)
    raise InputError(f"no strokes for {character!r}: the project draws one of these characters: {known}")


def parse(stroke: str) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return a typed stroke's control points (K, 2) in the unit square and which of them are corners (K,)."""
    words = stroke.split()
    points = np.array([[float(number) for number in word.rstrip("!").split(",")] for word in words]) / 100
    return points, np.array([word.endswith("!") for word in words])


def spline(points: Floats, corners: npt.NDArray[np.bool_]) -> Floats:
    """Return the matrix (R, K) that turns K control points into R points of the smooth curve through them.

    The curve is a centripetal Catmull-Rom spline, which makes no loops or cusps of its own, broken at the corners. Its
    knots come from `points`; with them fixed it is linear in the control points, so that one matrix serves every
    deformed copy of the character.
    """
    count = len(points)
    breaks = [0, *(np.flatnonzero(corners[1:-1]) + 1), count - 1]
    u = np.linspace(0, 1, 16, endpoint=False)[:, None]
    rows = []
    for first, last in zip(breaks, breaks[1:], strict=False):
        unit = np.eye(count)[first : last + 1]
        steps = np.sqrt(np.linalg.norm(np.diff(points[first : last + 1], axis=0), axis=1))[:, None]
        slopes = np.diff(unit, axis=0) / steps
        tangents = np.empty_like(unit)
        tangents[1:-1] = (steps[1:] * slopes[:-1] + steps[:-1] * slopes[1:]) / (steps[1:] + steps[:-1])
        # ends without curvature; a piece of two points becomes a straight line
        tangents[0] = 1.5 * slopes[0] - 0.5 * tangents[1] if len(unit) > 2 else slopes[0]
        tangents[-1] = 1.5 * slopes[-1] - 0.5 * tangents[-2] if len(unit) > 2 else slopes[0]
        for i, step in enumerate(steps):
            rows.append(
                (1 + 2 * u) * (1 - u) ** 2 * unit[i]
                + u * (1 - u) ** 2 * step * tangents[i]
                + u**2 * (3 - 2 * u) * unit[i + 1]
                - u**2 * (1 - u) * step * tangents[i + 1]
            )
    return np.concatenate([*rows, np.eye(count)[-1:]])


def even(matrix: Floats, points: Floats, count: int) -> Floats:
    """Return `count` rows of a spline matrix whose points lie evenly spaced along the curve, both ends kept."""
    length = _length(matrix @ points)
    position = np.interp(np.linspace(0, length[-1], count), length, np.arange(len(matrix)))
    before = np.minimum(position.astype(np.int64), len(matrix) - 2)
    part = (position - before)[:, None]
    return matrix[before] * (1 - part) + matrix[before + 1] * part


def _length(path: Floats) -> Floats:
    """Return the length of a path up to each of its points."""
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])


def _smooth(rows: Floats, reach: int = 10) -> Floats:
    """Return running means over up to `reach` rows to either side, fewer towards the ends, which stay in place."""
    total = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows, axis=0)])
    i = np.arange(len(rows))
    near = np.minimum(reach, np.minimum(i, i[::-1]))
    return (total[i + near + 1] - total[i - near]) / (2 * near + 1)[:, None]


def _path(stroke: str) -> Floats:
    points, corners = parse(stroke)
    matrix = spline(points, corners)
    return even(matrix, points, int(_length(matrix @ points)[-1] / SPACING) + 2) @ points


@dataclass(frozen=True)
class Shapes:
    """The variants of a set of classes as arrays: G shapes of at most K control points and S strokes.

    Rows are padded with copies of the last control point, which no curve uses.
    """

    first: Ints  # (C,) each class's shapes follow one another: its first one
    count: Ints  # (C,) and how many it has
    strokes: int  # S
    control: Floats  # (G, K, 2) in the unit square
    stroke: Ints  # (G, K) the stroke of each control point
    centre: Floats  # (G, K, 2) the middle of that stroke
    along: Floats  # (G, K) 0 at the stroke's start, 1 at its end
    start: Floats  # (G, K, 2) unit vector out of the stroke at its first control point, else 0
    finish: Floats  # (G, K, 2) the same at its last
    curve: Floats  # (G, PATH, K) control points -> evenly spaced points of all strokes
    hurried: Floats  # the same, with corners cut: running means along each stroke
    progress: Floats  # (G, PATH) 0 at the start of a stroke, 1 at its end


def build(classes: list[list[list[str]]]) -> Shapes:
    """Return the arrays for classes, each given as its list of typed variants."""
    rows = [_shape(variant) for variants in classes for variant in variants]
    count = np.array([len(variants) for variants in classes])
    most = max(len(row["along"]) for row in rows)

    def stack(name: str, axis: int = 0) -> Floats:
        arrays = []
        for row in rows:
            width = [(0, 0)] * row[name].ndim
            width[axis] = (0, most - row[name].shape[axis])
            mode = "constant" if name in ("curve", "hurried", "start", "finish") else "edge"
            arrays.append(np.pad(row[name], width, mode=mode))  # type: ignore[call-overload]
        return np.stack(arrays)

    return Shapes(
        first=np.cumsum(count) - count,
        count=count,
        strokes=max(len(variant) for variants in classes for variant in variants),
        control=stack("control"),
        stroke=stack("stroke").astype(np.int64),
        centre=stack("centre"),
        along=stack("along"),
        start=stack("start"),
        finish=stack("finish"),
        curve=stack("curve", axis=1),
        hurried=stack("hurried", axis=1),
        progress=np.stack([row["progress"] for row in rows]),
    )


def _shape(variant: list[str]) -> dict[str, Floats]:
    """Return one variant's rows of `Shapes`, before padding."""
    parsed = [parse(stroke) for stroke in variant]
    matrices = [spline(points, corners) for points, corners in parsed]
    lengths = np.array([_length(m @ p)[-1] for m, (p, _) in zip(matrices, parsed, strict=True)])
    # every stroke gets its share of the points; rounding up or down by cumulated length keeps the sum at PATH
    counts = np.diff(np.round(np.cumsum([0, *lengths]) / lengths.sum() * PATH).astype(int))
    total = sum(len(points) for points, _ in parsed)
    curve, hurried = np.zeros((PATH, total)), np.zeros((PATH, total))
    parts: dict[str, list[Floats]] = {
        name: [] for name in ("control", "stroke", "centre", "along", "start", "finish", "progress")
    }
    row = column = 0
    for number, ((points, _), matrix, count) in enumerate(zip(parsed, matrices, counts, strict=True)):
        rows = even(matrix, points, count)
        curve[row : row + count, column : column + len(points)] = rows
        hurried[row : row + count, column : column + len(points)] = _smooth(rows)
        row, column = row + count, column + len(points)
        length = _length(points)
        path = matrix @ points
        start, finish = np.zeros_like(points), np.zeros_like(points)
        start[0] = (path[0] - path[1]) / np.linalg.norm(path[0] - path[1])
        finish[-1] = (path[-1] - path[-2]) / np.linalg.norm(path[-1] - path[-2])
        parts["control"].append(points)
        parts["stroke"].append(np.full(len(points), float(number)))
        parts["centre"].append(np.broadcast_to((points.min(0) + points.max(0)) / 2, points.shape))
        parts["along"].append(length / length[-1])
        parts["start"].append(start)
        parts["finish"].append(finish)
        parts["progress"].append(np.linspace(0, 1, count))
    return {"curve": curve, "hurried": hurried, **{name: np.concatenate(arrays) for name, arrays in parts.items()}}
