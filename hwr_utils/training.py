"""Train a network: the whole engine, readable in one sitting.

`fit` runs on one device. The images live there as uint8 tensors, so there is no DataLoader and nothing is copied in
the loop; nothing is read back from the device inside an epoch. At the end of every epoch the full state goes into a
checkpoint, in one step, so a run killed at any moment goes on from its last whole epoch and, on a CPU, ends with the
same bits as one that was never stopped.
"""

import hashlib
import io
import math
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from hwr_utils import files, models
from hwr_utils.errors import InputError
from hwr_utils.evaluation import predict_logits
from hwr_utils.records import RunConfig

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class FitResult:
    """What training leaves.

    Attributes:
        best: the weights of the epoch with the lowest validation loss, on the CPU.
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

    Raises:
        InputError: CUDA is asked for and absent, or the name is none of these.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
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


def train_one_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    config: RunConfig,
    progress: tqdm,
) -> tuple[Tensor, Tensor]:
    """Pass once over the training images in a new random order.

    Args:
        model: in any mode; left in training mode.
        optimizer: of the model's parameters.
        images: (N, H, W) uint8 on the model's device.
        labels: (N,) int64 on the model's device.
        config: gives batch size and image size. A last, smaller batch is trained on as well.
        progress: is moved on by one a step.

    Returns:
        The sum of losses and the number of right answers over the epoch, as scalars on the device.
    """
    device = images.device
    batch_size, image_size = config.training["batch_size"], config.training["image_size"]
    loss_sum = torch.zeros((), device=device)
    correct = torch.zeros((), device=device, dtype=torch.int64)
    model.train()
    # drawn on the CPU whatever the device, so that the same seed gives the same batches everywhere
    order = torch.randperm(len(images)).to(device)
    for batch in order.split(batch_size):
        target = labels[batch]
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            logits = model(models.to_input(images[batch], image_size))
            loss = F.cross_entropy(logits, target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        loss_sum += loss.detach() * len(batch)
        correct += (logits.detach().argmax(dim=1) == target).sum()
        progress.update()
    return loss_sum, correct


def fit(
    config: RunConfig,
    n_classes: int,
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    device: torch.device,
    checkpoint: Path | None = None,
) -> FitResult:
    """Train from scratch, or go on from a checkpoint, until the epochs or the patience run out.

    Args:
        config: the run's config.
        n_classes: number of logits.
        train: images (N, H, W) uint8 and labels (N,) int64.
        validation: the same of other images; their loss decides the best epoch and when to stop.
        device: where to train.
        checkpoint: file to resume from and to write after each epoch; None keeps nothing.

    Raises:
        InputError: the checkpoint is of another config, or its folder cannot be written.
        FloatingPointError: the loss is no longer finite; the checkpoint of the last good epoch is kept.
    """
    torch.manual_seed(config.seed)
    images, labels = (torch.from_numpy(array).to(device) for array in train)
    validation_images, validation_labels = (torch.from_numpy(array).to(device) for array in validation)
    image_size, epochs = config.training["image_size"], config.training["epochs"]
    model = models.build(config.architecture, n_classes, image_size, config.model)
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(model.parameters(), lr=config.training["learning_rate"], fused=True)

    state: dict[str, Any] = {
        "config": config.to_dict(),
        "history": [],
        "epoch_seconds": [],
        "best": {},
        "best_epoch": 0,
        "best_loss": math.inf,
        "sessions": 1,
    }
    saved = _load_checkpoint(checkpoint, state["config"]) if checkpoint else None
    if saved is not None:
        state = {key: saved[key] for key in state} | {"sessions": saved["sessions"] + 1}
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        torch.set_rng_state(saved["rng"])
        if device.type == "cuda" and saved["cuda_rng"] is not None:
            torch.cuda.set_rng_state(saved["cuda_rng"], device)

    def out_of_patience() -> bool:
        return len(state["history"]) - state["best_epoch"] >= config.training["patience"]

    steps = math.ceil(len(images) / config.training["batch_size"])
    done = len(state["history"])
    title = f"{config.dataset} {config.architecture}"
    with tqdm(total=epochs * steps, initial=done * steps, unit="step", desc=title) as bar:
        for epoch in range(done + 1, epochs + 1):
            if out_of_patience():
                break
            start = time.perf_counter()
            loss_sum, correct = train_one_epoch(model, optimizer, images, labels, config, bar)
            train_loss, train_accuracy = loss_sum.item() / len(images), correct.item() / len(images)
            state["epoch_seconds"].append(time.perf_counter() - start)  # after .item(), which waits for the device

            logits = predict_logits(model, validation_images, image_size)
            validation_loss = F.cross_entropy(logits, validation_labels).item()
            validation_accuracy = (logits.argmax(dim=1) == validation_labels).double().mean().item()
            if not math.isfinite(train_loss + validation_loss):
                raise FloatingPointError(
                    f"the loss is {train_loss} (validation {validation_loss}) in epoch {epoch}, steps "
                    f"{(epoch - 1) * steps + 1} to {epoch * steps}. The checkpoint of epoch {epoch - 1} is kept; "
                    "try a lower learning_rate."
                )
            row = {
                "epoch": epoch,
                "train_loss": train_loss,
                "train_accuracy": train_accuracy,
                "validation_loss": validation_loss,
                "validation_accuracy": validation_accuracy,
            }
            state["history"].append(row)
            if validation_loss < state["best_loss"]:
                state |= {"best_loss": validation_loss, "best_epoch": epoch, "best": _weights(model)}
            bar.set_postfix(epoch=epoch, validation_accuracy=f"{validation_accuracy:.4f}")
            if checkpoint:
                _save_checkpoint(checkpoint, state, model, optimizer, device)
    return FitResult(
        best=state["best"],
        last=_weights(model),
        history=state["history"],
        best_epoch=state["best_epoch"],
        stopped_early=len(state["history"]) < epochs,
        epoch_seconds=state["epoch_seconds"],
        sessions=state["sessions"],
    )


def _weights(model: nn.Module) -> Weights:
    # cloned, because on the CPU .cpu() would hand out the very tensors that go on changing; contiguous, because
    # that is how safetensors stores them
    return {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in model.state_dict().items()
    }


def _save_checkpoint(
    path: Path, state: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device
) -> None:
    buffer = io.BytesIO()
    rng = {
        "rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }
    torch.save(state | rng | {"model": model.state_dict(), "optimizer": optimizer.state_dict()}, buffer)
    content = buffer.getvalue()
    # torch.load takes flipped bits for weights, so a checksum of the whole is its last 32 bytes
    files.write_bytes(path, content + hashlib.sha256(content).digest())


def _load_checkpoint(path: Path, config: dict[str, Any]) -> dict[str, Any] | None:
    if not path.exists():
        return None
    content = path.read_bytes()
    if hashlib.sha256(content[:-32]).digest() != content[-32:]:
        kept = path.with_name(path.name + ".damaged")
        path.replace(kept)
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
