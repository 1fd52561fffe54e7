"""Train a network: the whole engine, readable in one sitting.

The images live on the device as uint8 tensors, so there is no DataLoader and nothing is copied in the loop; nothing is
read back from the device inside an epoch. At the end of every epoch the full state goes into a checkpoint, in one step,
so a run killed at any moment goes on from its last whole epoch and, on a CPU, ends with the same bits as one that was
never stopped; within a long epoch it does so every five minutes. Under torchrun the processes share each batch and
train as one.
"""

import hashlib
import io
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn import functional as F
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
    """How a run is computed, as opposed to what: none of it enters the run's id."""

    device: torch.device = CPU  # of this process
    precision: str = "float32"  # a key of `PRECISIONS`; all but float32 mean autocast, float16 with a scaled loss
    compile_mode: str | None = None  # one of `COMPILE_MODES`, or None to train without torch.compile
    processes: Processes = distributed.ALONE  # that share the run

    def autocast(self) -> torch.autocast:
        """Return the context for the forward pass and the loss."""
        enabled = self.precision != "float32"
        return torch.autocast(self.device.type, dtype=PRECISIONS[self.precision], enabled=enabled)


@dataclass(frozen=True)
class Learner:
    """A network and what changes it."""

    network: nn.Module  # to train
    trained: nn.Module  # the same weights, to call in training: compiled or shared by processes if that is asked for
    optimizer: torch.optim.Optimizer  # of these weights
    scaler: GradScaler  # of the loss, for float16; else a disabled one, which leaves it as it is
    mean: AveragedModel | None  # of the network's weights over the steps, where the config has an `ema`

    @property
    def evaluated(self) -> nn.Module:
        """The network to evaluate and to save."""
        return self.network if self.mean is None else self.mean.module

    @property
    def parts(self) -> dict[str, Any]:
        """What a checkpoint keeps the state of, by its name there."""
        parts = {"model": self.network, "optimizer": self.optimizer, "scaler": self.scaler, "mean": self.mean}
        return {name: part for name, part in parts.items() if part is not None}


@dataclass
class Passage:
    """A pass over the training images, as far as it has come."""

    order: Tensor  # (N,) the images' places
    step: int  # how many steps are done
    loss_sum: Tensor  # of the images so far, a scalar on the device
    correct: Tensor  # how many of them were read right, a scalar on the device
    losses: list[Tensor]  # of each step

    def to(self, device: torch.device) -> "Passage":
        """Return the same with its tensors on a device."""
        losses = [loss.to(device) for loss in self.losses]
        return Passage(self.order.to(device), self.step, self.loss_sum.to(device), self.correct.to(device), losses)


@dataclass(frozen=True)
class FitResult:
    """What training leaves; weights are on the CPU."""

    best: Weights  # of the epoch with the lowest validation loss; without patience those of the last
    last: Weights  # of the last epoch
    # one row an epoch: epoch (from 1), train_loss, train_accuracy, validation_loss, validation_accuracy; the training
    # figures are means over the epoch while the weights move, as Keras reports them
    history: list[dict[str, float]]
    best_epoch: int  # of `best`, from 1
    stopped_early: bool  # did patience end it before the epochs ran out?
    epoch_seconds: list[float]  # of training steps, one number an epoch, validation not counted
    sessions: int  # 1, and one more for each time it was resumed


def choose_execution(device: str = "auto", precision: str | None = None, compile_mode: str | None = None) -> Execution:
    """Check what the user asked for; the processes are those that `distributed.join` finds.

    Args:
        device: "auto", "cpu", "cuda" or "cuda:1"; "auto" takes CUDA where there is one. Under torchrun, "auto" and
            "cuda" give each process of a machine a GPU of its own.
        precision: a key of `PRECISIONS`; None takes bfloat16 on CUDA and float32 elsewhere.
        compile_mode: one of `COMPILE_MODES`, or None.

    Raises:
        InputError: one of them is unknown, or the device is absent.
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
    options = config.training
    network = models.build(config.architecture, n_classes, options["image_size"], config.model)
    network.load_state_dict(initial or {}, strict=False)
    network = network.to(execution.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    trained = distributed.parallel(network, options["batch_size"], execution.device, execution.processes)
    if execution.compile_mode is not None:
        trained = torch.compile(trained, mode=execution.compile_mode)  # type: ignore[assignment]
    kind = torch.optim.AdamW if options["weight_decay"] else torch.optim.Adam
    optimizer = kind(
        network.parameters(), lr=options["learning_rate"], weight_decay=options["weight_decay"], fused=True
    )
    scaler = GradScaler(execution.device.type, enabled=execution.precision == "float16")
    mean = None
    if options["ema"]:
        mean = AveragedModel(network, multi_avg_fn=partial(_move_mean, options["ema"]), use_buffers=True)
    return Learner(network, trained, optimizer, scaler, mean)


@torch.no_grad()
def _move_mean(keep: float, means: list[Tensor], values: list[Tensor], steps: Tensor | int) -> None:
    """Move means of weights towards the weights; over the first steps faster, or they would remember the very first."""
    share = 1 - min(keep, (1 + int(steps)) / (10 + int(steps)))
    for mean, value in zip(means, values, strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, share)
        else:  # how many batches a normalisation has seen
            mean.copy_(value)


def cosine(step: int, steps: int) -> float:
    """Return the share of the learning rate that a step takes: up along a line, and down to nothing along a cosine.

    After Loshchilov and Hutter (ICLR 2017), without restarts, and with a twentieth of the steps to warm up. The `step`
    counts from 0, of the `steps` of the whole training.
    """
    warm = max(1, steps // 20)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def step_sizes(n: int, batch_size: int, processes: int = 1) -> list[int]:
    """Return how many of n images each step of an epoch takes, over all processes.

    The last batch is smaller, and joins the one before it where it has fewer than two images for each process: batch
    normalisation cannot work on a single value.
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


def train_one_epoch(
    learner: Learner,
    images: Tensor,
    labels: Tensor,
    config: RunConfig,
    execution: Execution,
    progress: tqdm,
    epoch: int = 1,
    passage: Passage | None = None,
    after_step: Callable[[Passage], None] = lambda _: None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Pass once over the training images in a new random order.

    Args:
        learner: its network may be in any mode, and is left in training mode.
        images: (N, H, W) uint8 on the network's device, all of them in every process.
        labels: (N,) int64 on the network's device.
        config: gives batch size, image size and rate. A last, smaller batch is trained on as well.
        execution: gives the precision, and the processes that share each batch.
        progress: is moved on by one a step.
        epoch: counts from 1; the rate and the size of the images may depend on it.
        passage: a pass to go on with; None begins one.
        after_step: is called with the pass after each step.

    Returns:
        The sum of losses and the number of right answers over the epoch, as scalars on the device; and the loss of
        each step (S,), times the number of processes; the same in all of them.
    """
    options, processes, size = config.training, execution.processes, input_size(config, epoch)
    prepare: Callable[[Tensor, int], Tensor] = models.to_input
    if options["augmentation"] != "none":
        prepare = partial(augmentation.augment, kind=options["augmentation"])
    if (now := passage) is None:
        # drawn on the CPU whatever the device, so that the same seed gives the same batches everywhere
        order = processes.same(torch.randperm(len(images)).to(images.device))
        zero = torch.zeros((), device=images.device)
        now = Passage(order, 0, zero, zero.to(torch.int64, copy=True), [])
    learner.trained.train()
    sizes = step_sizes(len(images), options["batch_size"], processes.count)
    for batch in now.order.split(sizes)[now.step :]:
        if options["schedule"] == "cosine":
            share = cosine((epoch - 1) * len(sizes) + now.step, options["epochs"] * len(sizes))
            learner.optimizer.param_groups[0]["lr"] = options["learning_rate"] * share
        mine = processes.share(batch)
        target = labels[mine]
        with execution.autocast():
            logits = learner.trained(prepare(images[mine], size))
            loss = F.cross_entropy(logits, target, label_smoothing=options["label_smoothing"])
            # the processes' gradients are averaged, which makes this the mean over the whole batch
            loss = loss * (len(mine) * processes.count / len(batch))
        learner.optimizer.zero_grad(set_to_none=True)
        learner.scaler.scale(loss).backward()
        learner.scaler.step(learner.optimizer)
        learner.scaler.update()
        if learner.mean is not None:
            learner.mean.update_parameters(learner.network)
        now.step += 1
        now.losses.append(loss.detach())
        now.loss_sum += now.losses[-1] * len(batch)
        now.correct += (logits.detach().argmax(dim=1) == target).sum()
        progress.update()
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
            patience.
        execution: where and how to train. Several processes give the result of one, up to rounding and to what
            dropout draws.
        checkpoint: file to resume from and to write after each epoch; None keeps nothing.
        initial: weights to begin with; those that are not in it are drawn from the config's seed.

    Raises:
        InputError: the checkpoint is of another config, or its folder cannot be written; the images of a step do not
            fit into the GPU's memory; or torch.compile fails.
        FloatingPointError: the loss is no longer finite; the checkpoint of the last good epoch is kept.
        DeviceError: the GPU failed; the checkpoint of the last epoch is kept.
    """
    device, processes = execution.device, execution.processes
    batch_size, image_size, epochs = (config.training[name] for name in ("batch_size", "image_size", "epochs"))
    images, labels = (torch.from_numpy(array).to(device) for array in train)
    validation_images, validation_labels = (torch.from_numpy(array).to(device) for array in validation)
    student = begin(config, n_classes, execution, initial)
    state: dict[str, Any] = {
        "config": config.to_dict(),
        "history": [],
        "epoch_seconds": [],
        "best": {},
        "best_epoch": 0,
        "best_loss": math.inf,
        "sessions": 1,
    }
    passage = None
    saved = _read_checkpoint(checkpoint, state["config"]) if checkpoint and processes.first else None
    if (saved := processes.agree(saved)) is not None:
        state = {key: saved[key] for key in state} | {"sessions": saved["sessions"] + 1}
        for name, part in student.parts.items():
            if saved[name]:  # a scaler's is empty where it was disabled
                part.load_state_dict(saved[name])
        torch.set_rng_state(saved["rng"])
        if device.type == "cuda" and saved["cuda_rng"] is not None:
            torch.cuda.set_rng_state(saved["cuda_rng"], device)
        passage = Passage(**saved["passage"]).to(device) if saved["passage"] else None

    done, steps = len(state["history"]), len(step_sizes(len(images), batch_size, processes.count))
    saving = time.monotonic()

    def save(passage: Passage | None = None) -> None:
        nonlocal saving
        if checkpoint and processes.first:
            _write_checkpoint(checkpoint, state, student, device, passage)
        saving = time.monotonic()

    def save_amid(passage: Passage) -> None:
        # alone, for the generators of other processes are not in the checkpoint
        if processes.count == 1 and time.monotonic() - saving > SAVE_SECONDS and passage.step < steps:
            save(passage)

    title = f"{config.dataset} {config.architecture}"
    behind = done * steps + (passage.step if passage else 0)
    quiet: dict[str, Any] = {} if processes.first else {"disable": True}
    with tqdm(total=epochs * steps, initial=behind, unit="step", desc=title, **quiet) as bar:
        for epoch in range(done + 1, epochs + 1):
            if epoch - 1 - state["best_epoch"] >= (config.training["patience"] or epochs):
                break
            if not processes.first:  # or dropout would hide the same neurons in every process
                torch.manual_seed(_seed(config.seed, processes.rank, epoch))
            start = time.perf_counter()
            with _told(config, execution, epoch):
                loss_sum, correct, losses = train_one_epoch(
                    student, images, labels, config, execution, bar, epoch, passage, save_amid
                )
                passage = None
                train_loss, train_accuracy = loss_sum.item() / len(images), correct.item() / len(images)
                state["epoch_seconds"].append(time.perf_counter() - start)  # after .item(), which waits for the device

                found = distributed.predict(
                    student.evaluated, validation_images, validation_labels, image_size, processes
                )
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
            if validation_loss < state["best_loss"] or not config.training["patience"]:
                state |= {"best_loss": validation_loss, "best_epoch": epoch, "best": _weights(student.evaluated)}
            bar.set_postfix(epoch=epoch, validation_accuracy=f"{validation_accuracy:.4f}")
            save()
    kept = {name: state[name] for name in ("best", "history", "best_epoch", "epoch_seconds", "sessions")}
    return FitResult(last=_weights(student.evaluated), stopped_early=len(state["history"]) < epochs, **kept)


def _seed(*numbers: int) -> int:
    """Mix numbers into a seed of 32 bits, which is all that torch's generator on the CPU makes use of."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


@contextmanager
def _told(config: RunConfig, execution: Execution, epoch: int) -> Iterator[None]:
    """Say of the failures of a GPU or a compiler what to do about them."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        batch_size, image_size = config.training["batch_size"], config.training["image_size"]
        raise InputError(
            f"batch_size={batch_size} does not fit into the GPU's memory at image_size={image_size}: "
            f"{str(error).splitlines()[0]} Try batch_size={max(1, batch_size // 2)}, which is another run; or a GPU "
            "with more memory."
        ) from error
    except torch.AcceleratorError as error:
        kept = f"The checkpoint of epoch {epoch - 1} is kept" if epoch > 1 else "There is no checkpoint yet"
        raise DeviceError(
            f"the GPU failed in epoch {epoch}: {str(error).splitlines()[0]}. {kept}; the same command goes on from "
            "there. If it fails again, see nvidia-smi and the system's log."
        ) from error
    except RuntimeError as error:  # what a compiler raises has no narrower class
        if execution.compile_mode is None:
            raise
        raise InputError(
            f"torch.compile failed with compile_mode={execution.compile_mode}: {str(error).strip().splitlines()[0]} "
            "Train without it: nothing else changes."
        ) from error


def _weights(model: nn.Module) -> Weights:
    # cloned, because on the CPU .cpu() would hand out the very tensors that go on changing; contiguous, because
    # that is how safetensors stores them
    return {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in model.state_dict().items()
    }


def _write_checkpoint(
    path: Path, state: dict[str, Any], student: Learner, device: torch.device, passage: Passage | None
) -> None:
    buffer = io.BytesIO()
    moving = {name: part.state_dict() for name, part in student.parts.items()} | {
        "rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "passage": vars(passage) if passage else None,
    }
    torch.save(state | moving, buffer)
    content = buffer.getvalue()
    # torch.load takes flipped bits for weights, so a checksum of the whole is its last 32 bytes
    files.write_bytes(path, content + hashlib.sha256(content).digest())


def _read_checkpoint(path: Path, config: dict[str, Any]) -> dict[str, Any] | None:
    if not path.exists():
        return None
    content = path.read_bytes()
    if hashlib.sha256(content[:-32]).digest() != content[-32:]:
        kept = path.replace(path.with_name(path.name + ".damaged"))
        warnings.warn(
            f"{path} is damaged (its checksum does not fit) and is kept as {kept.name}; "
            "training starts from the beginning.",
            stacklevel=3,
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
