"""Draw what the generated pages show, and cut the font that pages need for kana, hanzi and hangul."""

import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt

from hwr_utils import files, plots
from hwr_utils.results import Run

# hangul jamo, radicals to hanzi, hangul, compatibility ideographs, full-width forms: the ranges of book.css
CJK = re.compile("[\u1100-\u11ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]")


def run(of: Run, folder: Path, cache: Path) -> dict[str, str]:
    """Draw a run's figures into a folder, or take them from the cache where neither run nor code has changed.

    Returns:
        Name of the figure -> file name.
    """
    sources = [*sorted(of.folder.glob("*.npz")), of.folder / "record.json", Path(plots.__file__), Path(__file__)]
    drawn = cache / files.sha256(" ".join(map(files.sha256, sources)).encode())
    if not (drawn / "done").exists():
        drawn.mkdir(parents=True, exist_ok=True)
        for name in ("history", "confusion", "gallery"):
            figure = getattr(plots, name)(of)
            if figure is not None:
                figure.savefig(drawn / f"{name}.png", dpi=150)
                plt.close(figure)
        (drawn / "done").touch()
    pictures = sorted(drawn.glob("*.png"))
    for path in pictures:
        shutil.copy2(path, folder / path.name)
    return {path.stem: path.name for path in pictures}


def benchmark(record: Mapping[str, Any], path: Path) -> None:
    """Draw the rate of both loops in every round of a training benchmark."""
    plots.use_style()
    figure, axis = plt.subplots(figsize=(7.5, 3.2))
    images = record["config"]["images"]
    for name, label, style in (("ours", "this study", "o-"), ("usual", "usual loop", "s--")):
        rates = [images / seconds for seconds in record[name]["seconds"]]
        axis.plot(range(1, len(rates) + 1), rates, style, label=label)
    axis.set(xlabel="round", ylabel="images a second", xticks=range(1, len(rates) + 1), ylim=(0, None))
    axis.legend(loc="lower right")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def font(texts: Iterable[str], path: Path, cache: Path) -> None:
    """Write a font with the CJK characters of some texts, so that a machine without one shows them as well.

    The face is Noto Sans CJK, under the SIL Open Font License, which travels in the file.
    """
    import mplfonts
    from fontTools import subset  # type: ignore[import-untyped]

    found = "".join(sorted({char for text in texts for char in CJK.findall(text)}))
    source = Path(mplfonts.__file__).parent / "fonts" / "NotoSansCJKsc-Regular.otf"
    cut = cache / f"{files.sha256(found.encode())}.otf"
    if not cut.exists():
        options = subset.Options(layout_features=[], name_IDs=["*"], notdef_outline=True)
        with subset.load_font(str(source), options, dontLoadGlyphNames=True) as whole:
            cutter = subset.Subsetter(options)
            cutter.populate(text=found or " ")
            cutter.subset(whole)
            cache.mkdir(parents=True, exist_ok=True)
            subset.save_font(whole, str(cut), options)
    shutil.copy2(cut, path)
