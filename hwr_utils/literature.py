"""Numbers that others published, from `literature.toml`, each with its source. The study's own are in records."""

import tomllib
from pathlib import Path

import pandas as pd

_TABLES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))

SONG_TABLE_1: dict[str, list[int]] = _TABLES["song_table_1"]  # dataset -> training and test images
# accuracies (0..1): a row for each dataset, a column for each of the study's names of their networks
SONG_TABLE_2 = pd.DataFrame(_TABLES["song_table_2"]).T.sort_index().sort_index(axis=1).rename_axis("dataset")
KMNIST_KERAS: dict[str, float] = _TABLES["kmnist_keras"]  # dataset -> accuracy (0..1)
# on handwritten Chinese characters, a row each: the columns that literature.toml explains, and year
HANZI = pd.DataFrame([_TABLES["kim"], *_TABLES["hanzi"], *_TABLES["compact"]])
HANZI["year"] = HANZI["citation"].str.extract(r"(\d{4})", expand=False).astype(int)
KIM = HANZI.iloc[0]
# The data and the steps that he gives: 897,000 images in batches of 48 are 18,688 steps, so one epoch and not twenty.
KIM_TRAIN_IMAGES, KIM_STEPS, KIM_BATCH = 897_000, 18_000, 48
