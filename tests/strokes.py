"""Strokes that no network was trained on: KanjiVG's, of one hand, with digits, letters, kana and hanzi by code point.

They are the package `kanjivg` (CC BY-SA 3.0), which tests read where it is installed; nothing of it is kept here. It is
Japanese: where a hanzi is written otherwise in China, the code point is the same and the strokes are not.
"""

import re
from functools import cache
from importlib import metadata
from pathlib import Path

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
    words = re.findall(r"[A-Za-z]|[-+]?(?:\d*\.\d+|\d+\.?)(?:e[-+]?\d+)?", path)
    points: list[complex] = []
    place = control = 0j
    command, at = "", 0

    def take(count: int) -> list[complex]:
        nonlocal at
        numbers = [float(word) for word in words[at : at + 2 * count]]
        at += 2 * count
        origin = place if command.islower() else 0j
        return [origin + complex(x, y) for x, y in zip(numbers[::2], numbers[1::2], strict=True)]

    while at < len(words):
        if words[at].isalpha():
            command, at = words[at], at + 1
        kind = command.lower()
        if kind in "ml":
            (place,) = take(1)
            control = place
            points.append(place)
            continue
        if kind == "c":
            first, second, end = take(3)
        elif kind == "s":
            first = 2 * place - control
            second, end = take(2)
        else:
            raise ValueError(f"{command!r} is no command that KanjiVG's paths have")
        for step in range(1, STEPS + 1):
            t = step / STEPS
            u = 1 - t
            points.append(u**3 * place + 3 * u * u * t * first + 3 * u * t * t * second + t**3 * end)
        place, control = end, second
    return [(point.real / PAD, point.imag / PAD) for point in points]
