"""One training from rung to rung, and its checkpoints: tensors and plain values, read with
`weights_only=True`.
"""

from __future__ import annotations

import io
import math
import pickle
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

import psutil
import torch
from torch import Tensor, nn

from nas_attn.data.dataset import Split
from nas_attn.errors import CheckpointError, DeviceLost, OutOfMemory, TrainingError, first_line
from nas_attn.recipe.recipe import TrainingSection
from nas_attn.storage.records import FILLED, Arithmetic, EpochPoint, Score
from nas_attn.system.waiting import Interrupted
from nas_attn.training.faults import out_of_memory
from nas_attn.training.parameters import (
    KEPT_PER,
    LearningRates,
    WeightAverage,
    give_dimensions,
    make_optimizer,
    schedule_factors,
    set_training_mode,
)
from nas_attn.training.stepping import HostPace, Stepper

CHECKPOINT_FORMAT = 2


class CheckpointSlot(Protocol):
    """Keeps one training's checkpoint. Writes are atomic, and reads are checked."""

    def load(self) -> bytes | None:
        """The last checkpoint; None if there is none."""

    def save(self, blob: bytes, epochs: int) -> None:
        """Replaces the last checkpoint. CheckpointError: it could not be written, and the last one
        is still there.
        """


@dataclass(frozen=True, slots=True)
class RunCheckpoints:
    """Where one run's checkpoints are kept, and what tells them from those of other runs."""

    slot: CheckpointSlot
    # a checkpoint must have it to be continued here
    identity: str


def encode(payload: dict[str, Any]) -> bytes:
    """Bytes of a payload of tensors, numbers, texts, lists and dicts."""
    buffer = io.BytesIO()
    torch.save({"format": CHECKPOINT_FORMAT, **payload}, buffer)
    return buffer.getvalue()


def read_slot(slot: CheckpointSlot | None, fits: str) -> dict[str, Any] | None:
    """The payload of a slot's checkpoint; None if there is none. Raises CheckpointError as
    `decode`.
    """
    blob = slot.load() if slot else None
    return None if blob is None else decode(blob, fits)


def decode(blob: bytes, fits: str) -> dict[str, Any]:
    """The payload of a checkpoint of the same training (`fits`); CheckpointError: damaged, or of
    another format or training.
    """
    try:
        payload = torch.load(io.BytesIO(blob), map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"the checkpoint of {len(blob)} bytes is damaged: {first_line(error)}"
        ) from None
    if not isinstance(payload, dict) or payload.get("format") != CHECKPOINT_FORMAT:
        raise CheckpointError(
            f"the checkpoint does not have format {CHECKPOINT_FORMAT}: another version wrote it"
        )
    if payload.get("fits") != fits:
        raise CheckpointError(
            "the checkpoint is of another training (network, data, seed or settings): start anew"
        )
    return payload


# Updates of the average: each one costs as much as a layer
AVERAGES_PER_EPOCH = 25


class Clock:
    """Wall and device seconds since the last reset, including those before an interruption."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.reset()

    def reset(self, wall_s: float = 0.0, device_s: float = 0.0) -> None:
        self._carried = wall_s, device_s
        self._wall = time.perf_counter()
        self._processor = time.process_time()
        if self._device.type == "cuda":
            self._event = self._now()

    def read(self) -> tuple[float, float]:
        """(wall, device) seconds; waits for the device. On a CPU, device time is the process's time
        on all threads.
        """
        if self._device.type == "cuda":
            now = self._now()
            now.synchronize()
            device = self._event.elapsed_time(now) / 1000
        else:
            device = time.process_time() - self._processor
        return self._carried[0] + time.perf_counter() - self._wall, self._carried[1] + device

    def _now(self) -> torch.cuda.Event:
        """An event on the device's own stream; the current device may be another one."""
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event


class TrainingState:
    """The mutable state of one training."""

    def __init__(
        self,
        model: nn.Module,
        section: TrainingSection,
        rates: LearningRates,
        *,
        arithmetic: Arithmetic,
        steps: int,
        checkpoints: RunCheckpoints | None = None,
    ) -> None:
        """`steps`: of one epoch; `checkpoints`: None keeps none."""
        self.model = model
        self.steps = steps
        self.arithmetic = arithmetic
        self.optimizer = make_optimizer(model, section, rates, fused=arithmetic.fused)
        self.average = WeightAverage(model)
        self._kept = section.ema
        self._interval = max(1, steps // AVERAGES_PER_EPOCH)
        self.device = next(model.parameters()).device
        # whole epochs trained
        self.epoch = 0
        # batches trained in the epoch begun
        self.batch = 0
        # the rungs (in epochs) that the learning rate comes from, and is on its way to
        self.begin = 0
        self.end = 0
        # summed, read at the end
        self.epoch_loss = torch.zeros((), dtype=torch.float64, device=self.device)
        # seconds since the last rung in which the training waited for images
        self.waited_s = 0.0
        # sum over epochs of the mean training loss
        self.loss_sum = 0.0
        # parts of a batch computed separately, 2 after memory ran out
        self.parts = 1
        # intra-op threads that the run was begun with; None before that
        self.threads: int | None = None
        # Whether steps may be recorded as a CUDA graph; not after that cost a process its GPU
        self.recordable = True
        # whether some have been
        self.recorded = False
        self.scores: list[Score] = []
        self.clock = Clock(self.device)
        # images of whole epochs since the last rung, and the seconds that they took
        self.images = 0
        self.images_s = 0.0
        self.peak_bytes = 0
        self._process = psutil.Process()
        self._on_gpu = self.device.type == "cuda" and torch.cuda.is_available()
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats(self.device)
        self._checkpoints = checkpoints
        self.saved_at = time.monotonic()

    @property
    def computed_in(self) -> Arithmetic:
        """The arithmetic, with the execution that the steps so far really had: those of a brief
        training or of a network that waits for the device are not recorded.
        """
        if self.arithmetic.execution == "cuda-graph" and not self.recorded:
            return replace(self.arithmetic, execution="eager")
        return self.arithmetic

    def note_recording(self) -> None:
        """Notes that steps are replayed from a CUDA graph from now on."""
        self.recorded = True

    def count_batch(self) -> None:
        """Counts a finished batch; updates the average if it is due."""
        self.batch += 1
        since = self.batch % self._interval
        if since == 0 or self.batch == self.steps:
            self.average.update(self._kept ** (KEPT_PER / self.steps * (since or self._interval)))

    def look(self) -> None:
        """Records the memory that this process uses; called after each batch. A GPU's is counted by
        torch's allocator, whose statistics cost as much as a small step: see `scoring`.
        """
        if not self._on_gpu:
            self.peak_bytes = max(self.peak_bytes, self._process.memory_info().rss)

    @contextmanager
    def scoring(self) -> Iterator[None]:
        """Inside, the network is scored: the memory for this does not count."""
        if not self._on_gpu:
            yield
            return
        self.peak_bytes = max(self.peak_bytes, torch.cuda.max_memory_allocated(self.device))
        yield
        torch.cuda.reset_peak_memory_stats(self.device)

    def save(self) -> None:
        """Writes a checkpoint into the slot."""
        self.saved_at = time.monotonic()
        if self._checkpoints is None:
            return
        wall, device = self.clock.read()
        cuda = {}
        if self.device.type == "cuda":
            cuda = {"cuda": torch.cuda.get_rng_state(self.device)}
        payload: dict[str, Any] = {
            "fits": self._checkpoints.identity,
            "arithmetic": self.arithmetic.text,
            "model": self.model.state_dict(),
            "average": self.average.state(),
            "optimizer": self.optimizer.state_dict()["state"] if self.optimizer else None,
            "random": {
                # of torch's generators, which dropout draws from
                "cpu": torch.get_rng_state(),
                **cuda,
            },
            "epoch": self.epoch,
            "batch": self.batch,
            "end": self.end,
            "epoch_loss": self.epoch_loss,
            "loss_sum": self.loss_sum,
            "parts": self.parts,
            "threads": self.threads,
            "recordable": self.recordable,
            "recorded": self.recorded,
            "waited_s": self.waited_s,
            "wall_s": wall,
            "device_s": device,
            "scores": [score.as_plain() for score in self.scores],
        }
        self._checkpoints.slot.save(encode(payload), self.epoch)

    def save_unrecordable(self) -> None:
        """Writes a checkpoint from which no step is recorded as a CUDA graph, if this is possible
        in a process that has lost its GPU.
        """
        self.recordable = False
        with suppress(RuntimeError, CheckpointError):
            self.save()

    def resume(self, state: Mapping[str, Any], rungs: Sequence[int]) -> None:
        """Continues from the payload of a checkpoint. CheckpointError: it was trained towards other
        rungs, or does not fit.
        """
        try:
            self._restore(state)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise CheckpointError(
                f"the checkpoint does not fit here ({type(error).__name__}: {error})"
            ) from None
        done = [score.epochs for score in self.scores]
        under_way = []
        if self.epoch > max(done, default=0) or self.batch:
            under_way = [self.end]
        if done + under_way != list(rungs)[: len(done + under_way)]:
            raise CheckpointError(
                f"the checkpoint was trained towards rungs {done + under_way}, which are not the"
                f" first of {list(rungs)}"
            )

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.average.load(state["average"])
        if self.optimizer:
            # settings are the recipe's, rates are set per step
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({"state": state["optimizer"], "param_groups": groups})
            give_dimensions(self.optimizer)
        torch.set_rng_state(state["random"]["cpu"])
        # begun on a GPU, too
        if self.device.type == "cuda" and "cuda" in state["random"]:
            torch.cuda.set_rng_state(state["random"]["cuda"], self.device)
        self.epoch = int(state["epoch"])
        self.batch = int(state["batch"])
        self.end = int(state["end"])
        self.epoch_loss.copy_(state["epoch_loss"])
        self.loss_sum = float(state["loss_sum"])
        self.parts = int(state["parts"])
        self.threads = state["threads"]
        self.waited_s = float(state.get("waited_s", 0.0))
        self.recordable = bool(state.get("recordable", True))
        self.recorded = bool(state.get("recorded", False))
        self.scores = [Score.from_plain(plain) for plain in state["scores"]]
        self.clock.reset(float(state["wall_s"]), float(state["device_s"]))

    @torch.no_grad()
    def keep_average(self) -> None:
        """Leaves the averaged weights, which were scored, in the network."""
        for name, tensor in (*self.model.named_parameters(), *self.model.named_buffers()):
            if name in self.average.state():
                tensor.copy_(self.average.state()[name])


# share of a rung's steps in which the learning rate rises
RISING_SHARE = 0.2
# between checkpoints; a rung always writes one
CHECKPOINT_EVERY_S = 30.0


def _go_on(_score: Score) -> bool:
    return True


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What a caller hears of a training, and how he ends it."""

    # Told each score; False ends the training there. A resumed training tells the earlier ones
    # again.
    on_rung: Callable[[Score], bool] = _go_on
    # asked between batches; True writes a checkpoint and raises Interrupted
    stop: Callable[[], bool] = _never
    # told each epoch's training loss and validation scores, which are computed for this only
    on_epoch: Callable[[EpochPoint], None] | None = None


NO_CALLBACKS = Callbacks()


@dataclass
class Climb:
    """Takes one run from rung to rung."""

    section: TrainingSection
    train: Split
    # scores the averaged weights on the validation split
    scored: Callable[[], Score]
    # called between batches
    hook: Callable[[], object]
    run: TrainingState
    step: Stepper
    callbacks: Callbacks
    seed: int
    # of each rung's cycle
    peak: float

    def __post_init__(self) -> None:
        self.pace = HostPace(self.run.device)
        # on the peak, at each step of the training; empty: one cycle for each rung
        self.factors: list[float] = []

    def through(self, rungs: Sequence[int]) -> None:
        """Trains to each rung (in epochs), scores there, and ends where a caller says so. A resumed
        run tells its earlier scores again.
        """
        run = self.run
        self.factors = schedule_factors(self.section.schedule, rungs[-1], run.steps, self.peak)
        for score in run.scores:
            if not self.callbacks.on_rung(score):
                return
        for rung in range(len(run.scores), len(rungs)):
            run.begin = rungs[rung - 1] if rung else 0
            run.end = rungs[rung]
            loss = self._train_to_rung()
            score = self._score()
            self._tell_epoch(loss, score)
            score = self._keep(score, rung)
            if not self.callbacks.on_rung(score):
                return

    def _train_to_rung(self) -> float:
        """Trains to the next rung; returns the last epoch's mean loss, NaN if the checkpoint was
        written at its end.
        """
        run = self.run
        loss = math.nan
        while run.epoch < run.end:
            loss = self._epoch()
            if run.epoch == run.end:
                break
            if self.callbacks.on_epoch is not None:
                self._tell_epoch(loss, self._score())
            self._save_in_time()
        return loss

    def _tell_epoch(self, loss: float, score: Score) -> None:
        if self.callbacks.on_epoch is not None:
            self.callbacks.on_epoch(EpochPoint(self.run.epoch, loss, score.metrics))

    def _score(self) -> Score:
        with self.run.scoring():
            return self.scored()

    def _keep(self, score: Score, rung: int) -> Score:
        """Adds what the rung took to its score, and writes both into a checkpoint."""
        run = self.run
        wall_s, device_s = run.clock.read()
        score = replace(
            score,
            seed=self.seed,
            rung=rung,
            epochs=run.epoch,
            metrics={**score.metrics, "train_loss_sum": run.loss_sum},
            wall_s=wall_s,
            device_s=device_s,
            waited_s=run.waited_s,
            peak_bytes=run.peak_bytes or None,
            images_per_s=run.images / run.images_s if run.images else None,
        )
        run.scores.append(score)
        run.images = 0
        run.images_s = 0.0
        run.waited_s = 0.0
        run.clock.reset()
        run.save()
        return score

    def _epoch(self) -> float:
        """Trains to the end of the epoch begun, or to an interruption; returns its mean loss."""
        run = self.run
        section = self.section
        set_training_mode(run.model)
        filled = run.arithmetic.batches == FILLED
        batches = self.train.epoch(
            section.step_size,
            seed=self.seed,
            epoch=run.epoch,
            augment=section.augmentation,
            first_batch=run.batch,
            filled=filled,
        )
        whole = run.batch == 0
        began = time.perf_counter()
        self.paused_s = 0.0
        for x, y in self._timed(batches):
            self._step(x, y, self._rate())
            run.count_batch()
            self._between()
        images = self.train.trained(section.step_size, filled=filled)
        if whole:
            run.images += images
            run.images_s += time.perf_counter() - began - self.paused_s
        mean = run.epoch_loss.item() / images
        if not math.isfinite(mean):
            raise TrainingError(
                f"the training loss became {mean} in epoch {run.epoch + 1} at a peak learning rate"
                f" of {self.peak:g}: lower training.learning_rate, or set training.clip_norm"
            )
        run.loss_sum += mean
        run.epoch_loss.zero_()
        run.epoch += 1
        run.batch = 0
        return float(mean)

    def _rate(self) -> float:
        """The learning rate of the next step."""
        run = self.run
        if self.factors:
            return self.peak * self.factors[run.epoch * run.steps + run.batch]
        step = (run.epoch - run.begin) * run.steps + run.batch
        return self.peak * rate_factor(step, (run.end - run.begin) * run.steps)

    def _timed(self, batches: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches, with the time that the training waits for each of them."""
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            self.run.waited_s += time.perf_counter() - began
            if batch is None:
                return
            yield batch

    def _between(self) -> None:
        self.pace()
        self.run.look()
        paused = time.perf_counter()
        self.hook()
        self.paused_s += time.perf_counter() - paused
        if self.callbacks.stop():
            self.run.save()
            raise Interrupted(
                f"stopped in epoch {self.run.epoch + 1} after batch {self.run.batch} of"
                f" {self.run.steps}"
            )
        self._save_in_time()

    def _save_in_time(self) -> None:
        """Writes a checkpoint if the last one is old enough: an epoch may take a second."""
        if time.monotonic() - self.run.saved_at > CHECKPOINT_EVERY_S:
            self.run.save()

    def _step(self, x: Tensor, y: Tensor, rate: float) -> None:
        """Trains on one batch; in two halves after memory has run out once."""
        try:
            self.step(x, y, rate, self.run.parts * self.section.accumulate)
            return
        except DeviceLost:
            self.run.save_unrecordable()
            raise
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            reason = first_line(error)
        if self.run.device.type == "cuda":
            # outside of the handler, which keeps the failed attempt's tensors alive
            torch.cuda.empty_cache()
        size = len(x) // self.section.accumulate
        if self.run.parts > 1 or size < 4:
            raise OutOfMemory(f"not enough memory, even for half the batch of {size}: {reason}")
        self.run.parts = 2
        self._step(x, y, rate)


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
