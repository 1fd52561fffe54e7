"""Train what is missing and write its record: the write side, for notebooks and the command line."""

import os
import platform
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout  # torch brings it
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from hwr_utils import data, distributed, evaluation, files, models, recipes, records, results, training
from hwr_utils.data import catalog, splits
from hwr_utils.distributed import Processes
from hwr_utils.errors import InputError, MissingFiles, MissingRecord, reading, writing
from hwr_utils.records import RunConfig
from hwr_utils.results import Run

MAX_GALLERY = 60


def load_or_train(
    config: RunConfig,
    results_dir: str | Path | None = None,
    data_root: str | Path | None = None,
    device: str = "auto",
) -> Run:
    """Return the run of a config: from its record where there is one, else by training it.

    Args:
        config: made by `recipes.configure`.
        results_dir: folder of run folders; None takes `results.RESULTS_DIR`.
        data_root: folder of the datasets; None takes `data.default_root()`.
        device: see `training.choose_execution`.

    Raises:
        MissingRecord: there is no record, and the environment has HWR_TRAIN=never.
        InputError: see `train_run`.
    """
    results_dir, root = Path(results_dir or results.RESULTS_DIR), Path(data_root or data.default_root())
    found = None
    # The files under a published name never change, so its record is taken without reading them; a data set of one's
    # own may have changed since, so its files are compared where they are there.
    if not catalog.entry(config.dataset).published:
        with suppress(MissingFiles):
            found = data.checksums(config.dataset, root)
    run = results.find(config, results_dir, found)
    if run is not None:
        return run
    if os.environ.get("HWR_TRAIN") == "never":
        raise MissingRecord(
            f"{results_dir} has no record of this run, and HWR_TRAIN=never forbids to train it. Make it: "
            + results.command(config)
        )
    return train_run(config, results_dir, root, device)


def train_run(
    config: RunConfig,
    results_dir: str | Path,
    data_root: str | Path,
    device: str = "auto",
    precision: str | None = None,
    compile_mode: str | None = None,
) -> Run:
    """Train, evaluate and record one run; resume it where a checkpoint of it is found.

    Under torchrun the processes train it together, and the first of them writes it down, into a `results_dir` that all
    of them can read. For `device`, `precision` and `compile_mode` see `training.choose_execution`.

    Raises:
        InputError: the network does not have such an option; the data is missing, damaged or not what its name
            promises; the device is absent; the results folder cannot be written; another process is at this very run;
            a checkpoint belongs to another config; see also `initial_weights`.
        FloatingPointError: the loss became NaN or infinite.
        DeviceError: the GPU failed; the same call goes on from the last checkpoint.
    """
    execution = training.choose_execution(device, precision, compile_mode)
    options = config.training
    with torch.device("meta"):  # without weights: tells of an impossible option before the data is read
        network = models.build(config.architecture, 2, options["image_size"], config.model)
        if start := options["start_size"]:
            try:
                models.layer_table(network, start)
            except RuntimeError as error:
                raise InputError(
                    f"start_size={start}: {config.architecture} of image_size={options['image_size']} takes no images "
                    "of that size. Use a larger one, or none."
                ) from error
    dataset = data.load(
        config.dataset, data_root, split=options["split"], seed=config.seed, pool_size=options["pool_size"]
    )
    folder = Path(results_dir) / records.run_id(config, dataset.files)
    with distributed.join(execution.device) as processes, _only_one(folder, processes):
        if not processes.agree((folder / "record.json").exists()):
            _train(config, dataset, folder, replace(execution, processes=processes))
        if processes.first:  # also of a process that was killed right after the record
            (folder / "checkpoint.pt").unlink(missing_ok=True)
        return Run(folder, records.read(folder / "record.json"))


@contextmanager
def _only_one(folder: Path, processes: Processes) -> Iterator[None]:
    """Hold the lock of a run; the system gives it back when the process ends, however it ends."""
    if not processes.first:  # the first holds it for all
        yield
        return
    path = folder.parent / ".locks" / f"{folder.name}.lock"
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            held = FileLock(path).acquire(timeout=0)
        except Timeout as error:
            raise InputError(
                f"another process is training {folder.name}. Wait for it: its record will be found here; or stop it, "
                "and this command goes on where it stopped."
            ) from error
    with held:
        yield


def initial_weights(config: RunConfig, classes: Sequence[str], results_dir: Path) -> training.Weights | None:
    """Return the weights of the run that the config's `init` names, or None where it names none.

    Where that run has other classes, the tensors whose size depends on their number, the last layer's, are left out.

    Raises:
        InputError: there is no such run; it has no weights, or not those of its record; its network is another.
    """
    name = config.training["init"]
    if name is None:
        return None
    known = [path.parent.name for path in results_dir.glob("*/record.json")]
    if name not in known:
        raise InputError(
            f"init={name!r} is no run in {results_dir}; `hwr runs` lists them{recipes.nearest(name, known)}"
        )
    run = Run(results_dir / name, records.read(results_dir / name / "record.json"))
    path = run.folder / "model.safetensors"
    with reading(
        path, "the weights of a run", f"Move {run.folder} away and train it again: {results.command(run.config)}"
    ):
        content = path.read_bytes()
        if files.sha256(content) != run.record["weights"]["sha256"]:
            raise ValueError("they are not those of its record")
        weights = load_safetensors(content)
    with torch.device("meta"):  # shapes alone
        ours, others = (
            models.build(config.architecture, n, config.training["image_size"], config.model).state_dict()
            for n in (len(classes), len(classes) + 1)
        )
    last = {name for name, tensor in ours.items() if tensor.shape != others[name].shape}
    kept = {name: tensor for name, tensor in weights.items() if run.classes == list(classes) or name not in last}
    if run.config.architecture != config.architecture or any(
        name not in ours or tensor.shape != ours[name].shape for name, tensor in kept.items()
    ):
        raise InputError(
            f"init={name} is a network of another shape: {run.config.architecture} with image_size="
            f"{run.config.training['image_size']} and {dict(run.config.model)}. Train one of the same, or without init."
        )
    return kept


def training_split(dataset: data.Dataset, config: RunConfig) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the training images to train on, and of those held out to choose the epoch.

    A config and its data give the same ones whenever they are asked for. Where `train_size` is set, some are neither.

    Raises:
        InputError: there are no training images; no class can spare one for validation; train_size is more than what
            is left.
    """
    if not len(dataset.train_labels):
        raise InputError(
            f"{dataset.name} has test images alone, which no network learns from. Test a run on them: "
            f"`hwr evaluate RUN --on {dataset.name}`."
        )
    fraction, size = config.training["validation_fraction"], config.training["train_size"]
    train, validation = np.arange(len(dataset.train_labels)), np.arange(0)
    if fraction:
        train, validation = splits.stratified_split(dataset.train_labels, fraction, config.seed)
        if len(validation) == 0:
            raise InputError(
                f"{dataset.name}: no class has two training images, so none can be held out for validation. Add images."
            )
    if size is not None:
        if size > len(train):
            raise InputError(
                f"train_size={size} is more than the {len(train)} training images that {dataset.name} leaves after "
                "the validation split. Use a smaller one, or none at all."
            )
        train = train[splits.stratified_sample(dataset.train_labels[train], size, config.seed)]
    return train, validation


def _train(config: RunConfig, dataset: data.Dataset, folder: Path, execution: training.Execution) -> None:
    """Train and evaluate a run, and leave its record in a folder that this process holds the lock of."""
    processes, image_size = execution.processes, config.training["image_size"]
    if processes.first:
        files.remove_unfinished(folder)
    # classes that no image has but the network shall, as torchvision's 27 for EMNIST-letters
    spare = (config.training["n_outputs"] or len(dataset.classes)) - len(dataset.classes)
    if spare < 0:
        raise InputError(
            f"n_outputs={config.training['n_outputs']} is less than the {len(dataset.classes)} classes of "
            f"{dataset.name}. Use more, or none at all."
        )
    classes = [*dataset.classes, *["N/A"] * spare]
    train, validation = training_split(dataset, config)
    test_set = (dataset.test_images, dataset.test_labels)
    began = time.process_time()
    environment = describe_environment(execution)  # now, for the sources may be edited while it trains
    result = training.fit(
        config,
        len(classes),
        (dataset.train_images[train], dataset.train_labels[train]),
        # where nothing is held out for choosing, nothing is chosen, and the test set may be watched
        (dataset.train_images[validation], dataset.train_labels[validation]) if len(validation) else test_set,
        execution,
        checkpoint=folder / "checkpoint.pt",
        initial=initial_weights(config, classes, folder.parent),
    )
    spent = {"cpu_seconds": round(time.process_time() - began, 1), "load": round(os.getloadavg()[2], 2)}
    model = models.build(config.architecture, len(classes), image_size, config.model)
    model = model.to(execution.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    images, labels = (torch.from_numpy(array).to(execution.device) for array in test_set)

    def test(weights: training.Weights) -> tuple[dict[str, float | int], np.ndarray, np.ndarray]:
        model.load_state_dict(weights)
        found = distributed.predict(model, images, labels, image_size, processes)
        ranked, losses = found.classes.cpu().numpy(), found.losses.cpu().numpy()
        summary = evaluation.summarise_test(dataset.test_labels, ranked, losses, len(classes))
        return summary, ranked.astype(np.uint16), found.scores.cpu().numpy().astype(np.float16)

    last_summary, *_ = test(result.last)
    summary, ranked, scores = test(result.best)
    if processes.first:
        weights = save_safetensors(result.best)
        layers, best = models.layer_table(model, image_size), result.history[result.best_epoch - 1]
        chosen = {"n": len(validation), "accuracy": best["validation_accuracy"], "loss": best["validation_loss"]}
        record: dict[str, Any] = {
            "schema_version": records.SCHEMA_VERSION,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "config": config.to_dict(),
            "dataset": {
                "name": dataset.name,
                "published": dataset.published,
                "files": dict(sorted(dataset.files.items())),
                "classes": classes,
                "n_train": len(train),
                "n_validation": len(validation),
                "n_test": len(dataset.test_labels),
                **({"drawn": dataset.drawn} if dataset.drawn else {}),
            },
            "model": {"parameters": sum(row.parameters for row in layers), "macs": sum(row.macs for row in layers)},
            "environment": environment,
            "history": result.history,
            "best_epoch": result.best_epoch,
            "stopped_early": result.stopped_early,
            "test": summary,
            "test_last_epoch": last_summary,
            "timing": {
                "seconds": round(sum(result.epoch_seconds), 2),
                "images_per_second": round(len(train) / float(np.median(result.epoch_seconds)), 1),
                "epoch_seconds": [round(seconds, 3) for seconds in result.epoch_seconds],
                "sessions": result.sessions,
            }
            | spent,
            "weights": {"sha256": files.sha256(weights), "bytes": len(weights)},
            **({"validation": chosen} if len(validation) else {}),
            "run_id": folder.name,
        }
        files.write_bytes(folder / "model.safetensors", weights)
        with FileLock(folder.parent / ".locks" / "log.lock"):
            records.log(folder.parent, record)
        records.write(folder, record, _arrays(dataset, validation, ranked, scores))
    processes.agree(True)  # the others wait for the record


def _arrays(
    dataset: data.Dataset, validation: np.ndarray, ranked: np.ndarray, scores: np.ndarray
) -> dict[str, dict[str, np.ndarray]]:
    """Return what `Run.predictions` and, where images may be shown, `Run.gallery` read."""
    predictions = {
        "labels": dataset.test_labels.astype(np.uint16),
        "classes": ranked,
        "scores": scores,
        "validation_indices": validation.astype(np.uint32),
    }
    for name, column in (("writers", dataset.test_writers), ("test_indices", dataset.test_indices)):
        if column is not None:
            predictions[name] = column.astype(np.uint32)
    if not catalog.entry(dataset.name).pictures:
        return {"predictions": predictions}
    wrong = np.flatnonzero(ranked[:, 0] != dataset.test_labels)
    worst = wrong[np.argsort(-scores[wrong, 0], kind="stable")][:MAX_GALLERY]
    errors = {
        "images": dataset.test_images[worst],
        "index": worst.astype(np.uint32),
        "labels": dataset.test_labels[worst].astype(np.uint16),
        "predicted": ranked[worst, 0],
        "scores": scores[worst, 0],
    }
    return {"predictions": predictions, "errors": errors}


def describe_environment(execution: training.Execution) -> dict[str, Any]:
    """Return the `environment` of a record: the machine, the versions, the revision of the code."""
    device, precision, name = execution.device, execution.precision, platform.processor() or platform.machine()
    with suppress(OSError):  # Linux alone has it
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return {
        "device": device.type,
        "device_name": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{name}, {os.cpu_count()} cores",
        "precision": precision if precision == "float32" else f"{precision} autocast",
        "compile": execution.compile_mode or "no",
        "processes": execution.processes.count,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "git_revision": _git_revision(),
        "source_hash": source_hash(),
    }


def _git_revision() -> str:
    if given := os.environ.get("HWR_GIT_REVISION"):  # for machines that have the files but no git
        return given

    def git(*words: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("-modified" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def source_hash() -> str:
    """Return the SHA-256 of the package's sources; equal hashes mean the same code."""
    package = Path(__file__).parent
    paths = sorted(path for path in package.rglob("*") if path.suffix in (".py", ".toml"))
    return files.sha256("".join(f"{path.relative_to(package)} {files.sha256(path)}\n" for path in paths).encode())
