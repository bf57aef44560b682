"""The built-in trainer in a study: on each seed's images, in the study's arithmetic, giving way to
latency sessions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from nas_attn.data.dataset import Dataset, Split
from nas_attn.latency.locks import DeviceLock
from nas_attn.storage.records import Arithmetic, Score
from nas_attn.storage.store import StudyStore
from nas_attn.training.evaluators import Job
from nas_attn.training.images import keep_or_compare_test
from nas_attn.training.learning_rates import candidate_rates
from nas_attn.training.numerics import intra_op_threads
from nas_attn.training.plan import Plan
from nas_attn.training.trainer import Trainer


@dataclass
class StudyTrainer:
    """Trains and scores networks of one training protocol of a study."""

    # of the training protocol and the backbone
    plan: Plan
    # None: an evaluator brings its own, and nothing is trained here
    dataset: Dataset | None
    store: StudyStore
    device: torch.device
    # intra-op, of new trainings
    threads: int
    # the study's; None: decided here
    arithmetic: Arithmetic | None
    # read by a test
    test_split: Split | None = None
    # its networks are here
    lost = ""

    def scored(self, model: nn.Module) -> nn.Module:
        """The network that is scored."""
        return model

    def fit(self, model: nn.Module, job: Job) -> tuple[Score, ...]:
        """Trains from the run's last checkpoint, as `Trainer.fit`."""
        rates = job.rates or candidate_rates(self.plan, model)
        with self._trainer(job.seed) as trainer:
            return trainer.fit(
                model,
                seed=job.seed,
                rungs=job.rungs,
                rates=rates,
                slot=job.slot,
                callbacks=job.callbacks,
            )

    def test(self, model: nn.Module, job: Job) -> Score:
        """The score on the test split, which is read once."""
        assert self.dataset is not None
        if self.test_split is None:
            split = self.dataset.read_test(job.reason)
            keep_or_compare_test(self.store, self.plan.recipe, self.dataset.classes, split)
            self.test_split = split
        with self._trainer(job.seed) as trainer, intra_op_threads(self.threads):
            return trainer.score(model, self.test_split, seed=job.seed, epochs=job.rungs[-1])

    @contextmanager
    def _trainer(self, seed: int) -> Iterator[Trainer]:
        """A trainer on the images of this seed, which pauses between steps for latency sessions."""
        assert self.dataset is not None
        with DeviceLock.for_section(self.plan.recipe.latency).shared(self._settle) as hold:
            yield Trainer(
                self.plan.recipe.training,
                self.dataset.of_seed(seed),
                device=self.device,
                batch_hook=hold.yield_,
                threads=self.threads,
                arithmetic=self.arithmetic,
            )

    def _settle(self) -> None:
        """Waits until the GPU has finished the batches that the host has queued."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
