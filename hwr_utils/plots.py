"""Figures that notebooks and run pages share: on a white card for light and dark pages, in a font that has hanzi."""

import re
from base64 import b64encode
from collections.abc import Mapping
from html import escape
from pathlib import Path

import matplotlib.pyplot as plt
import mplfonts
import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import HTML, display
from matplotlib import font_manager
from matplotlib.figure import Figure

from hwr_utils import records
from hwr_utils.results import Run

# Okabe and Ito's colours, told apart with any colour vision
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"

# The package mplfonts only ships the file: its own activation would rewrite the user's matplotlib configuration.
font_manager.fontManager.addfont(Path(mplfonts.__file__).parent / "fonts" / "NotoSansCJKsc-Regular.otf")
sns.set_theme(style="whitegrid", palette=[BLUE, ORANGE, GREEN, RED])  # of all figures, once this is imported
plt.style.use(Path(__file__).with_suffix(".mplstyle"))


def plain(text: str, figure: bool = False) -> str:
    """Escape a name that somebody else has given, for instance a class or a processor, so that it is shown as it is.

    In a figure a pair of $ would begin a formula. Without `figure` it is for Markdown, where < and * have a meaning.
    """
    return text.replace("$", r"\$") if figure else re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text)


def show_table(frame: pd.DataFrame, caption: str, index: bool = True) -> None:
    """Show a data frame in a notebook as a table with a caption; its cells are shown as they are."""
    sentences = frame.map(lambda cell: len(str(cell)) > 30).any(axis=None)  # which should wrap, as numbers should not
    if index and frame.index.nlevels == frame.columns.nlevels == 1:  # the index's name beside those of the columns
        frame = frame.rename_axis(index=None, columns=str(frame.index.name or frame.columns.name or ""))
    with pd.option_context("display.max_colwidth", None):
        table = frame.to_html(index=index, border=0, na_rep="–", classes="sentences" if sentences else None)
    display(HTML(table.replace(">", f"><caption>{escape(caption)}</caption>", 1)))


def offer(contents: Mapping[str, str]) -> None:
    """Show links in a notebook, and in the page made of it, that save texts as files; their names are the keys."""
    links = [
        f'<a download="{name}" href="data:text/plain;charset=utf-8;base64,{b64encode(content.encode()).decode()}">'
        f"{name}</a>"
        for name, content in contents.items()
    ]
    display(HTML(f"<p>Save the table: {', '.join(links)}</p>"))


def history(run: Run) -> Figure:
    """Draw loss and accuracy over the epochs, training beside validation, and mark the epoch that was kept.

    Of a run without validation the test set is drawn beside training: the last epoch counts, and nothing was chosen.
    """
    rows, best = run.history, run.record["best_epoch"]
    held_out = "validation" if "validation" in run.record else "test"
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4))
    for axis, name in zip(axes, ("loss", "accuracy"), strict=True):
        axis.plot(rows["epoch"], rows[f"train_{name}"], color=ORANGE, marker=".", label="training")
        axis.plot(rows["epoch"], rows[f"validation_{name}"], color=BLUE, marker=".", label=held_out)
        axis.axvline(best, color="0.4", linestyle=":", label=f"kept: epoch {best}")
        axis.set(xlabel="epoch", title=name.capitalize())
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0].set(ylabel="mean cross-entropy (nats)", ylim=(0, None))
    axes[1].set(ylabel="share of images right")
    axes[0].legend()
    return figure


def confusion(run: Run) -> Figure | None:
    """Draw the errors on the test set: the share of each true class that went to each other one.

    None for more than 48 classes, whose names cannot be read: `evaluation.most_confused` lists the worst pairs.
    """
    if len(run.classes) > 48:
        return None
    counts, classes = run.confusion, [plain(name, figure=True) for name in run.classes]
    share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(share, np.nan)  # the right answers would outshine the errors
    size = max(5.0, 0.28 * len(classes) + 1.5)
    figure, axis = plt.subplots(figsize=(size + 1, size))
    sns.heatmap(
        share,
        cmap="rocket_r",
        square=True,
        linewidths=0.3,
        rasterized=True,  # in an SVG thousands of squares would take half a megabyte
        linecolor="0.9",
        vmin=0,
        xticklabels=classes,
        yticklabels=classes,
        cbar_kws={"label": "% of the true class", "shrink": 0.8},
        ax=axis,
    )
    axis.set(xlabel="predicted", ylabel="true", title="Where the errors went")
    axis.tick_params(rotation=0)
    axis.grid(visible=False)
    return figure


def gallery(run: Run) -> Figure | None:
    """Show the 24 errors the model was surest of, as "true→predicted"; None where the images may not be shown."""
    path = run.folder / "errors.npz"
    if not path.exists() or len((content := records.read_arrays(path))["index"]) == 0:
        return None
    n = min(24, len(content["index"]))
    columns = min(12, n)
    rows = -(-n // columns)
    figure, axis = plt.subplots(figsize=(0.82 * columns, 1.07 * rows))  # one for all: 24 would take seconds to lay out
    errors = zip(content["images"][:n], content["labels"], content["predicted"], strict=False)
    for place, (image, label, predicted) in enumerate(errors):
        left, top = place % columns, 1.3 * (place // columns)
        extent = (left + 0.05, left + 0.95, top + 1.2, top + 0.3)
        axis.imshow(image, cmap="gray_r", vmin=0, vmax=255, interpolation="nearest", extent=extent)
        title = plain(f"{run.classes[label]}→{run.classes[predicted]}", figure=True)
        axis.text(left + 0.5, top + 0.24, title, fontsize=10, horizontalalignment="center")
    axis.set(xlim=(0, columns), ylim=(1.3 * rows, 0))
    axis.set_axis_off()
    return figure
