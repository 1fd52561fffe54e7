"""Run configs, run ids and run records: what a run was asked to do, its name, and the evidence it leaves.

A record is a folder `<results>/<run_id>/` with `record.json` (validated by `record.schema.json`), `predictions.npz`
and, where the data's licence allows its images to be shown, `errors.npz`. The record is written last, so a folder
without one is a run that has not ended.
"""

import dataclasses
import hashlib
import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hwr_utils import files
from hwr_utils.errors import InputError

SCHEMA_VERSION = 1
LOG = (
    "run",
    "created",
    "accuracy",
    "n",
    "replaced",
)  # columns of log.csv; the last says why a run is not here any more

# Hyperparameters that a config need not name, with what it means not to. A run's name covers those alone that differ,
# so an option that is added later leaves the names of earlier runs as they are.
DEFAULTS: dict[str, Any] = {
    "schedule": "constant",  # the learning rate stays as it is
    "split": "official",  # the test set that the dataset comes with
    "validation_fraction": 0.0,  # nothing is held out, and the last epoch counts
    "patience": None,  # training does not stop early
    "train_size": None,  # all training images
    "pool_size": None,  # all images take part in a cross-validation
    "n_outputs": None,  # as many as there are classes
    "augmentation": "none",  # training images are taken as they are
    "start_size": None,  # the network's input has its full size from the first epoch on
    "label_smoothing": 0.0,  # a label is its class alone
    "weight_decay": 0.0,  # plain Adam
    "ema": 0.0,  # the weights themselves are evaluated, and no mean of them
}


@dataclass(frozen=True)
class RunConfig:
    """All that determines a run besides its data. Made by `recipes.configure`, never by hand.

    Attributes:
        dataset: a name of `data.catalog`.
        architecture: a name of `models`.
        recipe: the recipe whose values these are, or "custom" where one differs.
        seed: drives initialisation, batch order, dropout and the validation split.
        model: options of the architecture, for instance {"dropout": False}.
        training: hyperparameters, in the units of `recipes.PARAMETERS`: each of them, those of `DEFAULTS` included.
    """

    dataset: str
    architecture: str
    recipe: str
    seed: int
    model: Mapping[str, Any]
    training: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, keys in a fixed order, without hyperparameters at their default."""
        values = dataclasses.asdict(self)
        for name, default in DEFAULTS.items():
            if values["training"].get(name) == default:
                values["training"].pop(name, None)
        return values | {key: dict(sorted(values[key].items())) for key in ("model", "training")}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunConfig":
        """Read back what `to_dict` gave."""
        given = {field.name: values[field.name] for field in dataclasses.fields(cls)}
        return cls(**given | {"training": DEFAULTS | given["training"]})


def run_id(config: RunConfig, data_files: Mapping[str, str]) -> str:
    """Name a run by what determines it: its config and the checksums of its data.

    Args:
        config: the run's config.
        data_files: file name -> SHA-256 of its content, of every file the dataset was read from.

    Returns:
        `<dataset>-<architecture>-<recipe>-s<seed>-<hash>`, safe as a folder name. No path, device or worker count
        enters the hash: the same experiment has one name everywhere.
    """
    content = json.dumps({"config": config.to_dict(), "files": dict(sorted(data_files.items()))}, sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()[:8]
    dataset = config.dataset.replace(":", "-")
    return f"{dataset}-{config.architecture}-{config.recipe}-s{config.seed}-{digest}"


def validate(record: Any, source: str | Path) -> None:
    """Check a record against the schema.

    Raises:
        InputError: the record, named by `source`, is of another version or breaks the schema; says where and how.
    """
    if not isinstance(record, dict) or record.get("schema_version") != SCHEMA_VERSION:
        found = record.get("schema_version") if isinstance(record, dict) else type(record).__name__
        raise InputError(
            f"{source}: schema_version is {found!r}, expected {SCHEMA_VERSION}. "
            "Delete the folder and run its command again, or check out the revision that wrote it."
        )
    # The schema library comes with the book's tools. A bare CUDA machine has none and writes records all the same;
    # they are validated when they are read where the book is built.
    try:
        import jsonschema
    except ImportError:
        return
    schema = json.loads((Path(__file__).parent / "record.schema.json").read_text())
    errors = sorted(jsonschema.Draft202012Validator(schema).iter_errors(record), key=lambda error: list(error.path))
    if errors:
        where = "/".join(map(str, errors[0].path)) or "the top level"
        raise InputError(
            f"{source}: at {where}: {errors[0].message}. A record is written by `hwr train` and never edited; "
            "restore it from version control, or delete its folder and run the command again."
        )

    for part in ("test", "test_last_epoch"):
        test = record[part]
        if not math.isclose(test["accuracy"], test["correct"] / test["n"], abs_tol=1e-9):
            raise InputError(
                f"{source}: {part}/accuracy is {test['accuracy']}, and {test['correct']} of {test['n']} are right. "
                "A record is never edited; restore it from version control, or delete its folder and run its command."
            )


def write(folder: Path, record: Mapping[str, Any], arrays: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Write a run's arrays and then its record, each in one step.

    Args:
        folder: `<results>/<run_id>`.
        record: what `record.schema.json` describes.
        arrays: file stem -> arrays of that `.npz`, for instance {"predictions": {"labels": ...}}.

    Raises:
        InputError: the record breaks the schema, or the folder cannot be written.
    """
    validate(record, folder / "record.json")
    for stem, content in arrays.items():
        write_arrays(folder / f"{stem}.npz", content)
    files.write_json(folder / "record.json", record)


def verify(record: Mapping[str, Any], predictions: Mapping[str, np.ndarray], source: str | Path) -> None:
    """Check a record's test figures against the predictions that they were counted from.

    Args:
        record: a valid one.
        predictions: of the same run.
        source: the record's name in messages.

    Raises:
        InputError: a figure does not follow from the predictions, so one of the two has been changed.
    """
    from hwr_utils.evaluation import summarise_test  # evaluation imports pandas, which takes a while

    labels, ranked = predictions["labels"], predictions["classes"]
    counted = summarise_test(labels, ranked, np.zeros(1), len(record["dataset"]["classes"]))
    counted |= {"loss": record["test"]["loss"]}  # it needs all scores, of which the likeliest alone are kept
    for name, value in counted.items():
        if abs(record["test"][name] - value) > 1e-9:
            raise InputError(
                f"{source}: test/{name} is {record['test'][name]}, and its predictions.npz gives {value}. Restore both "
                "from version control, or delete the folder and run the command again."
            )
    if record["dataset"]["n_test"] != counted["n"]:
        raise InputError(f"{source}: n_test is {record['dataset']['n_test']}, and predictions.npz has {counted['n']}.")


def log(results_dir: Path, record: Mapping[str, Any]) -> None:
    """Add a run to `log.csv`, which keeps every run that was made, also one that is replaced later.

    Raises:
        InputError: the file cannot be written.
    """
    path, test = results_dir / "log.csv", record["test"]
    text = path.read_text(encoding="utf-8") if path.exists() else ",".join(LOG) + "\n"
    row = f"{record['run_id']},{record['created']},{test['accuracy']:.6f},{test['n']},\n"
    files.write_text(path, text + row)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as a compressed `.npz` in one step, without pickle; errors as `files.write_bytes`."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    files.write_bytes(path, buffer.getvalue())


def read(path: Path) -> dict[str, Any]:
    """Read and validate one `record.json`.

    Raises:
        InputError: not JSON, or against the schema; names the file.
    """
    record = read_json(path)
    validate(record, path)
    return record


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        InputError: not a JSON object; names the file.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
        if not isinstance(value, dict):
            raise ValueError(f"found a {type(value).__name__}, expected an object")
    except (OSError, ValueError) as error:  # broken JSON and broken UTF-8 are ValueErrors
        raise InputError(
            f"{path}: not a readable JSON record ({error}). Restore it from version control, "
            "or delete its folder and run the command again."
        ) from error
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"found {constant}, which JSON does not have")  # Python reads NaN, and no bound excludes it


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read one `.npz` of a run folder, without pickle.

    Raises:
        InputError: missing or damaged; names the file.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            return {name: content[name] for name in content.files}
    except Exception as error:  # zipfile, zlib and numpy each raise their own on damaged bytes
        raise InputError(
            f"{path}: cannot be read ({type(error).__name__}: {error}). Restore it from version control, "
            "or delete its folder and run the record's command again."
        ) from error


def read_all(results_dir: str | Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield (folder, record) of every ended run under `results_dir`, in the order of their names.

    Raises:
        InputError: a record is damaged. One bad record stops the reader: a table with a run silently left out
            would be a wrong table.
    """
    for path in sorted(Path(results_dir).glob("*/record.json")):
        yield path.parent, read(path)
