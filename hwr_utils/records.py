"""Run ids and records: a run's name, and the evidence it leaves.

A run is a folder `<results>/<run_id>/` with `record.json`, `predictions.npz` and, where the data's licence allows its
images to be shown, `errors.npz`. `record.json` is written last: a folder without one is a run that has not ended.
Beside it may lie what was measured of its exported files: `quantization.json` and `evaluation.<dataset>.json`. Each
kind of record has a schema beside this module. Reading needs no torch, so that the book can be built without it.
"""

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from hwr_utils import files, recipes
from hwr_utils.errors import InputError, reading
from hwr_utils.recipes import RunConfig

SCHEMA_VERSION = 1
# A record is written by a command and never edited.
REMEDY = "Restore it from version control, or delete it and run its command again."
REMAKE = "Restore it from version control, or delete the records beside it and run the command again that made them."


def run_id(config: RunConfig, data_files: Mapping[str, str]) -> str:
    """Name a run by what determines it: its config and its data, given as file name -> SHA-256 of the content.

    The name, `<dataset>-<architecture>-<recipe>-s<seed>-<hash>`, is safe as a folder's. No path, device or worker count
    enters the hash: the same experiment has one name everywhere.
    """
    content = json.dumps({"config": config.to_dict(), "files": dict(data_files)}, sort_keys=True)
    dataset, digest = config.dataset.replace(":", "-"), files.sha256(content.encode())[:8]
    return f"{dataset}-{config.architecture}-{config.recipe}-s{config.seed}-{digest}"


def evaluation_path(folder: Path, dataset: str) -> Path:
    """Return where the record of how a run reads a dataset lies in its folder."""
    return folder / f"evaluation.{dataset.replace(':', '-')}.json"


def now() -> str:
    """Return the time as records have it, UTC to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def validate(record: Mapping[str, Any], path: Path) -> None:
    """Raise an InputError where a record breaks the schema of its kind, or has another config than `recipes` allows.

    The name of its file says which kind it is: `record.json`, `quantization.json` or `evaluation.<dataset>.json`.
    """
    try:
        conform(record, path.name.partition(".")[0])
        if given := record.get("config"):
            recipes.known("architecture ", of := given["architecture"], recipes.MODEL_OPTIONS)
            base, values = recipes.base(given["recipe"], of), given["training"] | given["model"]
            recipes.configure(given["dataset"], of, base, given["seed"], **values)
    except InputError as error:
        raise InputError(f"{path}: {str(error).rstrip('.')}. {REMEDY}") from error


def conform(value: Any, kind: str) -> None:
    """Raise an InputError where a JSON value breaks `<kind>.schema.json`; it says in which part, and what is there."""
    # The schema library comes with the book's tools. A bare CUDA machine has none and writes records all the same;
    # they are validated when they are read where the book is built.
    with suppress(ImportError):
        check = _validator(kind)
        try:
            check(value, name_prefix=kind)
        except ValueError as error:  # fastjsonschema's, which tells where it is wrong, and not what is there
            part = getattr(error, "value", {})
            found = "" if isinstance(part, dict | list) else f", found {part!r}"
            raise InputError(f"{error}{found}.") from error


@cache
def _validator(kind: str) -> Callable[..., Any]:
    import fastjsonschema  # jsonschema would do, and take seconds to import

    schema = json.loads(Path(__file__).with_name(f"{kind}.schema.json").read_text(encoding="utf-8"))
    return fastjsonschema.compile(schema, use_default=False)


def write(folder: Path, record: Mapping[str, Any], arrays: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Write a run's line of `log.csv`, its arrays, by the stem of their `.npz`, and then its record, each in one step.

    The log, beside the folders of the runs, keeps every run that was made; its last column says why one was replaced.
    Raises an InputError where the record breaks the schema, or the folder cannot be written.
    """
    from filelock import FileLock  # which imports asyncio, and readers of records need no lock

    validate(record, folder / "record.json")
    path, test = folder.parent / "log.csv", record["test"]
    with FileLock(folder.parent / ".locks" / "log.lock"):
        text = path.read_text(encoding="utf-8") if path.exists() else "run,created,accuracy,n,replaced\n"
        row = f"{record['run_id']},{record['created']},{test['accuracy']:.6f},{test['n']},\n"
        files.write_text(path, text + row)
    for stem, content in arrays.items():
        write_arrays(folder / f"{stem}.npz", content)
    files.write_json(folder / "record.json", record)


def write_measured(path: Path, run: Mapping[str, Any], measured: Mapping[str, Any]) -> dict[str, Any]:
    """Write a measurement of the run whose record is `run`, in one step, and return it as it was written.

    It begins with the schema version, the run's id, the time and the checksum of the weights. Errors as `write`.
    """
    head = {"schema_version": SCHEMA_VERSION, "run_id": run["run_id"], "created": now()}
    record = {**head, "weights_sha256": run["weights"]["sha256"], **measured}
    validate(record, path)
    files.write_json(path, record)
    return record


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as an `.npz` in one step, without pickle; errors as `files.write_bytes`.

    It is compressed by LZMA, which makes predictions a seventh smaller than `np.savez_compressed` does.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_LZMA) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
    files.write_bytes(path, buffer.getvalue())


def read(path: Path) -> dict[str, Any]:
    """Read one record of any kind. Errors as `read_json` and `validate`, and if the run has other weights by now."""
    record = read_json(path)
    validate(record, path)
    owner = record if path.name == "record.json" else read(path.with_name("record.json"))
    if record.get("weights_sha256", owner["weights"]["sha256"]) != owner["weights"]["sha256"]:
        raise InputError(f"{path} is of other weights than the run has now. Delete it and run its command again.")
    return record


def read_json(path: Path, remedy: str = REMEDY) -> dict[str, Any]:
    """Read a JSON object; an InputError, with the remedy, where the file is missing or holds none."""
    with reading(path, "a record in JSON", remedy):
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError(f"found a {type(value).__name__}, expected an object")
    return value


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read one `.npz` of a run folder, without pickle; an InputError where it is missing or damaged."""
    with reading(path, "a NumPy archive", REMAKE), path.open("rb") as file, np.load(file, allow_pickle=False) as found:
        return dict(found)
