"""Recipes: the values are the paper's, and whatever else is asked for is checked and named."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwr_utils.errors import InputError
from hwr_utils.recipes import MODEL_OPTIONS, PARAMETERS, RECIPES, configure


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


def test_stopping_early_needs_something_to_stop_by() -> None:
    with pytest.raises(InputError, match="patience=3 needs a validation_fraction"):
        configure("hwdb1.1", "inception_hccr", patience=3)
    config = configure("hwdb1.1", "inception_hccr", patience=3, validation_fraction=0.1)
    assert config.recipe == "custom" and config.training["patience"] == 3


def test_the_official_split_is_what_no_split_means() -> None:
    assert configure("mnist", "simple_cnn", split="official") == configure("mnist", "simple_cnn")
    assert configure("hwdb1.1", "simple_cnn", split="random").training["split"] == "random"
    official = configure("hwdb1.1", "inception_hccr", split="official")
    assert official.recipe == "custom" and official.training["split"] == "official"


def test_every_recipe_is_within_the_bounds_and_every_architecture_has_one() -> None:
    assert {name for architectures in RECIPES.values() for name in architectures} == set(MODEL_OPTIONS)
    for name, architectures in RECIPES.items():
        for architecture, values in architectures.items():
            config = configure("mnist", architecture, name, **values)
            assert config == configure("mnist", architecture, name)
            assert config.recipe == name


def test_a_changed_value_makes_the_run_custom() -> None:
    config = configure("mnist", "simple_cnn", epochs=51)
    assert config.recipe == "custom"
    assert config.to_dict()["training"] == RECIPES["paper"]["simple_cnn"] | {"epochs": 51}
    assert configure("mnist", "simple_cnn", epochs=50).recipe == "paper"
    assert configure("mnist", "simple_cnn", **dict.fromkeys([*PARAMETERS, "dropout"])).recipe == "paper"
    assert configure("mnist", "simple_cnn", train_size=100).recipe == "custom"
    config = configure("mnist", "simple_cnn", dropout=True)  # of which a recipe says nothing
    assert config.recipe == "paper" and config.model == {"dropout": True}


def test_the_values_name_the_run_and_not_the_way_there() -> None:
    paper = configure("mnist", "simple_cnn", "paper")
    assert configure("mnist", "simple_cnn", "quick", **dict(paper.training)) == paper


def test_configs_do_not_share_their_values() -> None:
    first = configure("mnist", "simple_cnn")
    first.training["epochs"] = 1  # type: ignore[index]
    first.model["dropout"] = True  # type: ignore[index]
    second = configure("mnist", "simple_cnn")
    assert second.training["epochs"] == 50 and second.model["dropout"] is False
    with pytest.raises(dataclasses.FrozenInstanceError):
        second.seed = 1  # type: ignore[misc]


def test_a_whole_number_will_do_for_a_rate() -> None:
    config = configure("mnist", "simple_cnn", learning_rate=1)
    assert config == configure("mnist", "simple_cnn", learning_rate=1.0)
    assert type(config.training["learning_rate"]) is float


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"architecture": "simple_cn"}, "architecture='simple_cn' is unknown, .*did you mean 'simple_cnn'"),
        ({"recipe": "papers"}, "recipe='papers' is unknown, .*did you mean 'paper'"),
        ({"recipe": "best", "architecture": "resnet50"}, "recipe=best says nothing of resnet50, expected paper or"),
        ({"epoch": 3}, "'epoch' is unknown for simple_cnn, .*did you mean 'epochs'"),
        ({"drop_out": True}, "did you mean 'dropout'"),
        ({"epoch": None}, "'epoch' is unknown"),  # an unknown name is wrong without a value, too
    ],
)
def test_an_unknown_name_is_told_with_the_nearest(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        configure(**{"dataset": "mnist", "architecture": "simple_cnn"} | changed)


IMPOSSIBLE: list[tuple[str, Any, str]] = [
    ("epochs", 0, "expected 1 to 10000"),
    ("epochs", 10**400, "is out of range"),
    ("epochs", 1.0, "is of type float, expected int"),
    ("epochs", True, "is of type bool, expected int"),
    ("n_outputs", 1, "expected 2 to"),
    ("learning_rate", float("nan"), "nan is out of range"),
    ("learning_rate", 10**400, "is out of range"),
    ("learning_rate", True, "is of type bool, expected float"),
    ("learning_rate", "1e-4", "is of type str, expected float"),
    ("split", "writers", r"is unknown, .* random, writer, folds; did you mean 'writer'\?"),
    ("dropout", 1, "is of type int, expected bool"),
    ("seed", -1, "from 0 to 4294967295"),
    ("seed", True, "from 0 to 4294967295"),
    ("seed", None, "from 0 to 4294967295"),
]


@pytest.mark.parametrize(("name", "value", "message"), IMPOSSIBLE)
def test_an_impossible_value_is_told(name: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"{name}=.*{message}"):
        configure("mnist", "simple_cnn", **{name: value})


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
        assert type(kept) is rule.type and (rule.type is str or rule.low <= kept <= rule.high)
