"""Read what runs have left: one run, all of them as one table, and the command that makes one that is missing."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hwr_utils import evaluation, files, recipes, records, synthesis
from hwr_utils.data import gnt
from hwr_utils.data.splits import FOLDS
from hwr_utils.errors import InputError, reading
from hwr_utils.recipes import RunConfig

RESULTS_DIR = files.REPOSITORY / "results"
Folder = str | Path | None  # None stands for the default one, such as `RESULTS_DIR`


@dataclass(frozen=True)
class Run:
    """A run that has ended: its folder and its record, with the arrays read when they are asked for."""

    folder: Path
    record: dict[str, Any]

    @property
    def config(self) -> RunConfig:
        """The run's config."""
        return RunConfig.from_dict(self.record["config"])

    @property
    def classes(self) -> list[str]:
        """The characters, by label."""
        return list(self.record["dataset"]["classes"])

    @property
    def history(self) -> pd.DataFrame:
        """One row an epoch; the columns of `training.FitResult.history`."""
        return pd.DataFrame(self.record["history"])

    @cached_property
    def predictions(self) -> dict[str, np.ndarray]:
        """The arrays of `predictions.npz`, by name.

        For N test images: labels (N,), and the k likeliest classes (N, k) with their scores (N, k), best first. For the
        training images: validation_indices (M,), those that were held out. If the split is not the official one, there
        is also test_indices (N,), and for an import whose writers are known, writers (N,).
        """
        path, test = self.folder / "predictions.npz", self.record["test"]
        found = records.read_arrays(path)
        with reading(path, f"{test['n']} images, of which {test['correct']} are read right", records.REMAKE):
            right = found["classes"][:, 0] == found["labels"]
            if (len(right), right.sum()) != (test["n"], test["correct"]):
                raise ValueError(f"found {len(right)} and {right.sum()}")
        return found

    @property
    def confusion(self) -> np.ndarray:
        """The (C, C) confusion matrix of the test set; rows are true classes."""
        labels, predicted = self.predictions["labels"], self.predictions["classes"][:, 0]
        return evaluation.confusion_matrix(labels, predicted, len(self.classes))


def open_run(folder: Path) -> Run:
    """Return the run of a folder; an InputError where it is not there, or its record is missing or damaged."""
    if not folder.exists():
        names = [path.parent.name for path in folder.parent.glob("*/record.json")]
        recipes.known("run ", folder.name, names, f" in {folder.parent} (`hwr runs` lists them)")
    if not (folder / "record.json").exists():
        raise InputError(f"{folder} holds no record.json, so it is no run, or one that has not ended; see `hwr runs`.")
    return Run(folder, records.read(folder / "record.json"))


def changes(config: RunConfig) -> dict[str, Any]:
    """Return the values of a config that depart from its recipe's and its network's defaults; see `recipes.base`."""
    base = recipes.DEFAULTS | recipes.RECIPES[recipes.base(config.recipe, config.architecture)][config.architecture]
    base |= recipes.MODEL_OPTIONS[config.architecture]
    values = dict(config.training) | dict(config.model)
    return {name: value for name, value in sorted(values.items()) if value != base.get(name)}


def command(config: RunConfig) -> str:
    """Return the shell command that makes this run."""
    words = ["hwr", "train", "--dataset", config.dataset, "--architecture", config.architecture]
    words += ["--recipe", recipes.base(config.recipe, config.architecture), "--seed", str(config.seed)]
    words += [word for name, value in changes(config).items() for word in ("--set", f"{name}={value}")]
    return shlex.join(words)


def drawing(record: Mapping[str, Any]) -> str:
    """Return the shell command that drew the data of a run, by its record; empty where that does not tell how."""
    drawn, classes = record["dataset"].get("drawn"), record["dataset"]["classes"]
    if drawn is None:
        return ""
    options = {name: drawn[name] for name in ("seed", *synthesis.SIZES[drawn["dataset"]]) if name in drawn}
    if drawn["dataset"] == synthesis.HANZI and len(classes) < len(gnt.LEVEL_1):
        options["classes"] = "".join(classes)
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    version = f"  # by version {drawn['version']} of the generator"
    return shlex.join(["hwr", "synthesize", drawn["dataset"], *words]) + version


def find(config: RunConfig, results_dir: Folder = None, data_files: Mapping[str, str] | None = None) -> Run | None:
    """Return the recorded run of a config, or None if there is none.

    With `data_files`, the checksums of the data, only a run on exactly that data counts. Raises an InputError where a
    record is damaged, or where runs on different data have this config and no `data_files` tell which one is meant.
    """
    wanted, name = config.to_dict(), records.run_id(config, {}).rpartition("-")[0]  # without the hash
    found = [run for run in load_all(results_dir, [f"{name}-"]) if run.record["config"] == wanted]
    found = [run for run in found if data_files in (None, run.record["dataset"]["files"])]
    if len(found) > 1:
        names = ", ".join(run.folder.name for run in found)
        told = "answer to one config on different data. Delete those that are out of date, or put the data in its place"
        raise InputError(f"{results_dir or RESULTS_DIR}: {names} {told}.")
    return found[0] if found else None


def load_all(results_dir: Folder = None, parts: Iterable[str] = ()) -> list[Run]:
    """Return the ended runs under `results_dir` whose names have all `parts`, in the order of their names.

    Errors as `records.read`. One bad record stops the reader: a table with a run silently left out would be wrong.
    """
    places = sorted(Path(results_dir or RESULTS_DIR).glob("*/record.json"))
    named = [path for path in places if all(part in path.parent.name for part in parts)]
    return [Run(path.parent, records.read(path)) for path in named]


def variant(config: RunConfig) -> str:
    """Say in words how a config departs from its architecture's and recipe's defaults; empty where it does not."""
    found = changes(config)
    if config.origins:  # of these runs' names, the seed and the hash tell enough
        found["init"] = "+".join("-".join(name.split("-")[-2:]) for name in config.origins)
    said = (f"{name}={value}" for name, value in found.items())
    return ", ".join(recipes.WORDS.get(change, change) for change in said)


def frame(results_dir: Folder = None, parts: Iterable[str] = ()) -> pd.DataFrame:
    """Return one row a run whose id has all `parts`, ready to filter, group and join; the id is the index.

    Columns: dataset, architecture, recipe, options (`variant`), experiment (the id without seed: rows that share it are
    repetitions), seed, fold (0 to 4 in a cross-validation, else missing), split, image_size, epochs (those that were
    trained), classes (their number), n_train, n and correct (test images), accuracy, top5 and macro_f1 (0..1),
    last_accuracy (of the last epoch's weights), seconds (of training steps), images_per_second, parameters, device,
    published, created (date), folder.
    """
    rows = [
        {
            "run": record["run_id"],
            **{name: record["config"][name] for name in ("dataset", "architecture", "recipe")},
            "options": variant(config),
            "experiment": records.run_id(replace(config, seed=0), record["dataset"]["files"]),
            "seed": config.seed,
            "fold": config.seed % FOLDS if config.training["split"] == "folds" else None,
            **{name: config.training[name] for name in ("split", "image_size")},
            "epochs": len(record["history"]),
            "classes": len(record["dataset"]["classes"]),
            "n_train": record["dataset"]["n_train"],
            **{name: record["test"][name] for name in ("n", "correct", "accuracy", "top5", "macro_f1")},
            "last_accuracy": record["test_last_epoch"]["accuracy"],
            **{name: record["timing"][name] for name in ("seconds", "images_per_second")},
            "parameters": record["model"]["parameters"],
            "device": record["environment"]["device"],
            "published": record["dataset"]["published"],
            "created": record["created"][:10],
            "folder": run.folder,
        }
        for run in load_all(results_dir, parts)
        for record, config in [(run.record, run.config)]
    ]
    return pd.DataFrame(rows).set_index("run") if rows else pd.DataFrame()


def pages(table: pd.DataFrame) -> pd.Series:
    """Return for each row of `frame` the run whose page reports it: the first repetition of its experiment."""
    ordered = table.sort_values("seed", kind="stable")
    return ordered.index.to_series().groupby(ordered["experiment"]).transform("first").reindex(table.index)


def as_text(table: pd.DataFrame, kind: str) -> str:
    """Return rows of `frame` as the text of a file: "csv" has all columns but `folder`, "latex" those for a paper."""
    if kind == "csv":
        return table.drop(columns="folder", errors="ignore").to_csv()
    shown = table.filter(["dataset", "architecture", "options", "recipe", "seed", "n", "accuracy"])
    return shown.to_latex(index=False, escape=True, float_format="%.4f")


def paired(first: Run, second: Run) -> tuple[np.ndarray, np.ndarray]:
    """Return for each of two runs which test images it has read right: two (N,) bool arrays, in the same order.

    Raises an InputError where the runs were tested on different images.
    """
    one, other = first.predictions, second.predictions
    # equal labels do not suffice: two sets that are sorted by class may have the same labels and different images
    if first.record["dataset"]["files"] != second.record["dataset"]["files"] or not all(
        np.array_equal(one[name], other[name]) for name in {"labels", "test_indices"} & one.keys() & other.keys()
    ):
        told = "were tested on different images. Compare runs on one dataset and split and, if it is drawn, one seed"
        raise InputError(f"{first.folder.name} and {second.folder.name} {told}.")
    return one["classes"][:, 0] == one["labels"], other["classes"][:, 0] == other["labels"]


def repetitions(first: RunConfig, second: RunConfig, seeds: Iterable[int], results_dir: Folder = None) -> pd.DataFrame:
    """Compare two experiments on the same test images: a row for each seed or fold, which is the index.

    Columns: first and second (accuracy, 0..1), n (test images), won and lost (those that the first alone reads right,
    and the second alone), and what the first gains: points (percentage points) and log_odds (see
    `evaluation.log_odds`). last_first, last_second, last_points and last_log_odds are of the last epoch's weights.

    Raises an InputError, with the command that makes it, where a repetition has no record; else as `paired`.
    """
    rows = {}
    for seed in seeds:
        configs = [replace(config, seed=seed) for config in (first, second)]
        found = [find(config, results_dir) for config in configs]
        if lacking := [command(config) for config, run in zip(configs, found, strict=True) if not run]:
            raise InputError(f"seed or fold {seed} has no record. Make it: {' and '.join(lacking)}")
        runs = [run for run in found if run]
        one, other = paired(*runs)
        row = {"n": len(one), "won": (one & ~other).sum(), "lost": (other & ~one).sum()}
        for prefix, part in (("", "test"), ("last_", "test_last_epoch")):
            rates = [run.record[part]["accuracy"] for run in runs]
            odds = [evaluation.log_odds(rate, len(one)) for rate in rates]
            row |= {f"{prefix}first": rates[0], f"{prefix}second": rates[1]}
            row |= {f"{prefix}points": 100 * (rates[0] - rates[1]), f"{prefix}log_odds": odds[0] - odds[1]}
        rows[seed] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("seed")


def facts(dataset: str, results_dir: Folder = None) -> dict[str, Any]:
    """Return what `facts.record` has measured of a dataset; an InputError, with the command, where nothing has."""
    again = f"Measure the dataset: hwr describe {dataset}"
    return records.read_json(_measured(dataset, results_dir) / "facts.json", again)


def samples(dataset: str, results_dir: Folder = None) -> np.ndarray:
    """Return the recorded sheet of a dataset's images, (C, K, H, W) uint8, white on black. Errors as `read_arrays`."""
    return records.read_arrays(_measured(dataset, results_dir) / "samples.npz")["samples"]


def _measured(dataset: str, results_dir: Folder) -> Path:
    return Path(results_dir or RESULTS_DIR) / "datasets" / dataset.replace(":", "-")
