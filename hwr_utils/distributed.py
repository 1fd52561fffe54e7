"""One run over several processes, as `torchrun` starts them: who they are, and what they tell each other.

Without torchrun there is one process, and everything here does nothing.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from hwr_utils.errors import InputError
from hwr_utils.models import Predictions, predict_logits, rank

# How long a process waits for the others. One that died is noticed at once where it was on this machine, because
# torchrun then stops the others; this is for a machine that is gone or a network that is cut.
TIMEOUT = timedelta(seconds=50)

CHUNK = 10_000  # images whose logits are held at a time


@dataclass(frozen=True)
class Processes:
    """The processes that share a run.

    Attributes:
        rank: number of this process, from 0. Process 0 alone writes and talks.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Is this the process that writes and talks?"""
        return self.rank == 0

    def share(self, whole: Tensor) -> Tensor:
        """Return this process' part along the first axis; parts differ by one in length at most."""
        return whole.tensor_split(self.count)[self.rank] if self.count > 1 else whole

    def gather(self, part: Tensor) -> Tensor:
        """Return, in every process, all the parts that `share` made of a whole, joined again."""
        if self.count == 1:
            return part
        lengths = torch.zeros(self.count, dtype=torch.int64, device=part.device)
        lengths[self.rank] = len(part)
        distributed.all_reduce(lengths)
        longest = int(lengths.max())
        # parts of unequal length do not travel, so each is filled up, and cut again where it arrives
        filled = torch.zeros(longest, *part.shape[1:], dtype=part.dtype, device=part.device)
        filled[: len(part)] = part
        parts = [torch.empty_like(filled) for _ in range(self.count)]
        distributed.all_gather(parts, filled)
        return torch.cat([other[:length] for other, length in zip(parts, lengths.tolist(), strict=True)])

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum of all processes' values."""
        if self.count > 1:
            distributed.all_reduce(value)
        return value

    def same(self, value: Tensor) -> Tensor:
        """Return the first process' value, in every process."""
        if self.count > 1:
            distributed.broadcast(value, src=0)
        return value

    def agree(self, answer: bool) -> bool:
        """Return the first process' answer, in every process; none goes on before the first has given it."""
        if self.count == 1:
            return answer
        device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        return bool(self.same(torch.tensor(answer, dtype=torch.uint8, device=device)).item())


ALONE = Processes()


@contextmanager
def join(device: torch.device) -> Iterator[Processes]:
    """Meet the other processes that torchrun has started for this run, and part from them in the end.

    Args:
        device: of this process; NCCL connects CUDA devices, gloo CPUs.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ALONE
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    yield Processes(distributed.get_rank(), count)
    # Not after an error: NCCL would wait for what is under way, hence for processes that wait for this one, and the
    # error would not be told. This process ends instead, and torchrun ends the others.
    distributed.destroy_process_group()


def parallel(model: nn.Module, batch_size: int, device: torch.device, processes: Processes) -> nn.Module:
    """Make a network train as one over all processes: gradients are averaged in every backward pass.

    Batch normalisation takes its statistics from the whole batch, as one process would, by SyncBatchNorm. Without it
    each process would normalise by its own share, which is another function of the same weights, and a noisier one.

    Args:
        model: on `device`.
        batch_size: images a step, over all processes.
        device: of this process.
        processes: all of them.

    Returns:
        What to call in training; its parameters are those of `model`, which remains the one to evaluate and to save.

    Raises:
        InputError: there is less than one image for each process; or the network normalises over the batch, and there
            are fewer than two for each, or several processes on CPUs, where SyncBatchNorm does not exist.
    """
    normalises = any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in model.modules())
    if normalises and batch_size < 2 * processes.count:
        raise InputError(
            f"batch_size={batch_size} is too small: batch normalisation needs at least two images for each of "
            f"{processes.count} process{'es' if processes.count > 1 else ''}. Use {2 * processes.count} or more."
        )
    if batch_size < processes.count:
        raise InputError(
            f"batch_size={batch_size} is too small for {processes.count} processes: each needs an image. Use "
            f"{processes.count} or more, or fewer processes."
        )
    if processes.count == 1:
        return model
    if normalises and device.type == "cpu":
        raise InputError(
            f"{processes.count} processes on CPUs cannot train {type(model).__name__} as one: it normalises over the "
            "batch, and SyncBatchNorm works on CUDA only. Train it in one process, or use one GPU for each."
        )
    # in place for every layer within, so `model` has them too
    nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)


def predict(model: nn.Module, images: Tensor, labels: Tensor, image_size: int, processes: Processes) -> Predictions:
    """Run a network over images, each process over its share; every image is counted once.

    Args:
        model: the same weights in every process.
        images: (N, H, W) uint8 on the model's device, the same in every process.
        labels: (N,) int64 true classes, likewise.
        image_size: side of the network's input in pixels.
        processes: all of them.

    Returns:
        Predictions for all N images, in every process.
    """
    parts = [
        rank(predict_logits(model, some, image_size), truth)
        for some, truth in zip(processes.share(images).split(CHUNK), processes.share(labels).split(CHUNK), strict=True)
    ]
    columns = ([part.classes for part in parts], [part.scores for part in parts], [part.losses for part in parts])
    return Predictions(*(processes.gather(torch.cat(column)) for column in columns))
