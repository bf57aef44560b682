"""Several processes that train one network together (DistributedDataParallel), as `torchrun` starts them.

Each takes its part of every batch; gradients are averaged, so that the weights stay the same everywhere. The first leads: it
reads and writes checkpoints, scores, and says when to stop; the others follow. BatchNorm takes its statistics from each
process's part of a batch, and those of the first are kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from nas_attn.errors import RecipeError
from nas_attn.training.checkpoint import CheckpointSlot

PATIENCE = timedelta(days=2)
"""A follower waits as long as the leader may score, or be kept waiting; torchrun ends all when one has died."""
LEAST = 2
"""Images of a batch for each process: BatchNorm needs more than one."""


@dataclass
class Team:
    """One process's place among those that train together."""

    rank: int
    size: int
    device: torch.device
    broken: bool = field(default=False, init=False)
    """A training has failed in this process, so that the others are left behind in it."""

    @property
    def leads(self) -> bool:
        return self.rank == 0

    @property
    def part(self) -> tuple[int, int]:
        """(which, of how many) parts of each batch are this process's."""
        return self.rank, self.size

    def check(self, batch_size: int) -> None:
        """Raises:
        RecipeError: a batch is too small to be shared.
        """
        if batch_size < LEAST * self.size:
            raise RecipeError(
                f"--gpus {self.size} needs batches of at least {LEAST * self.size} images, not {batch_size}: raise "
                "target.batch_size, or take fewer"
            )

    def wrapped(self, model: nn.Module) -> nn.Module:
        """The network whose gradients are averaged over all; its own modules and names stay as they are."""
        device_ids = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=device_ids, static_graph=True)

    def share(self, thing: Any) -> Any:
        """What the leader has, to all. Ours only: it travels as a pickle between processes that we started."""
        box = [thing]
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]

    def any(self, mine: bool) -> bool:
        """Whether it is so for one of them."""
        flag = torch.tensor([float(mine)])
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return bool(flag.item())

    def sum(self, value: Tensor) -> Tensor:
        """Over all of them; `value` stays as it is."""
        total = value.detach().clone()
        dist.all_reduce(total)
        return total

    def slot(self, slot: CheckpointSlot | None) -> CheckpointSlot:
        """The leader's checkpoints: all begin where it does, and it alone writes."""
        return _Shared(self, slot)


class _Shared:
    def __init__(self, team: Team, slot: CheckpointSlot | None) -> None:
        self._team, self._slot = team, slot

    def load(self) -> bytes | None:
        blob: bytes | None = self._team.share(self._slot.load() if self._slot is not None else None)
        return blob

    def save(self, blob: bytes, epochs: int) -> None:
        if self._slot is not None:
            self._slot.save(blob, epochs)


@contextmanager
def joined(device: str) -> Iterator[Team]:
    """This process as a member of the team that torchrun has started.

    Args:
        device: `cpu`, or anything that means GPUs, of which each process takes its own.

    Raises:
        RecipeError: there are fewer GPUs than processes.
    """
    rank, size, local = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    cuda = device != "cpu" and torch.cuda.is_available()
    place = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(place)
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=PATIENCE)
    yield Team(rank, size, place)
    dist.destroy_process_group()  # not after an error: the others may be waiting for what does not come
