"""One training on its way from rung to rung, with a checkpoint between."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nas_attn.data.dataset import Split
from nas_attn.errors import OutOfMemory, TrainingError, first_line
from nas_attn.recipe import TrainingSection
from nas_attn.records import EpochPoint, Score
from nas_attn.training.parameters import set_training_mode
from nas_attn.training.run import Run
from nas_attn.training.schedule import schedule_factors
from nas_attn.training.stepping import Pace, Stepper, out_of_memory
from nas_attn.waiting import Interrupted

WARM_UP = 0.2
"""Share of a rung's steps in which the learning rate rises."""
CHECKPOINT_EVERY_S = 60.0
"""In an epoch that takes longer, checkpoints are written between."""


@dataclass
class Climb:
    """Takes one run from rung to rung."""

    section: TrainingSection
    train: Split
    scored: Callable[[], Score]
    """What the averaged weights score on the validation split."""
    device: torch.device
    hook: Callable[[], object]
    """Called between batches."""
    run: Run
    step: Stepper
    on_rung: Callable[[Score], bool] = lambda score: True
    stop: Callable[[], bool] = lambda: False
    on_epoch: Callable[[EpochPoint], None] | None = None

    def __call__(self, rungs: Sequence[int], seed: int, learning_rate: float) -> None:
        self.seed, self.learning_rate, self.pace = seed, learning_rate, Pace(self.device)
        run = self.run
        self.factors = schedule_factors(self.section.schedule, rungs[-1], run.steps)
        if not all(self.on_rung(score) for score in run.scores):
            return
        for rung in range(len(run.scores), len(rungs)):
            begin, run.end = (rungs[rung - 1] if rung else 0), rungs[rung]
            loss = math.nan
            while run.epoch < run.end:
                loss = self._epoch(begin)
                if run.epoch < run.end:
                    if self.on_epoch is not None:
                        self.on_epoch(EpochPoint(run.epoch, loss, self.scored().metrics))
                    run.save()
            if not self._reach(rung, loss):
                return

    def _reach(self, rung: int, loss: float) -> bool:
        """Scores at a rung; whether the training goes on."""
        run, score = self.run, self.scored()
        if self.on_epoch is not None:
            self.on_epoch(EpochPoint(run.epoch, loss, score.metrics))
        wall, device = run.clock.read()
        metrics = {**score.metrics, "train_loss_sum": run.loss_sum}
        score = replace(
            score, seed=self.seed, rung=rung, epochs=run.epoch, metrics=metrics, wall_s=wall, device_s=device
        )
        run.scores.append(score)
        run.clock.reset()
        run.save()
        return self.on_rung(score)

    def _epoch(self, begin: int) -> float:
        """Trains to the end of the epoch begun, or to an interruption; returns its mean loss."""
        run, section, train = self.run, self.section, self.train
        set_training_mode(run.model)
        batches = train.epoch(
            section.batch_size, seed=self.seed, epoch=run.epoch, augment=section.augmentation, first_batch=run.batch
        )
        for x, y in batches:
            step = (run.epoch - begin) * run.steps + run.batch
            factor = rate_factor(step, (run.end - begin) * run.steps)
            if self.factors:
                factor = self.factors[run.epoch * run.steps + run.batch]
            self._step(x, y, self.learning_rate * factor)
            run.count_batch()
            self._between()
        mean = run.epoch_loss.item() / len(train)
        if not math.isfinite(mean):
            raise TrainingError(
                f"the training loss became {mean} in epoch {run.epoch + 1} at a peak learning rate of "
                f"{self.learning_rate:g}: lower training.learning_rate, or set training.clip_norm"
            )
        run.loss_sum += mean
        run.epoch_loss.zero_()
        run.epoch, run.batch = run.epoch + 1, 0
        return float(mean)

    def _between(self) -> None:
        self.pace()
        self.hook()
        if self.stop():
            self.run.save()
            raise Interrupted(
                f"stopped in epoch {self.run.epoch + 1} after {self.run.batch} of {self.run.steps} batches"
            )
        if time.monotonic() - self.run.saved_at > CHECKPOINT_EVERY_S:
            self.run.save()

    def _step(self, x: Tensor, y: Tensor, rate: float) -> None:
        """One batch; in two halves from the first time that memory does not suffice."""
        try:
            self.step(x, y, rate, self.run.parts)
            return
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            reason = first_line(error)
        # Outside of the handler, which keeps the failed attempt's tensors alive.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if self.run.parts > 1 or len(x) < 4:
            raise OutOfMemory(f"not enough memory, even for half the batch of {len(x)}: {reason}")
        self.run.parts = 2
        self._step(x, y, rate)


def rate_factor(step: int, steps: int) -> float:
    """Factor on the peak learning rate at one step of a rung.

    It rises linearly over the first fifth of the steps between two rungs and falls linearly to nearly zero at the rung, where the
    network is scored (one cycle: Smith and Topin, 1708.07120; repeated: Loshchilov and Hutter, 1608.03983). So a score at a rung
    is that of a finished short training, and does not depend on whether further rungs follow.

    Args:
        step: 0 to steps - 1, counted from the previous rung.
        steps: steps between the previous rung and this one.
    """
    position = (step + 0.5) / steps
    return position / WARM_UP if position < WARM_UP else (1.0 - position) / (1.0 - WARM_UP)
