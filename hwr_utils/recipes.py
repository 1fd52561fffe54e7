"""What determines a run: its config, by the recipes and the parameters of `recipes.toml`."""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwr_utils.errors import InputError

_TABLES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
MODEL_OPTIONS: dict[str, dict[str, Any]] = _TABLES["model_options"]  # architecture -> option -> default
RECIPES: dict[str, dict[str, dict[str, Any]]] = _TABLES["recipes"]  # recipe -> architecture -> values

WORDS: dict[str, str] = _TABLES["words"]  # "name=value" -> how a page says it
PARAMETERS: dict[str, dict[str, Any]] = _TABLES["parameters"]  # name -> type, meaning, and low and high, or choices
for _rule in PARAMETERS.values():
    _rule["type"] = {"int": int, "float": float, "str": str}[_rule["type"]]
DEFAULTS = {name: rule.get("default") for name, rule in PARAMETERS.items()}


@dataclass(frozen=True)
class RunConfig:
    """All that determines a run besides its data. Made by `configure`, never by hand."""

    dataset: str  # a name of `data.catalog`
    architecture: str  # a key of `MODEL_OPTIONS`
    recipe: str  # the recipe whose values these are, or "custom" where one differs
    seed: int  # drives initialisation, batch order, dropout and the validation split
    model: Mapping[str, Any]  # options of the architecture, for instance {"dropout": False}
    training: Mapping[str, Any]  # all of `PARAMETERS`, in their units

    @property
    def origins(self) -> list[str]:
        """The ids of the runs from the mean of whose weights training starts; empty where it starts at random."""
        return self.training["init"].split("+") if self.training["init"] else []

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, keys in a fixed order, without parameters at their default."""
        training = {name: value for name, value in sorted(self.training.items()) if value != DEFAULTS[name]}
        return vars(self) | {"model": dict(sorted(self.model.items())), "training": training}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunConfig":
        """Read back what `to_dict` gave."""
        return cls(**{**values, "training": DEFAULTS | values["training"]})


def base(recipe: str, architecture: str) -> str:
    """Return the recipe that a run is measured against: its own, or the architecture's first where it is custom."""
    return recipe if recipe in RECIPES else next(name for name, known in RECIPES.items() if architecture in known)


def known(what: str, name: Any, valid: Iterable[str], place: str = "") -> None:
    """Raise an InputError if a name is not among the valid ones; its message begins with `what` and has the nearest."""
    valid = list(valid)
    if name not in valid:
        close = difflib.get_close_matches(str(name).lower(), valid, n=1, cutoff=0.5)
        near = f" (did you mean {close[0]!r}?)" if close else ""
        told = f"expected one of {', '.join(valid) if len(valid) <= 40 else f'{len(valid)} names'}"
        raise InputError(f"{what}{name!r} is unknown{place}{near}, {told if valid else 'and there is none yet'}")


def configure(dataset: str, architecture: str, recipe: str = "paper", seed: int = 0, **overrides: Any) -> RunConfig:
    """Build a run's config: the recipe's values, with those overrides that are not None in their place.

    These are values of `PARAMETERS` or of the architecture's options. The config that is returned names the recipe that
    has exactly its values: another one if the overrides lead there, and "custom" if there is none. Whether the dataset
    exists is checked where it is loaded.

    Raises an InputError for an unknown name (the nearest valid one is given), a wrong type, or a value out of range.
    """
    known("architecture=", architecture, MODEL_OPTIONS)
    known("recipe=", recipe, RECIPES)
    made = {name: DEFAULTS | values[architecture] for name, values in RECIPES.items() if architecture in values}
    if recipe not in made:
        raise InputError(f"recipe={recipe} says nothing of {architecture}, expected {' or '.join(made)}.")
    if type(seed) is not int or not 0 <= seed < 2**32:
        raise InputError(f"seed={seed!r} is not a whole number from 0 to 4294967295.")
    training, model = dict(made[recipe]), dict(MODEL_OPTIONS[architecture])
    for name, value in overrides.items():
        known("parameter ", name, PARAMETERS | model, f" for {architecture}")
        rule = PARAMETERS.get(name) or {"type": type(model[name]), "meaning": f"an option of {architecture}"}
        if value is not None:
            (model if name in model else training)[name] = checked(name, value, rule)
    if training["init"]:  # a folder names its run, too
        training["init"] = "+".join(Path(origin).name for origin in training["init"].split("+"))
    if training["patience"] and not training["validation_fraction"]:
        raise InputError(f"patience={training['patience']} needs a validation_fraction, by which to stop.")
    for name, split in (("pool_size", "folds"), ("swap", "half")):
        if training[name] and training["split"] != split:
            raise InputError(f"{name}={training[name]} needs split={split}, and split is {training['split']}.")
    if training != made[recipe]:  # the values name the run, not the way they were asked for
        recipe = next((name for name, values in made.items() if values == training), "custom")
    return RunConfig(dataset, architecture, recipe, seed, model, training)


def checked(name: str, value: Any, rule: Mapping[str, Any]) -> Any:
    """Return a value as the type of its rule, a row of `PARAMETERS`; an InputError where it breaks the rule."""
    given = type(value)  # not isinstance, for which True is an int
    if given is not rule["type"] and not (rule["type"] is float and given is int):
        how = {bool: ", true or false", int: ", such as 10", float: ", such as 0.001 or 1e-4", str: ", in quotes"}
        wanted = f"{rule['type'].__name__}{how.get(rule['type'], '')}: {rule['meaning']}"
        raise InputError(f"{name}={value!r} is of type {given.__name__}, expected {wanted}")
    if "choices" in rule:
        known(f"{name}=", value, rule["choices"])
    if "low" in rule and not rule["low"] <= value <= rule["high"]:  # NaN is in no range
        span = f"{rule['low']:g} to {rule['high']:g}"
        raise InputError(f"{name}={value!r} is out of range, expected {span}: {rule['meaning']}")
    return rule["type"](value)
