"""One training under way: all that changes while it runs, and how that becomes a checkpoint."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nas_attn.errors import CheckpointError
from nas_attn.recipe import TrainingSection
from nas_attn.records import Score
from nas_attn.training.checkpoint import CheckpointSlot, decode, encode
from nas_attn.training.parameters import WeightAverage, make_optimizer

KEPT_PER = 100
"""The recipe's `ema` is the share kept per this part of an epoch."""
AVERAGES_PER_EPOCH = 25
"""The average takes the weights in about this often, and at the end of an epoch: each time costs as much as a layer."""


class Clock:
    """Wall and device seconds since it was last reset, those before an interruption included."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.reset()

    def reset(self, wall_s: float = 0.0, device_s: float = 0.0) -> None:
        self._carried = wall_s, device_s
        self._wall, self._processor = time.perf_counter(), time.process_time()
        if self._device.type == "cuda":
            self._event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            self._event.record()

    def read(self) -> tuple[float, float]:
        """(wall, device) seconds; waits for the device. On a CPU, device time is the process's time on all threads."""
        if self._device.type == "cuda":
            now = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            now.record()
            now.synchronize()
            device = self._event.elapsed_time(now) / 1000
        else:
            device = time.process_time() - self._processor
        return self._carried[0] + time.perf_counter() - self._wall, self._carried[1] + device


class Run:
    """The mutable state of one training."""

    def __init__(
        self,
        model: nn.Module,
        section: TrainingSection,
        identity: str,
        *,
        steps: int,
        attention: Collection[str],
        backbone_factor: float,
        slot: CheckpointSlot | None,
    ) -> None:
        """
        Args:
            identity: text that a checkpoint must carry to be taken up here.
            steps: batches per epoch.
        """
        self.model = model
        self.steps = steps
        self.optimizer = make_optimizer(model, section, attention, backbone_factor)
        self.average = WeightAverage(model)
        self._kept = section.ema
        self._interval = max(1, steps // AVERAGES_PER_EPOCH)
        self.device = next(model.parameters()).device
        self.epoch = 0
        """Whole epochs trained."""
        self.batch = 0
        """Batches trained in the epoch begun."""
        self.end = 0
        """The rung (in epochs) that the learning rate is on its way to."""
        self.epoch_loss = torch.zeros((), dtype=torch.float64, device=self.device)
        """Sum over this epoch's images of the training loss; on the device, read at the end of the epoch."""
        self.loss_sum = 0.0
        """Sum over epochs of the mean training loss."""
        self.parts = 1
        """Parts that a batch is computed in, 2 after memory ran out."""
        self.threads: int | None = None
        """Intra-op threads that the run was begun with; None before that."""
        self.scores: list[Score] = []
        self.clock = Clock(self.device)
        self._identity = identity
        self._slot = slot
        self.saved_at = time.monotonic()

    def count_batch(self) -> None:
        """A batch is done: the average takes its weights in, where it is time to."""
        self.batch += 1
        since = self.batch % self._interval
        if since == 0 or self.batch == self.steps:
            self.average.update(self._kept ** (KEPT_PER / self.steps * (since or self._interval)))

    def save(self) -> None:
        """Writes a checkpoint into the slot."""
        self.saved_at = time.monotonic()
        if self._slot is None:
            return
        wall, device = self.clock.read()
        payload: dict[str, Any] = {
            "fits": self._identity,
            "model": self.model.state_dict(),
            "average": self.average.state(),
            "optimizer": self.optimizer.state_dict()["state"] if self.optimizer else None,
            "random": _random_state(self.device),
            "epoch": self.epoch,
            "batch": self.batch,
            "end": self.end,
            "epoch_loss": self.epoch_loss,
            "loss_sum": self.loss_sum,
            "parts": self.parts,
            "threads": self.threads,
            "wall_s": wall,
            "device_s": device,
            "scores": [score.as_plain() for score in self.scores],
        }
        self._slot.save(encode(payload), self.epoch)

    def resume(self, rungs: Sequence[int]) -> None:
        """Goes on from the slot's checkpoint, if it holds one.

        Raises:
            CheckpointError: it is damaged, or belongs to another training.
        """
        blob = self._slot.load() if self._slot else None
        if blob is None:
            return
        state = decode(blob, self._identity)
        try:
            self._restore(state)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise CheckpointError(
                f"the checkpoint does not fit this training ({type(error).__name__}: {error})"
            ) from None
        done = [score.epochs for score in self.scores]
        under_way = [self.end] if self.epoch > max(done, default=0) or self.batch else []
        if done + under_way != list(rungs)[: len(done + under_way)]:
            raise CheckpointError(
                f"the checkpoint was trained towards rungs {done + under_way}, which are not the first of {list(rungs)}"
            )

    def _restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.average.load(state["average"])
        if self.optimizer:
            groups = self.optimizer.state_dict()[
                "param_groups"
            ]  # the settings are the recipe's, rates are set per step
            self.optimizer.load_state_dict({"state": state["optimizer"], "param_groups": groups})
        _set_random_state(self.device, state["random"])
        self.epoch, self.batch, self.end = int(state["epoch"]), int(state["batch"]), int(state["end"])
        self.epoch_loss.copy_(state["epoch_loss"])
        self.loss_sum, self.parts = float(state["loss_sum"]), int(state["parts"])
        self.threads = state["threads"]
        self.scores = [Score.from_plain(plain) for plain in state["scores"]]
        self.clock.reset(float(state["wall_s"]), float(state["device_s"]))

    @torch.no_grad()
    def keep_average(self) -> None:
        """Leaves the averaged weights, which were scored, in the network."""
        for name, tensor in (*self.model.named_parameters(), *self.model.named_buffers()):
            if name in self.average.state():
                tensor.copy_(self.average.state()[name])


def _random_state(device: torch.device) -> dict[str, Tensor]:
    """States of torch's global generators, which dropout draws from."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _set_random_state(device: torch.device, states: dict[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
