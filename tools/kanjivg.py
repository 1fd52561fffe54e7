"""Draw KanjiVG's strokes as the page does for a model of the playground, and write them as a data set of one's own.

    python tools/kanjivg.py hiragana DATA_ROOT
    hwr evaluate results/RUN --on custom:kanjivg-hiragana --data-root DATA_ROOT

The strokes (CC BY-SA 3.0) are the package `kanjivg`. One person drew them as a template, in today's forms, and no
network learned from them. A data set has training images, too; here they are the same, and nothing reads them.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT / "book"), str(ROOT / "tests")]

import playground  # noqa: E402
import strokes  # noqa: E402
from hwr_utils import files  # noqa: E402
from hwr_utils.data import idx  # noqa: E402
from hwr_utils.device import canvas  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw KanjiVG's strokes as a data set.")
    parser.add_argument("name", help="of a model in config/playground.yaml whose images have 28 pixels a side")
    parser.add_argument("data_root", type=Path)
    arguments = parser.parse_args()
    model = next(one for one in playground.models() if one.entry["name"] == arguments.name)
    classes = [character for character in model.description["classes"] if strokes.has(character)]
    form = {name: model.description["image"][name] for name in ("size", "margin", "centre")}
    images = np.stack([canvas.prepare(strokes.read(one), model.entry["pen"], **form) for one in classes])
    folder = arguments.data_root / "custom" / f"kanjivg-{arguments.name}"
    for part in ("train", "t10k"):
        idx.write_idx(folder / f"{part}-images-idx3-ubyte.gz", images)
        idx.write_idx(folder / f"{part}-labels-idx1-ubyte.gz", np.arange(len(classes), dtype=np.uint8))
    files.write_text(folder / "classes.txt", "\n".join(classes) + "\n")
    print(f"{folder}: {len(classes)} characters")


if __name__ == "__main__":
    main()
