"""Turn the strokes of a pen into the picture that a network takes. What the playground's page does, in Python.

`book/playground/preprocessing.js` is the same in JavaScript, and a test compares the two pixel by pixel. Everything up
to the drawn picture is plain arithmetic in a fixed order, so that both give the same bytes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hwr_utils import preprocessing
from hwr_utils.errors import InputError

SIDE = 128  # pixels of the drawn picture, more than twice what any network takes
EDGE = 2  # pixels left free around the ink
SMALLEST = 0.02  # of the pad: what is smaller is a dot and is not blown up to a character

Stroke = Sequence[tuple[float, float]]  # x and y in 0..1 of the pad, y downwards


def draw(strokes: Sequence[Stroke], pen: float) -> NDArray[np.uint8]:
    """Draw strokes as large as fits with a round pen into (SIDE, SIDE) uint8, white on black.

    The width of the `pen` is a part of the longer side of the ink; an InputError where it is not above 0 and at most
    0.5. A stroke of one point is a dot.
    """
    if not 0 < pen <= 0.5:
        raise InputError(f"pen={pen} is out of range, expected a part of the character's size: above 0, at most 0.5.")
    picture = np.zeros((SIDE, SIDE))
    if points := [point for stroke in strokes for point in stroke]:
        box = SIDE - 2 * EDGE
        radius = pen * box / 2
        lows, highs = ([end(point[axis] for point in points) for axis in (0, 1)] for end in (min, max))
        longer = max(highs[0] - lows[0], highs[1] - lows[1], SMALLEST)
        scale = (box - 2 * radius) / longer
        middle = [(low + high) / 2 for low, high in zip(lows, highs, strict=True)]
        lines = []
        for stroke in strokes:
            placed = [((x - middle[0]) * scale + SIDE / 2, (y - middle[1]) * scale + SIDE / 2) for x, y in stroke]
            lines += [(*a, *b) for a, b in zip(placed, placed[1:] or placed, strict=False)]
        _ink(picture, np.array(lines), radius)
    return (picture * 255 + 0.5).astype(np.uint8)  # cutting off the rest rounds, halves up


def _ink(picture: NDArray[np.float64], lines: NDArray[np.float64], radius: float) -> None:
    """Ink the pixels around lines (S, 4) from a to b: fully within the radius, less over the one pixel at the rim."""
    first = np.minimum(lines[:, :2], lines[:, 2:]) - radius - 1
    longest = np.abs(lines[:, :2] - lines[:, 2:]).max(1) + 2 * radius + 4
    sizes = np.minimum(np.ceil(longest / 4) * 4, SIDE).astype(int)  # of the window around each line
    for size in np.unique(sizes).tolist():  # lines of about the same size, all in one go
        corners = np.clip(first[sizes == size], 0, SIDE - size).astype(int)
        left, top = corners.T[:, :, None] + np.arange(size)
        x, y = left[:, None, :] + 0.5, top[:, :, None] + 0.5
        ax, ay, bx, by = lines[sizes == size].T[:, :, None, None]
        dx, dy = bx - ax, by - ay
        length = dx * dx + dy * dy
        along = np.clip(((x - ax) * dx + (y - ay) * dy) / np.where(length > 0, length, 1), 0, 1)
        off_x, off_y = x - (ax + along * dx), y - (ay + along * dy)
        coverage = np.clip(radius + 0.5 - np.sqrt(off_x * off_x + off_y * off_y), 0, 1)
        for (column, row), one in zip(corners.tolist(), coverage, strict=True):
            window = picture[row : row + size, column : column + size]
            np.maximum(window, one, out=window)


def prepare(strokes: Sequence[Stroke], pen: float, size: int, margin: int, centre: str) -> NDArray[np.uint8]:
    """Return drawn strokes in the form of a data set's images, as `preprocessing.prepare` does with a picture's ink."""
    return preprocessing.prepare(draw(strokes, pen), size, margin, centre)


def pen_width(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the width of the pen in each of (N, H, W) images, as a part of the longer side of the ink.

    A long line of width w has w / 2 of ink for each pixel of its two edges, and the sum of all changes of brightness is
    the length of the edges. Corners and crossings make the result a little too small, equally so for everyone.
    """
    padded = np.pad(images.astype(np.float64), ((0, 0), (1, 1), (1, 1)))
    across, down = np.diff(padded, axis=2)[:, :-1], np.diff(padded, axis=1)[:, :, :-1]
    edges = np.sqrt(across * across + down * down).sum((1, 2))
    ink = images > preprocessing.INK
    longer = np.maximum(*(ink.any(axis).sum(1) for axis in (1, 2)))
    width: NDArray[np.float64] = 2 * images.sum((1, 2), dtype=np.float64) / np.maximum(edges, 1) / np.maximum(longer, 1)
    return width
