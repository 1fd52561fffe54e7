"""Running hand: other shapes of the parts that many hanzi share, as `running.toml` lists them.

A part is known by its strokes: where strokes that follow each other in a character have nearly the shape that the part
has in print, they are that part.
"""

import functools
import tomllib
from pathlib import Path

import numpy as np

from hwr_utils.synthesis import medians
from hwr_utils.synthesis.medians import Strokes
from hwr_utils.synthesis.strokes import Floats, Ints

NEAR = 0.1  # of a part's box: how far its points are from those in print, in the mean, at most


@functools.lru_cache(maxsize=4)
def forms(strokes: Strokes) -> tuple[Floats, Ints]:
    """Return two running forms (2, S, POINTS, 2) of the strokes of some characters, and (S,) where each part begins.

    The two are the same for a part that has one form. A stroke of no part has its printed form, and -1.
    """
    found, begins = np.stack([strokes.paths, strokes.paths]), np.full(len(strokes.paths), -1)
    for printed, shapes in _parts():
        n = len(printed)
        starts = np.flatnonzero(strokes.owner[: len(begins) - n + 1] == strokes.owner[n - 1 :])
        boxed, low, sides = _boxed(strokes.paths[starts[:, None] + np.arange(n)])
        distance = np.sqrt(((boxed - printed) ** 2).sum(-1)).mean((1, 2))
        for place in np.flatnonzero(distance < NEAR):
            part = slice(starts[place], starts[place] + n)
            if (begins[part] < 0).all():
                begins[part] = part.start
                found[:, part] = low[place] + shapes * sides[place]
    return found, begins


@functools.cache
def _parts() -> list[tuple[Floats, Floats]]:
    """Return of each part its strokes in print (n, POINTS, 2), and two forms (2, n, POINTS, 2), in a box of side 1.

    Those of many strokes come first: 目 before the 日 in it.
    """
    found = []
    for part in tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8")).values():
        character, first, last = part["of"]
        printed, _, _ = _boxed(medians.read(character).paths[None, first:last])
        shapes = [medians.resample(form) for form in part["forms"]]
        found.append((printed[0], np.stack([shapes[0], shapes[-1]])))
    return sorted(found, key=lambda part: -len(part[0]))


def _boxed(parts: Floats) -> tuple[Floats, Floats, Floats]:
    """Stretch parts (k, n, POINTS, 2), each to a box of side 1; return them, and their corners and sides before."""
    low, high = parts.min((1, 2), keepdims=True), parts.max((1, 2), keepdims=True)
    sides = np.maximum(high - low, 1e-6)
    return (parts - low) / sides, low, sides
