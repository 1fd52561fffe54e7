"""The middle lines of hanzi strokes, from the npm package hanzi-writer-data, as arrays to draw from.

The package has a JSON file a character, whose `medians` are the strokes in writing order, each a list of points on a
grid of 1024 units, y upwards from 124 below the base line. It is derived from fonts of Arphic Technology by the project
Make Me a Hanzi, under the Arphic Public License. The set-up (`make setup`) installs it from package-lock.json.
"""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwr_utils import files
from hwr_utils.data.gnt import LEVEL_1
from hwr_utils.errors import InputError, reading
from hwr_utils.synthesis.strokes import Floats, Ints

PACKAGE = files.REPOSITORY / "node_modules" / "hanzi-writer-data"
LICENCE = "Arphic Public License"
SHA256 = "19c4674dc539ae3b6b3aa21028b6f2ffc03922f24e7c3ff74887e1f03300b26a"  # of the medians of all 3,755 characters
GRID, TOP = 1024, 900  # units a side, and where the upper edge lies
POINTS = 16  # on each stroke, at equal distances along it


@dataclass(frozen=True, eq=False)
class Strokes:
    """The S strokes of some characters, one after the other."""

    characters: str  # as many as were asked for, in that order
    paths: Floats  # (S, POINTS, 2) x and y in the unit square, y downwards
    first: Ints  # (len(characters) + 1,) the first stroke of each character, and S at the end
    sha256: str  # of the medians that were read, 64 hexadecimal digits


@functools.lru_cache(maxsize=4)
def read(characters: str, package: Path = PACKAGE) -> Strokes:
    """Read the strokes of characters; an InputError where the package lacks one, is damaged or not there."""
    found = [_medians(character, package) for character in characters]
    text = json.dumps(found, separators=(",", ":"))
    paths = (_resample([stroke for medians in found for stroke in medians]) * (1, -1) + (0, TOP)) / GRID
    first = np.cumsum([0, *map(len, found)])
    return Strokes(characters, paths, first, files.sha256(text.encode()))


def is_there(character: str, package: Path = PACKAGE) -> bool:
    """Tell whether a character is one of level 1, which the package should have, or another one that it has."""
    return character in LEVEL_1 or (package / f"{character}.json").is_file()


def verify(package: Path = PACKAGE) -> None:
    """Raise an InputError where the package lacks a character, or has other strokes than those that the study took."""
    if (found := read("".join(LEVEL_1), package).sha256) != SHA256:
        raise InputError(
            f"the strokes in {package} have the checksum {found[:12]}, expected {SHA256[:12]}: they are altered, or of "
            "another version. Remove node_modules, and run `make setup`."
        )


def stroke_counts(characters: str, package: Path = PACKAGE) -> list[int] | None:
    """Return how many strokes each character has as it is printed; None where the package is not installed."""
    return [len(_medians(character, package)) for character in characters] if package.is_dir() else None


def unit(strokes: list[Floats]) -> Floats:
    """Return strokes (M, 2) as (s, POINTS, 2): points at equal distances, all within the unit square, aspect kept."""
    paths = _resample([stroke.tolist() for stroke in strokes])
    low, high = paths.min((0, 1)), paths.max((0, 1))
    return (paths - (low + high) / 2) / max(float((high - low).max()), 1e-9) + 0.5


def _medians(character: str, package: Path) -> list[list[list[int]]]:
    path = package / f"{character}.json"
    remedy = "If it is a character of the package, remove node_modules, and run `make setup`."
    with reading(path, f"the strokes of {character!r}", remedy):
        medians: list[list[list[int]]] = json.loads(path.read_text("utf-8"))["medians"]
    return medians


def _resample(strokes: list[list[list[int]]]) -> Floats:
    """Return (s, POINTS, 2) points at equal distances along polylines, all in one go."""
    points = np.array([point for stroke in strokes for point in stroke], float)
    last = np.cumsum([len(stroke) for stroke in strokes]) - 1
    steps = np.sqrt((np.diff(points, axis=0) ** 2).sum(1))
    steps[last[:-1]] = GRID  # from a stroke's end to the next one's start: never asked for
    along = np.concatenate([[0], np.cumsum(steps)])
    end = along[last]
    start = np.concatenate([[0], end[:-1] + GRID])
    at = start[:, None] + (end - start)[:, None] * (np.arange(POINTS) / (POINTS - 1))
    return np.stack([np.interp(at, along, points[:, axis]) for axis in (0, 1)], axis=-1)


def halves(paths: Floats) -> Ints:
    """Cut a character's strokes (s, POINTS, 2) in two where the halves' boxes overlap least: 0 before, 1 after."""
    low, high = paths.min(1), paths.max(1)
    before = np.minimum.accumulate(low)[:-1], np.maximum.accumulate(high)[:-1]
    after = np.minimum.accumulate(low[::-1])[-2::-1], np.maximum.accumulate(high[::-1])[-2::-1]
    overlap = (np.minimum(before[1], after[1]) - np.maximum(before[0], after[0])).min(1)
    cut = np.arange(1, len(paths))
    # a clear gap, and halves of about as many strokes
    gain = np.where(overlap < 0.08, (0.3 - overlap) * np.sqrt(np.minimum(cut, len(paths) - cut)), 0)
    if not gain.any():
        return np.zeros(len(paths), np.int64)
    return (np.arange(len(paths)) >= cut[gain.argmax()]).astype(np.int64)
