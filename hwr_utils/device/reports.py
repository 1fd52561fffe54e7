"""Read and write what was measured of a run's exported files: one schema a kind, and one reader for both.

`quantization.json` says what each format costs, `evaluation.<dataset>.json` how its file reads other data.
Reading needs no torch, so that the book can be built without it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwr_utils import files, records
from hwr_utils.errors import InputError

SCHEMA_VERSION = 1
QUANTIZATION = "quantization.json"

# What a file holds, by its format; the file of a run is model.<format>.
FORMATS = {
    "safetensors": "32-bit floats, the weights alone, run by PyTorch",
    "fp32.tflite": "32-bit floats",
    "fp16.tflite": "weights as 16-bit floats, computed as 32-bit ones",
    "dynamic_int8.tflite": "dynamic range: weights as 8-bit integers, activations quantized as they come; K. Kim's",
    "weight_only_int8.tflite": "weights as 8-bit integers, computed as 32-bit floats",
    "weight_only_int4.tflite": "weights as 4-bit integers, computed as 32-bit floats",
    "fp32.onnx": "32-bit floats",
    "static_int8.onnx": "weights and activations as 8-bit integers, their ranges measured on training images",
}


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


def write(path: Path, record: Mapping[str, Any]) -> None:
    """Check a record and write it in one step; errors as `validate`, or the folder cannot be written."""
    validate(record, path)
    files.write_json(path, record)


def read(folder: str | Path, name: str = QUANTIZATION) -> dict[str, Any] | None:
    """Return the record of a run folder by its file's name, or None where there is none.

    Raises:
        InputError: it is damaged, breaks the schema, or is of other weights than the run's record.
    """
    path = Path(folder) / name
    if not path.exists():
        return None
    record = records.read_json(path)
    validate(record, path)
    if record["weights_sha256"] != records.read(path.with_name("record.json"))["weights"]["sha256"]:
        raise InputError(f"{path} is of other weights than the run has now. Run `{_command(path)}` again.")
    return record


def read_evaluations(folder: str | Path) -> list[dict[str, Any]]:
    """Return the records of a run on other datasets, in the order of their names; errors as `read`."""
    return [record for path in sorted(Path(folder).glob("evaluation.*.json")) if (record := read(folder, path.name))]


def _command(path: Path) -> str:
    kind, dataset, *_ = path.name.split(".")
    if kind == "quantization":
        return f"hwr quantize {path.parent}"
    return f"hwr evaluate {path.parent} --on {dataset.replace('custom-', 'custom:', 1)}"


def describe(row: Mapping[str, Any]) -> dict[str, str]:
    """Return one format of a quantization record as cells for readers: bytes, then answers, then times."""
    test, latency, ratio = row["test"], row["latency"], row["latency"]["ratio"]
    return {
        "format": f"`{row['format']}`",
        "bytes": f"{row['bytes']:,}",
        "of fp32": f"{row['share_of_fp32']:.1%}",
        "accuracy (%)": f"{100 * test['accuracy']:.2f}",
        "95 % interval": f"{100 * test['low']:.2f} to {100 * test['high']:.2f}",
        "change (points)": f"{100 * row['change']:+.2f}",
        "p": f"{row['mcnemar']['p']:.2g}",
        "best 5 shared (%)": f"{100 * row['top5_agreement']:.2f}",
        "largest logit difference": f"{row['largest_logit_difference']:.3f}",
        "p50 (ms)": f"{latency['p50_ms']:.2f}",
        "p95 (ms)": f"{latency['p95_ms']:.2f}",
        "time ratio": f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})",
    }
