"""Train what is missing and write its record: the write side, for notebooks and the command line."""

import os
import platform
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import nn

from hwr_utils import data, distributed, evaluation, files, models, recipes, records, results, training
from hwr_utils.data import catalog, splits, variants
from hwr_utils.errors import InputError, MissingFiles, reading
from hwr_utils.recipes import RunConfig
from hwr_utils.results import Folder, Run
from hwr_utils.training import Execution

PACKAGE = Path(__file__).parent
MAX_GALLERY = 24  # errors whose images are kept, to be shown


def load_or_train(config: RunConfig, results_dir: Folder = None, data_root: Folder = None, device: str = "auto") -> Run:
    """Return the run of a config: from its record where there is one, else by training it.

    Without folders, records are in `results.RESULTS_DIR` and datasets in `data.default_root()`. Errors as `train_run`
    and `training.choose_execution`; and an InputError where there is no record and the environment has HWR_TRAIN=never.
    """
    results_dir, root = Path(results_dir or results.RESULTS_DIR), Path(data_root or data.default_root())
    found = None
    # The files under a published name never change, so its record is taken without reading them; a data set of one's
    # own may have changed since, so its files are compared where they are there.
    if not catalog.entry(config.dataset).published:
        with suppress(MissingFiles):
            found = data.checksums(config.dataset, root)
    if run := results.find(config, results_dir, found):
        return run
    if os.environ.get("HWR_TRAIN") == "never":
        told = "has no record of this run, and HWR_TRAIN=never forbids training it. To make it, run"
        raise InputError(f"{results_dir} {told}: {results.command(config)}")
    return train_run(config, results_dir, root, training.choose_execution(device))


def train_run(config: RunConfig, results_dir: str | Path, data_root: str | Path, execution: Execution) -> Run:
    """Train, evaluate and record one run; resume it where a checkpoint of it is found.

    Under torchrun the processes train it together, and the first of them writes it down, into a `results_dir` that all
    of them can read. For the `execution` see `training.choose_execution`. Errors as `training.fit`, `data.load`,
    `training_split` and `initial_weights`; and an InputError where the network does not have such an option, the
    results folder cannot be written, or another process is training this run.
    """
    with torch.device("meta"):  # without weights: tells of an impossible option before the data is read
        network = training.build(config, 2)
        try:
            models.layer_table(network, size := training.input_size(config, 1))
        except RuntimeError as error:
            told = "Give a larger image_size, or a larger start_size if there is one."
            raise InputError(f"{config.architecture} takes no images of {size} pixels a side. {told}") from error
    dataset = load_data(config, data_root)
    folder = Path(results_dir) / records.run_id(config, dataset.files)
    lock = folder.parent / ".locks" / f"{folder.name}.lock"
    with distributed.join(execution.device) as processes, ExitStack() as held:
        if processes.first:
            held.enter_context(files.only_one(lock, f"training {folder.name}"))
            for path in folder.glob(f".*{files.UNFINISHED}"):  # of a process that was killed
                path.unlink(missing_ok=True)
        if not processes.agree((folder / "record.json").exists()):
            _train(config, dataset, folder, replace(execution, processes=processes))
        if processes.first:  # a process that was killed right after its record left one
            (folder / "checkpoint.pt").unlink(missing_ok=True)
        return Run(folder, records.read(folder / "record.json"))


def load_data(config: RunConfig, data_root: str | Path) -> data.Dataset:
    """Load the dataset of a config, split and changed as it says; errors as `data.load` and `data.variants.apply`."""
    options = config.training
    asked = {name: options[name] for name in ("split", "pool_size", "classes")}
    return variants.apply(data.load(config.dataset, data_root, seed=config.seed, **asked), options, config.seed)


def weights(run: Run) -> bytes:
    """Return the content of a run's model.safetensors; an InputError where it is missing or not that of the record."""
    path = run.folder / "model.safetensors"
    command = f"{results.command(run.config)} --results-dir {run.folder.parent}"
    again = f"To make it again, remove {run.folder / 'record.json'} and run `{command}`."
    with reading(path, "the weights of the run, which are not committed", again):
        content = path.read_bytes()
    if files.sha256(content) != run.record["weights"]["sha256"]:
        raise InputError(f"{path} is not the file that the record describes: its SHA-256 is another. {again}")
    return content


def network(run: Run) -> nn.Module:
    """Return the network of a run with its weights, in evaluation mode; errors as `weights`."""
    model, content = training.build(run.config, len(run.classes)), weights(run)
    again = f"Check out revision {run.record['environment']['git_revision']}."
    with reading(run.folder, f"weights that fit {run.config.architecture} as it is now", again):
        model.load_state_dict(load_safetensors(content))
    return model.eval()


def initial_weights(config: RunConfig, classes: Sequence[str], results_dir: Path) -> training.Weights | None:
    """Return the weights of the run that the config's `init` names, or None where it names none.

    For several runs, joined by +, it is the mean of their weights, which often reads better than each of them if one
    training went on from the other (Wortsman et al., ICML 2022); a run that is named twice counts twice. Where a run
    has other classes, the last layer, whose size depends on their number, is left out. Errors as `weights`; and an
    InputError where there is no such run, or its network is another.
    """
    if not config.origins:
        return None
    with torch.device("meta"):  # shapes alone
        shapes = {layer: tensor.shape for layer, tensor in training.build(config, len(classes)).state_dict().items()}
    last, kept = [*shapes][-1].rpartition(".")[0], []
    recorded = [path.parent.name for path in results_dir.glob("*/record.json")]
    for name in config.origins:
        recipes.known("init=", name, recorded)
        run = results.open_run(results_dir / name)
        found = load_safetensors(weights(run))
        if run.classes != list(classes):
            found = {layer: tensor for layer, tensor in found.items() if not layer.startswith(f"{last}.")}
        if any(tensor.shape != shapes.get(layer) for layer, tensor in found.items()):
            given = f"image_size={run.config.training['image_size']} and {dict(run.config.model)}"
            told = f"init={name} is a network of another shape: {run.config.architecture} with {given}"
            raise InputError(f"{told}. Train one of the same, or without init.")
        kept.append(found)
    shared = set.intersection(*map(set, kept))
    # whole numbers have no mean, such as a count of batches: the first run's are taken
    return {
        layer: torch.stack([one[layer] for one in kept]).mean(0) if tensor.is_floating_point() else tensor
        for layer, tensor in kept[0].items()
        if layer in shared
    }


def training_split(dataset: data.Dataset, config: RunConfig) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the training images to train on, and of those held out to choose the epoch.

    The same config and data always give the same ones. With `train_size`, some images are in neither. Raises an
    InputError where there are too few images for it, for a validation set or for `swap`.
    """
    fraction, size, swap = (config.training[name] for name in ("validation_fraction", "train_size", "swap"))
    labels, spare = dataset.train_labels, np.arange(0) if dataset.spare is None else dataset.spare
    if not len(labels):
        raise InputError(
            f"{dataset.name} has test images alone. To test a run: `hwr evaluate RUN --on {dataset.name}`."
        )
    train, validation = np.setdiff1d(np.arange(len(labels)), spare), np.arange(0)
    if fraction:
        train, validation = (train[part] for part in splits.stratified_split(labels[train], fraction, config.seed))
        if not len(validation):
            raise InputError(f"{dataset.name}: no class has two training images, of which one could be held out.")
    if size is not None:
        if size > len(train):
            raise InputError(f"train_size={size} is more than the {len(train)} training images of {dataset.name}.")
        train = train[splits.stratified_sample(labels[train], size, config.seed)]
    if swap:
        train = splits.swap(labels, train, spare, swap, config.seed)
    return train, validation


def _train(config: RunConfig, dataset: data.Dataset, folder: Path, execution: Execution) -> None:
    """Train and evaluate a run, and leave its record in a folder that this process holds the lock of."""
    processes, image_size = execution.processes, config.training["image_size"]
    # outputs of the network for classes that no image has: torchvision has 27 for EMNIST-letters
    spare = (config.training["n_outputs"] or len(dataset.classes)) - len(dataset.classes)
    if spare < 0:
        raise InputError(f"n_outputs is less than {dataset.name}'s {len(dataset.classes)} classes. Use more, or none.")
    classes = [*dataset.classes, *["N/A"] * spare]
    train, validation = training_split(dataset, config)
    test_set = (dataset.test_images, dataset.test_labels)
    began = time.process_time()
    environment = describe_environment(execution)  # now, for the sources may be edited while it trains
    result = training.fit(
        config,
        len(classes),
        (dataset.train_images[train], dataset.train_labels[train]),
        # if nothing is held out, the validation loss chooses nothing, and so it may be that of the test set
        (dataset.train_images[validation], dataset.train_labels[validation]) if len(validation) else test_set,
        execution,
        checkpoint=folder / "checkpoint.pt",
        initial=initial_weights(config, classes, folder.parent),
    )
    spent = {"cpu_seconds": round(time.process_time() - began, 1), "load": round(os.getloadavg()[2], 2)}
    model = training.build(config, len(classes)).to(execution.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    images, labels = (torch.from_numpy(array).to(execution.device) for array in test_set)
    tests = {}
    for part, kept in (("test_last_epoch", result.last), ("test", result.best)):  # predictions are of the best
        model.load_state_dict(kept)
        found = models.predict(model, images, labels, image_size)
        ranked, scores, losses = (column.cpu().numpy() for column in found)
        tests[part] = evaluation.summarise_test(dataset.test_labels, ranked, losses, len(classes))
    if processes.first:
        content = save_safetensors(result.best)
        layers, best = models.layer_table(model, image_size), result.history[result.best_epoch - 1]
        chosen = {"n": len(validation), "accuracy": best["validation_accuracy"], "loss": best["validation_loss"]}
        record: dict[str, Any] = {
            "schema_version": records.SCHEMA_VERSION,
            "created": records.now(),
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
            "model": {name: int(layers[name].sum()) for name in ("parameters", "macs")},
            "environment": environment,
            "history": result.history,
            "best_epoch": result.best_epoch,
            "stopped_early": len(result.history) < config.training["epochs"],
            "test": tests["test"],
            "test_last_epoch": tests["test_last_epoch"],
            "timing": {
                "seconds": round(sum(result.epoch_seconds), 2),
                "images_per_second": round(len(train) / float(np.median(result.epoch_seconds)), 1),
                "epoch_seconds": [round(seconds, 3) for seconds in result.epoch_seconds],
                "sessions": result.sessions,
                **spent,
            },
            "weights": {"sha256": files.sha256(content), "bytes": len(content)},
            **({"validation": chosen} if len(validation) else {}),
            "run_id": folder.name,
        }
        files.write_bytes(folder / "model.safetensors", content)
        arrays = _arrays(dataset, validation, ranked.astype(np.uint16), scores.astype(np.float16))
        records.write(folder, record, arrays)
    processes.agree(True)  # the others wait for the record


def _arrays(dataset: data.Dataset, validation: np.ndarray, ranked: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    """Return what `Run.predictions` and, where images may be shown, `plots.gallery` read."""
    labels = dataset.test_labels.astype(np.uint16)
    numbers = {"validation_indices": validation, "writers": dataset.test_writers, "test_indices": dataset.test_indices}
    predictions: dict[str, np.ndarray] = {"labels": labels, "classes": ranked, "scores": scores}
    predictions |= {name: column.astype(np.uint32) for name, column in numbers.items() if column is not None}
    if not catalog.entry(dataset.name).pictures:
        return {"predictions": predictions}
    wrong = np.flatnonzero(ranked[:, 0] != labels)
    worst = wrong[np.argsort(-scores[wrong, 0], kind="stable")][:MAX_GALLERY].astype(np.uint32)
    errors: dict[str, np.ndarray] = {"images": dataset.test_images[worst], "index": worst, "labels": labels[worst]}
    errors |= {"predicted": ranked[worst, 0], "scores": scores[worst, 0]}
    return {"predictions": predictions, "errors": errors}


def describe_environment(execution: Execution) -> dict[str, Any]:
    """Return the `environment` of a record: the machine, the versions, the revision of the code."""
    device, precision, name = execution.device, execution.precision, platform.processor() or platform.machine()
    with suppress(OSError):  # Linux alone has it
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{name}, {os.cpu_count()} cores"
    revision, git = "unknown", partial(subprocess.check_output, cwd=PACKAGE, stderr=subprocess.DEVNULL, text=True)
    with suppress(OSError, subprocess.CalledProcessError):
        changed = git(["git", "status", "--porcelain", "--", "."])
        revision = git(["git", "rev-parse", "HEAD"]).strip() + ("-modified" if changed else "")
    return {
        "device": device.type,
        "device_name": name,
        "precision": precision if precision == "float32" else f"{precision} autocast",
        "processes": execution.processes.count,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        # the environment tells it to machines that have the files but no git
        "git_revision": os.environ.get("HWR_GIT_REVISION") or revision,
        "source_hash": source_hash(),
    }


def source_hash() -> str:
    """Return the SHA-256 of the package's sources; equal hashes mean the same code."""
    paths = sorted(path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".toml"))
    return files.sha256("".join(f"{path.relative_to(PACKAGE)} {files.sha256(path)}\n" for path in paths).encode())
