"""Time the study's training loop against the usual one, as a record that the book shows.

The usual loop is that of most tutorials: torchvision's dataset of PIL images, `ToTensor`, a `DataLoader` with a worker
for each core, `Adam` as it comes, `loss.item()` in every step, PyTorch's defaults elsewhere. Both train the same
network on the same images, with the same batch size and rate, in turn in one process: what slows one slows the other.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch import nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from hwr_utils import data, files, models, recipes, runs, synthesis
from hwr_utils.data import idx
from hwr_utils.errors import InputError, MissingFiles
from hwr_utils.records import RunConfig
from hwr_utils.training import Execution, begin, choose_execution, train_one_epoch

SCHEMA_VERSION = 1

Loop = Callable[[], float]  # train one round on all images; return the mean loss


def training(
    images: int | None = None,
    rounds: int = 5,
    device: str = "auto",
    results_dir: str | Path | None = None,
    data_root: str | Path | None = None,
) -> dict[str, Any]:
    """Time both loops, warmed up by one round, and write `<results>/benchmarks/training-<device>.json`.

    Args:
        images: of MNIST, or of digits drawn for the purpose where MNIST is not at hand; None takes 12,800 on a CPU and
            60,000 on a GPU.
        rounds: timed rounds of each loop, at least 5 for a result to quote.
        device: see `training.choose_device`.
        results_dir: None is `runs.RESULTS_DIR`.
        data_root: None is `data.default_root()`.

    Returns:
        The record, of version `SCHEMA_VERSION`:
        schema_version, benchmark: "training", created: UTC;
        environment: as in run records, and torchvision, cores, load (the machine's load average before the start);
        config: dataset, published, images, architecture, batch_size, learning_rate, steps, rounds, workers;
        ours, usual: seconds and loss of each timed round, precision, and by the median round images_per_second and
        milliseconds_per_step;
        ratio: how many times as fast ours is as the usual loop: rounds (one number each), median, low, high.

    Raises:
        InputError: images or rounds are not positive, the device is absent, or the results folder cannot be written.
    """
    execution = choose_execution(device)
    chosen = execution.device
    images = images if images is not None else 12_800 if chosen.type == "cpu" else 60_000
    for name, value in (("images", images), ("rounds", rounds)):
        if value < 1:
            raise InputError(f"{name}={value} is out of range, expected 1 or more.")
    load = round(os.getloadavg()[0], 2)
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as scratch:
        dataset = _digits(images, Path(data_root or data.default_root()), Path(scratch))
        kept = (dataset.train_images[:images], dataset.train_labels[:images])
        config = recipes.configure(dataset.name, "simple_cnn", "paper")
        steps = -(-len(kept[0]) // config.training["batch_size"])
        loops: dict[str, Loop] = {
            "ours": _ours(config, *kept, execution),
            "usual": _usual(config, *kept, chosen, workers, Path(scratch)),
        }
        seconds: dict[str, list[float]] = {name: [] for name in loops}
        losses: dict[str, list[float]] = {name: [] for name in loops}
        with tqdm(total=2 * (rounds + 1), unit="round", desc="benchmark") as bar:
            for _ in range(rounds + 1):
                for name, loop in loops.items():
                    start = time.perf_counter()
                    losses[name].append(loop())
                    seconds[name].append(time.perf_counter() - start)
                    bar.update()
    record: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "benchmark": "training",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": runs.describe_environment(execution)
        | {"torchvision": torchvision.__version__, "cores": workers, "load": load},
        "config": {
            "dataset": dataset.name,
            "published": dataset.published,
            "images": len(kept[0]),
            "architecture": config.architecture,
            "batch_size": config.training["batch_size"],
            "learning_rate": config.training["learning_rate"],
            "steps": steps,
            "rounds": rounds,
            "workers": workers,
        },
    }
    for name in loops:
        timed = seconds[name][1:]  # the first round warms up
        median = statistics.median(timed)
        record[name] = {
            "seconds": [round(value, 4) for value in timed],
            "loss": losses[name][1:],
            "images_per_second": round(len(kept[0]) / median, 1),
            "milliseconds_per_step": round(1000 * median / steps, 4),
            "precision": record["environment"]["precision"] if name == "ours" else "float32",
        }
    pairs = zip(seconds["usual"][1:], seconds["ours"][1:], strict=True)
    ratios = [round(usual / ours, 3) for usual, ours in pairs]
    middle = round(statistics.median(ratios), 3)
    record["ratio"] = {"rounds": ratios, "median": middle, "low": min(ratios), "high": max(ratios)}
    files.write_json(Path(results_dir or runs.RESULTS_DIR) / "benchmarks" / f"training-{chosen.type}.json", record)
    return record


def table(record: dict[str, Any]) -> str:
    """Return the findings of a record as lines of text."""
    ratio = record["ratio"]
    rows = [f"{'loop':6}{'images/s':>10}{'ms/step':>10}"]
    for name in ("ours", "usual"):
        rows.append(f"{name:6}{record[name]['images_per_second']:10,.0f}{record[name]['milliseconds_per_step']:10.2f}")
    rows.append(f"ours is {ratio['median']:.2f} times as fast; by round {ratio['low']:.2f} to {ratio['high']:.2f}")
    return "\n".join(rows)


def _digits(images: int, root: Path, scratch: Path) -> data.Dataset:
    try:
        return data.load("mnist", root)
    except MissingFiles:
        synthesis.write("digits-synthetic", scratch, seed=0, n_train=images, n_test=100)
        return data.load("digits-synthetic", scratch)


def _ours(config: RunConfig, images: np.ndarray, labels: np.ndarray, execution: Execution) -> Loop:
    """Prepare the study's loop, as `training.fit` does."""
    learner = begin(config, int(labels.max()) + 1, execution)
    resident = torch.from_numpy(images).to(execution.device), torch.from_numpy(labels).to(execution.device)

    def loop() -> float:
        with tqdm(disable=True) as bar:
            loss_sum, *_ = train_one_epoch(learner, *resident, config, execution, bar)
        return loss_sum.item() / len(images)  # .item() waits for the device

    return loop


def _usual(
    config: RunConfig, images: np.ndarray, labels: np.ndarray, device: torch.device, workers: int, scratch: Path
) -> Loop:
    """Prepare the usual loop, over the same images in torchvision's own files."""
    raw = scratch / "MNIST" / "raw"
    for prefix in ("train", "t10k"):  # it wants test files too, and reads none of them
        idx.write_idx(raw / f"{prefix}-images-idx3-ubyte", images, compress=False)
        idx.write_idx(raw / f"{prefix}-labels-idx1-ubyte", labels.astype(np.uint8), compress=False)
    loader = DataLoader(
        torchvision.datasets.MNIST(scratch, train=True, transform=torchvision.transforms.ToTensor()),
        batch_size=config.training["batch_size"],
        shuffle=True,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        persistent_workers=True,
    )
    torch.manual_seed(config.seed)
    image_size = config.training["image_size"]
    model = models.build(config.architecture, int(labels.max()) + 1, image_size, config.model).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.training["learning_rate"])
    criterion = nn.CrossEntropyLoss()

    def loop() -> float:
        loss_sum = 0.0
        model.train()
        for batch, target in loader:
            batch, target = batch.to(device), target.to(device)
            optimizer.zero_grad()
            loss = criterion(model(batch), target)
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(batch)
        return loss_sum / len(images)

    return loop
