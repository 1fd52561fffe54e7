"""Run configs, run ids and run records: what a run was asked to do, its name, and the evidence it leaves.

A record is a folder `<results>/<run_id>/` with `record.json`, which fits `record.schema.json`, `predictions.npz` and,
where the data's licence allows its images to be shown, `errors.npz`. `record.json` is written last: a folder without
one is a run that has not ended.
"""

import dataclasses
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from hwr_utils import files
from hwr_utils.errors import InputError, reading

SCHEMA_VERSION = 1
# A record is written by `hwr train` and never edited.
REMEDY = "Restore it from version control, or delete its folder and run the command again."

# Hyperparameters that a config need not name, with what it means not to. A run's name covers those alone that differ,
# so an option that is added later leaves the names of earlier runs as they are.
DEFAULTS: dict[str, Any] = {
    "schedule": "constant",  # the learning rate stays as it is
    "split": "official",  # the test set that the dataset comes with
    "validation_fraction": 0.0,  # nothing is held out
    "patience": None,  # training does not stop early, and the last epoch counts
    "train_size": None,  # all training images
    "pool_size": None,  # all images take part in a cross-validation
    "n_outputs": None,  # as many as there are classes
    "augmentation": "none",  # training images are taken as they are
    "start_size": None,  # the network's input has its full size from the first epoch on
    "label_smoothing": 0.0,  # a label is its class alone
    "weight_decay": 0.0,  # plain Adam
    "init": None,  # the weights are drawn from the seed
    "ema": 0.0,  # the weights themselves are evaluated, and no mean of them
}


@dataclass(frozen=True)
class RunConfig:
    """All that determines a run besides its data. Made by `recipes.configure`, never by hand."""

    dataset: str  # a name of `data.catalog`
    architecture: str  # a name of `models`
    recipe: str  # the recipe whose values these are, or "custom" where one differs
    seed: int  # drives initialisation, batch order, dropout and the validation split
    model: Mapping[str, Any]  # options of the architecture, for instance {"dropout": False}
    training: Mapping[str, Any]  # all of `recipes.PARAMETERS`, in their units

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, keys in a fixed order, without hyperparameters at their default."""
        training = {name: value for name, value in sorted(self.training.items()) if value != DEFAULTS.get(name, ...)}
        return dataclasses.asdict(self) | {"model": dict(sorted(self.model.items())), "training": training}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunConfig":
        """Read back what `to_dict` gave."""
        return cls(**{**values, "training": DEFAULTS | values["training"]})


def run_id(config: RunConfig, data_files: Mapping[str, str]) -> str:
    """Name a run by what determines it: its config and its data, given as file name -> SHA-256 of the content.

    Returns:
        `<dataset>-<architecture>-<recipe>-s<seed>-<hash>`, safe as a folder name. No path, device or worker count
        enters the hash: the same experiment has one name everywhere.
    """
    content = json.dumps({"config": config.to_dict(), "files": dict(data_files)}, sort_keys=True)
    dataset, digest = config.dataset.replace(":", "-"), files.sha256(content.encode())[:8]
    return f"{dataset}-{config.architecture}-{config.recipe}-s{config.seed}-{digest}"


def validate(record: Any, source: str | Path) -> None:
    """Raise an InputError where a record, named by `source`, is of another version or breaks the schema."""
    version = record.get("schema_version") if isinstance(record, dict) else type(record).__name__
    if version != SCHEMA_VERSION:
        raise InputError(
            f"{source}: schema_version is {version!r}, expected {SCHEMA_VERSION}. "
            "Delete the folder and run its command again, or check out the revision that wrote it."
        )
    # The schema library comes with the book's tools. A bare CUDA machine has none and writes records all the same;
    # they are validated when they are read where the book is built.
    with suppress(ImportError):
        import fastjsonschema

        try:
            _validator()(record)
        except fastjsonschema.JsonSchemaValueException as error:
            found = "" if isinstance(error.value, dict | list) else f", found {error.value!r}"
            raise InputError(f"{source}: {error.message.replace('data', 'record', 1)}{found}. {REMEDY}") from error
    for part in ("test", "test_last_epoch"):
        accuracy, correct, n = (record[part][name] for name in ("accuracy", "correct", "n"))
        if not math.isclose(accuracy, correct / n, abs_tol=1e-9):
            raise InputError(f"{source}: {part}/accuracy is {accuracy}, and {correct} of {n} are right. {REMEDY}")


@cache
def _validator() -> Callable[[Any], Any]:
    import fastjsonschema  # jsonschema would do, and take seconds to import

    schema = json.loads(Path(__file__).with_name("record.schema.json").read_text(encoding="utf-8"))
    return fastjsonschema.compile(schema, use_default=False)


def write(folder: Path, record: Mapping[str, Any], arrays: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Write a run's arrays, by the stem of their `.npz`, and then its record, each in one step.

    Raises:
        InputError: the record breaks the schema, or the folder cannot be written.
    """
    validate(record, folder / "record.json")
    for stem, content in arrays.items():
        write_arrays(folder / f"{stem}.npz", content)
    files.write_json(folder / "record.json", record)


def verify(record: Mapping[str, Any], predictions: Mapping[str, np.ndarray], source: str | Path) -> None:
    """Raise an InputError where a valid record's test figures do not follow from the predictions."""
    from hwr_utils.evaluation import summarise_test  # evaluation imports pandas, which takes a while

    labels, ranked = predictions["labels"], predictions["classes"]
    counted = summarise_test(labels, ranked, np.zeros(1), len(record["dataset"]["classes"]))
    del counted["loss"]  # it needs all scores, of which the likeliest alone are kept
    told = {f"test/{name}": (record["test"][name], value) for name, value in counted.items()}
    told["dataset/n_test"] = (record["dataset"]["n_test"], counted["n"])
    for name, (value, expected) in told.items():
        if abs(value - expected) > 1e-9:
            raise InputError(f"{source}: {name} is {value}, and its predictions.npz gives {expected}. {REMEDY}")


def log(results_dir: Path, record: Mapping[str, Any]) -> None:
    """Add a run to `log.csv`, which keeps every run that was made; its last column says why one was replaced."""
    path, test = results_dir / "log.csv", record["test"]
    text = path.read_text(encoding="utf-8") if path.exists() else "run,created,accuracy,n,replaced\n"
    row = f"{record['run_id']},{record['created']},{test['accuracy']:.6f},{test['n']},\n"
    files.write_text(path, text + row)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as a compressed `.npz` in one step, without pickle; errors as `files.write_bytes`."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    files.write_bytes(path, buffer.getvalue())


def read(path: Path) -> dict[str, Any]:
    """Read one `record.json`; errors as `read_json` and `validate`."""
    record = read_json(path)
    validate(record, path)
    return record


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; an InputError where the file is missing or holds none."""
    with reading(path, "a record in JSON", REMEDY):
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
        if not isinstance(value, dict):
            raise ValueError(f"found a {type(value).__name__}, expected an object")
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"found {constant}, which JSON does not have")  # Python reads NaN, and no bound excludes it


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read one `.npz` of a run folder, without pickle; an InputError where it is missing or damaged."""
    with reading(path, "a NumPy archive", REMEDY), path.open("rb") as file, np.load(file, allow_pickle=False) as found:
        return dict(found)


def read_all(results_dir: str | Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield (folder, record) of every ended run under `results_dir`, in the order of their names; errors as `read`.

    One bad record stops the reader: a table with a run silently left out would be a wrong table.
    """
    for path in sorted(Path(results_dir).glob("*/record.json")):
        yield path.parent, read(path)
