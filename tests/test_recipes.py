"""Recipes: the values are the paper's, and whatever else is asked for is checked and named."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwr_utils.errors import InputError
from hwr_utils.recipes import PARAMETERS, RECIPES, configure


def test_paper_is_song_si_and_kims_protocol() -> None:
    config = configure("mnist", "simple_cnn")
    assert config.recipe == "paper" and config.seed == 0
    training = dict(config.training)
    assert (training["epochs"], training["patience"], training["learning_rate"]) == (50, 10, 1e-4)
    # what they leave open, as the study chose it
    assert (training["batch_size"], training["validation_fraction"], training["image_size"]) == (64, 0.1, 28)
    assert config.model == {"dropout": False}


def test_paper_is_k_kims_protocol_for_hanzi() -> None:
    training = configure("hwdb1.1", "inception_hccr").to_dict()["training"]
    named = {"epochs": 20, "batch_size": 48, "image_size": 56, "split": "random"}
    # the optimizer's rate is the study's choice; nothing chooses an epoch, so nothing is held out for it
    assert training == named | {"learning_rate": 1e-3}


def test_the_official_split_is_what_no_split_means() -> None:
    assert configure("mnist", "simple_cnn", split="official") == configure("mnist", "simple_cnn")
    assert configure("hwdb1.1", "simple_cnn", split="random").training["split"] == "random"
    official = configure("hwdb1.1", "inception_hccr", split="official")
    assert official.recipe == "custom" and official.training["split"] == "official"


def test_a_changed_value_makes_the_run_custom() -> None:
    config = configure("mnist", "simple_cnn", epochs=51)
    assert config.recipe == "custom"
    assert config.to_dict()["training"] == RECIPES["paper"]["simple_cnn"] | {"epochs": 51}
    assert configure("mnist", "simple_cnn", epochs=50).recipe == "paper"
    assert configure("mnist", "simple_cnn", **dict.fromkeys([*PARAMETERS, "dropout"])).recipe == "paper"
    assert configure("mnist", "simple_cnn", train_size=100).recipe == "custom"
    config = configure("mnist", "simple_cnn", dropout=True)  # of which a recipe says nothing
    assert config.recipe == "paper" and config.model == {"dropout": True}
    paper = configure("mnist", "simple_cnn", "paper")
    assert configure("mnist", "simple_cnn", "quick", **dict(paper.training)) == paper, "whatever the way there"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"architecture": "simple_cn"}, "architecture='simple_cn'"),
        ({"recipe": "best", "architecture": "resnet50"}, "recipe=best .*resnet50"),
        ({"epoch": None}, "'epoch' .*did you mean 'epochs'"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"seed": -1}, "seed=-1 .*from 0 to 4294967295"),
        ({"architecture": "inception_hccr", "patience": 3}, "patience=3 needs a validation_fraction"),
    ],
)
def test_what_is_unknown_or_impossible_is_told(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        configure(**{"dataset": "mnist", "architecture": "simple_cnn"} | changed)


ANYTHING = st.one_of(
    st.integers(), st.floats(), st.booleans(), st.text(max_size=4), st.lists(st.integers(), max_size=2), st.binary()
)


@given(st.sampled_from([*PARAMETERS, "dropout"]), ANYTHING)
def test_a_value_is_kept_as_it_is_or_refused(name: str, value: Any) -> None:
    try:
        config = configure("mnist", "simple_cnn", **{name: value})
    except InputError as error:
        assert str(error).startswith(f"{name}=")
        return
    kept = (dict(config.training) | dict(config.model))[name]
    assert kept == value
    if name in PARAMETERS:
        rule = PARAMETERS[name]
        assert type(kept) is rule["type"] and (rule["type"] is str or rule["low"] <= kept <= rule["high"])
