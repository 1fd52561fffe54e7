"""Tests of what the comparison writes."""

import pytest

from hwr_utils import comparison


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
