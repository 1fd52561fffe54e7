"""Read and write what was measured of a run's exported files: one schema a kind, and one reader for both.

`quantization.json` says what each format costs, `evaluation.<dataset>.json` how its file reads other data.
Reading needs no torch, so that the book can be built without it.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hwr_utils import files, records
from hwr_utils.errors import InputError

SCHEMA_VERSION = 1
QUANTIZATION = "quantization.json"

# of the exported files: a run has model.<format>; `dynamic_int8` is what K. Kim measures
FORMATS = (
    *("safetensors", "fp32.tflite", "fp16.tflite", "dynamic_int8.tflite", "weight_only_int8.tflite"),
    *("weight_only_int4.tflite", "fp32.onnx", "static_int8.onnx"),
)


def evaluation(name: str) -> str:
    """Return the name of the file that says how a run reads a dataset."""
    return f"evaluation.{name.replace(':', '-')}.json"


def validate(record: Mapping[str, Any], path: Path) -> None:
    """Raise an InputError where a record breaks the schema of its kind, the first part of the file's name."""
    import jsonschema  # it comes with the book's tools, and takes a second or two

    kind = path.name.partition(".")[0]
    schema = json.loads(Path(__file__).with_name(f"{kind}.schema.json").read_text(encoding="utf-8"))
    if error := jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema).iter_errors(record)):
        where = "/".join(map(str, error.absolute_path)) or "the top level"
        raise InputError(f"{path}: at {where}: {error.message}. Remove it, and run `{_command(path)}` again.")


def write(path: Path, run: Mapping[str, Any], measured: Mapping[str, Any]) -> dict[str, Any]:
    """Write what was measured of a run with that record, in one step; return it with its head. Errors as `validate`."""
    record = {
        "schema_version": SCHEMA_VERSION,
        "run_id": run["run_id"],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "weights_sha256": run["weights"]["sha256"],
        **measured,
    }
    validate(record, path)
    files.write_json(path, record)
    return record


def read(folder: str | Path, name: str = QUANTIZATION) -> dict[str, Any] | None:
    """Return the record of a run folder by its file's name, or None where there is none.

    Raises an InputError where it is damaged, breaks the schema, or is of other weights than the run's record.
    """
    path = Path(folder) / name
    if not path.exists():
        return None
    record = records.read_json(path)
    validate(record, path)
    if record["weights_sha256"] != records.read(path.with_name("record.json"))["weights"]["sha256"]:
        raise InputError(f"{path} is of other weights than the run has now. Run `{_command(path)}` again.")
    return record


def _command(path: Path) -> str:
    kind, dataset, *_ = path.name.split(".")
    if kind == "quantization":
        return f"hwr quantize {path.parent}"
    return f"hwr evaluate {path.parent} --on {dataset.replace('custom-', 'custom:', 1)}"
