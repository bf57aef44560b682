"""The trainer: from rung to rung with checkpoints; an interruption does not change the result.

On a CPU a training is deterministic for a seed, a thread count and a kind of CPU, bit for bit,
whether or not it was interrupted. On CUDA it is not: cuDNN's and atomics' order of summation
varies.
"""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise

import torch
from torch import Tensor, nn

from nas_attn.data.dataset import Dataset
from nas_attn.recipe.recipe import Recipe
from nas_attn.recipe.task import MIXING
from nas_attn.storage.records import Score
from nas_attn.system.waiting import Interrupted
from nas_attn.training.checkpoints import Checkpoints, CheckpointSlot
from nas_attn.training.learnt import learnt_from
from nas_attn.training.numerics import intra_op_threads
from nas_attn.training.parameters import (
    LearningRates,
    check_training,
    frozen,
    plain_order,
    prompt_norms,
)
from nas_attn.training.run import NO_CALLBACKS, Callbacks, Training
from nas_attn.training.scoring import Scorer
from nas_attn.training.stepping import ORDINARY_STEPS

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
    "rate_factor",
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


class Trainer(Scorer):
    """Trains and scores networks on one data set, all under the same settings."""

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
            model: the network.
            seed: of the order of images, their augmentation and dropout.
            rungs: epochs at which to score, increasing.
            rates: of attention's parameters and all others.
            slot: where checkpoints are kept; the training continues from the one that it holds.
            callbacks: told scores, and asked whether to stop.

        Returns:
            The scores, one for each rung reached.

        Raises:
            RecipeError: `section.execution` is not possible.
            TrainingError: the loss is not finite, or memory ran out.
            CheckpointError: the slot's is damaged, or of another training or arithmetic.
            Interrupted: `callbacks.stop` returned True.
        """
        what = {
            "seed": seed,
            "learning_rate": rates.peak,
            "attention": sorted(rates.attention),
            "backbone_factor": rates.backbone,
        }
        checkpoints = None if slot is None else Checkpoints(slot, self._identity(model, what))
        with self._apart(model, rates.held(model)):
            torch.manual_seed(seed)
            run = Training(
                self, model, rates, seed=seed, checkpoints=checkpoints, callbacks=callbacks
            )
            run.resume(rungs)
            run.progress.threads = self._thread_number(run.progress.threads)
            torch.set_num_threads(run.progress.threads)
            run.through(rungs)
        return run.scores

    @contextmanager
    def _apart(self, model: nn.Module, held: Collection[str]) -> Iterator[None]:
        """The trainer's device, to which the model moves in its order in memory, with parameters
        held fixed; torch's generators and threads are as before afterwards.
        """
        order = torch.contiguous_format
        if self.arithmetic.memory_format == "channels_last":
            order = torch.channels_last
        model.to(self.device, memory_format=order)  # type: ignore[call-overload]
        cuda = [self.device] if self.device.type == "cuda" else []
        here = torch.cuda.device(self.device) if cuda else plain_order(model)
        norms = prompt_norms(model)
        generators = torch.random.fork_rng(devices=cuda)
        # the fastest for equal shapes
        before = torch.backends.cudnn.benchmark
        torch.backends.cudnn.benchmark = True
        try:
            with here, frozen(model, held), norms, generators, intra_op_threads(None):
                yield
        finally:
            torch.backends.cudnn.benchmark = before

    def step_s(self, model: nn.Module, steps: int) -> float:
        """Seconds of one step in a training of so many steps, its images included: in the
        precision, the order in memory and the execution of that training. Trains the network.
        """
        untimed = UNTIMED_STEPS if self.device.type == "cuda" else 1
        ended = [time.perf_counter()]

        def timed_s() -> list[float]:
            return [end - begin for begin, end in pairwise(ended)][untimed:]

        def enough() -> bool:
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            ended.append(time.perf_counter())
            return len(timed_s()) >= TIMED_STEPS and sum(timed_s()) >= TIMED_S

        with self._apart(model, ()), suppress(Interrupted):
            rates = LearningRates(self.section.learning_rate)
            run = Training(self, model, rates, callbacks=Callbacks(stop=enough))
            torch.set_num_threads(self._thread_number(None))
            run.step = run.stepper(steps)
            # a rung that is not reached
            run.progress.end = 10**9
            while True:
                run.epoch()
        return statistics.median(timed_s())

    def _thread_number(self, begun: int | None) -> int:
        """Intra-op threads of a run that was begun with so many; None: of a new one. The number
        changes the order of sums, so that a run on a CPU keeps its own.
        """
        if self.threads is None:
            return torch.get_num_threads()
        if begun is not None and self.device.type == "cpu":
            return begun
        return self.threads

    def _identity(self, model: nn.Module, run: Mapping[str, object]) -> str:
        """Network, data and settings as one text, which a checkpoint must match to be continued."""
        # earlier checkpoints have a layer decay, which was 1 for all that can still go on
        settings = {**self.section.model_dump(exclude=UNRELATED), "layer_decay": 1.0}
        shapes = [
            (name, tuple(tensor.shape), str(tensor.dtype))
            for name, tensor in model.state_dict().items()
            # no extra state
            if isinstance(tensor, Tensor)
        ]
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
