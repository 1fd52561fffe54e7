"""Figures: against numbers worked by hand, published ones and other libraries."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

import helpers  # noqa: F401  sets one thread
from hwr_utils import evaluation, models
from hwr_utils.evaluation import most_confused, per_class, wilson_interval

# intervals


def test_wilson_intervals_are_newcombes() -> None:
    """Statistics in Medicine 17 (1998), table I, method 3."""
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


# confusion and scores

CONFUSION = [[1, 2, 0, 0], [1, 1, 0, 0], [2, 0, 1, 0], [0, 0, 0, 0]]


def test_scores_by_hand() -> None:
    table = per_class(np.array(CONFUSION), "abcd")
    assert table["class"].tolist() == list("abcd")
    assert table["n"].tolist() == [3, 2, 3, 0]
    assert table["precision"].tolist() == pytest.approx([1 / 4, 1 / 3, 1, 0])
    assert table["recall"].tolist() == pytest.approx([1 / 3, 1 / 2, 1 / 3, math.nan], nan_ok=True)
    assert table["f1"].tolist() == pytest.approx([2 / 7, 2 / 5, 1 / 2, math.nan], nan_ok=True)
    assert table["f1"].mean() == pytest.approx((2 / 7 + 2 / 5 + 1 / 2) / 3)


def test_most_confused_by_hand() -> None:
    assert most_confused(np.array(CONFUSION), "abcd").to_dict("list") == {
        "pair": ["a b", "a c"],
        "errors": [3, 2],
        "first_as_second": [2, 0],
        "second_as_first": [1, 2],
    }
    assert most_confused(np.array(CONFUSION), "abcd", k=1)["pair"].tolist() == ["a b"]
    assert most_confused(np.diag([5, 5]), "ab").empty


# predictions


def test_top_predictions_by_hand() -> None:
    logits = torch.log(torch.tensor([[0.1, 0.6, 0.3], [0.5, 0.2, 0.3]]))
    found = models.rank(logits, torch.tensor([1, 2]))
    assert found.classes.tolist() == [[1, 2, 0], [0, 2, 1]]
    assert found.scores.numpy() == pytest.approx(np.array([[0.6, 0.3, 0.1], [0.5, 0.3, 0.2]]), abs=1e-6)
    assert found.losses.numpy() == pytest.approx(-np.log([0.6, 0.3]), abs=1e-6)


def test_a_summary_by_hand() -> None:
    rows = [[0.7, 0.1, 0.1, 0.04, 0.03, 0.02, 0.01]] * 4  # ranks the classes 0 to 6
    labels = np.array([0, 0, 4, 5])
    found = models.rank(torch.tensor(rows).log(), torch.tensor(labels))
    summary = evaluation.summarise_test(labels, found.classes.numpy(), found.losses.numpy(), 7)
    assert summary["n"] == 4 and summary["correct"] == 2 and summary["accuracy"] == 0.5
    assert summary["top5"] == 0.75  # the last is ranked sixth
    assert summary["loss"] == pytest.approx(-sum(map(math.log, (0.7, 0.7, 0.03, 0.02))) / 4, rel=1e-5)
    # class 0: precision 2/4, recall 1, F1 2/3; classes 4 and 5: 0; the others have no test images
    assert summary["macro_f1"] == pytest.approx(2 / 9)
    assert {type(value) for value in summary.values()} == {int, float}  # plain numbers, ready for JSON


def test_prediction_is_the_same_in_any_batches() -> None:
    torch.manual_seed(0)
    model = models.build("simple_cnn", 4, 16, {"dropout": True}).train()
    images = torch.randint(0, 256, (11, 28, 28), dtype=torch.uint8)
    whole = models.predict_logits(model, images, 16)
    assert not model.training  # so dropout is off
    assert whole.shape == (11, 4) and whole.dtype == torch.float32
    assert not whole.requires_grad
    for batch_size in (1, 4, 11):
        parts = [models.predict_logits(model, batch, 16) for batch in images.split(batch_size)]
        assert torch.allclose(torch.cat(parts), whole, atol=1e-5)


def test_a_paired_interval_holds_what_it_should() -> None:
    low, high = evaluation.paired_interval(4, 1, 1000)
    assert low < -0.003 < high  # 1 gained and 4 lost
    assert evaluation.paired_interval(1, 4, 1000) == pytest.approx((-high, -low))
    # of 500 pairs of networks that are equally good, 95 % of the intervals hold 0
    rng = np.random.default_rng(0)
    differ = rng.binomial(1000, 0.02, 500)
    gained = rng.binomial(differ, 0.5)
    intervals = [evaluation.paired_interval(up, n - up, 1000) for n, up in zip(differ, gained, strict=True)]
    held = [low <= 0 <= high for low, high in intervals]
    assert 0.94 < np.mean(held) < 0.985


# repetitions


def test_differences_of_folds_have_the_variance_of_nadeau_and_bengio() -> None:
    # mean 2, deviation 1; t of 2 degrees of freedom at 97.5 % is 4.30265
    for correction in (0, 0.25):
        found = evaluation.effect([1.0, 2.0, 3.0], correction, margin=3)
        error = (1 / 3 + correction) ** 0.5
        assert found[["mean", "low", "high"]].tolist() == pytest.approx(
            [2, 2 - 4.30265 * error, 2 + 4.30265 * error], abs=1e-4
        )
        assert found["p"] == pytest.approx(2 * stats.t.sf(2 / error, 2))
        assert found["p_same"] == pytest.approx(stats.t.sf((3 - 2) / error, 2))  # the upper margin is the nearer one
    assert "p_same" not in evaluation.effect([1.0, 2.0, 3.0])


def test_log_odds_of_counts() -> None:
    assert evaluation.log_odds(0.75, 4) == pytest.approx(math.log(3.5 / 1.5))
    assert evaluation.log_odds(1.0, 3) == pytest.approx(math.log(3.5 / 0.5)), "none is wrong"


def test_the_pigeonhole_bootstrap_counts_repetitions_and_classes() -> None:
    """Its variance is about the sum of that of the mean of repetitions and that of the mean of classes (Owen 2007)."""
    rng = np.random.default_rng(1)
    n = np.full((8, 50), 100)
    assert evaluation.pigeonhole_interval(n // 10, n) == (0.1, 0.1), "nothing differs"
    by_repetition, by_class = rng.normal(0, 6, (8, 1)), rng.normal(0, 20, (1, 50))
    for gained in (10 + by_repetition + 0 * n, 10 + by_class + 0 * n, 10 + by_repetition + by_class):
        low, high = evaluation.pigeonhole_interval(gained, n)
        variance = sum((gained / 100).mean(axis).var() / gained.shape[1 - axis] for axis in (0, 1))
        assert (high - low) / 2 == pytest.approx(1.96 * variance**0.5, rel=0.06)
        assert low < (gained / 100).mean() < high


def test_holm_multiplies_the_smallest_p_most_and_keeps_the_order() -> None:
    p = pd.Series([0.03, 0.01, 0.025, 0.5], ["a", "b", "c", "d"])
    # 4 x 0.01; 3 x 0.025; 2 x 0.03 is less than that, so it takes its place; 1 x 0.5
    assert evaluation.holm(p).round(9).to_dict() == {"a": 0.075, "b": 0.04, "c": 0.075, "d": 0.5}
