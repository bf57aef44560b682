"""A capture that fails harms nothing: neither this training, nor a later one, nor the process."""

from __future__ import annotations

import pytest
import torch
from real_cuda import Cuda
from slots import MemorySlot
from stubbed_cuda import StubbedCuda, installed
from test_gpu_recording import MOST_EAGER, Counting, Waiting, fit, network, steps
from torch import Tensor, nn

from nas_attn.errors import DeviceLost, MeasurementError
from nas_attn.latency.nets import Net, example_input, prepare
from nas_attn.latency.session import run_session
from nas_attn.recipe.recipe import LatencySection
from nas_attn.training.parameters import LearningRates


class Refusing(nn.Module):
    """Does in each step what a capture forbids, and what torch does not warn of."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, x: Tensor) -> Tensor:
        torch.cuda.synchronize()
        y: Tensor = self.inner(x)
        return y


class Large(nn.Module):
    """Needs more memory than there is for a whole batch in a capture."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > 40 and torch.cuda.is_current_stream_capturing():
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        y: Tensor = self.inner(x)
        return y


def test_after_a_capture_that_failed_the_next_training_is_recorded(cuda: Cuda) -> None:
    (score,) = fit(Refusing(), "cuda-graph")
    assert score.metrics["accuracy"] > 0.9
    assert cuda.modes != []
    assert cuda.replays == 0
    torch.cuda.empty_cache()
    fit(Counting(), "cuda-graph")  # with dropout
    assert cuda.replays >= steps() - MOST_EAGER


def test_memory_that_runs_out_in_a_capture_halves_the_batch(cuda: Cuda) -> None:
    (score,) = fit(Large(), "cuda-graph")
    assert score.metrics["accuracy"] > 0.9
    assert cuda.replays > steps() / 2


def test_other_threads_may_pin_memory_during_a_capture(cuda: Cuda) -> None:
    fit(network(), "cuda-graph")
    assert set(cuda.modes) == {"thread_local"}


def test_an_optimizer_that_counts_on_the_host_is_not_recorded(cuda: Cuda) -> None:
    """A recorded step would take the same count again and again."""
    settings = {"optimizer": "Adagrad", "optimizer_arguments": {"lr_decay": 0.1}}
    eager, other = network(), network()
    (expected,) = fit(eager, "eager", section=settings, rates=LearningRates(0.02))
    (score,) = fit(other, "cuda-graph", section=settings, rates=LearningRates(0.02))
    assert cuda.replays == 0
    assert score.metrics == pytest.approx(expected.metrics, rel=0.02)


def test_all_trainings_of_a_process_record_on_one_stream(stub: StubbedCuda) -> None:
    for _ in range(3):
        fit(network(), "cuda-graph")
    assert stub.replays >= 3 * (steps() - MOST_EAGER)
    assert stub.calls["Stream"] == 1


def test_a_process_that_loses_its_gpu_hands_on_a_training_that_another_one_does_not_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slot, model = MemorySlot(), Refusing()
    with installed(), monkeypatch.context() as patch:
        patch.setattr(torch._C, "_cuda_endAllocateToPool", lambda index, pool: None)
        with pytest.raises(DeviceLost, match="resume the study"):
            fit(model, "cuda-graph", slot=slot)
    assert slot.load() is not None
    with installed() as another_process:
        (score,) = fit(model, "cuda-graph", slot=slot)
        assert score.metrics["accuracy"] > 0.9
        assert another_process.modes == []
        fit(network(), "cuda-graph")
        assert another_process.replays >= steps() - MOST_EAGER


def prepared(model: nn.Module) -> Net:
    """The network as a CUDA graph, for a latency session."""
    section = LatencySection(device="cuda", mode="cuda-graph", batch_size=2)
    with torch.no_grad():
        return prepare(model.eval(), section, example_input(section, (1, 8, 8), seed=0))


def test_a_latency_is_measured_after_a_capture_that_failed(cuda: Cuda) -> None:
    with pytest.raises(MeasurementError, match="waits for the GPU"):
        prepared(Waiting())
    assert cuda.modes == []
    with pytest.raises(MeasurementError, match="cannot be prepared"):
        prepared(Refusing())
    before = cuda.replays
    assert prepared(network()).turn(3)[0] > 0
    assert cuda.replays == before + 4  # an untimed one goes before
    assert set(cuda.modes) == {"thread_local"}


def test_a_session_ends_with_the_process_that_lost_its_gpu(
    stub: StubbedCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next candidates would be called unmeasurable, one after the other."""
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", lambda index, pool: None)
    section = LatencySection(device="cuda", mode="cuda-graph", batch_size=2)
    with pytest.raises(DeviceLost, match=r"latency\.mode = 'eager'"):
        run_session(
            section,
            reference=network().eval(),
            candidates={"refusing": Refusing().eval()},
            input_shape=(1, 8, 8),
            seed=0,
        )
