"""Train a network: the whole engine, readable in one sitting.

The images live on the device as uint8 tensors, so there is no DataLoader and nothing is copied in the loop; nothing is
read back from the device inside an epoch. The full state goes into a checkpoint, in one step, at the end of every epoch
and within a long one every five minutes. So a run killed at any moment goes on from there and, on a CPU, ends with the
same bits as one that was never stopped. Under torchrun the processes share each batch and train as one.
"""

import hashlib
import io
import math
import os
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from hwr_utils import augmentation, distributed, files, models
from hwr_utils.distributed import Processes
from hwr_utils.errors import DeviceError, InputError, warn
from hwr_utils.recipes import RunConfig, known

Weights = dict[str, Tensor]

CPU = torch.device("cpu")
SAVE_SECONDS = 300.0  # between two checkpoints within an epoch


@dataclass(frozen=True)
class Execution:
    """How a run is computed, as opposed to what: none of it enters the run's id."""

    device: torch.device = CPU  # of this process
    precision: str = "float32"  # or "bfloat16", which is that of the forward pass and the loss, by autocast
    processes: Processes = field(default_factory=Processes)  # that share the run


@dataclass
class Passage:
    """A pass over the training images, as far as it has come; the tensors are on the device."""

    order: Tensor  # (N,) the images' places
    losses: Tensor  # (S,) of each step, the mean of its images
    right: Tensor  # (S,) how many of them were read right
    step: int = 0  # how many steps are done


@dataclass
class FitResult:
    """What training leaves; weights are on the CPU."""

    best: Weights = field(default_factory=dict)  # of the lowest validation loss; without patience the last
    last: Weights = field(default_factory=dict)  # of the last epoch
    # one row an epoch: epoch (from 1), train_loss, train_accuracy, validation_loss, validation_accuracy; the training
    # figures are means over the epoch while the weights move, as Keras reports them
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0  # of `best`, from 1
    epoch_seconds: list[float] = field(default_factory=list)  # of the training steps of each epoch
    sessions: int = 1  # one more for each time it was resumed


@dataclass
class Learner:
    """A network, its optimizer and the mean of its weights, as a config asks for them, and how far they have come."""

    config: RunConfig
    execution: Execution
    network: nn.Module  # to train
    trained: nn.Module  # the same weights, to call in training: shared by processes if there are several
    optimizer: torch.optim.Optimizer  # of these weights
    mean: AveragedModel | None  # of the network's weights over the steps, where the config has an `ema`
    evaluated: nn.Module  # to evaluate and to save: that mean where there is one, else the network
    result: FitResult = field(default_factory=FitResult)  # of the epochs that are done
    passage: Passage | None = None  # of an epoch that is not done
    checkpoint: Path | None = None  # the file that all this is kept in, if any
    saved: float = field(default_factory=time.monotonic)  # when, in seconds

    @property
    def parts(self) -> dict[str, Any]:
        """What a checkpoint keeps the state of, by its name there."""
        return {"model": self.network, "optimizer": self.optimizer} | ({"mean": self.mean} if self.mean else {})

    def save(self) -> None:
        """Replace the checkpoint in one step, by the first process."""
        device, buffer = self.execution.device, io.BytesIO()
        if self.checkpoint and self.execution.processes.first:
            state = {name: part.state_dict() for name, part in self.parts.items()}
            state |= {"config": self.config.to_dict(), "result": vars(self.result), "rng": torch.get_rng_state()}
            state["cuda_rng"] = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
            state["passage"] = vars(self.passage) if self.passage else None
            torch.save(state, buffer)
            content = buffer.getvalue()
            # torch.load takes flipped bits for weights, so a checksum of the whole is its last 32 bytes
            files.write_bytes(self.checkpoint, content + hashlib.sha256(content).digest())
        self.saved = time.monotonic()

    def resume(self, checkpoint: Path | None) -> None:
        """Keep this in a file from now on, and come to the state in it, that of the random generators too, if any."""
        self.checkpoint, processes, device = checkpoint, self.execution.processes, self.execution.device
        saved = processes.agree(_read(checkpoint, self.config) if checkpoint and processes.first else None)
        if saved is None:
            return
        for name, part in self.parts.items():
            part.load_state_dict(saved[name])
        torch.set_rng_state(saved["rng"])
        if device.type == "cuda" and saved["cuda_rng"] is not None:
            torch.cuda.set_rng_state(saved["cuda_rng"], device)
        self.result = FitResult(**saved["result"])
        self.result.sessions += 1
        if saved["passage"]:
            step = saved["passage"].pop("step")
            self.passage = Passage(**{name: one.to(device) for name, one in saved["passage"].items()}, step=step)


def _read(checkpoint: Path, config: RunConfig) -> dict[str, Any] | None:
    if not checkpoint.exists():
        return None
    content = checkpoint.read_bytes()
    if len(content) <= 32 or hashlib.sha256(content[:-32]).digest() != content[-32:]:
        kept = checkpoint.replace(f"{checkpoint}.damaged")
        warn(f"{checkpoint} is damaged and is kept as {kept.name}; training starts from the beginning.")
        return None
    saved: dict[str, Any] = torch.load(io.BytesIO(content[:-32]), map_location="cpu", weights_only=True)
    if saved["config"] != config.to_dict() or saved["result"].keys() != vars(FitResult()).keys():
        told = f"belongs to another run, of {saved['config']}, or to another version of this program"
        raise InputError(f"{checkpoint} {told}. Move it away to train from the beginning.")
    return saved


def choose_execution(device: str = "auto", precision: str | None = None) -> Execution:
    """Check what the user asked for; an InputError where it is unknown, or the device is absent.

    The device is "auto", "cpu", "cuda" or "cuda:1"; "auto" takes CUDA where there is one. Under torchrun each process
    of a machine takes the GPU of its own number. No precision means bfloat16 on CUDA and float32 elsewhere.
    """
    there = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    chosen = ("cuda" if there[1:] else "cpu") if device == "auto" else device
    if chosen == "cuda" or (chosen.startswith("cuda:") and "LOCAL_RANK" in os.environ):
        chosen = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    given = chosen if chosen in there or device in ("auto", *there) else device  # as the user wrote it
    known("device=", given, ["auto", *there], " to torch (nvidia-smi tells of the driver)")
    precision = precision or ("float32" if chosen == "cpu" else "bfloat16")
    known("precision=", precision, ("float32", "bfloat16"))
    return Execution(torch.device(chosen), precision)


def build(config: RunConfig, n_classes: int) -> nn.Module:
    """Build the network of a config, with the mistake that its `fault` asks for; errors as `models.build`.

    With raw_input it is given 0..255 instead of 0..1. With double_softmax it answers with probabilities, which the loss
    and the evaluation take for logits, so that the softmax is taken twice.
    """
    network = models.build(config.architecture, n_classes, config.training["image_size"], config.model)
    if config.training["fault"] == "raw_input":
        network.register_forward_pre_hook(lambda _, inputs: inputs[0] * 255)
    if config.training["fault"] == "double_softmax":
        network.register_forward_hook(lambda _, inputs, logits: logits.softmax(dim=1))
    return network


def begin(config: RunConfig, n_classes: int, execution: Execution, initial: Weights | None = None) -> Learner:
    """Build a network and its optimizer; the weights that are not in `initial` are drawn from the config's seed.

    Adadelta (Zeiler, arXiv:1212.5701) has the constants of Keras 2, with which the authors of KMNIST trained. Errors as
    `models.build` and `distributed.parallel`.
    """
    torch.manual_seed(config.seed)
    options = config.training
    network = build(config, n_classes)
    network.load_state_dict(initial or {}, strict=False)
    network = network.to(execution.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    trained = distributed.parallel(network, options["batch_size"], execution.device, execution.processes)
    rates = {"lr": options["learning_rate"], "weight_decay": options["weight_decay"]}
    if options["optimizer"] == "adadelta":
        optimizer: torch.optim.Optimizer = torch.optim.Adadelta(network.parameters(), rho=0.95, eps=1e-7, **rates)
    else:  # which is Adam where there is no weight decay
        optimizer = torch.optim.AdamW(network.parameters(), fused=True, **rates)
    move = partial(_move_mean, options["ema"])
    mean = AveragedModel(network, multi_avg_fn=move, use_buffers=True) if options["ema"] else None
    return Learner(config, execution, network, trained, optimizer, mean, mean.module if mean else network)


@torch.no_grad()
def _move_mean(keep: float, means: list[Tensor], values: list[Tensor], steps: Any) -> None:
    """Move the means of weights towards the weights, faster in the first steps, so that they forget the very first."""
    share = 1 - ((1 + steps) / (10 + steps)).clamp(max=keep)
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

    Small images cost less, and show a network the coarse features of its task (Howard, fast.ai, 2018; Tan and Le,
    ICML 2021). The last third of the epochs has the full size.
    """
    size: int = config.training["image_size"]
    start = config.training["start_size"] or size
    grown = min(1.0, (epoch - 1) / max(1.0, 2 / 3 * config.training["epochs"]))
    return size if grown == 1 else min(size, max(start, int(start + grown * (size - start)) // 8 * 8))


def train_one_epoch(learner: Learner, images: Tensor, labels: Tensor, progress: tqdm) -> tuple[Tensor, Tensor, Tensor]:
    """Pass once over the training images in a new random order, or go on where the learner has come amid an epoch.

    The images (N, H, W) uint8 and the labels (N,) int64 are on the network's device, all of them in every process. The
    learner is left in training mode.

    Returns the sum of losses and the number of right answers over the epoch, and the loss of each step (S,): on the
    device, the same in all processes.
    """
    options, execution, optimizer = learner.config.training, learner.execution, learner.optimizer
    processes, epoch = execution.processes, len(learner.result.history) + 1
    size = input_size(learner.config, epoch)
    prepare = augmentation.augment if options["augmentation"] == "warp" else models.to_input
    sizes = step_sizes(len(images), options["batch_size"], processes.count)
    if (now := learner.passage) is None:
        # drawn on the CPU whatever the device, so that the same seed gives the same batches everywhere
        order = processes.agree(torch.randperm(len(images))).to(images.device)
        now = learner.passage = Passage(order, *torch.zeros(2, len(sizes), device=images.device))
    learner.trained.train()
    for batch in now.order.split(sizes)[now.step :]:
        if options["schedule"] == "cosine":
            share = cosine((epoch - 1) * len(sizes) + now.step, options["epochs"] * len(sizes))
            optimizer.param_groups[0]["lr"] = options["learning_rate"] * share
        mine = batch.tensor_split(processes.count)[processes.rank]
        target = labels[mine]
        with torch.autocast(images.device.type, torch.bfloat16, enabled=execution.precision == "bfloat16"):
            logits = learner.trained(prepare(images[mine], size))
            loss = F.cross_entropy(logits, target, label_smoothing=options["label_smoothing"])
            # the processes' gradients are averaged, which makes this the mean over the whole batch
            loss = loss * (len(mine) * processes.count / len(batch))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if learner.mean is not None:
            learner.mean.update_parameters(learner.network)
        now.losses[now.step] = loss.detach()
        now.right[now.step] = (logits.detach().argmax(dim=1) == target).sum()
        now.step += 1
        progress.update()
        # not of several processes, for the first one does not know the random generators of the others
        if processes.count == 1 and time.monotonic() - learner.saved > SAVE_SECONDS and now.step < len(sizes):
            learner.save()
    learner.passage = None
    losses = processes.sum(now.losses) / processes.count
    return losses @ losses.new_tensor(sizes), processes.sum(now.right).sum(), losses


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

    Both sets are images (N, H, W) uint8 and labels (N,) int64. Where the config has patience, the loss of `validation`
    decides the best epoch and when to stop. Several processes give the result of one, up to rounding and to what
    dropout draws. The `checkpoint` is the file to resume from and to write; without one nothing is kept.

    Raises:
        InputError: the checkpoint is of another config, or cannot be written; see also `begin`.
        FloatingPointError: the loss is no longer finite; the checkpoint of the last good epoch is kept.
        DeviceError: the GPU failed, or has too little memory; the last checkpoint is kept.
    """
    processes, options, epochs = execution.processes, config.training, config.training["epochs"]
    images, labels, others, truth = (torch.from_numpy(array).to(execution.device) for array in (*train, *validation))
    steps = len(step_sizes(len(images), options["batch_size"], processes.count))
    learner = begin(config, n_classes, execution, initial)
    learner.resume(checkpoint)
    result, patience = learner.result, options["patience"] or epochs
    behind = len(result.history) * steps + (learner.passage.step if learner.passage else 0)
    bars = tqdm if processes.first else partial(tqdm, disable=True)
    with bars(total=epochs * steps, initial=behind, unit="step", desc=f"{config.dataset} {config.architecture}") as bar:
        while len(result.history) < epochs and len(result.history) - result.best_epoch < patience:
            epoch = len(result.history) + 1
            if not processes.first:  # or dropout would hide the same neurons in every process
                torch.manual_seed(config.seed + processes.rank * (epochs + 1) + epoch)
            start = time.perf_counter()
            try:
                loss_sum, right, losses = train_one_epoch(learner, images, labels, bar)
                row = {"epoch": epoch, "train_loss": loss_sum.item() / len(images)}
                row["train_accuracy"] = right.item() / len(images)
                seconds = time.perf_counter() - start  # after .item(), which waits for the device
                found = models.predict(learner.evaluated, others, truth, options["image_size"])
                # the same bits for all, whatever their GPUs: else one could stop early while the others wait for it
                row["validation_loss"] = processes.agree(found.losses.mean().item())
                row["validation_accuracy"] = (found.classes[:, 0] == truth).double().mean().item()
            except (torch.OutOfMemoryError, torch.AcceleratorError) as error:
                said = str(error).partition("\n")[0].rstrip(".")
                raise DeviceError(
                    f"the GPU failed in epoch {epoch}: {said}. The last checkpoint is kept, and the same command goes "
                    "on from there. If it fails again, see nvidia-smi and the system's log. If it lacks memory, try "
                    f"batch_size={max(1, options['batch_size'] // 2)}, which is another run, or a GPU with more of it."
                ) from error
            if not math.isfinite(row["train_loss"] + row["validation_loss"]):
                bad = [*losses.isfinite().logical_not().nonzero().flatten().tolist(), steps - 1]
                raise FloatingPointError(
                    f"the loss is no longer finite at step {(epoch - 1) * steps + bad[0] + 1}, in epoch {epoch} "
                    f"(training {row['train_loss']}, validation {row['validation_loss']}). The checkpoint of epoch "
                    f"{epoch - 1} is kept; try a lower learning_rate."
                )
            result.history.append(row)
            result.epoch_seconds.append(seconds)
            if not options["patience"] or row is min(result.history, key=lambda one: one["validation_loss"]):
                result.best_epoch, result.best = epoch, _weights(learner.evaluated)
            bar.set_postfix(epoch=epoch, validation_accuracy=f"{row['validation_accuracy']:.4f}")
            learner.save()
    result.last = _weights(learner.evaluated)
    return result


def _weights(model: nn.Module) -> Weights:
    whole = torch.contiguous_format  # as safetensors has it; cloned, or on a CPU these would go on changing
    return {name: value.detach().cpu().clone(memory_format=whole) for name, value in model.state_dict().items()}
