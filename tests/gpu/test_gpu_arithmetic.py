"""A score says whether its steps were recorded as a CUDA graph; for everything else, a recorded
training and an eager one are the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from itertools import repeat

import pytest
import torch
from real_cuda import Cuda
from slots import MemorySlot
from stubbed_cuda import StubbedCuda
from test_gpu_failed_captures import Refusing
from test_gpu_recording import Waiting, digits, fit, network, steps
from torch import nn

from nas_attn.errors import NasAttnWarning
from nas_attn.recipe import tasks
from nas_attn.recipe.recipe import TrainingSection
from nas_attn.storage.records import Arithmetic, Score
from nas_attn.system.waiting import Interrupted
from nas_attn.training.numerics import PLAIN, RECORDED_STEPS, differs, new_arithmetic
from nas_attn.training.parameters import LearningRates
from nas_attn.training.run import Callbacks
from nas_attn.training.trainer import Trainer

CUDA = torch.device("cuda")
EAGER = replace(PLAIN, fused=True)
RECORDED = replace(EAGER, execution="cuda-graph")


def execution(score: Score) -> str:
    assert score.arithmetic is not None
    return Arithmetic.from_text(score.arithmetic).execution


@pytest.mark.parametrize(
    ("model", "way"), [(network, "cuda-graph"), (Waiting, "eager"), (Refusing, "eager")]
)
def test_a_score_says_whether_its_steps_were_recorded(
    model: type[nn.Module], way: str, cuda: Cuda
) -> None:
    (score,) = fit(model(), "cuda-graph")
    assert (cuda.replays > 0) == (way == "cuda-graph")
    assert execution(score) == way


def test_the_score_of_a_brief_training_says_eager(stub: StubbedCuda) -> None:
    assert steps() < RECORDED_STEPS
    classes = tasks.find("classification", "resnet8")
    section = TrainingSection(execution="auto")
    assert new_arithmetic(section, classes, CUDA).execution == "cuda-graph"
    (score,) = fit(network(), "auto")
    assert stub.replays == 0
    assert execution(score) == "eager"


def after(number: int) -> Iterator[bool]:
    """Answers to whether a training shall stop: after so many steps."""
    yield from [False] * (number - 1)
    yield True


def test_a_recorded_training_says_so_though_its_last_step_is_another_process_s(
    stub: StubbedCuda,
) -> None:
    slot, asked = MemorySlot(), after(steps() - 1)
    with pytest.raises(Interrupted):
        fit(network(), "cuda-graph", slot=slot, callbacks=Callbacks(stop=lambda: next(asked)))
    before = stub.replays
    (score,) = fit(network(), "cuda-graph", slot=slot)
    assert stub.replays == before > 0
    assert execution(score) == "cuda-graph"


@pytest.mark.parametrize(("began", "here"), [(EAGER, RECORDED), (RECORDED, EAGER)])
def test_a_run_goes_on_recorded_or_not(
    began: Arithmetic, here: Arithmetic, stub: StubbedCuda
) -> None:
    section = TrainingSection(batch_size=64, precision="float32", execution="cuda-graph")

    def train(computes: Arithmetic, slot: MemorySlot, stop_after: int = 0) -> tuple[Score, ...]:
        """Trains on, stops after so many steps, and counts the replays."""
        stub.calls["replay"] = 0
        trainer = Trainer(section, digits(), device="cuda", arithmetic=computes)
        asked = after(stop_after) if stop_after else repeat(False)
        return trainer.fit(
            network(),
            seed=0,
            rungs=[2],
            rates=LearningRates(0.05),
            slot=slot,
            callbacks=Callbacks(stop=lambda: next(asked)),
        )

    (whole,) = train(began, MemorySlot())
    slot = MemorySlot()
    with pytest.raises(Interrupted):
        train(began, slot, stop_after=20)
    assert (stub.replays > 0) == (began == RECORDED)
    with warnings.catch_warnings():
        warnings.simplefilter("error", NasAttnWarning)
        (score,) = train(here, slot)
    assert (stub.replays > 0) == (here == RECORDED)
    assert score.metrics == pytest.approx(whole.metrics, rel=0.02)


def test_a_machine_that_records_nothing_lacks_nothing() -> None:
    assert not differs(RECORDED, TrainingSection(), torch.device("cpu"))
    assert EAGER.comparable == RECORDED.comparable
    assert replace(EAGER, fused=False).comparable != RECORDED.comparable
