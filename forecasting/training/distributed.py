"""Several processes that train one network, by torch's DistributedDataParallel.

`torchrun` starts them and tells each its number by the environment; without it there is one process,
and nothing here does anything. Each takes its part of every batch; gradients, losses and decisions
are those of the whole batch.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from data.errors import FlowcastError
from forecasting.training.hardware import pick_device

PATIENCE = timedelta(hours=2)
"""How long the others wait for the first one, which validates."""


@dataclass(frozen=True)
class Group:
    """The processes of a training.

    Attributes:
        rank: number of this one, from 0; the first one validates and writes.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that validates, writes and tells."""
        return self.rank == 0

    def part(self, index: Tensor) -> tuple[Tensor, float]:
        """Returns what this process takes of a batch, and its share of the whole.

        Where there are more processes than windows, some take one with a share of 0: all must take
        part in the sum of the gradients.
        """
        mine = index.tensor_split(self.size)[self.rank]
        return (mine, len(mine) / len(index)) if len(mine) else (index[:1], 0.0)

    def parallel(self, network: nn.Module) -> nn.Module:
        """Returns the network as one whose gradients are the mean over the processes."""
        if self.size == 1:
            return network
        # Masks and orders of tokens are the same in all and need not be sent at every step.
        return DistributedDataParallel(
            network, forward_sync_buffers=False, gradient_as_bucket_view=True
        )

    def quiet(self, network: nn.Module, last: bool) -> AbstractContextManager[None]:
        """Returns the context of a part of a step, of which only the last one sums gradients."""
        if isinstance(network, DistributedDataParallel) and not last:
            return network.no_sync()
        return nullcontext()

    def sum(self, values: Tensor) -> Tensor:
        """Returns the sum of a tensor over the processes; in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def told(self, values: list[float]) -> list[float]:
        """Returns the values of the first process in all of them."""
        if self.size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.broadcast(tensor, src=0)
        return [float(value) for value in tensor]


@contextmanager
def joined(device: str) -> Iterator[tuple[Group, torch.device]]:
    """Gives the processes that `torchrun` started, if it did, and the device of this one.

    Args:
        device: `auto`, `cpu`, `cuda`; of several GPUs each process takes its own.

    Raises:
        FlowcastError: there is no such device, or fewer GPUs than processes on this machine.
    """
    place = pick_device(device)
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Group(), place
        return
    if place.type == "cuda":
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise FlowcastError(
                f"there are {torch.cuda.device_count()} GPUs for process {local + 1} of this machine; "
                f"start torchrun with --nproc-per-node {torch.cuda.device_count()}"
            )
        place = torch.device("cuda", local)
        torch.cuda.set_device(place)
    # What is told by the host goes over gloo, so that a GPU need not be waited for.
    backend = "cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)
    try:
        yield Group(dist.get_rank(), dist.get_world_size()), place
        with suppress(RuntimeError):  # of another that was ended by an error
            dist.barrier()  # none closes its connections while another still uses them
    finally:
        dist.destroy_process_group()
