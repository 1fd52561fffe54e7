"""Time the study's training loop: against the usual one, and in the ways it can be computed. Records for the book.

The usual loop is that of most tutorials: torchvision's dataset of PIL images, `ToTensor` (after `Resize` for a network
that takes another size), a `DataLoader` with a worker for each core, `Adam` as it comes, `loss.item()` in every step,
PyTorch's defaults elsewhere. Both train the same network on the same images, with the same batch size and rate, in turn
in one process: what slows one slows the other.
"""

import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch import nn
from torch.utils.data import DataLoader
from torchvision.models.resnet import Bottleneck
from tqdm.auto import tqdm

from hwr_utils import data, files, models, recipes, results, runs, synthesis
from hwr_utils.data import idx
from hwr_utils.errors import InputError, MissingFiles
from hwr_utils.records import RunConfig
from hwr_utils.training import Execution, begin, choose_execution, step_sizes, train_one_epoch

SCHEMA_VERSION = 1

Loop = Callable[[], float]  # train one round on all images; return the mean loss


@dataclass(frozen=True)
class Attempt:
    """A way to compute the training loop, and what was expected of it before it was measured.

    Attributes:
        precision: see `training.Execution`.
        compile_mode: see `training.Execution`.
        predicted: the rate as a multiple of the first attempt's.
        because: why.
    """

    precision: str
    compile_mode: str | None
    predicted: float
    because: str


ATTEMPTS = {
    "cuda": [
        Attempt("bfloat16", None, 1.0, "the study's usual way on CUDA, to which the others are compared"),
        Attempt("float32", None, 0.5, "twice the bytes through memory, which is what a step waits for"),
        Attempt("float16", None, 1.0, "as many bytes; scaling the loss costs little"),
        Attempt("bfloat16", "default", 1.4, "batch normalisation, ReLU and the addition fused into fewer passes"),
        Attempt("bfloat16", "reduce-overhead", 1.4, "CUDA graphs besides: no help where kernels are long, much for a "
                "small network"),
    ],
    "cpu": [
        Attempt("float32", None, 1.0, "the study's usual way on a CPU, to which the others are compared"),
        Attempt("bfloat16", None, 0.5, "without instructions for it, every product is converted back and forth"),
        Attempt("float32", "default", 1.1, "the convolutions remain; only what lies between them is fused"),
    ],
}  # fmt: skip


def training(
    images: int | None = None,
    rounds: int = 5,
    device: str = "auto",
    architecture: str = "simple_cnn",
    results_dir: str | Path | None = None,
    data_root: str | Path | None = None,
) -> dict[str, Any]:
    """Time both loops, warmed up by one round, and write `benchmarks/training[-<architecture>]-<device>.json`.

    Args:
        images: of MNIST, or of digits drawn for the purpose where MNIST is not at hand; None takes 12,800 on a CPU and
            60,000 on a GPU.
        rounds: timed rounds of each loop, at least 5 for a result to quote.
        device: see `training.choose_device`.
        architecture: whose recipe `paper` is timed.
        results_dir: None is `results.RESULTS_DIR`.
        data_root: None is `data.default_root()`.

    Returns:
        The record, of version `SCHEMA_VERSION`:
        schema_version, benchmark: "training", created: UTC;
        environment: as in run records, and torchvision, cores, load (the machine's load average before the start);
        config: dataset, published, images, architecture, batch_size, learning_rate, steps, rounds, workers;
        ours, usual: seconds and loss of each timed round, precision, and by the median round images_per_second and
        milliseconds_per_step;
        ratio: how many times as fast ours is as the usual loop: rounds (one number each), median, low, high;
        memory, on CUDA: peak_bytes of ours, and what `_memory_floor` says of it, with its share of that floor.

    Raises:
        InputError: images or rounds are not positive, the device is absent, or the results folder cannot be written.
    """
    execution = choose_execution(device)
    cuda = execution.device.type == "cuda"
    with _prepared("training", images, rounds, execution, architecture, data_root) as (record, config, kept, scratch):
        workers = record["environment"]["cores"]
        record["config"]["workers"] = workers
        loops = {"ours": _ours(config, *kept, execution)}
        if cuda:
            loops["ours"]()
            peak = torch.cuda.max_memory_allocated(execution.device)  # before the usual loop takes its own
        loops["usual"] = _usual(config, *kept, execution.device, workers, scratch)
        record |= _time(loops, rounds, record["config"])
    record["ours"]["precision"] = record["environment"]["precision"]
    record["usual"]["precision"] = "float32"
    record["ratio"] = _ratio(record["usual"], record["ours"])
    if cuda:
        with torch.cuda.device(execution.device):  # on whose stream the clocks are to lie
            floor = _memory_floor(config, execution, record["ours"]["images_per_second"])
        record["memory"] = {"peak_bytes": peak} | floor
    return _write(record, results_dir)


def attempts(
    images: int | None = None,
    rounds: int = 5,
    device: str = "auto",
    architecture: str = "simple_cnn",
    results_dir: str | Path | None = None,
    data_root: str | Path | None = None,
) -> dict[str, Any]:
    """Time the ways of `ATTEMPTS` in turn, and write `benchmarks/attempts[-<architecture>]-<device>.json`.

    Arguments and errors as in `training`.

    Returns:
        As `training` does, without `ours`, `usual`, `ratio` and `memory`; instead
        attempts: a list of precision, compile, predicted, because, seconds, loss, images_per_second,
        milliseconds_per_step, and ratio: how many times as fast it is as the first; or failed: why it could not be run.
    """
    execution = choose_execution(device)
    with _prepared("attempts", images, rounds, execution, architecture, data_root) as (record, config, kept, _):
        ways = ATTEMPTS[execution.device.type]
        loops, failed = {}, {}
        for number, way in enumerate(ways):
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                how = replace(execution, precision=way.precision, compile_mode=way.compile_mode)
                loop = _ours(config, *kept, how)
            said = [str(warning.message) for warning in told if "torch.compile failed" in str(warning.message)]
            if said:
                failed[str(number)] = said[0]
            else:
                loops[str(number)] = loop
        timed = _time(loops, rounds, record["config"])
    record["attempts"] = [
        {"precision": way.precision, "compile": way.compile_mode or "no", "predicted": way.predicted}
        | {"because": way.because}
        | (
            {"failed": failed[str(number)]}
            if str(number) in failed
            else timed[str(number)] | {"ratio": _ratio(timed["0"], timed[str(number)])}
        )
        for number, way in enumerate(ways)
    ]
    return _write(record, results_dir)


@contextmanager
def _prepared(
    benchmark: str,
    images: int | None,
    rounds: int,
    execution: Execution,
    architecture: str,
    data_root: str | Path | None,
) -> Iterator[tuple[dict[str, Any], RunConfig, tuple[np.ndarray, np.ndarray], Path]]:
    """Get images and begin a record; yield it with the config, images and labels, and a folder for a while."""
    images = images if images is not None else 12_800 if execution.device.type == "cpu" else 60_000
    for name, value in (("images", images), ("rounds", rounds)):
        if value < 1:
            raise InputError(f"{name}={value} is out of range, expected 1 or more.")
    load = round(os.getloadavg()[0], 2)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as scratch:
        dataset = _digits(images, Path(data_root or data.default_root()), Path(scratch))
        kept = (dataset.train_images[:images], dataset.train_labels[:images])
        config = recipes.configure(dataset.name, architecture, "paper")
        record = {
            "schema_version": SCHEMA_VERSION,
            "benchmark": benchmark,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "environment": runs.describe_environment(execution)
            | {"torchvision": torchvision.__version__, "cores": cores, "load": load},
            "config": {
                "dataset": dataset.name,
                "published": dataset.published,
                "images": len(kept[0]),
                "architecture": architecture,
                "batch_size": config.training["batch_size"],
                "learning_rate": config.training["learning_rate"],
                "steps": len(step_sizes(len(kept[0]), config.training["batch_size"])),
                "rounds": rounds,
            },
        }
        yield record, config, kept, Path(scratch)


def _time(loops: Mapping[str, Loop], rounds: int, config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Let the loops run in turn, warmed up by one round; return seconds, loss and rates of each."""
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    losses: dict[str, list[float]] = {name: [] for name in loops}
    with tqdm(total=len(loops) * (rounds + 1), unit="round", desc="benchmark") as bar:
        for _ in range(rounds + 1):
            for name, loop in loops.items():
                start = time.perf_counter()
                losses[name].append(loop())
                seconds[name].append(time.perf_counter() - start)
                bar.update()
    result = {}
    for name in loops:
        timed = seconds[name][1:]  # the first round warms up
        median = statistics.median(timed)
        result[name] = {
            "seconds": [round(value, 4) for value in timed],
            "loss": losses[name][1:],
            "images_per_second": round(config["images"] / median, 1),
            "milliseconds_per_step": round(1000 * median / config["steps"], 4),
        }
    return result


def _ratio(base: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return how many times as fast the other loop is, round by round."""
    ratios = [round(slow / fast, 3) for slow, fast in zip(base["seconds"], other["seconds"], strict=True)]
    middle = round(statistics.median(ratios), 3)
    return {"rounds": ratios, "median": middle, "low": min(ratios), "high": max(ratios)}


def _write(record: dict[str, Any], results_dir: str | Path | None) -> dict[str, Any]:
    architecture = record["config"]["architecture"]
    words = [record["benchmark"], *([architecture] if architecture != "simple_cnn" else [])]
    name = "-".join([*words, record["environment"]["device"]])
    files.write_json(Path(results_dir or results.RESULTS_DIR) / "benchmarks" / f"{name}.json", record)
    return record


def activation_bytes(model: nn.Module, image_size: int, value_bytes: int = 2) -> int:
    """Count the bytes that one image's training step moves through memory, where each layer reads and writes by itself.

    By kind of layer, with i values in and o values out: a convolution or linear layer reads and writes i + o, and
    twice that for its two gradients; batch normalisation reads i for the statistics and again to normalise, writes o,
    and its gradient reads both twice and writes i; any other layer reads i, writes o, and its gradient reads o and what
    it kept, and writes i; the addition that ends a residual block moves 3 o, and its gradient as many. Weights are left
    out: a batch shares them. Layers that are fused move less.

    Args:
        model: any network of the study.
        image_size: side of the input in pixels.
        value_bytes: bytes of a value: 2 under 16-bit autocast.
    """
    moved = 0

    def count(layer: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal moved
        read, written = inputs[0].numel(), output.numel()
        if isinstance(layer, Bottleneck):
            moved += 6 * written
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            moved += 3 * (read + written)
        elif isinstance(layer, nn.BatchNorm2d):
            moved += 5 * read + 3 * written
        else:
            moved += 2 * read + 3 * written

    layers = [layer for layer in model.modules() if isinstance(layer, Bottleneck) or not list(layer.children())]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    device = next(model.parameters()).device
    model.eval()
    with torch.no_grad():
        model(torch.zeros(1, 1, image_size, image_size, device=device))
    for hook in hooks:
        hook.remove()
    return moved * value_bytes


def _memory_floor(config: RunConfig, execution: Execution, images_per_second: float) -> dict[str, Any]:
    """Measure the memory of a CUDA device, and say what share of what it allows a rate is."""
    source = torch.empty(2**30, dtype=torch.uint8, device=execution.device)
    target = torch.empty_like(source)
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    milliseconds = []
    for _ in range(12):
        start.record()
        target.copy_(source)
        end.record()
        end.synchronize()
        milliseconds.append(start.elapsed_time(end))
    bandwidth = 2 * 2**30 / (statistics.median(milliseconds[2:]) / 1000)
    image_size = config.training["image_size"]
    moved = activation_bytes(models.build(config.architecture, 10, image_size, config.model), image_size)
    return {
        "bandwidth_bytes_per_second": round(bandwidth),
        "activation_bytes_per_image": moved,
        "floor_images_per_second": round(bandwidth / moved),
        "share": round(images_per_second * moved / bandwidth, 4),
    }


def table(record: dict[str, Any]) -> str:
    """Return the findings of a record as lines of text."""
    if record["benchmark"] == "attempts":
        rows = [f"{'precision':10}{'compiled':>18}{'images/s':>10}{'ratio':>8}{'predicted':>11}"]
        for way in record["attempts"]:
            rate, ratio = "failed", ""
            if "failed" not in way:
                rate, ratio = f"{way['images_per_second']:,.0f}", f"{way['ratio']['median']:.2f}"
            rows.append(f"{way['precision']:10}{way['compile']:>18}{rate:>10}{ratio:>8}{way['predicted']:11.2f}")
        return "\n".join(rows)
    ratio = record["ratio"]
    rows = [f"{'loop':6}{'images/s':>10}{'ms/step':>10}"]
    for name in ("ours", "usual"):
        rows.append(f"{name:6}{record[name]['images_per_second']:10,.0f}{record[name]['milliseconds_per_step']:10.2f}")
    rows.append(f"ours is {ratio['median']:.2f} times as fast; by round {ratio['low']:.2f} to {ratio['high']:.2f}")
    if memory := record.get("memory"):
        rows.append(f"{memory['share']:.0%} of what the memory allows; {memory['peak_bytes'] / 1e9:.1f} GB at most")
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
    image_size = config.training["image_size"]
    transforms = torchvision.transforms
    resize = [] if images.shape[1:] == (image_size, image_size) else [transforms.Resize((image_size, image_size))]
    loader = DataLoader(
        torchvision.datasets.MNIST(scratch, train=True, transform=transforms.Compose([*resize, transforms.ToTensor()])),
        batch_size=config.training["batch_size"],
        shuffle=True,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        persistent_workers=True,
    )
    torch.manual_seed(config.seed)
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
