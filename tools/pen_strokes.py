"""Read strokes of a pen with the playground's models, as its page does: results/benchmarks/pen-strokes.json.

    python tools/pen_strokes.py [--omniglot strokes.zip]

KanjiVG's strokes (CC BY-SA 3.0) are the package `kanjivg`: one person drew each character as a template, in the forms
of Japan. Omniglot's (MIT, https://github.com/brendenlake/omniglot) were drawn with a mouse by ten people; the small
letters of its Latin alphabet are read by the model for letters. No network learned from either. Without `--omniglot`
its row is kept.
"""

import argparse
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT / "book"), str(ROOT / "tests")]

import playground  # noqa: E402
import strokes  # noqa: E402
from hwr_utils import files, records  # noqa: E402
from hwr_utils.device import canvas, recognizer  # noqa: E402

RECORD = ROOT / "results" / "benchmarks" / "pen-strokes.json"
LATIN = re.compile(r"Latin/character(\d\d)/\d+_(?:0\d|10)\.txt$")  # of the first ten people


def main() -> None:
    """Read all of them, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--omniglot", type=Path, help="a zip archive with the strokes of Omniglot's Latin alphabet")
    archive = parser.parse_args().omniglot
    rows = []
    for model in playground.models():
        known = [one for one in model.description["classes"] if strokes.has(one)]
        rows.append(measure(model, "KanjiVG", ((one, strokes.read(one)) for one in known)))
        if archive and model.entry["name"] == "letters":
            rows.append(measure(model, "Omniglot", latin(archive)))
    old = records.read_json(RECORD)["rows"] if RECORD.exists() else []
    rows += [row for row in old if row["source"] == "Omniglot" and not archive]
    files.write_json(RECORD, {"created": records.now(), "rows": rows})


def measure(model: playground.Model, source: str, drawn: Iterable[tuple[str, list[strokes.Stroke]]]) -> dict[str, Any]:
    """Count what a model reads of characters with their strokes, drawn with the pen that the page begins with."""
    reader, told = recognizer.load(model.file), []
    for character, drawing in drawn:
        image = canvas.prepare(drawing, model.entry["pen"], **reader.form)
        logits = reader.logits(image)
        best = [reader.classes[place] for place in np.argsort(-logits, kind="stable")[:10]]
        told.append((best[0] == character, character in best, not reader.rejector.accepts(logits, image)))
    right, among, declined = (int(column) for column in np.sum(told, axis=0))
    head = {"model": model.entry["name"], "run": model.file.parent.name, "source": source, "n": len(told)}
    return head | {"correct": right, "top10": among, "declined": declined}


def latin(archive: Path) -> Iterator[tuple[str, list[strokes.Stroke]]]:
    """Yield the letters of Omniglot's Latin alphabet with their strokes: lines `x,y,time`, y upwards from below 0."""
    with zipfile.ZipFile(archive) as content:
        for name in sorted(content.namelist()):
            if found := LATIN.search(name):
                parts = content.read(name).decode().split("BREAK")
                lines = [re.findall(r"(-?[\d.]+),(-?[\d.]+),", part) for part in parts]
                yield chr(64 + int(found[1])), [[(float(x), -float(y)) for x, y in one] for one in lines if one]


if __name__ == "__main__":
    main()
