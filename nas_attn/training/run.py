"""One training from rung to rung, which may be interrupted after any batch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from nas_attn.errors import CheckpointError, DeviceLost, OutOfMemory, TrainingError, first_line
from nas_attn.storage.records import Arithmetic, EpochPoint, Score
from nas_attn.system.waiting import Interrupted
from nas_attn.training.checkpoints import Checkpoints
from nas_attn.training.faults import out_of_memory
from nas_attn.training.numerics import RECORDED_STEPS
from nas_attn.training.parameters import (
    LearningRates,
    WeightAverage,
    make_optimizer,
    schedule_factors,
    set_training_mode,
)
from nas_attn.training.scoring import Clock, Scorer
from nas_attn.training.stepping import HostPace, RecordedStep, Step, Stepper, compiled

# share of a rung's steps in which the learning rate rises
RISING_SHARE = 0.2
# between checkpoints; a rung always writes one
CHECKPOINT_EVERY_S = 30.0


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What a caller hears of a training, and how he ends it."""

    # Told each score; False ends the training there. A resumed training tells the earlier ones
    # again.
    on_rung: Callable[[Score], bool] = lambda score: True  # noqa: ARG005 - it goes on
    # asked between batches; True writes a checkpoint and raises Interrupted
    stop: Callable[[], bool] = lambda: False
    # told each epoch's training loss and validation scores, which are computed for this only
    on_epoch: Callable[[EpochPoint], None] | None = None


NO_CALLBACKS = Callbacks()


@dataclass
class TrainingProgress:
    """How far a training is: all of a checkpoint that is no tensor."""

    # whole epochs trained
    epoch: int = 0
    # batches trained in the epoch begun
    batch: int = 0
    # the rung (in epochs) that the training is on its way to
    end: int = 0
    # sum over epochs of the mean training loss
    loss_sum: float = 0.0
    # parts of a batch computed separately, 2 after memory ran out
    parts: int = 1
    # intra-op threads that the run was begun with; None before that
    threads: int | None = None
    # whether steps may be recorded as a CUDA graph; not after that cost a process its GPU
    recordable: bool = True
    # whether some have been
    recorded: bool = False
    # seconds since the last rung: in all, of the device, and those that it waited for images
    wall_s: float = 0.0
    device_s: float = 0.0
    waited_s: float = 0.0
    # as plain values
    scores: list[Any] = field(default_factory=list)


@dataclass
class Training:
    """One training."""

    # scores the averaged weights; its section, images and arithmetic are trained in
    scorer: Scorer
    # on the device
    model: nn.Module
    rates: LearningRates
    # of the order and the augmentation of images
    seed: int = 0
    # None keeps none
    checkpoints: Checkpoints | None = None
    callbacks: Callbacks = NO_CALLBACKS
    step: Stepper = field(init=False)

    def __post_init__(self) -> None:
        self.section = self.scorer.section
        self.train = self.scorer.dataset.train
        self.device = self.scorer.device
        self.peak = self.rates.peak
        self.progress = TrainingProgress()
        self.steps = self.train.steps(self.section.step_size)
        fused = self.scorer.arithmetic.fused
        self.optimizer = make_optimizer(self.model, self.section, self.rates, fused=fused)
        self.average = WeightAverage(self.model)
        self.epoch_loss = torch.zeros((), dtype=torch.float64, device=self.device)
        self.clock = Clock(self.device)
        self.pace = HostPace(self.device)
        self.saved_at = time.monotonic()
        # on the peak, at each step of the training; empty: one cycle for each rung
        self.factors: list[float] = []
        # images of whole epochs since the last rung, and the seconds that they took
        self.images = 0
        self.images_s = 0.0
        self.peak_bytes = 0
        self._process = psutil.Process()
        self._on_gpu = self.device.type == "cuda" and torch.cuda.is_available()
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats(self.device)

    def stepper(self, steps: int) -> Stepper:
        """The function that trains the network on one batch, in a training of so many steps."""
        scorer = self.scorer
        execution = scorer.arithmetic.execution
        # recording takes as long as some tens of steps: fewer are launched one by one
        if self.section.execution == "auto" and steps < RECORDED_STEPS:
            execution = "eager"
        network = compiled(self.model) if execution == "compile" else self.model
        step = Step(
            lambda x, y: scorer.learnt.logits(scorer.output(network, x, y), x),
            scorer.learnt.training_loss,
            self.optimizer,
            self.section,
            self.epoch_loss,
        )
        # other optimizers count their steps on the host, where a replay does not count on
        if execution == "cuda-graph" and scorer.arithmetic.fused and self.progress.recordable:
            return RecordedStep(step, self.device, self._note_recording)
        return step

    def _note_recording(self) -> None:
        self.progress.recorded = True

    def through(self, rungs: Sequence[int]) -> None:
        """Trains to each rung (in epochs), scores there, and ends where a caller says so; then the
        network has the averaged weights. A resumed run tells its earlier scores again.
        """
        self.step = self.stepper(rungs[-1] * self.steps)
        self.factors = schedule_factors(self.section.schedule, rungs[-1], self.steps, self.peak)
        goes_on = all(self.callbacks.on_rung(score) for score in self.scores)
        begins = [0, *rungs]
        for rung in range(len(self.scores), len(rungs)) if goes_on else ():
            if not self.callbacks.on_rung(self._rung(rung, begins[rung], rungs[rung])):
                break
        self.average.keep()

    @property
    def scores(self) -> tuple[Score, ...]:
        """One for each rung reached."""
        return tuple(map(Score.from_plain, self.progress.scores))

    def _rung(self, rung: int, begin: int, end: int) -> Score:
        """Trains to a rung, and scores there."""
        progress = self.progress
        progress.end = end
        # of the last epoch; unknown if the checkpoint was written at its end
        loss = math.nan
        while progress.epoch < end:
            loss = self.epoch(begin)
            if progress.epoch == end:
                break
            if self.callbacks.on_epoch is not None:
                self._tell_epoch(loss, self._score())
            self._save_in_time()
        score = self._score()
        self._tell_epoch(loss, score)
        return self._keep(score, rung)

    def _tell_epoch(self, loss: float, score: Score) -> None:
        if self.callbacks.on_epoch is not None:
            self.callbacks.on_epoch(EpochPoint(self.progress.epoch, loss, score.metrics))

    def _score(self) -> Score:
        """Scores the averaged weights; the memory for this does not count."""
        if self._on_gpu:
            peak = torch.cuda.max_memory_allocated(self.device)
            self.peak_bytes = max(self.peak_bytes, peak)
        with self.average.installed():
            score = self.scorer.score(self.model, self.scorer.dataset.validation)
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats(self.device)
        return score

    def _keep(self, score: Score, rung: int) -> Score:
        """Adds what the rung took to its score, and writes both into a checkpoint."""
        progress = self.progress
        computed_in = self.scorer.arithmetic
        # steps of a brief training, or of a network that waits for the device, are not recorded
        if computed_in.execution == "cuda-graph" and not progress.recorded:
            computed_in = replace(computed_in, execution="eager")
        wall_s, device_s = self.clock.read()
        score = replace(
            score,
            seed=self.seed,
            rung=rung,
            epochs=progress.epoch,
            metrics={**score.metrics, "train_loss_sum": progress.loss_sum},
            wall_s=wall_s,
            device_s=device_s,
            waited_s=progress.waited_s,
            peak_bytes=self.peak_bytes or None,
            images_per_s=self.images / self.images_s if self.images else None,
            arithmetic=computed_in.text,
        )
        progress.scores.append(score.as_plain())
        progress.waited_s = 0.0
        self.images = 0
        self.images_s = 0.0
        self.clock = Clock(self.device)
        self.save()
        return score

    def epoch(self, begin: int = 0) -> float:
        """Trains to the end of the epoch begun, or to an interruption; returns its mean loss.
        `begin`: the last rung, in epochs.
        """
        progress = self.progress
        section = self.section
        set_training_mode(self.model)
        batches = self.train.epoch(
            section.step_size,
            seed=self.seed,
            epoch=progress.epoch,
            augment=section.augmentation,
            first_batch=progress.batch,
        )
        whole = progress.batch == 0
        began = time.perf_counter()
        paused_s = 0.0
        for x, y in self._timed(batches):
            self._step(x, y, self._rate(begin))
            progress.batch += 1
            self.average.follow(progress.batch, self.steps, self.section.ema)
            paused_s += self._between()
        images = self.train.trained(section.step_size)
        if whole:
            self.images += images
            self.images_s += time.perf_counter() - began - paused_s
        mean = self.epoch_loss.item() / images
        if not math.isfinite(mean):
            raise TrainingError(
                f"the training loss became {mean} in epoch {progress.epoch + 1} at a peak learning"
                f" rate of {self.peak:g}: lower training.learning_rate, or set training.clip_norm"
            )
        self.epoch_loss.zero_()
        progress.loss_sum += mean
        progress.epoch += 1
        progress.batch = 0
        return float(mean)

    def _rate(self, begin: int) -> float:
        """The learning rate of the next step."""
        progress = self.progress
        done = progress.epoch * self.steps + progress.batch
        if self.factors:
            return self.peak * self.factors[done]
        length = (progress.end - begin) * self.steps
        return self.peak * rate_factor(done - begin * self.steps, length)

    def _timed(self, batches: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches, with the time that the training waits for each of them."""
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            self.progress.waited_s += time.perf_counter() - began
            if batch is None:
                return
            yield batch

    def _between(self) -> float:
        """Gives way between batches; returns the seconds that this took."""
        self.pace()
        # a GPU's allocator is asked once a rung: its statistics cost as much as a small step
        if not self._on_gpu:
            self.peak_bytes = max(self.peak_bytes, self._process.memory_info().rss)
        paused = time.perf_counter()
        self.scorer.hook()
        paused_s = time.perf_counter() - paused
        if self.callbacks.stop():
            self.save()
            raise Interrupted(
                f"stopped in epoch {self.progress.epoch + 1} after batch {self.progress.batch} of"
                f" {self.steps}"
            )
        self._save_in_time()
        return paused_s

    def _step(self, x: Tensor, y: Tensor, rate: float) -> None:
        """Trains on one batch; in two halves after memory has run out once."""
        try:
            self.step(x, y, rate, self.progress.parts * self.section.accumulate)
            return
        except DeviceLost:
            # from here on, no step is recorded as a CUDA graph; the process may be unable to write
            self.progress.recordable = False
            with suppress(RuntimeError, CheckpointError):
                self.save()
            raise
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            reason = first_line(error)
        if self.device.type == "cuda":
            # outside of the handler, which keeps the failed attempt's tensors alive
            torch.cuda.empty_cache()
        size = len(x) // self.section.accumulate
        if self.progress.parts > 1 or size < 4:
            raise OutOfMemory(f"not enough memory, even for half the batch of {size}: {reason}")
        self.progress.parts = 2
        self._step(x, y, rate)

    def _save_in_time(self) -> None:
        """Writes a checkpoint if the last one is old enough: an epoch may take a second."""
        if time.monotonic() - self.saved_at > CHECKPOINT_EVERY_S:
            self.save()

    def save(self) -> None:
        """Writes a checkpoint."""
        self.saved_at = time.monotonic()
        if self.checkpoints is None:
            return
        progress = self.progress
        progress.wall_s, progress.device_s = self.clock.read()
        # of torch's generators, which dropout draws from
        random = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        payload = {
            "arithmetic": self.scorer.arithmetic.text,
            "model": self.model.state_dict(),
            "average": self.average.state(),
            "optimizer": self.optimizer.state_dict()["state"] if self.optimizer else None,
            "random": random,
            "epoch_loss": self.epoch_loss,
            **vars(progress),
        }
        self.checkpoints.write(payload, progress.epoch)

    def resume(self, rungs: Sequence[int]) -> None:
        """Continues from the last checkpoint, if there is one. CheckpointError: it is damaged, was
        trained towards other rungs or in another arithmetic, or does not fit.
        """
        state = self.checkpoints.read() if self.checkpoints else None
        if state is None:
            return
        try:
            self._restore(state)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise CheckpointError(
                f"the checkpoint does not fit here ({type(error).__name__}: {error})"
            ) from None
        progress = self.progress
        begun = [score.epochs for score in self.scores]
        if progress.epoch > max(begun, default=0) or progress.batch:
            begun.append(progress.end)
        if begun != list(rungs)[: len(begun)]:
            raise CheckpointError(
                f"the checkpoint was trained towards rungs {begun}, which are not the first of"
                f" {list(rungs)}"
            )

    def _restore(self, state: Mapping[str, Any]) -> None:
        # in the first studies it was not recorded
        kept = Arithmetic.from_text(state["arithmetic"]) if "arithmetic" in state else None
        if kept is not None and kept.comparable != self.scorer.arithmetic.comparable:
            raise CheckpointError(
                f"the checkpoint was computed in {kept.precision} by a machine of another kind:"
                " resume on one of that kind, or start anew"
            )
        self.model.load_state_dict(state["model"])
        self.average.load(state["average"])
        if self.optimizer:
            # settings are the recipe's, rates are set per step
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({"state": state["optimizer"], "param_groups": groups})
        torch.set_rng_state(state["random"]["cpu"])
        # begun on a GPU, too
        if self.device.type == "cuda" and "cuda" in state["random"]:
            torch.cuda.set_rng_state(state["random"]["cuda"], self.device)
        self.epoch_loss.copy_(state["epoch_loss"])
        # the first checkpoints have no word on recording
        names = [each.name for each in fields(TrainingProgress) if each.name in state]
        self.progress = TrainingProgress(**{name: state[name] for name in names})
        self.clock = Clock(self.device, self.progress.wall_s, self.progress.device_s)


def rate_factor(step: int, steps: int) -> float:
    """Factor on the peak learning rate at one step (from 0) of those between two rungs: it rises
    linearly over the first fifth and falls linearly to nearly zero at the rung (one cycle: Smith
    and Topin, 1708.07120; repeated: Loshchilov and Hutter, 1608.03983). So a score at a rung is
    that of a finished short training, and does not depend on whether further rungs follow.
    """
    position = (step + 0.5) / steps
    if position < RISING_SHARE:
        return position / RISING_SHARE
    return (1.0 - position) / (1.0 - RISING_SHARE)
