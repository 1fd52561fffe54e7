"""The only home of hyperparameters: what each recipe sets for each architecture, and which values may be asked for."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hwr_utils.errors import InputError
from hwr_utils.records import DEFAULTS, RunConfig


@dataclass(frozen=True)
class Parameter:
    """What one hyperparameter may be: its type, its bounds (both allowed) or its choices, and what it means."""

    type: type[int] | type[float] | type[str]
    low: float
    high: float
    meaning: str
    choices: tuple[str, ...] = ()


PARAMETERS: dict[str, Parameter] = {
    "epochs": Parameter(int, 1, 10_000, "passes over the training images, at most"),
    "batch_size": Parameter(int, 1, 65_536, "images a step"),
    "learning_rate": Parameter(float, 1e-8, 10.0, "Adam's rate, or its highest where it has a schedule"),
    "schedule": Parameter(str, 0, 0, "how the rate moves: see training.cosine", ("constant", "cosine")),
    "patience": Parameter(int, 1, 10_000, "epochs without a better validation loss after which training stops"),
    "validation_fraction": Parameter(
        float, 0.01, 0.5, "share of each training class held out to choose the epoch; the last one where it is not set"
    ),
    "image_size": Parameter(int, 16, 512, "side of the network's input in pixels; images are resized on the device"),
    "train_size": Parameter(int, 10, 10_000_000, "use this many training images, stratified; all where it is not set"),
    "n_outputs": Parameter(int, 2, 65_535, "logits, where there are to be more of them than classes"),
    "split": Parameter(str, 0, 0, "what the test set is: see data.load", ("official", "random", "writer", "folds")),
    "augmentation": Parameter(
        str, 0, 0, "how training images are varied in each batch: see augmentation.augment", ("none", "warp", "ink")
    ),
    "start_size": Parameter(
        int, 16, 512, "side of the first epoch's input, which reaches image_size after two thirds of the epochs"
    ),
    "label_smoothing": Parameter(float, 0.0, 0.5, "share of each label that is spread over all classes"),
    "weight_decay": Parameter(float, 0.0, 1.0, "AdamW's, which takes the place of Adam where it is not 0"),
    "ema": Parameter(
        float, 0.0, 0.99999, "how much a step keeps of the mean of the weights, which is evaluated in their place"
    ),
    "init": Parameter(str, 0, 0, "a run whose weights training starts from; see runs.initial_weights"),
    "pool_size": Parameter(int, 50, 10_000_000, "with split=folds: cross-validate on so many images, stratified"),
}

# Options of each architecture that the reproduced works leave open, with the study's default. They are part of the
# run's config, and a recipe says nothing about them.
MODEL_OPTIONS: dict[str, dict[str, Any]] = {
    # Song, Si and Kim name two convolutions and two dense layers and nothing between; Keras' example has dropout.
    "simple_cnn": {"dropout": False},
    # They name an average pooling of stride 4 and no kernel; see models.resnet50.
    "resnet50": {"pooling": "global"},
    "inception_hccr": {},
    "compact_hccr": {"width": 64, "rank": 192, "cells": 2, "entry": "directions"},
    "compact_cnn": {"width": 32, "rank": 64, "cells": 2, "entry": "gray"},  # the same for tens of classes
}

# Song, Si and Kim, section III: at most 50 epochs, early stopping after 10 epochs without a better validation loss,
# Adam at 1e-4, no augmentation, from scratch. They give no batch size (64 here) and no validation share (10 % here).
_PAPER = {"epochs": 50, "patience": 10, "learning_rate": 1e-4, "batch_size": 64, "validation_fraction": 0.1}

# Minutes on a laptop's CPU, on data that the project draws; a rate at which a few epochs are enough.
_QUICK = {"epochs": 6, "patience": 6, "learning_rate": 1e-3, "batch_size": 64, "validation_fraction": 0.1}

# K. Kim, section 3: 20 epochs, batches of 48, 56x56 pixels, 8:2, the last epoch. Nothing is held out for choosing, so
# there is no early stopping; the held-out fifth is his test set. He names no optimizer: Adam at Keras' own rate here.
_KIM = {"epochs": 20, "learning_rate": 1e-3, "batch_size": 48, "image_size": 56, "split": "random"}

# The study's own, for hanzi that the project draws: chosen by results/hanzi-ablation.csv.
_BEST = {
    "epochs": 10,
    "learning_rate": 4e-3,
    "schedule": "cosine",
    "batch_size": 128,
    "image_size": 48,
    "start_size": 32,
    "augmentation": "warp",
    "label_smoothing": 0.1,
    "weight_decay": 0.02,
    "ema": 0.999,
}

# The study's own for digits, letters and kana: minutes of one CPU core. What is held out calibrates the scores.
_BEST_SMALL = _BEST | {
    "epochs": 5,
    "image_size": 28,
    "start_size": None,
    "label_smoothing": 0.05,
    "ema": 0.995,
    "validation_fraction": 0.05,
}

RECIPES: dict[str, dict[str, dict[str, Any]]] = {
    "paper": {
        "simple_cnn": _PAPER | {"image_size": 28},
        "resnet50": _PAPER | {"image_size": 224},
        "inception_hccr": _KIM,
    },
    "quick": {
        "simple_cnn": _QUICK | {"image_size": 28},
        "resnet50": _QUICK | {"image_size": 32, "epochs": 3},
        "inception_hccr": _KIM | {"image_size": 32, "epochs": 4},
    },
    "best": {"compact_hccr": _BEST, "compact_cnn": _BEST_SMALL},
}


def base(recipe: str, architecture: str) -> str:
    """Return the recipe that a run is measured against: its own, or the architecture's first where it is custom."""
    if recipe in RECIPES:
        return recipe
    return next(name for name, known in RECIPES.items() if architecture in known)


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return "; did you mean X?" with the closest valid name, or an empty text where none is close."""
    close = difflib.get_close_matches(str(name), list(valid), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def _check(name: str, value: Any) -> Any:
    rule, given = PARAMETERS[name], type(value)
    # not isinstance, for which True is an int
    if given is not rule.type and not (rule.type is float and given is int):
        raise InputError(
            f"{name}={value!r} is of type {given.__name__}, expected {rule.type.__name__}: {rule.meaning}."
        )
    if rule.type is str:
        if rule.choices and value not in rule.choices:
            near = nearest(str(value), rule.choices)
            raise InputError(f"{name}={value!r} is unknown, expected one of {', '.join(rule.choices)}{near}")
        return value
    if not rule.low <= value <= rule.high:  # NaN is in no range
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
    if architecture not in MODEL_OPTIONS:
        raise InputError(
            f"architecture={architecture!r} is unknown, expected one of {', '.join(MODEL_OPTIONS)}"
            f"{nearest(architecture, MODEL_OPTIONS)}"
        )
    if recipe not in RECIPES:
        raise InputError(
            f"recipe={recipe!r} is unknown, expected one of {', '.join(RECIPES)}{nearest(recipe, RECIPES)}"
        )
    if architecture not in RECIPES[recipe]:
        serving = " or ".join(name for name, values in RECIPES.items() if architecture in values)
        raise InputError(f"recipe={recipe} says nothing of {architecture}, expected {serving}.")
    if type(seed) is not int or not 0 <= seed < 2**32:
        raise InputError(f"seed={seed!r} is not a whole number from 0 to 4294967295.")
    training = DEFAULTS | RECIPES[recipe][architecture]
    model = dict(MODEL_OPTIONS[architecture])
    for name, value in overrides.items():
        if name not in PARAMETERS and name not in model:
            valid = list(PARAMETERS) + list(model)
            raise InputError(
                f"parameter {name!r} is unknown for {architecture}, expected one of {', '.join(valid)}"
                f"{nearest(name, valid)}"
            )
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
    if training != DEFAULTS | RECIPES[recipe][architecture]:
        # the values name the run, not the way they were asked for: those of another recipe make its run
        known = {name: DEFAULTS | made[architecture] for name, made in RECIPES.items() if architecture in made}
        recipe = next((name for name, values in known.items() if values == training), "custom")
    return RunConfig(dataset, architecture, recipe, seed, model, training)
