"""Strokes that no network was trained on: KanjiVG's, of one hand, with digits, letters, kana and hanzi by code point.

They are the package `kanjivg` (CC BY-SA 3.0), which tests read where it is installed; nothing of it is kept here. It is
Japanese: where a hanzi is written otherwise in China, the code point is the same and the strokes are not.
"""

import re
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np
from fontTools.pens.recordingPen import RecordingPen
from fontTools.svgLib.path import parse_path

Stroke = list[tuple[float, float]]

PAD = 109  # side of KanjiVG's canvas
STEPS = 5  # straight pieces of each curve


@cache
def _folder() -> Path:
    files = metadata.files("kanjivg") or []
    return Path(str(next(file for file in files if file.suffix == ".svg").locate())).parent


def has(character: str) -> bool:
    """Tell whether there are strokes of a character."""
    return (_folder() / f"{ord(character):05x}.svg").is_file()


def read(character: str) -> list[Stroke]:
    """Return the strokes of a character in their order: points (x, y) in 0..1, y downwards."""
    text = (_folder() / f"{ord(character):05x}.svg").read_text(encoding="utf-8")
    return [flatten(path) for path in re.findall(r'<path\b[^>]*\bd="([^"]+)"', text)]


def flatten(path: str) -> Stroke:
    """Turn an SVG path of moves, lines and Bezier curves into points."""
    pen = RecordingPen()
    parse_path(path, pen)
    points: list[np.ndarray] = []
    for command, ends in pen.value:
        if command == "curveTo":
            corners = [points[-1], *map(np.array, ends)]
            t = np.arange(1, STEPS + 1)[:, None] / STEPS
            weights = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3
            points += [*sum(weight * corner for weight, corner in zip(weights, corners, strict=True))]
        elif command != "endPath":
            points += map(np.array, ends)
    return [(float(x), float(y)) for x, y in np.array(points) / PAD]
