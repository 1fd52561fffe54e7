"""Put runs side by side: one row for all seeds of an experiment, beside what was published."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from hwr_utils import evaluation, literature, records, results
from hwr_utils.results import Run, experiment, load_all, variant

__all__ = ["experiment", "load_all", "variant"]


def group(found: Iterable[Run]) -> list[list[Run]]:
    """Sort runs into experiments, each a list over seeds; an experiment's runs share data and config but the seed."""
    groups: dict[str, list[Run]] = {}
    for run in found:
        key = records.run_id(experiment(run.config), run.record["dataset"]["files"])
        groups.setdefault(key, []).append(run)
    return [sorted(members, key=lambda run: run.config.seed) for members in groups.values()]


def summarise(members: list[Run]) -> dict[str, Any]:
    """Return one row for an experiment.

    Returns:
        dataset, architecture, variant, recipe, seeds (their number), accuracy (mean over seeds, 0..1), deviation
        (sample standard deviation over seeds, None for one), low and high (Wilson's 95 % interval at the mean, for
        one test set of n images), n, published, device, reference (Song, Si and Kim's accuracy on the published data
        by the plain recipe, else None) and difference from it.
    """
    first = members[0]
    config, test = first.config, first.record["test"]
    accuracy, deviation = evaluation.mean_and_deviation([run.record["test"]["accuracy"] for run in members])
    low, high = evaluation.wilson_interval(round(accuracy * test["n"]), test["n"])
    comparable = first.record["dataset"]["published"] and config.recipe == "paper"
    reference = literature.song_accuracy(config.dataset, config.architecture) if comparable else None
    return {
        "dataset": config.dataset,
        "architecture": config.architecture,
        "variant": variant(config),
        "recipe": config.recipe,
        "seeds": len(members),
        "accuracy": accuracy,
        "deviation": deviation,
        "low": low,
        "high": high,
        "n": test["n"],
        "published": first.record["dataset"]["published"],
        "device": " and ".join(sorted({run.record["environment"]["device"] for run in members})),
        "reference": reference,
        "difference": None if reference is None else accuracy - reference,
    }


def table(found: Iterable[Run]) -> pd.DataFrame:
    """Return `summarise` of every experiment, a row each, sorted by dataset, architecture and variant."""
    rows = pd.DataFrame([summarise(members) for members in group(found)])
    return rows if rows.empty else rows.sort_values(["dataset", "architecture", "variant"], ignore_index=True)


def seconds_to_accuracy(run: Run, target: float) -> float | None:
    """Return the seconds of training until the end of the first epoch whose validation accuracy is at least `target`.

    Validation images and not the test set decide, so that nothing is chosen by the test set. Only training steps count.

    Args:
        run: any run.
        target: 0..1.

    Returns:
        Seconds, or None where no epoch reached it.
    """
    seconds = 0.0
    for row, spent in zip(run.record["history"], run.record["timing"]["epoch_seconds"], strict=True):
        seconds += spent
        if row["validation_accuracy"] >= target:
            return seconds
    return None


def describe_test(test: Mapping[str, Any]) -> dict[str, Any]:
    """Return one evaluation of a record (`test` or `test_last_epoch`) as a row of a table for readers."""
    low, high = evaluation.wilson_interval(test["correct"], test["n"])
    return {
        "accuracy (%)": round(100 * test["accuracy"], 2),
        "95 % interval": f"{100 * low:.2f} to {100 * high:.2f}",
        "macro-F1 (%)": round(100 * test["macro_f1"], 2),
        "errors": test["n"] - test["correct"],
        "of": test["n"],
    }


def describe_course(run: Run) -> str:
    """Say in a sentence or two how a run's training ended, and what followed the epoch that was kept."""
    history, best = run.history, run.record["best_epoch"]
    if not run.has_validation:
        return (
            f"Training ran to its end after epoch {len(history)}, and the last epoch counts: nothing was held out to "
            "choose another by."
        )
    kept, last = history.iloc[best - 1], history.iloc[-1]
    ended = "stopped early" if run.record["stopped_early"] else "ran to its end"
    rest = (
        f"From there to the last epoch the training loss went from {kept['train_loss']:.4f} to "
        f"{last['train_loss']:.4f} and the validation loss from {kept['validation_loss']:.4f} to "
        f"{last['validation_loss']:.4f}."
        if best < len(history)
        else "That is the last one: more epochs might still help."
    )
    return f"Training {ended} after epoch {len(history)}; epoch {best} had the lowest validation loss. {rest}"


def describe_last_epoch(run: Run) -> str:
    """Say how the last epoch's weights do on the test set beside those of the epoch that was kept."""
    if not run.has_validation:
        return "The last epoch counts, as the recipe says."
    if run.record["best_epoch"] == len(run.record["history"]):
        return "The epoch that was kept is the last one, so the two are the same."
    gain = run.record["test_last_epoch"]["correct"] - run.record["test"]["correct"]
    images = "image" if abs(gain) == 1 else "images"
    verb = f"gets {abs(gain)} {images} {'more' if gain > 0 else 'fewer'} right" if gain else "gets as many right"
    return f"The last epoch {verb}. Which of the two to report was settled before the test set was looked at."


def paired(first: Run, second: Run) -> tuple[int, int, float]:
    """Test two runs against each other on the test images that both have read: see `evaluation.mcnemar`."""
    results.paired(first, second)
    labels = first.predictions["labels"]
    return evaluation.mcnemar(labels, *(run.predictions["classes"][:, 0] for run in (first, second)))


def unlike(first: Run, second: Run) -> list[str]:
    """Name the hyperparameters in which two runs differ, as "epochs (50 and 4)"; their networks' options apart."""
    one, other = first.config.training, second.config.training
    names = [name for name in sorted({*one, *other}) if one.get(name) != other.get(name)]
    return [f"{name} ({one.get(name, 'not set')} and {other.get(name, 'not set')})" for name in names]


def percent(accuracy: float, deviation: float | None = None) -> str:
    """Write an accuracy (0..1) as a percentage with two decimals, "± standard deviation" where there is one."""
    if deviation is None or math.isnan(deviation):  # a data frame turns None into NaN
        return f"{100 * accuracy:.2f}"
    return f"{100 * accuracy:.2f} ± {100 * deviation:.2f}"
