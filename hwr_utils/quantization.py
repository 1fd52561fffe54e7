"""Quantize a trained run, and measure what that costs: the files that `conversion` makes, each run by its interpreter.

Beside the run's record come the files, `model.json`, which says how to use them (see `prediction`), and
`quantization.json`, the record of what was measured (described by `quantization.schema.json`). The scores of all files
are calibrated with the 32-bit network, of which they are copies.
"""

import os
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load as load_safetensors
from torch import nn

from hwr_utils import (
    calibration,
    conversion,
    data,
    files,
    measurement,
    models,
    prediction,
    preprocessing,
    recipes,
    records,
    results,
    runs,
)
from hwr_utils.data import splits
from hwr_utils.errors import InputError
from hwr_utils.measurement import CLOCK, REFERENCE, ROUNDS, TURN
from hwr_utils.training import choose_execution

SCHEMA_VERSION = 1
CALIBRATION_IMAGES = 200  # of the training set; beyond some hundred the ranges hardly move
HELD_OUT_IMAGES = 5000  # at most, by which scores are calibrated
LIBRARIES = ("torch", "litert-torch", "litert-converter", "ai-edge-litert", "ai-edge-quantizer", "onnx", "onnxruntime")


def quantize(
    folder: str | Path,
    formats: Iterable[str] = tuple(conversion.FORMATS),
    images: int | None = None,
    data_root: str | Path | None = None,
) -> dict[str, Any]:
    """Write the files of a run in several formats, measure them, and write `model.json` and `quantization.json`.

    Args:
        folder: of a run that has its record and its weights.
        formats: names of `conversion.FORMATS`; the 32-bit ones that these are compared with are added.
        images: how many test images, stratified; None takes all.
        data_root: None is `data.default_root()`.

    Returns:
        The record that `quantization.schema.json` describes.

    Raises:
        InputError: an unknown format; no record, weights or data, or damaged ones; more images than there are.
    """
    wanted = set(conversion.check_formats(formats)) | {REFERENCE, CLOCK}
    wanted |= {"fp32.onnx"} if any(name.endswith(".onnx") for name in wanted) else set()
    run, weights = _open_run(Path(folder))
    model = _network(run, weights)
    dataset = _data(run, Path(data_root or data.default_root()))
    config, n_test = run.config, len(dataset.test_labels)
    chosen = np.arange(n_test)
    if images is not None:
        if not 1 <= images <= n_test:
            raise InputError(f"images={images} is out of range, expected 1 to {n_test}: {dataset.name}'s test images.")
        chosen = splits.stratified_sample(dataset.test_labels, images, seed=0)
    seen = _calibration_images(dataset, run)
    size = config.training["image_size"]
    test = torch.from_numpy(dataset.test_images[chosen]), dataset.test_labels[chosen]

    with _one_thread():
        inputs = models.to_input(torch.from_numpy(seen), size).contiguous().numpy()
        contents = conversion.convert(model, size, inputs, wanted)
        contents[REFERENCE] = weights
        for name, content in contents.items():
            if name != REFERENCE:
                files.write_bytes(run.folder / f"model.{name}", content)
        reference = models.predict_logits(model, test[0], size, batch_size=50).numpy()
        form = framing(seen)
        scores, rejector = _scores(run, model, dataset, form, (reference, test[1]))
        said = _description(run, contents, form, scores["temperature"], rejector)
        files.write_json(run.folder / prediction.DESCRIPTION, said)
        environment = runs.describe_environment(choose_execution("cpu"))
        environment |= {"versions": versions(), "load": round(os.getloadavg()[0], 2)}
        measured = measurement.measure(run.folder, list(contents), model, size, *test, reference)
    rows = []
    for name, content in contents.items():
        base = "fp32." + name.rpartition(".")[2] if name != REFERENCE else REFERENCE
        rows.append(
            {
                "format": name,
                "bytes": len(content),
                "share_of_weights": len(content) / len(weights),
                "share_of_fp32": len(content) / len(contents[base]),
                "sha256": files.sha256(content),
                "parts": conversion.parts(name, content, model, size),
            }
            | measured[name]
        )
    record = {
        "schema_version": SCHEMA_VERSION,
        "run_id": run.record["run_id"],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "weights_sha256": files.sha256(weights),
        "architecture": config.architecture,
        "dataset": {"name": dataset.name, "published": dataset.published, "n_classes": len(run.classes)},
        "test_images": {"n": len(chosen), "of": n_test, "stratified": images is not None},
        "calibration_images": len(seen),
        "scores": scores,
        "latency": {"threads": 1, "rounds": ROUNDS, "inferences_per_round": TURN, "ratio_to": CLOCK},
        "environment": environment,
        "formats": rows,
    }
    validate(record, run.folder / "quantization.json")
    files.write_json(run.folder / "quantization.json", record)
    return record


def untrained_sizes(
    architecture: str,
    class_counts: Sequence[int] = (10, 26, 3755),
    formats: Iterable[str] = tuple(conversion.FORMATS),
    image_size: int | None = None,
    results_dir: str | Path | None = None,
) -> dict[str, Any]:
    """Say how large the files of an architecture are and where their bytes go, without training: a record for pages.

    The weights are random, so only the sizes mean anything. It is written to `benchmarks/sizes-<architecture>.json`.

    Args:
        architecture: a key of `recipes.MODEL_OPTIONS`.
        class_counts: numbers of classes.
        formats: names of `conversion.FORMATS`.
        image_size: side of the input in pixels; None is that of the recipe `paper`.
        results_dir: None is `results.RESULTS_DIR`.

    Returns:
        schema_version; benchmark: "sizes"; created: UTC; weights: "random, untrained"; architecture; image_size;
        versions; rows: classes, format, bytes, and parts as `conversion.parts` gives them.

    Raises:
        InputError: an unknown architecture or format, an impossible size, or a folder that cannot be written.
    """
    config = recipes.configure("mnist", architecture, "paper", image_size=image_size)
    wanted, size, rows = conversion.check_formats(formats), config.training["image_size"], []
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(8, 1, size, size, generator=generator).numpy()
    for n_classes in class_counts:
        model = models.build(architecture, n_classes, size, config.model)
        with torch.no_grad():
            for parameter in model.parameters():  # no zeros, which a converter would leave out
                parameter.normal_(std=0.05, generator=generator)
        for name, content in conversion.convert(model, size, noise, wanted).items():
            parts = conversion.parts(name, content, model, size)
            rows.append({"classes": n_classes, "format": name, "bytes": len(content), "parts": parts})
    record = {
        "schema_version": SCHEMA_VERSION,
        "benchmark": "sizes",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "weights": "random, untrained",
        "architecture": architecture,
        "image_size": size,
        "versions": versions(),
        "rows": rows,
    }
    path = Path(results_dir or results.RESULTS_DIR) / "benchmarks" / f"sizes-{architecture}.json"
    files.write_json(path, record)
    return record


def table(record: Mapping[str, Any]) -> str:
    """Return the findings of a record as lines of text: of `quantize`, or of `untrained_sizes`."""
    if "rows" in record:
        lines = [f"{'classes':>8}  {'format':25}{'bytes':>12}{'backbone':>12}{'classifier':>12}{'overhead':>10}"]
        for row in record["rows"]:
            backbone, classifier, overhead = (row["parts"][name] for name in ("backbone", "classifier", "overhead"))
            lines.append(
                f"{row['classes']:8,}  {row['format']:25}{row['bytes']:12,}{backbone:12,}{classifier:12,}{overhead:10,}"
            )
        return "\n".join([*lines, f"{record['architecture']}, weights: {record['weights']}"])
    lines = [
        f"{'format':25}{'bytes':>12}{'of fp32':>9}{'accuracy':>10}{'p':>8}{'top 5':>8}{'logits':>8}"
        f"{'p50 ms':>9}{'p95 ms':>9}{'ratio':>7}"
    ]
    for row in record["formats"]:
        latency = row["latency"]
        lines.append(
            f"{row['format']:25}{row['bytes']:12,}{row['share_of_fp32']:9.1%}{row['test']['accuracy']:10.4f}"
            f"{row['mcnemar']['p']:8.3f}{row['top5_agreement']:8.4f}{row['largest_logit_difference']:8.3f}"
            f"{latency['p50_ms']:9.3f}{latency['p95_ms']:9.3f}{latency['ratio']['median']:7.2f}"
        )
    n = record["test_images"]
    lines.append(
        f"accuracy on {n['n']:,} of {n['of']:,} test images; ratio of times to {record['latency']['ratio_to']}"
    )
    if scores := record.get("scores"):
        lines.append(_scores_text(scores))
    return "\n".join(lines)


def _scores_text(scores: Mapping[str, Any]) -> str:
    if scores["held_out"] is None:
        return (
            "scores are not calibrated, and nothing is declined: no image was held out from training but for the test"
        )
    error, declined = scores["ece"], scores["declined"]
    return (
        f"scores: temperature {scores['temperature']:.3f} by {scores['images']:,} images ({scores['held_out']}); "
        f"calibration error of the test images {error['before']:.4f}, then {error['after']:.4f}\n"
        f"declined: {declined['test']:.2%} of the test images, {declined['scribbles']:.1%} of scribbles"
    )


def describe(row: Mapping[str, Any]) -> dict[str, str]:
    """Return one format of a record of `quantize` as a row of a table for readers: bytes, then answers, then times."""
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


def read(folder: str | Path) -> dict[str, Any] | None:
    """Return the record `quantization.json` of a run folder, or None where there is none.

    Raises:
        InputError: it is damaged, breaks the schema, or is of other weights than the run's record.
    """
    path = Path(folder) / "quantization.json"
    if not path.exists():
        return None
    record = records.read_json(path)
    validate(record, path)
    if record["weights_sha256"] != records.read(Path(folder) / "record.json")["weights"]["sha256"]:
        raise InputError(f"{path} is of other weights than the run has now. Run `hwr quantize {folder}` again.")
    return record


def validate(record: Mapping[str, Any], source: str | Path) -> None:
    """Check a record against `quantization.schema.json`.

    Raises:
        InputError: it breaks the schema; says where.
    """
    records.validate_measurement(record, "quantization", source)


def versions() -> dict[str, str]:
    """Return the versions of the libraries that convert and run the files, of those that are installed."""
    installed = {distribution.name for distribution in metadata.distributions()}
    return {name: metadata.version(name) for name in LIBRARIES if name in installed}


def open_record(folder: Path) -> results.Run:
    """Return the run of a folder that a user gave.

    Raises:
        InputError: it holds no record, or a damaged one.
    """
    if not (folder / "record.json").is_file():
        raise InputError(f"{folder} holds no record.json. Give the folder of a run, as results/ has them.")
    return results.Run(folder, records.read(folder / "record.json"))


def _open_run(folder: Path) -> tuple[results.Run, bytes]:
    """Read a run's record and its weights, and see that they belong together."""
    run = open_record(folder)
    path = folder / "model.safetensors"
    again = (
        f"To make them again, remove {folder / 'record.json'} and run `{results.command(run.config)} "
        f"--results-dir {folder.parent}`."
    )
    if not path.is_file():
        raise InputError(f"{path} is missing: weights are not committed. {again}")
    content = path.read_bytes()
    if files.sha256(content) != run.record["weights"]["sha256"]:
        raise InputError(
            f"{path} ({len(content)} bytes) is not the file that the record describes: there were "
            f"{run.record['weights']['bytes']}, of another SHA-256. It is damaged, or of another training. {again}"
        )
    return run, content


def _network(run: results.Run, weights: bytes) -> nn.Module:
    config = run.config
    model = models.build(config.architecture, len(run.classes), config.training["image_size"], config.model)
    try:
        model.load_state_dict(load_safetensors(weights))
    except Exception as error:  # safetensors has an error of its own, and PyTorch raises RuntimeError
        raise InputError(
            f"{run.folder / 'model.safetensors'} does not fit {config.architecture} as it is now "
            f"({' '.join(str(error).split())[:200]}). Check out revision {run.record['environment']['git_revision']}."
        ) from error
    return model.eval()


def _data(run: results.Run, root: Path) -> data.Dataset:
    config = run.config
    split = config.training.get("split")
    options: dict[str, Any] = {} if split is None else {"split": split, "seed": config.seed}
    dataset = data.load(config.dataset, root, **options)
    if dataset.files != run.record["dataset"]["files"]:
        raise InputError(
            f"{dataset.name} under {root} is not the data that {run.folder.name} was trained on: the checksums of its "
            "files differ from those in the record. Put that data there, or train on this one."
        )
    return dataset


def _calibration_images(dataset: data.Dataset, run: results.Run) -> NDArray[np.uint8]:
    """Return (N, H, W) images that the run was trained on: neither of its test set nor of its validation set."""
    seen, _ = runs.training_split(dataset, run.config)
    n = min(CALIBRATION_IMAGES, len(seen))
    return dataset.train_images[seen[splits.stratified_sample(dataset.train_labels[seen], n, seed=0)]]


def _held_out(dataset: data.Dataset, run: results.Run) -> tuple[NDArray[np.int64], str | None]:
    """Return the indices of training images that the run was not trained on, and which they are.

    They are its validation images, which no more than chose the epoch; else those that `train_size` left out.
    """
    trained, validation = runs.training_split(dataset, run.config)
    left_out = np.setdiff1d(np.arange(len(dataset.train_labels)), trained)
    if not len(left_out):
        return left_out, None
    found, source = (validation, "validation") if len(validation) else (left_out, "train_size")
    n = min(HELD_OUT_IMAGES, len(found))
    return found[splits.stratified_sample(dataset.train_labels[found], n, seed=0)], source


def _scores(
    run: results.Run,
    model: nn.Module,
    dataset: data.Dataset,
    form: Mapping[str, Any],
    test: tuple[NDArray[np.float32], NDArray[np.int64]],
) -> tuple[dict[str, Any], prediction.Rejector | None]:
    """Return what `calibration.measure` finds and on which images; a temperature of 1 alone where there are none."""
    indices, source = _held_out(dataset, run)
    found: dict[str, Any] = {"held_out": source, "images": len(indices), "temperature": 1.0}
    if source is None:  # the test images would do for both, and would then no longer test
        return found, None

    def predict(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        given = torch.from_numpy(images)
        return models.predict_logits(model, given, run.config.training["image_size"], batch_size=50).numpy()

    held_out = dataset.train_images[indices], dataset.train_labels[indices]
    measured, rejector = calibration.measure(predict, form, held_out, test)
    return found | measured, rejector


def framing(images: NDArray[np.uint8]) -> dict[str, Any]:
    """Measure how the (N, H, W) images of a dataset hold their ink, so that others can be brought into the same form.

    Returns:
        size: H; margin: pixels left free around the longer side of the ink; centre: "box" or "mass", whichever lies
        nearer to the middle of the images.
    """
    middle = (images.shape[1] - 1) / 2
    sides, box, mass = [], 0.0, 0.0
    for image in images:
        ink = image > preprocessing.INK
        spans = [np.flatnonzero(ink.any(axis)) for axis in (1, 0)]
        if not len(spans[0]):
            continue
        sides.append(max(int(span[-1] - span[0]) + 1 for span in spans))
        weights = [image.sum(axis, dtype=np.int64) for axis in (1, 0)]
        box += sum(abs((span[0] + span[-1]) / 2 - middle) for span in spans)
        mass += sum(abs(float(np.arange(len(sums)) @ sums) / float(sums.sum()) - middle) for sums in weights)
    margin = int((images.shape[1] - statistics.median(sides)) // 2) if sides else 0
    return {"size": images.shape[1], "margin": margin, "centre": "mass" if mass < box else "box"}


def _description(
    run: results.Run,
    contents: Mapping[str, bytes],
    form: Mapping[str, Any],
    temperature: float,
    rejector: prediction.Rejector | None,
) -> dict[str, Any]:
    """Return what model.json says; files of the same weights that an earlier call made stay in it."""
    size = run.config.training["image_size"]
    description: dict[str, Any] = {
        "schema_version": prediction.SCHEMA_VERSION,
        "run_id": run.record["run_id"],
        "architecture": run.config.architecture,
        "dataset": run.config.dataset,
        "weights_sha256": run.record["weights"]["sha256"],
        "classes": run.classes,
        "input": {"shape": [1, 1, size, size], "type": "float32", "paper": 0, "ink": 1},
        "image": dict(form),
        "scores": {"temperature": temperature},
        "files": {},
    }
    if rejector is not None:
        description["scores"]["rejector"] = {"weights": rejector.weights.tolist(), "bias": rejector.bias}
    path = run.folder / prediction.DESCRIPTION
    if path.exists():
        try:
            older = prediction.read_description(path)
        except InputError:
            older = {}
        if older.get("weights_sha256") == description["weights_sha256"]:
            kept = older["files"].items()
            description["files"] = {name: entry for name, entry in kept if (run.folder / name).is_file()}
    for name, content in contents.items():
        description["files"][f"model.{name}"] = {"bytes": len(content), "sha256": files.sha256(content)}
    return description


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
