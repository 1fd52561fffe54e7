"""Tests of what the comparison writes."""

from pathlib import Path
from typing import Any

import pytest

from hwr_utils import comparison
from hwr_utils.runs import Run


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
