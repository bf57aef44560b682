"""What training does only on CUDA, without a GPU: on CUDA tensors without values, and with torch's
answers about a GPU replaced.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from stubbed_cuda import StubbedCuda
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from nas_attn.data import loading
from nas_attn.data.dataset import Dataset, Split
from nas_attn.data.pixels import Images
from nas_attn.recipe.recipe import DataSection, TrainingSection
from nas_attn.training.faults import out_of_memory
from nas_attn.training.numerics import computes_bfloat16, execution_on
from nas_attn.training.parameters import LearningRates, make_optimizer
from nas_attn.training.scoring import Clock
from nas_attn.training.trainer import TIMED_STEPS, Trainer

CUDA = torch.device("cuda")


def test_adagrad_steps_on_cuda_where_torch_has_no_fused_kernel_for_it() -> None:
    section = TrainingSection(optimizer="Adagrad")
    with FakeTensorMode(allow_non_fake_inputs=True):
        network = nn.Linear(3, 2, device="cuda")
        optimizer = make_optimizer(network, section, LearningRates(0.1))
        assert optimizer is not None
        for parameter in network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    # its count of steps is on the host: a recorded step would never count on
    assert execution_on(section, CUDA) == "eager"
    assert execution_on(TrainingSection(optimizer="AdamW"), CUDA) == "cuda-graph"


@pytest.mark.parametrize(
    "said",
    [
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    ],
)
def test_a_library_of_cuda_that_gets_no_memory_counts_as_out_of_memory(said: str) -> None:
    assert out_of_memory(RuntimeError(said))
    assert not out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))


@pytest.mark.parametrize(("major", "computes"), [(7, False), (8, True), (9, True)])
def test_bfloat16_is_chosen_only_on_a_gpu_that_computes_in_it(
    major: int, computes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A V100 and a T4 have compute capability 7."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(major=major)
    )
    assert computes_bfloat16(CUDA) == computes


def test_the_clock_of_a_device_reads_its_own_stream(
    stub: StubbedCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outside a worker, another GPU may be the current one; its stream has nothing to do."""
    recorded: list[object] = []
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: f"stream of {device}")
    monkeypatch.setattr(
        torch.cuda.Event, "record", lambda event, stream=None: recorded.append(stream)
    )
    monkeypatch.setattr(torch.cuda.Event, "elapsed_time", lambda event, other: 1500.0)
    assert Clock(torch.device("cuda", 1)).read()[1] == 1.5
    assert recorded == ["stream of cuda:1", "stream of cuda:1"]


@pytest.mark.parametrize(("steps", "replayed"), [(10_000, True), (20, False)])
def test_a_step_is_timed_as_the_training_will_execute_it(
    steps: int, replayed: bool, stub: StubbedCuda
) -> None:
    """A plan that times ordinary steps expects several times the duration."""
    dataset = loading.load(DataSection(name="digits-8x8"), device="cuda")
    trainer = Trainer(TrainingSection(batch_size=1000), dataset, device="cuda")
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    assert trainer.step_s(network, steps) > 0
    # All timed steps, and none of those before the recording.
    assert (stub.replays > TIMED_STEPS) == replayed
    assert replayed or stub.replays == 0


def test_the_allocator_is_asked_once_a_rung(stub: StubbedCuda) -> None:
    dataset = loading.load(DataSection(name="digits-8x8"), device="cuda")
    trainer = Trainer(TrainingSection(batch_size=128, rungs=[1, 3]), dataset, device="cuda")
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    scores = trainer.fit(network, seed=0, rungs=[1, 3], rates=LearningRates(0.1))
    assert [score.peak_bytes for score in scores] == [stub.total_memory // 80] * 2
    assert stub.calls["max_memory_allocated"] == 2


class Sizes(nn.Module):
    """Remembers the sizes of its batches in evaluation; has memory for 256 images only, or all."""

    def __init__(self, side: int, *, narrow: bool) -> None:
        super().__init__()
        self.last = nn.Linear(side * side, 10)
        self.narrow = narrow
        self.sizes: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(x))
        if self.narrow and len(x) > 256:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        y: torch.Tensor = self.last(x.flatten(1))
        return y


@pytest.mark.parametrize(
    ("side", "device", "narrow", "sizes"),
    [
        (8, "cuda", False, [2048, 452]),
        (8, "cuda", True, [2048, *[256] * 9, 196]),
        (96, "cuda", False, [910, 910, 680]),
        (8, "cpu", False, [*[256] * 9, 196]),
    ],
    ids=["small images", "little memory", "large images", "on a CPU"],
)
def test_a_gpu_scores_large_batches_where_it_has_the_memory(
    side: int, device: str, narrow: bool, sizes: list[int], stub: StubbedCuda
) -> None:
    pixels = Images.of(torch.zeros(2500, 1, side, side, dtype=torch.uint8))
    labels = torch.zeros(2500, dtype=torch.int64)
    split = Split(pixels, labels, 10, (0.5,), (0.5,))
    names = tuple("abcdefghij")
    dataset = Dataset("zeros", split, split, names, (1, side, side), "", lambda: split)
    model = Sizes(side, narrow=narrow)
    Trainer(TrainingSection(batch_size=128), dataset, device=device).score(model, split)
    assert model.sizes == sizes
