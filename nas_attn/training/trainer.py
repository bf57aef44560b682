"""The trainer: from rung to rung with checkpoints; an interruption does not change the result.

On a CPU a training is deterministic for a seed, a thread count and a kind of CPU, bit for bit,
whether or not it was interrupted. On CUDA it is not: cuDNN's and atomics' order of summation
varies.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import statistics
import time
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from nas_attn.data.dataset import Dataset, Split
from nas_attn.errors import CheckpointError, OutOfMemory, TrainingError, first_line
from nas_attn.recipe.recipe import Recipe, TrainingSection
from nas_attn.recipe.task import MIXING
from nas_attn.storage.records import FILLED, UNEVEN, Arithmetic, Score
from nas_attn.training.faults import out_of_memory
from nas_attn.training.learnt import Tally, learnt_from
from nas_attn.training.numerics import (
    RECORDED_STEPS,
    Threads,
    intra_op_threads,
    new_arithmetic,
    possible,
    tf32_as,
)
from nas_attn.training.parameters import (
    LearningRates,
    check_training,
    frozen,
    plain_order,
    prompt_norms,
    set_training_mode,
)
from nas_attn.training.run import (
    NO_CALLBACKS,
    Callbacks,
    CheckpointSlot,
    Climb,
    Clock,
    RunCheckpoints,
    TrainingState,
    read_slot,
)
from nas_attn.training.stepping import ORDINARY_STEPS, RecordedStep, Step, Stepper, compiled

# payload of a checkpoint
State = Mapping[str, Any]

# Images of a batch that is scored, at least; segmentation, with outputs as large as the images,
# scores the training's batches
SCORING_BATCH = 256
# on a GPU, which small batches leave idle
LARGE_SCORING_BATCH = 2048
# of one channel of a large batch, at most
SCORED_PIXELS = LARGE_SCORING_BATCH * 64 * 64

# settings that a checkpoint need not match
UNRELATED = {
    # of the weights that a run begins with, which it holds
    "start",
    "weights",
    "init",
    "backbones",
    "backbone_epochs",
    # the run's own rates are compared
    "learning_rate",
    "finetune_learning_rate",
    "head_learning_rate",
    # how far and how often runs go
    "rungs",
    "seeds",
    # another trainer's
    "evaluator",
}

# How long a step takes (`Trainer.step_s`): steps of which the median counts, at least
TIMED_STEPS = 4
# seconds of such steps, at least: of short ones many, since they vary
TIMED_S = 0.5
# on CUDA, until the step is recorded; kernels are chosen in the first one
UNTIMED_STEPS = ORDINARY_STEPS + 1


class Trainer:
    """Trains and scores networks on one data set, all under the same settings."""

    def __init__(
        self,
        section: TrainingSection,
        dataset: Dataset,
        *,
        device: torch.device | str,
        batch_hook: Callable[[], object] | None = None,
        threads: Threads | None = None,
        arithmetic: Arithmetic | None = None,
    ) -> None:
        """`batch_hook`: called between batches, to yield the device; `arithmetic`: a study's; None:
        decided here.
        """
        self.section = section
        self.dataset = dataset
        self.train = dataset.train
        self.learnt = learnt_from(dataset, section.loss)
        self.device = torch.device(device)
        self.hook = batch_hook or (lambda: None)
        self._threads = threads
        self.arithmetic = arithmetic or new_arithmetic(section, dataset.task, self.device)

    def fit(
        self,
        model: nn.Module,
        *,
        seed: int,
        rungs: Sequence[int],
        rates: LearningRates,
        slot: CheckpointSlot | None = None,
        callbacks: Callbacks = NO_CALLBACKS,
    ) -> tuple[Score, ...]:
        """Trains a network and scores its averaged weights at each rung; at the end it holds them,
        on the device, in the arithmetic's memory format.

        Args:
            rungs: epochs at which to score, increasing.
            rates: of attention's parameters and all others.
            slot: where checkpoints are kept; the training continues from the one that it holds.
            callbacks: told scores, and asked whether to stop.

        A run continues in the arithmetic that it began with.

        Raises RecipeError (`section.execution`), TrainingError (loss not finite, out of memory) or
        CheckpointError (the slot's).
        """
        what = {
            "seed": seed,
            "learning_rate": rates.peak,
            "attention": sorted(rates.attention),
            "backbone_factor": rates.backbone,
        }
        identity = self._identity(model, what)
        state = read_slot(slot, identity)
        trainer = self._continuing(state)
        checkpoints = None if slot is None else RunCheckpoints(slot, identity)
        model.to(trainer.device, memory_format=trainer._memory_format)  # type: ignore[call-overload]
        with trainer._apart(model, rates.held(model)):
            torch.manual_seed(seed)
            run = TrainingState(
                model,
                self.section,
                rates,
                arithmetic=trainer.arithmetic,
                steps=self.train.steps(self.section.step_size),
                checkpoints=checkpoints,
            )
            if state is not None:
                run.resume(state, rungs)
            run.threads = trainer._thread_number(run.threads)
            torch.set_num_threads(run.threads)
            step = trainer.stepper(run, rungs[-1] * run.steps)
            climb = Climb(
                section=self.section,
                train=self.train,
                scored=lambda: trainer._scored(run),
                hook=self.hook,
                run=run,
                step=step,
                callbacks=callbacks,
                seed=seed,
                peak=rates.peak,
            )
            climb.through(rungs)
            run.keep_average()
        return tuple(run.scores)

    def _continuing(self, state: State | None) -> Trainer:
        """The trainer for a run with this checkpoint, in the run's own arithmetic."""
        kept = self.arithmetic if state is None else self._kept(state)
        if kept.comparable == self.arithmetic.comparable:
            return self
        other = copy.copy(self)
        other.arithmetic = possible(kept, self.section, self.device)
        if other.arithmetic.comparable != kept.comparable:
            raise CheckpointError(
                f"the checkpoint was computed in {kept.precision} by a machine of another kind:"
                " resume on one of that kind, or start anew"
            )
        return other

    def _kept(self, state: State) -> Arithmetic:
        """The arithmetic of a checkpoint. One from before, which does not say, had batches of
        uneven sizes.
        """
        text = state.get("arithmetic")
        if text is None:
            return replace(self.arithmetic, batches=UNEVEN)
        try:
            return Arithmetic.from_text(text)
        except (TypeError, ValueError) as error:
            raise CheckpointError(
                f"the checkpoint's arithmetic cannot be read: {first_line(error)}"
            ) from None

    @property
    def _memory_format(self) -> torch.memory_format:
        if self.arithmetic.memory_format == "channels_last":
            return torch.channels_last
        return torch.contiguous_format

    @contextmanager
    def _apart(self, model: nn.Module, held: Collection[str]) -> Iterator[None]:
        """The trainer's device, with parameters held fixed; torch's generators and threads are as
        before afterwards.
        """
        cuda = [self.device] if self.device.type == "cuda" else []
        here = torch.cuda.device(self.device) if cuda else plain_order(model)
        norms = prompt_norms(model)
        generators = torch.random.fork_rng(devices=cuda)
        # the fastest for equal shapes
        before = torch.backends.cudnn.benchmark
        torch.backends.cudnn.benchmark = True
        try:
            tf32 = tf32_as(self.arithmetic, self.device)
            with here, tf32, frozen(model, held), norms, generators, intra_op_threads(None):
                yield
        finally:
            torch.backends.cudnn.benchmark = before

    def _scored(self, run: TrainingState) -> Score:
        with run.average.installed():
            score = self.score(run.model, self.dataset.validation)
            return replace(score, arithmetic=run.computed_in.text)

    def score(
        self, model: nn.Module, split: Split, *, seed: int = 0, rung: int = 0, epochs: int = 0
    ) -> Score:
        """Scores a network on a split: its metrics, and which images are right.

        Args:
            model: the network, on the trainer's device.
            split: the images.
            seed: the score's, like the next two.
            rung: index of the rung.
            epochs: so many it was trained for.

        Raises:
            TrainingError: the loss is not finite.
            OutOfMemory: the device or the host has not enough memory.
        """
        clock = Clock(self.device)
        try:
            with tf32_as(self.arithmetic, self.device):
                loss, tally = self._evaluate(model, split)
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
        metrics = tally.metrics(mean)
        right = tally.right()
        answers = zlib.compress(json.dumps(tally.answers()).encode())
        wall, device = clock.read()
        return Score(
            seed,
            rung,
            epochs,
            metrics,
            right,
            len(split),
            wall_s=wall,
            device_s=device,
            answers=answers,
            arithmetic=self.arithmetic.text,
        )

    def _evaluate(self, model: nn.Module, split: Split) -> tuple[Tensor, Tally]:
        """(sum of log-losses as a float64 scalar on the device, tally of correct results)."""
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
        batch = self.section.batch_size
        if not self.dataset.task.per_image:
            return batch, batch
        usual = max(SCORING_BATCH, batch)
        if self.device.type != "cuda":
            return usual, usual
        _, height, width = self.dataset.input_shape
        return usual, max(usual, min(LARGE_SCORING_BATCH, SCORED_PIXELS // (height * width)))

    @torch.no_grad()
    def _evaluated(self, model: nn.Module, split: Split, batch: int) -> tuple[Tensor, Tally]:
        model.eval()
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        tally = self.learnt.tally()
        for x, y in split.batches(batch):
            loss += self.learnt.judge(self.output(model, x), x, y, tally)
            self.hook()
        return loss, tally

    def stepper(self, run: TrainingState, steps: int) -> Stepper:
        """The function that trains a run's network on one batch, in a training of so many steps."""
        execution = self.arithmetic.execution
        # recording takes as long as some tens of steps: fewer are launched one by one
        if self.section.execution == "auto" and steps < RECORDED_STEPS:
            execution = "eager"
        network = compiled(run.model) if execution == "compile" else run.model
        step = Step(
            lambda x, y: self.learnt.logits(self.output(network, x, y), x),
            self.learnt.training_loss,
            run.optimizer,
            self.section,
            run.epoch_loss,
        )
        if execution == "cuda-graph" and run.recordable:
            return RecordedStep(step, self.device, run.note_recording)
        return step

    def step_s(self, model: nn.Module, steps: int) -> float:
        """Seconds of one step in a training of so many steps, its images included: in the
        precision, the order in memory and the execution of that training. Trains the network.
        """
        section = self.section
        model.to(self.device, memory_format=self._memory_format)  # type: ignore[call-overload]
        times_s = []
        with self._apart(model, ()):
            run = TrainingState(
                model,
                section,
                LearningRates(section.learning_rate),
                arithmetic=self.arithmetic,
                steps=steps,
            )
            run.threads = self._thread_number(None)
            torch.set_num_threads(run.threads)
            step = self.stepper(run, steps)
            set_training_mode(model)
            untimed = UNTIMED_STEPS if self.device.type == "cuda" else 1
            began = time.perf_counter()
            for x, y in self._endless():
                step(x, y, section.learning_rate, section.accumulate)
                if self.device.type == "cuda":
                    torch.cuda.synchronize(self.device)
                times_s.append(time.perf_counter() - began)
                timed_s = times_s[untimed:]
                if len(timed_s) >= TIMED_STEPS and sum(timed_s) >= TIMED_S:
                    break
                began = time.perf_counter()
        return statistics.median(times_s[untimed:])

    def _endless(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of one epoch of training after the other."""
        size = self.section.step_size
        augment = self.section.augmentation
        filled = self.arithmetic.batches == FILLED
        for epoch in count():
            yield from self.train.epoch(size, seed=0, epoch=epoch, augment=augment, filled=filled)

    def _thread_number(self, begun: int | None) -> int:
        """Intra-op threads of a run that was begun with so many; None: of a new one."""
        if self._threads is None:
            return torch.get_num_threads()
        if self.device.type != "cpu":
            return self._threads.number
        return self._threads.of_run(begun)

    def output(self, model: Callable[..., object], x: Tensor, y: Tensor | None = None) -> object:
        """The network's output in the trainer's arithmetic; y is given in training."""
        if self.arithmetic.memory_format == "contiguous":
            x = x.contiguous()
        with self._precision():
            return self.learnt.ask(model, x, y)

    def _precision(self) -> torch.autocast:
        low = self.arithmetic.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16 if low else None, enabled=low)

    def _identity(self, model: nn.Module, run: Mapping[str, object]) -> str:
        """Network, data and settings as one text, which a checkpoint must match to be continued."""
        # earlier checkpoints have a layer decay, which was 1 for all that can still go on
        settings = {**self.section.model_dump(exclude=UNRELATED), "layer_decay": 1.0}
        # no extra state
        tensors = [(name, t) for name, t in model.state_dict().items() if isinstance(t, Tensor)]
        shapes = [(name, tuple(tensor.shape), str(tensor.dtype)) for name, tensor in tensors]
        content = repr((sorted(settings.items()), self.dataset.digest, sorted(run.items()), shapes))
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def check_trainings(recipe: Recipe, dataset: Dataset | None) -> None:
    """Makes the transforms, optimizers and schedules of search and target, before anything is
    trained; an evaluator trains in its own way. Raises DataError, RecipeError.
    """
    if dataset is None or recipe.training.evaluator is not None:
        return
    for training in (recipe.training, recipe.target_training):
        dataset.train.check(training.augmentation)
        check_training(training)
        learnt = learnt_from(dataset, training.loss)
        if any(MIXING & augment.names for augment in training.augmentation):
            learnt.require_shares()
