"""What each recipe sets for each architecture, and which values may be asked for: `recipes.toml`, checked."""

import difflib
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwr_utils.errors import InputError
from hwr_utils.records import DEFAULTS, RunConfig

_TABLES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Parameter:
    """What one hyperparameter may be, and what it means."""

    type: type[int] | type[float] | type[str]
    meaning: str
    low: float = 0  # both bounds are allowed
    high: float = 0
    choices: tuple[str, ...] | list[str] = ()


PARAMETERS = {
    name: Parameter(**rule | {"type": {"int": int, "float": float, "str": str}[rule["type"]]})
    for name, rule in _TABLES["parameters"].items()
}
MODEL_OPTIONS: dict[str, dict[str, Any]] = _TABLES["model_options"]  # architecture -> option -> default
RECIPES: dict[str, dict[str, dict[str, Any]]] = _TABLES["recipes"]  # recipe -> architecture -> values


def base(recipe: str, architecture: str) -> str:
    """Return the recipe that a run is measured against: its own, or the architecture's first where it is custom."""
    return recipe if recipe in RECIPES else next(name for name, known in RECIPES.items() if architecture in known)


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return "; did you mean X?" with the closest valid name, or an empty text where none is close."""
    close = difflib.get_close_matches(str(name), list(valid), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def known(what: str, name: Any, valid: Iterable[str], place: str = "") -> None:
    """Raise an InputError where a name, of `what`, is none of the valid ones; it gives the nearest."""
    valid = list(valid)
    if name not in valid:
        raise InputError(f"{what}{name!r} is unknown{place}, expected one of {', '.join(valid)}{nearest(name, valid)}")


def _check(name: str, value: Any) -> Any:
    rule, given = PARAMETERS[name], type(value)
    # not isinstance, for which True is an int
    if given is not rule.type and not (rule.type is float and given is int):
        raise InputError(
            f"{name}={value!r} is of type {given.__name__}, expected {rule.type.__name__}: {rule.meaning}."
        )
    if rule.choices:
        known(f"{name}=", value, rule.choices)
    elif rule.type is not str and not rule.low <= value <= rule.high:  # NaN is in no range
        raise InputError(f"{name}={value!r} is out of range, expected {rule.low:g} to {rule.high:g}: {rule.meaning}.")
    return rule.type(value)


def configure(dataset: str, architecture: str, recipe: str = "paper", seed: int = 0, **overrides: Any) -> RunConfig:
    """Build a run's config: the recipe's values, with those overrides that are not None in their place.

    Args:
        dataset: a dataset's name; whether it exists is checked where it is loaded.
        architecture: a key of `MODEL_OPTIONS`.
        recipe: a key of `RECIPES`.
        seed: 0 to 2**32 - 1.
        overrides: values of `PARAMETERS` or of the architecture's options. None means the recipe's own.

    Returns:
        A config whose `recipe` is the one that has these hyperparameters, or "custom" where none has.

    Raises:
        InputError: an unknown name (the nearest valid one is given), a wrong type, or a value out of range.
    """
    known("architecture=", architecture, MODEL_OPTIONS)
    known("recipe=", recipe, RECIPES)
    # with what it means where a recipe does not name a value
    values = {name: DEFAULTS | made[architecture] for name, made in RECIPES.items() if architecture in made}
    if recipe not in values:
        raise InputError(f"recipe={recipe} says nothing of {architecture}, expected {' or '.join(values)}.")
    if type(seed) is not int or not 0 <= seed < 2**32:
        raise InputError(f"seed={seed!r} is not a whole number from 0 to 4294967295.")
    training, model = dict(values[recipe]), dict(MODEL_OPTIONS[architecture])
    for name, value in overrides.items():
        known("parameter ", name, [*PARAMETERS, *model], f" for {architecture}")
        if value is None:
            continue
        if name in PARAMETERS:
            training[name] = _check(name, value)
        elif type(value) is not type(model[name]):
            raise InputError(
                f"{name}={value!r} is of type {type(value).__name__}, expected {type(model[name]).__name__}."
            )
        else:
            model[name] = value
    if training["patience"] and not training["validation_fraction"]:
        raise InputError(
            f"patience={training['patience']} needs a validation_fraction: without one nothing is held out to stop by."
        )
    if training["pool_size"] and training["split"] != "folds":
        raise InputError(f"pool_size={training['pool_size']} belongs to cross-validation. Add split=folds.")
    if training != values[recipe]:
        # the values name the run, not the way they were asked for: those of another recipe make its run
        recipe = next((name for name, those in values.items() if those == training), "custom")
    return RunConfig(dataset, architecture, recipe, seed, model, training)
