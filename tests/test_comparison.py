"""Tests of what the comparison writes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwr_utils import comparison, recipes
from hwr_utils.errors import InputError
from hwr_utils.results import Run


@pytest.mark.parametrize(
    ("accuracy", "deviation", "text"),
    [(0.98825, None, "98.83"), (0.5, float("nan"), "50.00"), (0.91017, 0.00709, "91.02 ± 0.71")],
)
def test_percent(accuracy: float, deviation: float | None, text: str) -> None:
    assert comparison.percent(accuracy, deviation) == text


def test_committed_runs_make_one_row_an_experiment() -> None:
    found = comparison.load_all()
    table = comparison.table(found)
    assert table["seeds"].sum() == len(found)
    assert not table.duplicated(["dataset", "architecture", "variant", "recipe"]).any()
    assert ((table["low"] < table["accuracy"]) & (table["accuracy"] < table["high"])).all()
    # a published number stands only beside published data
    assert not table.loc[~table["published"].astype(bool), "reference"].notna().any()


@pytest.mark.parametrize(("target", "seconds"), [(0.5, 2.0), (0.9, 5.0), (0.91, 9.0), (0.96, None)])
def test_the_time_to_an_accuracy_ends_with_the_epoch_that_has_it(target: float, seconds: float | None) -> None:
    accuracies, spent = [0.6, 0.9, 0.95, 0.7], [2.0, 3.0, 4.0, 5.0]
    record: dict[str, Any] = {
        "history": [{"validation_accuracy": accuracy} for accuracy in accuracies],
        "timing": {"epoch_seconds": spent},
    }
    assert comparison.seconds_to_accuracy(Run(Path("run"), record), target) == seconds


def test_an_evaluation_is_described_with_its_interval() -> None:
    row = comparison.describe_test({"correct": 98, "n": 100, "accuracy": 0.98, "macro_f1": 0.97654})
    assert row == {
        "accuracy (%)": 98.0,
        "95 % interval": "93.00 to 99.45",  # Wilson's, by hand: (0.98 + 0.0192 +- 0.0335) / 1.0384
        "macro-F1 (%)": 97.65,
        "errors": 2,
        "of": 100,
    }


@pytest.mark.parametrize(
    ("best", "stopped", "told"),
    [
        (
            2,
            True,
            "Training stopped early after epoch 3; epoch 2 had the lowest validation loss. From there to the last "
            "epoch the training loss went from 0.2000 to 0.1000 and the validation loss from 0.3000 to 0.4000.",
        ),
        (
            3,
            False,
            "Training ran to its end after epoch 3; epoch 3 had the lowest validation loss. That is the last one: "
            "more epochs might still help.",
        ),
    ],
)
def test_the_course_of_a_training_is_told(best: int, stopped: bool, told: str) -> None:
    history = [{"train_loss": a, "validation_loss": b} for a, b in ((0.9, 0.9), (0.2, 0.3), (0.1, 0.4))]
    record: dict[str, Any] = {"history": history, "best_epoch": best, "stopped_early": stopped, "validation": {}}
    assert comparison.describe_course(Run(Path("run"), record)) == told


@pytest.mark.parametrize(
    ("correct", "told"),
    [(90, "gets as many right"), (91, "gets 1 image more right"), (87, "gets 3 images fewer right")],
)
def test_the_last_epoch_is_told_beside_the_one_that_was_kept(correct: int, told: str) -> None:
    record: dict[str, Any] = {"test": {"correct": 90}, "test_last_epoch": {"correct": correct}, "validation": {}}
    record |= {"best_epoch": 1, "history": [{}]}
    assert "the two are the same" in comparison.describe_last_epoch(Run(Path("run"), record))
    record["history"] *= 2
    assert comparison.describe_last_epoch(Run(Path("run"), record)).startswith(f"The last epoch {told}. ")


def test_where_nothing_was_held_out_the_last_epoch_counts() -> None:
    run = Run(Path("run"), {"history": [{}] * 4, "best_epoch": 4, "stopped_early": False})
    assert comparison.describe_course(run).startswith(
        "Training ran to its end after epoch 4, and the last epoch counts"
    )
    assert comparison.describe_last_epoch(run) == "The last epoch counts, as the recipe says."


def run_with(labels: list[int], predicted: list[int], **changed: Any) -> Run:
    config = recipes.configure("mnist", "simple_cnn", **changed)
    run = Run(Path("run"), {"config": config.to_dict()})
    # a cached property: what would be read from the run's folder
    run.__dict__["predictions"] = {"labels": np.array(labels), "classes": np.array(predicted)[:, None]}
    return run


def test_two_runs_are_compared_image_by_image() -> None:
    labels = [0, 1, 2, 3, 0, 1]
    first, second = run_with(labels, [0, 1, 2, 3, 1, 0]), run_with(labels, [0, 0, 0, 0, 0, 0])
    # right only in the first: three images; only in the second: one. Of four throws of a coin, 3 to 1 is nothing.
    assert comparison.paired(first, second) == (3, 1, pytest.approx(10 / 16))
    with pytest.raises(InputError, match="different images"):
        comparison.paired(first, run_with(labels[::-1], [0] * 6))
    with pytest.raises(InputError, match="different images"):
        comparison.paired(first, run_with(labels[:5], [0] * 5))


def test_what_two_runs_were_trained_with_differently_is_named() -> None:
    first, second = run_with([0], [0]), run_with([0], [0], epochs=4, train_size=100)
    assert comparison.unlike(first, second) == ["epochs (50 and 4)", "train_size (not set and 100)"]
    assert comparison.unlike(first, run_with([0], [0], dropout=True, seed=3)) == []
