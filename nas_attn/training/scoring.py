"""Scores networks on the images of one data set, all in the same arithmetic."""

from __future__ import annotations

import json
import math
import time
import zlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

from nas_attn.data.dataset import Dataset, Split
from nas_attn.errors import OutOfMemory, TrainingError, first_line
from nas_attn.recipe.recipe import TrainingSection
from nas_attn.storage.records import Arithmetic, Score
from nas_attn.training.faults import out_of_memory
from nas_attn.training.learnt import learnt_from
from nas_attn.training.numerics import new_arithmetic

# Images of a batch that is scored, at least; segmentation, with outputs as large as the images,
# scores the training's batches
SCORING_BATCH = 256
# on a GPU, which small batches leave idle
LARGE_SCORING_BATCH = 2048
# of one channel of a large batch, at most
SCORED_PIXELS = LARGE_SCORING_BATCH * 64 * 64


class Scorer:
    """Scores networks on one data set."""

    def __init__(
        self,
        section: TrainingSection,
        dataset: Dataset,
        *,
        device: torch.device | str,
        batch_hook: Callable[[], object] | None = None,
        threads: int | None = None,
        arithmetic: Arithmetic | None = None,
    ) -> None:
        """Begins with one data set.

        Args:
            section: the recipe's `[training]`.
            dataset: the images.
            device: where networks are trained and scored.
            batch_hook: called between batches, to yield the device.
            threads: intra-op threads of new trainings; None: torch's.
            arithmetic: a study's; None: decided here.
        """
        self.section = section
        self.dataset = dataset
        self.learnt = learnt_from(dataset, section.loss)
        self.device = torch.device(device)
        self.hook = batch_hook or (lambda: None)
        self.threads = threads
        self.arithmetic = arithmetic or new_arithmetic(section, dataset.task, self.device)

    def score(self, model: nn.Module, split: Split, *, seed: int = 0, epochs: int = 0) -> Score:
        """Scores a network on a split: its metrics, and which images are right.

        Args:
            model: the network, on the trainer's device.
            split: the images.
            seed: the score's, like the next one.
            epochs: so many it was trained for.

        Raises:
            TrainingError: the loss is not finite.
            OutOfMemory: the device or the host has not enough memory.
        """
        clock = Clock(self.device)
        try:
            loss = self._evaluate(model, split)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            raise OutOfMemory(
                f"not enough memory to score {len(split)} images: {first_line(error)}"
            ) from None
        mean = loss.item() / len(split)
        if not math.isfinite(mean):
            raise TrainingError(
                f"the loss on {len(split)} images is {mean}: the weights have diverged"
            )
        metrics = self.learnt.metrics(mean)
        right = self.learnt.right()
        answers = zlib.compress(json.dumps(self.learnt.answers()).encode())
        wall, device = clock.read()
        return Score(
            seed,
            0,
            epochs,
            metrics,
            right,
            len(split),
            wall_s=wall,
            device_s=device,
            answers=answers,
            arithmetic=self.arithmetic.text,
        )

    def _evaluate(self, model: nn.Module, split: Split) -> Tensor:
        """The sum of log-losses, as a float64 scalar on the device."""
        usual, large = self._scoring_batches()
        if large > usual:
            try:
                return self._evaluated(model, split, large)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
            # outside of the handler, which keeps the failed attempt's tensors alive
            torch.cuda.empty_cache()
        return self._evaluated(model, split, usual)

    def _scoring_batches(self) -> tuple[int, int]:
        """Images of a batch that is scored: as usual, and where there is memory for it."""
        usual = self.section.batch_size
        large = 0
        if self.dataset.task.per_image:
            usual = max(SCORING_BATCH, usual)
            _, height, width = self.dataset.input_shape
            if self.device.type == "cuda":
                large = min(LARGE_SCORING_BATCH, SCORED_PIXELS // (height * width))
        return usual, max(usual, large)

    @torch.no_grad()
    def _evaluated(self, model: nn.Module, split: Split, batch: int) -> Tensor:
        model.eval()
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        self.learnt.begin()
        for x, y in split.batches(batch):
            loss += self.learnt.judge(self.output(model, x), x, y)
            self.hook()
        return loss

    def output(self, model: Callable[..., object], x: Tensor, y: Tensor | None = None) -> object:
        """The network's output in the trainer's arithmetic; y is given in training."""
        if self.arithmetic.memory_format == "contiguous":
            x = x.contiguous()
        low = self.arithmetic.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=low):
            return self.learnt.ask(model, x, y)


class Clock:
    """Wall and device seconds since it was made, and those before an interruption."""

    def __init__(self, device: torch.device, wall_s: float = 0.0, device_s: float = 0.0) -> None:
        """`wall_s`, `device_s`: before the interruption."""
        self._device = device
        self._wall = time.perf_counter() - wall_s
        self._processor = time.process_time() - device_s
        self._carried = device_s
        if device.type == "cuda":
            self._event = self._now()

    def read(self) -> tuple[float, float]:
        """(wall, device) seconds; waits for the device. On a CPU, device time is the process's time
        on all threads.
        """
        device = time.process_time() - self._processor
        if self._device.type == "cuda":
            now = self._now()
            now.synchronize()
            device = self._carried + self._event.elapsed_time(now) / 1000
        return time.perf_counter() - self._wall, device

    def _now(self) -> torch.cuda.Event:
        """An event on the device's own stream; the current device may be another one."""
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event
