"""Learn how strokes that people draw differ from a common form, and print the numbers that `synthesis.hanzi` uses.

    python tools/learn_deformations.py --omniglot strokes.zip --tomoe all.tdic

Omniglot (Lake et al., Science 350, 2015; MIT) has the same characters drawn by twenty people, so it tells how people
differ from each other. tomoe_data (Hiroyuki Komatsu; CC BY 4.0) has one hand's strokes of 1,697 of the 3,755
characters, so it tells how far a hand goes from print where there are many strokes. First the pose of each whole
drawing is removed, by the affine map that fits it best to the common form.
"""

import argparse
import collections
import json
import re
import zipfile
from pathlib import Path

import numpy as np

from hwr_utils.synthesis import medians
from hwr_utils.synthesis.strokes import Floats

POINTS = medians.POINTS
ALONG = np.linspace(0, 1, POINTS)
BELLY = 4 * ALONG * (1 - ALONG)


def posed(paths: Floats, form: Floats) -> Floats:
    """Return paths moved by the affine map that brings them nearest to a form of the same shape."""
    flat = np.concatenate([paths.reshape(-1, 2), np.ones((paths.size // 2, 1))], axis=1)
    return (flat @ np.linalg.lstsq(flat, form.reshape(-1, 2), rcond=None)[0]).reshape(paths.shape)


def differences(paths: Floats, form: Floats) -> Floats:
    """Return (S, 7) of each stroke: shift x and y, growth, turn, bow, sway, and what is left (a root mean square)."""
    centre, middle = paths.mean(1, keepdims=True), form.mean(1, keepdims=True)
    a, b = paths - centre, form - middle
    size = np.maximum((b * b).sum((1, 2)), 1e-6)
    grow = (a * b).sum((1, 2)) / size
    turn = (a[..., 1] * b[..., 0] - a[..., 0] * b[..., 1]).sum(1) / size
    rest = a - b * grow[:, None, None] - b[..., ::-1] * (-1, 1) * turn[:, None, None]
    chord = form[:, -1] - form[:, 0]
    across = chord[:, ::-1] * (-1, 1) / np.maximum((chord**2).sum(1, keepdims=True), 1e-4)
    off = (rest * across[:, None]).sum(-1)  # in chords
    curves = np.stack([BELLY - BELLY.mean(), BELLY * (1 - 2 * ALONG)])
    fitted = off @ np.linalg.pinv(curves)
    rest = rest - (fitted @ curves)[..., None] * (chord[:, ::-1] * (-1, 1))[:, None]
    left = np.sqrt((rest**2).mean((1, 2)))
    return np.column_stack([(centre - middle)[:, 0], grow - 1, turn, fitted, left])


def omniglot(path: Path) -> dict[str, list[Floats]]:
    """Return the drawings of each character that have the most usual number of strokes."""
    found: dict[str, list[list[Floats]]] = collections.defaultdict(list)
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".txt"):
                parts = archive.read(name).decode().replace("START", "").split("BREAK")
                strokes = [np.array([line.split(",")[:2] for line in part.split()], float) for part in parts]
                found[name.rsplit("/", 1)[0]].append([s * (1, -1) for s in strokes if len(s) > 1])
    forms = {}
    for name, drawings in found.items():
        usual = collections.Counter(map(len, drawings)).most_common(1)[0][0]
        forms[name] = [medians.unit(d) for d in drawings if len(d) == usual]
    return forms


def tomoe(path: Path) -> dict[str, Floats]:
    """Return the strokes of each character."""
    found = {}
    for block in path.read_text("utf-8").strip().split("\n\n"):
        character, _, *lines = block.split("\n")
        strokes = [np.array(re.findall(r"\((\d+) (\d+)\)", line), float) for line in lines]
        if all(len(s) > 1 for s in strokes):
            found[character] = medians.unit(strokes)
    return found


def deviation(values: Floats) -> float:
    """Return half the width of the middle 68 % of values: their standard deviation, unmoved by slips of the pen."""
    low, high = np.quantile(values, [0.16, 0.84])
    return float(high - low) / 2


def summarise(per_drawing: list[Floats]) -> dict[str, object]:
    """Return the deviations of all strokes, the neighbours' correlation of shifts, and how loose drawings are."""
    every = np.concatenate(per_drawing)
    pairs = np.concatenate([np.stack([d[:-1, :2], d[1:, :2]], axis=1) for d in per_drawing])
    loose = np.array([np.sqrt((d[:, :2] ** 2).mean()) for d in per_drawing])
    names = ("shift_x", "shift_y", "grow", "turn", "bow", "sway")
    return {
        "drawings": len(per_drawing),
        "strokes": len(every),
        **{name: round(deviation(every[:, n]), 4) for n, name in enumerate(names)},
        "left": round(float(np.median(every[:, 6])), 4),
        "neighbours": round(float(np.corrcoef(pairs[:, 0].ravel(), pairs[:, 1].ravel())[0, 1]), 3),
        "looseness": np.round(np.quantile(loose / np.median(loose), [0.1, 0.5, 0.9]), 2).tolist(),
    }


def main() -> None:
    """Learn from both sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--omniglot", type=Path, required=True)
    parser.add_argument("--tomoe", type=Path, required=True)
    arguments = parser.parse_args()
    people = collections.defaultdict(list)
    for drawings in omniglot(arguments.omniglot).values():
        if len(drawings) < 8 or len(drawings[0]) < 2:
            continue
        form = drawings[0]
        for _ in range(3):
            form = np.median([posed(d, form) for d in drawings], axis=0)
        for drawing in drawings:
            fitted = posed(drawing, form)
            if np.abs(fitted - form).mean() < 0.08:  # else other strokes, or the same in another order
                people[min(len(form), 5)].append(differences(fitted, form))
    for strokes in sorted(people):
        print(f"omniglot, {strokes} strokes:", json.dumps(summarise(people[strokes])))
    hand = collections.defaultdict(list)
    for character, paths in tomoe(arguments.tomoe).items():
        try:
            form = medians.read(character).paths
        except ValueError:
            continue
        if form.shape == paths.shape:
            form = medians.unit(list(form))
            fitted = posed(paths, form)
            if np.abs(fitted - form).mean() < 0.08:
                hand[min(len(form) // 4 * 4, 16)].append(differences(fitted, form))
    for strokes in sorted(hand):
        print(f"tomoe, {strokes} strokes or more:", json.dumps(summarise(hand[strokes])))


if __name__ == "__main__":
    main()
