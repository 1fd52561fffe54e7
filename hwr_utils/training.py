"""Train a network: the whole engine, readable in one sitting.

The images live on the device as uint8 tensors, so there is no DataLoader and nothing is copied in the loop; nothing is
read back from the device inside an epoch. At the end of every epoch the full state goes into a checkpoint, in one step,
so a run killed at any moment goes on from its last whole epoch and, on a CPU, ends with the same bits as one that was
never stopped; within a long epoch it does so every five minutes. Under torchrun the processes share each batch and
train as one.
"""

import copy
import hashlib
import io
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from hwr_utils import augmentation, distributed, files, models
from hwr_utils.distributed import Processes
from hwr_utils.errors import DeviceError, InputError
from hwr_utils.records import RunConfig

Weights = dict[str, Tensor]

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune")  # of torch.compile; the second uses CUDA graphs
CPU = torch.device("cpu")
SAVE_SECONDS = 300.0  # between two checkpoints within an epoch


@dataclass(frozen=True)
class Execution:
    """How a run is computed, as opposed to what: none of it enters the run's id.

    Attributes:
        device: of this process.
        precision: a key of `PRECISIONS`; all but float32 mean autocast, float16 with a scaled loss.
        compile_mode: one of `COMPILE_MODES`, or None to train without torch.compile.
        processes: that share the run.
    """

    device: torch.device = CPU
    precision: str = "float32"
    compile_mode: str | None = None
    processes: Processes = distributed.ALONE

    def autocast(self) -> torch.autocast:
        """Return the context for the forward pass and the loss."""
        enabled = self.precision != "float32"
        return torch.autocast(self.device.type, dtype=PRECISIONS[self.precision], enabled=enabled)


@dataclass(frozen=True)
class Learner:
    """A network and what changes it.

    Attributes:
        network: to train.
        trained: the same weights, to call in training: compiled or shared by processes where that is asked for.
        optimizer: of these weights.
        scaler: of the loss, for float16; else a disabled one, which leaves it as it is.
        schedule: of the optimizer's rate, to be moved on after each step; None where the rate stays.
        mean: of the network's weights over the steps, where the config has an `ema`.
    """

    network: nn.Module
    trained: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: GradScaler
    schedule: LambdaLR | None = None
    mean: AveragedModel | None = None

    @property
    def evaluated(self) -> nn.Module:
        """The network to evaluate and to save."""
        return self.network if self.mean is None else self.mean.module


@dataclass(frozen=True)
class FitResult:
    """What training leaves.

    Attributes:
        best: the weights of the epoch with the lowest validation loss, on the CPU; where the config has no
            validation_fraction, nothing may be chosen, and they are the last.
        last: the weights of the last epoch, on the CPU.
        history: one row an epoch: epoch (from 1), train_loss, train_accuracy, validation_loss, validation_accuracy.
            The training figures are means over the epoch while the weights move, as Keras reports them.
        best_epoch: the epoch of `best`, from 1.
        stopped_early: whether patience ended it before the epochs ran out.
        epoch_seconds: seconds of training steps, one number an epoch, validation not counted.
        sessions: 1, and one more for each time it was resumed.
    """

    best: Weights
    last: Weights
    history: list[dict[str, float]]
    best_epoch: int
    stopped_early: bool
    epoch_seconds: list[float]
    sessions: int


def choose_device(device: str) -> torch.device:
    """Turn "auto", "cpu", "cuda" or "cuda:1" into a device; "auto" takes CUDA where there is one.

    Under torchrun, "auto" and "cuda" give each process of a machine a GPU of its own.

    Raises:
        InputError: CUDA is asked for and absent, or the name is none of these.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda:") and int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1:
        raise InputError(f"device={device!r} would be that of every process. Use device=cuda, for each its own.")
    if device == "cuda" and "LOCAL_RANK" in os.environ:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        chosen = torch.device(device)
    except RuntimeError:
        chosen = torch.device("meta")
    if chosen.type not in ("cpu", "cuda"):
        raise InputError(f"device={device!r} is unknown, expected auto, cpu, cuda or cuda:N.")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device={device!r} is asked for, but torch sees {torch.cuda.device_count()} CUDA devices. "
            "Use device=cpu, or check the driver with nvidia-smi."
        )
    return chosen


def choose_execution(device: str = "auto", precision: str | None = None, compile_mode: str | None = None) -> Execution:
    """Check what the user asked for; the processes are those that `distributed.join` finds.

    Args:
        device: see `choose_device`.
        precision: a key of `PRECISIONS`; None takes bfloat16 on CUDA and float32 elsewhere.
        compile_mode: one of `COMPILE_MODES`, or None.

    Raises:
        InputError: one of them is unknown, or the device is absent.
    """
    chosen = choose_device(device)
    precision = precision or ("bfloat16" if chosen.type == "cuda" else "float32")
    if precision not in PRECISIONS:
        raise InputError(f"precision={precision!r} is unknown, expected one of {', '.join(PRECISIONS)}.")
    if compile_mode not in (None, *COMPILE_MODES):
        raise InputError(f"compile_mode={compile_mode!r} is unknown, expected one of {', '.join(COMPILE_MODES)}.")
    return Execution(chosen, precision, compile_mode)


def begin(config: RunConfig, n_classes: int, execution: Execution, initial: Weights | None = None) -> Learner:
    """Build a network and its optimizer; the weights that are not in `initial` are drawn from the config's seed.

    Raises:
        InputError: see `models.build` and `distributed.parallel`.
    """
    torch.manual_seed(config.seed)
    batch_size, image_size = config.training["batch_size"], config.training["image_size"]
    network = models.build(config.architecture, n_classes, image_size, config.model)
    network.load_state_dict(initial or {}, strict=False)
    network = network.to(execution.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    trained = distributed.parallel(network, batch_size, execution.device, execution.processes)
    if execution.compile_mode is not None:
        trained = _compile(trained, batch_size // execution.processes.count, image_size, execution)
    rate, decay = config.training["learning_rate"], config.training["weight_decay"]
    kind = torch.optim.AdamW if decay else torch.optim.Adam
    optimizer = kind(network.parameters(), lr=rate, weight_decay=decay, fused=True)
    scaler = GradScaler(execution.device.type, enabled=execution.precision == "float16")
    ema, mean = config.training["ema"], None
    if ema:
        mean = AveragedModel(network, multi_avg_fn=partial(_move_mean, ema), use_buffers=True)
    return Learner(network, trained, optimizer, scaler, mean=mean)


@torch.no_grad()
def _move_mean(keep: float, means: list[Tensor], values: list[Tensor], steps: Tensor | int) -> None:
    """Move means of weights towards the weights; over the first steps faster, or they would remember the very first."""
    share = 1 - min(keep, (1 + int(steps)) / (10 + int(steps)))
    for mean, value in zip(means, values, strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, share)
        else:  # how many batches a normalisation has seen
            mean.copy_(value)


def _compile(model: nn.Module, batch_size: int, image_size: int, execution: Execution) -> nn.Module:
    """Compile a network, and try it: where that fails, say so and return the network as it is."""
    before = copy.deepcopy(model.state_dict())  # a pass in training mode moves batch normalisation's statistics
    sample = torch.zeros(batch_size, image_size, image_size, dtype=torch.uint8, device=execution.device)
    compiled = model
    try:
        compiled = torch.compile(model, mode=execution.compile_mode)  # type: ignore[assignment]
        # of this device alone: by default every GPU of the machine would be woken
        devices = [execution.device] if execution.device.type == "cuda" else []
        with torch.random.fork_rng(devices), execution.autocast():
            compiled.train()(models.to_input(sample, image_size)).sum().backward()
    except Exception as error:  # what a compiler raises has no common class
        lines = str(error).strip().splitlines() or [type(error).__name__]
        warnings.warn(f"torch.compile failed, so training goes on without it: {lines[0]}", stacklevel=4)
        compiled = model
    model.load_state_dict(before)
    model.zero_grad(set_to_none=True)
    return compiled


def cosine(step: int, steps: int) -> float:
    """Return the share of the learning rate that a step takes: up along a line, and down to nothing along a cosine.

    After Loshchilov and Hutter (ICLR 2017), without restarts, and with a twentieth of the steps to warm up.

    Args:
        step: from 0.
        steps: of the whole training.
    """
    warm = max(1, steps // 20)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _schedule(optimizer: torch.optim.Optimizer, steps: int, done: int) -> LambdaLR:
    """Return the schedule of a training of `steps`, of which `done` lie behind it."""
    return LambdaLR(optimizer, partial(cosine, steps=steps), last_epoch=done - 1)


def step_sizes(n: int, batch_size: int, processes: int = 1) -> list[int]:
    """Return how many images each step of an epoch takes.

    The last batch is smaller, and joins the one before it where it has fewer than two images for each process: batch
    normalisation cannot work on a single value.

    Args:
        n: training images.
        batch_size: images a step, over all processes.
        processes: that share a step.
    """
    full, rest = divmod(n, batch_size)
    sizes = [batch_size] * full + [rest] * (rest > 0)
    if full and 0 < rest < 2 * processes:
        sizes[-2:] = [batch_size + rest]
    return sizes


def input_size(config: RunConfig, epoch: int) -> int:
    """Return the side of the network's input in an epoch, which counts from 1; it grows in multiples of 8.

    Small images cost less, and a network learns the coarse of its task from them (Howard, fast.ai, 2018; Tan and Le,
    ICML 2021). The last third of the epochs has the full size.
    """
    size: int = config.training["image_size"]
    start = config.training["start_size"] or size
    grown = min(1.0, (epoch - 1) / max(1.0, 2 / 3 * config.training["epochs"]))
    return size if grown == 1 else min(size, max(start, int(start + grown * (size - start)) // 8 * 8))


@dataclass
class Passage:
    """A pass over the training images, as far as it has come.

    Attributes:
        order: (N,) the images' places.
        step: how many steps are done.
        loss_sum: of the images so far, a scalar on the device.
        correct: how many of them were read right, a scalar on the device.
        losses: of each step.
    """

    order: Tensor
    step: int
    loss_sum: Tensor
    correct: Tensor
    losses: list[Tensor]

    @classmethod
    def begin(cls, n: int, device: torch.device, processes: Processes) -> "Passage":
        """Begin a pass over n images in a new order."""
        # drawn on the CPU whatever the device, so that the same seed gives the same batches everywhere
        order = processes.same(torch.randperm(n).to(device))
        zero = torch.zeros((), device=device)
        return cls(order, 0, zero, zero.to(torch.int64, copy=True), [])


def train_one_epoch(
    learner: Learner,
    images: Tensor,
    labels: Tensor,
    config: RunConfig,
    execution: Execution,
    progress: tqdm,
    image_size: int | None = None,
    passage: Passage | None = None,
    after_step: Callable[[Passage], None] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Pass once over the training images in a new random order.

    Args:
        learner: its network may be in any mode, and is left in training mode.
        images: (N, H, W) uint8 on the network's device, all of them in every process.
        labels: (N,) int64 on the network's device.
        config: gives batch size and image size. A last, smaller batch is trained on as well.
        execution: gives the precision, and the processes that share each batch.
        progress: is moved on by one a step.
        image_size: side of the network's input; None takes the config's.
        passage: a pass to go on with; None begins one.
        after_step: is called with the pass after each step.

    Returns:
        The sum of losses and the number of right answers over the epoch, as scalars on the device; and the loss of
        each step (S,), times the number of processes; the same in all of them.
    """
    device, processes = images.device, execution.processes
    options, image_size = config.training, image_size or config.training["image_size"]
    prepare: Callable[[Tensor, int], Tensor] = models.to_input
    if options["augmentation"] != "none":
        prepare = partial(augmentation.augment, kind=options["augmentation"])
    now = passage or Passage.begin(len(images), device, processes)
    learner.trained.train()
    sizes = step_sizes(len(images), options["batch_size"], processes.count)
    for batch in now.order.split(sizes)[now.step :]:
        mine = processes.share(batch)
        target = labels[mine]
        with execution.autocast():
            logits = learner.trained(prepare(images[mine], image_size))
            loss = F.cross_entropy(logits, target, label_smoothing=options["label_smoothing"])
            # the processes' gradients are averaged, which makes this the mean over the whole batch
            loss = loss * (len(mine) * processes.count / len(batch))
        learner.optimizer.zero_grad(set_to_none=True)
        learner.scaler.scale(loss).backward()
        learner.scaler.step(learner.optimizer)
        learner.scaler.update()
        if learner.schedule is not None:
            learner.schedule.step()
        if learner.mean is not None:
            learner.mean.update_parameters(learner.network)
        now.step += 1
        now.losses.append(loss.detach())
        now.loss_sum += now.losses[-1] * len(batch)
        now.correct += (logits.detach().argmax(dim=1) == target).sum()
        progress.update()
        if after_step is not None:
            after_step(now)
    loss_sum, correct, losses = now.loss_sum, now.correct, torch.stack(now.losses)
    return processes.sum(loss_sum) / processes.count, processes.sum(correct), processes.sum(losses)


def fit(
    config: RunConfig,
    n_classes: int,
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    execution: Execution,
    checkpoint: Path | None = None,
    initial: Weights | None = None,
) -> FitResult:
    """Train from the beginning, or go on from a checkpoint, until the epochs or the patience run out.

    Args:
        config: the run's config.
        n_classes: number of logits.
        train: images (N, H, W) uint8 and labels (N,) int64.
        validation: the same of other images; their loss decides the best epoch and when to stop, where the config has
            a validation_fraction.
        execution: where and how to train. Several processes give the result of one, up to rounding and to what
            dropout draws.
        checkpoint: file to resume from and to write after each epoch; None keeps nothing. Several processes need it
            where all can read it.
        initial: weights to begin with; those that are not in it are drawn from the config's seed.

    Raises:
        InputError: the checkpoint is of another config, or its folder cannot be written; or the images of a step do
            not fit into the GPU's memory.
        FloatingPointError: the loss is no longer finite; the checkpoint of the last good epoch is kept.
        DeviceError: the GPU failed; the checkpoint of the last epoch is kept.
    """
    device, processes = execution.device, execution.processes
    batch_size, image_size, epochs = (config.training[name] for name in ("batch_size", "image_size", "epochs"))
    images, labels = (torch.from_numpy(array).to(device) for array in train)
    validation_images, validation_labels = (torch.from_numpy(array).to(device) for array in validation)
    chooses = config.training["validation_fraction"] > 0
    student = begin(config, n_classes, execution, initial)
    model = student.evaluated

    state: dict[str, Any] = {
        "config": config.to_dict(),
        "history": [],
        "epoch_seconds": [],
        "best": {},
        "best_epoch": 0,
        "best_loss": math.inf,
        "sessions": 1,
    }
    saved = _load_checkpoint(checkpoint, state["config"], processes) if checkpoint else None
    if saved is not None:
        state = {key: saved[key] for key in state} | {"sessions": saved["sessions"] + 1}
        student.network.load_state_dict(saved["model"])
        if student.mean is not None:
            student.mean.load_state_dict(saved["mean"])
        student.optimizer.load_state_dict(saved["optimizer"])
        if saved["scaler"]:  # empty where it was disabled
            student.scaler.load_state_dict(saved["scaler"])
        torch.set_rng_state(saved["rng"])
        if device.type == "cuda" and saved["cuda_rng"] is not None:
            torch.cuda.set_rng_state(saved["cuda_rng"], device)

    done = len(state["history"])
    if int(processes.same(torch.tensor(done, device=device))) != done:
        raise InputError(
            f"{checkpoint} is another one for process {processes.rank} than for the first. Several processes need a "
            "results folder that all can read."
        )

    def out_of_patience() -> bool:
        return len(state["history"]) - state["best_epoch"] >= (config.training["patience"] or epochs)

    passage = Passage(**saved["passage"]) if saved is not None and saved.get("passage") else None
    steps = len(step_sizes(len(images), batch_size, processes.count))
    behind = done * steps + (passage.step if passage else 0)
    if config.training["schedule"] == "cosine":
        student = replace(student, schedule=_schedule(student.optimizer, epochs * steps, behind))
    saving = time.monotonic()

    def save_amid(passage: Passage) -> None:
        nonlocal saving
        # alone, for the generators of other processes are not in the checkpoint
        if checkpoint and processes.count == 1 and time.monotonic() - saving > SAVE_SECONDS and passage.step < steps:
            _save_checkpoint(checkpoint, state, student, device, passage)
            saving = time.monotonic()

    title = f"{config.dataset} {config.architecture}"
    quiet: dict[str, Any] = {} if processes.first else {"disable": True}
    with tqdm(total=epochs * steps, initial=behind, unit="step", desc=title, **quiet) as bar:
        for epoch in range(done + 1, epochs + 1):
            if out_of_patience():
                break
            if not processes.first:  # or dropout would hide the same neurons in every process
                torch.manual_seed(_seed(config.seed, processes.rank, epoch))
            start = time.perf_counter()
            with _told(config, epoch):
                size = input_size(config, epoch)
                loss_sum, correct, losses = train_one_epoch(
                    student, images, labels, config, execution, bar, size, passage, save_amid
                )
                passage = None
                train_loss, train_accuracy = loss_sum.item() / len(images), correct.item() / len(images)
                state["epoch_seconds"].append(time.perf_counter() - start)  # after .item(), which waits for the device

                found = distributed.predict(model, validation_images, validation_labels, image_size, processes)
                # the same bits for all, on whatever GPUs: or one would stop early, and the others wait for it
                validation_loss = processes.same(found.losses.mean()).item()
                validation_accuracy = (found.classes[:, 0] == validation_labels).double().mean().item()
            if not math.isfinite(train_loss + validation_loss):
                bad = (~losses.isfinite()).nonzero()
                step = (epoch - 1) * steps + 1 + int(bad[0]) if len(bad) else epoch * steps
                raise FloatingPointError(
                    f"the loss is no longer finite at step {step}, in epoch {epoch} (training {train_loss}, validation "
                    f"{validation_loss}). The checkpoint of epoch {epoch - 1} is kept; try a lower learning_rate."
                )
            row = {
                "epoch": epoch,
                "train_loss": train_loss,
                "train_accuracy": train_accuracy,
                "validation_loss": validation_loss,
                "validation_accuracy": validation_accuracy,
            }
            state["history"].append(row)
            if validation_loss < state["best_loss"] or not chooses:
                state |= {"best_loss": validation_loss, "best_epoch": epoch, "best": _weights(model)}
            bar.set_postfix(epoch=epoch, validation_accuracy=f"{validation_accuracy:.4f}")
            if checkpoint and processes.first:
                _save_checkpoint(checkpoint, state, student, device)
                saving = time.monotonic()
    return FitResult(
        best=state["best"],
        last=_weights(model),
        history=state["history"],
        best_epoch=state["best_epoch"],
        stopped_early=len(state["history"]) < epochs,
        epoch_seconds=state["epoch_seconds"],
        sessions=state["sessions"],
    )


def _seed(*numbers: int) -> int:
    """Mix numbers into a seed of 32 bits, which is all that torch's generator on the CPU makes use of."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


@contextmanager
def _told(config: RunConfig, epoch: int) -> Iterator[None]:
    """Say of a GPU's failures what to do about them."""
    kept = f"The checkpoint of epoch {epoch - 1} is kept" if epoch > 1 else "There is no checkpoint yet"
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        batch_size = config.training["batch_size"]
        raise InputError(
            f"batch_size={batch_size} does not fit into the GPU's memory at image_size="
            f"{config.training['image_size']}: {str(error).splitlines()[0]} Try batch_size={max(1, batch_size // 2)}, "
            "which is another run; or a GPU with more memory."
        ) from error
    except torch.AcceleratorError as error:
        raise DeviceError(
            f"the GPU failed in epoch {epoch}: {str(error).splitlines()[0]}. {kept}; the same command goes on from "
            "there. If it fails again, see nvidia-smi and the system's log."
        ) from error


def _weights(model: nn.Module) -> Weights:
    # cloned, because on the CPU .cpu() would hand out the very tensors that go on changing; contiguous, because
    # that is how safetensors stores them
    return {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in model.state_dict().items()
    }


def _save_checkpoint(
    path: Path, state: dict[str, Any], student: Learner, device: torch.device, passage: Passage | None = None
) -> None:
    buffer = io.BytesIO()
    moving = {
        "model": student.network.state_dict(),
        "optimizer": student.optimizer.state_dict(),
        "scaler": student.scaler.state_dict(),
        "rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "mean": student.mean.state_dict() if student.mean is not None else {},
        "passage": vars(passage) if passage else None,
    }
    torch.save(state | moving, buffer)
    content = buffer.getvalue()
    # torch.load takes flipped bits for weights, so a checksum of the whole is its last 32 bytes
    files.write_bytes(path, content + hashlib.sha256(content).digest())


def _load_checkpoint(path: Path, config: dict[str, Any], processes: Processes) -> dict[str, Any] | None:
    saved = _read_checkpoint(path, config) if processes.first else None
    if not processes.agree(saved is not None):
        return None
    return saved if processes.first else _read_checkpoint(path, config)


def _read_checkpoint(path: Path, config: dict[str, Any]) -> dict[str, Any] | None:
    if not path.exists():
        return None
    content = path.read_bytes()
    if hashlib.sha256(content[:-32]).digest() != content[-32:]:
        kept = path.with_name(path.name + ".damaged")
        path.replace(kept)
        warnings.warn(
            f"{path} is damaged (its checksum does not fit) and is kept as {kept.name}; "
            "training starts from the beginning.",
            stacklevel=4,
        )
        return None
    saved: dict[str, Any] = torch.load(io.BytesIO(content[:-32]), map_location="cpu", weights_only=True)
    found = saved["config"]
    if found != config:
        pairs = [(key, found.get(key), value) for key, value in config.items() if found.get(key) != value]
        raise InputError(
            f"{path} belongs to another run: "
            + "; ".join(f"{key} is {there!r} there and {here!r} here" for key, there, here in pairs)
            + ". Move it away, or ask for the run it belongs to."
        )
    return saved
