"""Measure what helps a network, trained on drawn hanzi alone, to read real ones: a row of a table for each trial.

    python tools/hanzi_ablation.py --real data/C016.gnt --real data/HWDB-subset --row both-full --seed 0

draws what the row needs (kept under --data), trains for a few minutes, reads the real characters of the classes in
play, and appends a line to results/hanzi-ablation.csv. Without --row it lists the rows. Real samples are only read;
nothing is trained on them, and they decide only which row is chosen. A row that is no longer listed, such as those of
the first, stronger augmentation, can be made again with the revision that its line names; but for those with other
fonts, which were made by a script that is not kept.
"""

import argparse
import contextlib
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from hwr_utils import files, models, recipes, results, runs, synthesis, training
from hwr_utils.data import gnt, hwdb
from hwr_utils.synthesis import hanzi

TABLE = results.RESULTS_DIR / "hanzi-ablation.csv"
CLASSES = 300  # with all of the HWDB subset's 64 among them
DRAWN, FONTS, BOTH = {"writers": 48}, {"writers": 0, "per_font": 8}, {"writers": 24, "per_font": 4}  # 48 hands each
BASE: dict[str, Any] = {
    "entry": "gray",
    "width": 32,
    "image_size": 40,
    "batch_size": 128,
    "epochs": 4,
    "learning_rate": 4e-3,
    "schedule": "cosine",
    "weight_decay": 0.02,
    "label_smoothing": 0.1,
    "ema": 0.99,
    "augmentation": "warp",
}
# name -> what is drawn, and what differs from BASE; None leaves a value out
ROWS: dict[str, tuple[dict[str, int], dict[str, Any]]] = {
    "drawn-plain": (DRAWN, {"augmentation": None}),
    "drawn-warp": (DRAWN, {}),
    "fonts-warp": (FONTS, {}),
    "both-plain": (BOTH, {"augmentation": None}),
    "both-warp": (BOTH, {}),
    "directions": (BOTH, {"entry": "directions"}),
    "two-views": (BOTH, {"entry": "straightened"}),
    "even-lines": (BOTH, {"entry": "equalised"}),
    "one-cell": (BOTH, {"cells": 1}),
    "nine-cells": (BOTH, {"cells": 3}),
    "rank-64": (BOTH, {"rank": 64}),
    "width-48": (BOTH, {"width": 48}),
    "56-px": (BOTH, {"image_size": 56}),
    "growing-24-to-40": (BOTH, {"start_size": 24}),
    "no-smoothing": (BOTH, {"label_smoothing": None}),
    "no-mean": (BOTH, {"ema": None}),
    "adam": (BOTH, {"weight_decay": None}),
    "inception": (BOTH, {"architecture": "inception_hccr"}),
    "more-hands": ({"writers": 96, "per_font": 16}, {"epochs": 2}),
}


def characters() -> str:
    """Return the characters in play, in the order of GB 2312."""
    subset = results.facts("hwdb-subset")["classes"]
    others = [c for c in synthesis.choose(CLASSES) if c not in subset]
    return synthesis.choose("".join(subset + others[: CLASSES - len(subset)]))


def read(paths: list[Path], folder: Path, playing: str) -> tuple[np.ndarray, np.ndarray]:
    """Import GNT files once into a folder, and return images (N, 56, 56) and labels (N,) of the characters in play."""
    if not hwdb.is_import(folder):
        hwdb.import_gnt(paths, folder, drop_others=True, workers=1)
    found = hwdb.read_import(folder)
    label = np.full(len(gnt.LEVEL_1), -1)
    label[[gnt.LEVEL_1.index(c) for c in playing]] = np.arange(len(playing))
    kept = np.flatnonzero(label[found.labels] >= 0)
    return found.images[kept], label[found.labels[kept]]


def main() -> None:
    """Measure one row with one seed, and append it to the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, action="append", default=[], help="GNT files to read; repeat it")
    parser.add_argument("--data", type=Path, default=files.REPOSITORY / "_build" / "ablation", help="for what is drawn")
    parser.add_argument("--row", choices=ROWS)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.row is None:
        print("\n".join(f"{name}: {drawn} {changed}" for name, (drawn, changed) in ROWS.items()))
        return
    drawn, changed = ROWS[arguments.row]
    playing = characters()
    place = arguments.data / "-".join(map(str, drawn.values()))
    folder = synthesis.write(synthesis.HANZI, place, classes=playing, **drawn)
    ours = hwdb.read_import(folder / "arrays")
    test = ours.parts == "test"
    label = np.searchsorted(np.unique(ours.labels), ours.labels)
    images = np.asarray(ours.images)
    real = [read([path], arguments.data / "real" / path.stem, playing) for path in arguments.real]
    architecture = changed.get("architecture", "compact_hccr")
    values = {key: value for key, value in (BASE | changed).items() if value is not None and key != "architecture"}
    model = recipes.MODEL_OPTIONS[architecture]
    config = recipes.RunConfig.from_dict(
        {
            "dataset": synthesis.HANZI,
            "architecture": architecture,
            "recipe": "custom",
            "seed": arguments.seed,
            "model": model | {key: value for key, value in values.items() if key in model},
            "training": {k: v for k, v in values.items() if k not in recipes.MODEL_OPTIONS["compact_hccr"]},
        }
    )
    execution = training.choose_execution("cpu")
    start = time.process_time()
    pair = (images[~test], label[~test])
    result = training.fit(config, len(playing), pair, real[0] if real else pair, execution)
    seconds = time.process_time() - start
    network = models.build(architecture, len(playing), config.training["image_size"], config.model)
    network.load_state_dict(result.last)
    row: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "row": arguments.row,
        "seed": arguments.seed,
        "classes": len(playing),
        "writers": drawn["writers"],
        "per_font": drawn.get("per_font", 0),
        "generator": hanzi.VERSION,
        "architecture": architecture,
        "model": json.dumps(config.model, sort_keys=True),
        "training": json.dumps(config.to_dict()["training"], sort_keys=True),
        "images_seen": int(len(pair[1]) * config.training["epochs"]),
        "parameters": int(models.layer_table(network, config.training["image_size"]).parameters.sum()),
        "cpu_seconds": round(seconds),
        "train_accuracy": round(result.history[-1]["train_accuracy"], 4),
        "revision": runs.describe_environment(execution)["git_revision"],
    }
    for path, (pixels, truth) in zip(arguments.real, real, strict=True):
        logits = models.predict_logits(network, torch.from_numpy(pixels), config.training["image_size"])
        ranks = (logits > logits.gather(1, torch.from_numpy(truth)[:, None])).sum(1).numpy()
        row |= {f"{path.stem}_n": len(truth)}
        row |= {f"{path.stem}_top{k}": round(float((ranks < k).mean()), 4) for k in (1, 5, 10)}
    rows = [pd.read_csv(TABLE, dtype=str)] if TABLE.exists() else []
    files.write_text(TABLE, pd.concat([*rows, pd.DataFrame([row], dtype=object)]).to_csv(index=False))
    print(row)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        os.environ.setdefault("TQDM_DISABLE", "1")
        main()
