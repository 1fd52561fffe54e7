"""One run over several processes, as `torchrun` starts them: who they are, and what they tell each other.

Without torchrun there is one process, and everything here does nothing.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from hwr_utils.errors import InputError


@dataclass(frozen=True)
class Processes:
    """The processes that share a run. Process 0 alone writes and talks."""

    rank: int = 0  # number of this process
    count: int = 1  # how many there are

    @property
    def first(self) -> bool:
        """Is this the process that writes and talks?"""
        return self.rank == 0

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum of all processes' values."""
        if self.count > 1:
            distributed.all_reduce(value)
        return value

    def agree(self, answer: Any) -> Any:
        """Return the first process' answer, in every process; none goes on before the first has given it."""
        answers = [answer]
        if self.count > 1:
            distributed.broadcast_object_list(answers)
        return answers[0]


@contextmanager
def join(device: torch.device) -> Iterator[Processes]:
    """Meet the other processes that torchrun has started for this run, by NCCL on CUDA; part from them in the end."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # the time is to wait for processes on lost machines; if one dies here, torchrun stops the others
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(seconds=50))
    yield Processes(distributed.get_rank(), count)
    # Not after an error: NCCL would wait for what is under way, hence for processes that wait for this one, and the
    # error would not be told. This process ends instead, and torchrun ends the others.
    distributed.destroy_process_group()


def parallel(model: nn.Module, batch_size: int, device: torch.device, processes: Processes) -> nn.Module:
    """Make a network train as one over all processes, and return what to call in training, which shares its parameters.

    Gradients are averaged in every backward pass. Batch normalisation takes its statistics from the whole batch by
    SyncBatchNorm; by its own share each process would compute another, noisier function of the same weights. Raises an
    InputError where a process has no image, or less than the two that it needs to normalise; or where several are to
    normalise on CPUs, for which SyncBatchNorm does not exist.
    """
    normalises = any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in model.modules())
    needed = processes.count * (2 if normalises else 1)
    if batch_size < needed:
        raise InputError(
            f"batch_size={batch_size} is too small for {processes.count} process(es). Use {needed} or more."
        )
    if processes.count == 1:
        return model
    if normalises and device.type == "cpu":
        raise InputError(
            f"{processes.count} processes on CPUs cannot train {type(model).__name__} as one: it normalises over the "
            "batch, and SyncBatchNorm works on CUDA only. Train it in one process, or use one GPU for each."
        )
    nn.SyncBatchNorm.convert_sync_batchnorm(model)  # in place for every layer within
    return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)
