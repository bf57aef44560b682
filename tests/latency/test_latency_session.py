"""Deployment folds BatchNorm into convolutions; attention that sits on a BatchNorm must survive
that.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas_attn.errors import MeasurementError
from nas_attn.latency import locks
from nas_attn.latency.locks import DeviceLock
from nas_attn.latency.nets import Net
from nas_attn.latency.runtime_files import opened, write_runtime_file
from nas_attn.latency.session import run_session
from nas_attn.recipe.recipe import LatencySection
from nas_attn.recipe.tables import LATENCY_MODES
from nas_attn.storage.records import BESIDE, Session

SHAPE = (3, 16, 16)


def network(layers: int, width: int = 16) -> nn.Module:
    body = [
        nn.Sequential(
            nn.Conv2d(width if i else 3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()
        )
        for i in range(layers)
    ]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def slow(mode: str) -> object:
    return pytest.param(mode, marks=pytest.mark.slow)


def section(**settings: object) -> LatencySection:
    return LatencySection.model_validate({"session_seconds": 0.05, **settings})


def session(settings: LatencySection, seed: int = 0, **candidates: nn.Module) -> Session:
    return run_session(
        settings, reference=network(4), candidates=candidates, input_shape=SHAPE, seed=seed
    )


def weighing_command(tmp_path: Path) -> str:
    """A back end in shell: its milliseconds are the ONNX file's bytes, with a straggler that the
    median ignores.
    """
    script = tmp_path / "measure.sh"
    script.write_text(
        f'size=$(wc -c < "$1")\necho $size >> {tmp_path / "sizes"}\necho $size, $size 1e9\n'
    )
    return f"sh {script}"


@pytest.mark.slow
def test_a_network_three_times_as_long_is_slower_and_a_copy_is_not() -> None:
    """Bounds that hold on a machine with five times as many busy processes as cores."""
    found = [
        session(section(session_seconds=0.3), seed, longer=network(12), same=network(4))
        for seed in range(3)
    ]
    longer, same = (np.median([s.samples[i].log_ratio for s in found]) for i in (0, 1))
    assert math.log(1.6) < longer < math.log(5)
    assert abs(same) < math.log(1.4)
    assert abs(np.median([s.control_log_ratio for s in found])) < math.log(1.4)


def test_a_session_records_its_conditions() -> None:
    found = session(section(batch_size=2, channels_last=True), a=network(4))
    conditions = {
        "batch_size": 2,
        "input_shape": "3x16x16",
        "dtype": "float32",
        "channels_last": True,
        "threads": 1,
    }
    assert found.conditions == {**conditions, "mode": "eager", "clock": "thread"}
    assert found.fingerprint.device == "cpu"
    [sample] = found.samples
    assert sample.key == "a"
    assert sample.candidate_ms == pytest.approx(
        found.reference_ms * math.exp(sample.log_ratio), rel=0.3
    )
    assert sample.wall_ms > 0
    assert sample.calls >= 5
    assert 0 < found.duration_s < 30


def test_every_network_has_equally_many_turns_and_the_session_ends_in_time() -> None:
    turns: list[str] = []

    def told(name: str) -> Net:
        def turn(calls: int) -> tuple[float, float]:
            turns.append(name)
            return 1.0, 1.0

        return Net(turn)

    kept = {name: told(name) for name in ("reference", "control", "candidate a", "candidate b")}
    settings = section(mode="compile", session_seconds=0.01)
    models = {"a": nn.Identity(), "b": nn.Identity()}
    run_session(
        settings, reference=nn.Identity(), candidates=models, input_shape=SHAPE, seed=0, kept=kept
    )
    counts = {name: turns.count(name) for name in kept}
    assert len(set(counts.values())) == 1
    rounds = [tuple(turns[i : i + 4]) for i in range(0, len(turns), 4)]
    assert all(set(order) == kept.keys() for order in rounds)
    assert len(set(rounds)) > 1


def test_the_models_and_the_process_stay_as_they_were() -> None:
    candidate = network(2, width=4).train()
    before = {key: value.clone() for key, value in candidate.state_dict().items()}
    threads = torch.get_num_threads()
    settings = section(dtype="bfloat16", channels_last=True, threads=2)
    tiny = network(1, width=4)
    found = run_session(
        settings, reference=tiny, candidates={"a": candidate}, input_shape=(3, 4, 4), seed=0
    )
    assert found.conditions["clock"] == "wall", "more threads use the wall clock"
    assert found.samples[0].candidate_ms == found.samples[0].wall_ms
    assert candidate.training
    assert all(p.requires_grad and p.dtype == torch.float32 for p in candidate.parameters())
    assert all(torch.equal(value, before[key]) for key, value in candidate.state_dict().items())
    assert torch.get_num_threads() == threads
    assert gc.isenabled()
    assert not torch.is_inference_mode_enabled()


def test_the_lock_is_held_while_timing_only() -> None:
    held: list[bool] = []

    class Watched(DeviceLock):
        measuring = False

        @contextmanager
        def exclusive(self) -> Iterator[None]:
            self.measuring = True
            yield
            self.measuring = False

    class Times(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            held.append(lock.measuring)
            return x

    lock = Watched("here")
    run_session(section(), reference=Times(), candidates={}, input_shape=SHAPE, seed=0, lock=lock)
    assert not held[0]  # making it ready needs no lock
    assert held[-1]
    assert not lock.measuring


def test_a_session_that_had_not_the_device_alone_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_ATTN_LOCK_DIR", str(tmp_path))
    monkeypatch.setattr(locks, "UNYIELDING_S", 0.0)
    lock = DeviceLock("here")
    with lock.shared():  # never gives way
        found = run_session(
            section(), reference=nn.Identity(), candidates={}, input_shape=SHAPE, seed=0, lock=lock
        )
    assert BESIDE in found.notes
    found = run_session(
        section(), reference=nn.Identity(), candidates={}, input_shape=SHAPE, seed=0, lock=lock
    )
    assert BESIDE not in found.notes


def test_a_command_measures_from_an_onnx_file(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    settings = section(mode="command", command=weighing_command(tmp_path))
    kept: dict[str, Net] = {}
    models = {"long": network(3)}
    found = run_session(
        settings, reference=network(1), candidates=models, input_shape=SHAPE, seed=0, kept=kept
    )
    short, long = sorted({int(size) for size in (tmp_path / "sizes").read_text().split()})
    assert found.reference_ms == short
    assert found.samples[0].log_ratio == pytest.approx(math.log(long / short))
    assert found.control_log_ratio == 0
    assert found.conditions["clock"] == "command"
    assert found.fingerprint.device == "command"
    exported = dict(kept)
    run_session(
        settings, reference=network(1), candidates=models, input_shape=SHAPE, seed=1, kept=kept
    )
    assert kept == exported


@pytest.mark.parametrize(
    "mode",
    [
        "onnxruntime",
        *map(slow, ["openvino", "openvino-int8", "onnxruntime-int8"]),
    ],
)
def test_a_runtime_runs_the_network(mode: str) -> None:
    runtime = LATENCY_MODES[mode].package
    if find_spec(runtime) is None:
        pytest.skip(f"{mode} is not installed")
    found = session(section(mode=mode), longer=network(8))
    assert found.samples[0].log_ratio > 0
    assert found.conditions["mode"] == mode
    assert runtime in dict(found.fingerprint.details)


@pytest.mark.parametrize("mode", [slow("onnxruntime-int8"), slow("openvino-int8")])
def test_int8_changes_the_output_a_little_and_float_does_not(mode: str, tmp_path: Path) -> None:
    pytest.importorskip(mode.removesuffix("-int8"))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 8, 3)).eval()
    images = torch.randn(32, 3, 8, 8)
    for name in (mode.removesuffix("-int8"), mode):
        with torch.no_grad():
            path = tmp_path / f"{name}.onnx"
            write_runtime_file(model, section(mode=name), images[:1], images, path)
            call, outputs = opened(section(mode=name), images[:1].numpy(), path)
            call()
            expected = model(images[:1]).numpy()
        apart = np.abs(outputs()[0] - expected).max() / np.abs(expected).max()
        assert apart < 1e-5 if name != mode else 1e-4 < apart < 0.3


@pytest.mark.slow
def test_every_compiled_network_is_compiled_once() -> None:
    """Also beyond the number of variants that the compiler keeps of one piece of code."""
    from torch._dynamo.utils import counters

    counters.clear()
    models = {str(n): network(n, width=4) for n in range(1, 9)}
    run_session(
        section(mode="compile"),
        reference=network(9, width=4),
        candidates=models,
        input_shape=(3, 4, 4),
        seed=0,
    )
    assert counters["stats"]["unique_graphs"] == 10
    assert counters["frames"]["ok"] == counters["frames"]["total"] == 10


@pytest.mark.slow
def test_a_compiled_network_is_timed_and_kept() -> None:
    from torch._dynamo.utils import counters

    counters.clear()
    kept: dict[str, Net] = {}
    settings = section(mode="compile")
    for seed in range(2):
        found = run_session(
            settings,
            reference=network(2),
            candidates={"a": network(4)},
            input_shape=SHAPE,
            seed=seed,
            kept=kept,
        )
        assert found.samples[0].log_ratio > 0
    assert set(kept) == {"reference", "control", "candidate a"}
    assert counters["stats"]["unique_graphs"] == 3, "nothing is compiled again"


def test_a_network_that_does_not_run_is_named() -> None:
    with pytest.raises(MeasurementError, match=r"candidate broken: .*float32 on cpu: .*channels"):
        session(section(), broken=nn.Conv2d(5, 5, 1))


def test_a_missing_device_is_one_sentence() -> None:
    with pytest.raises(MeasurementError, match=r"CUDA.*'cpu'"):
        session(section(device="cuda"), a=network(2))


@pytest.mark.gpu
@pytest.mark.parametrize("settings", [{}, {"mode": "cuda-graph"}, {"dtype": "bfloat16"}])
def test_cuda_events_time_the_device(settings: dict[str, object]) -> None:
    found = session(
        section(device="cuda", session_seconds=0.5, **settings), longer=network(32), same=network(4)
    )
    assert found.samples[0].log_ratio > 0.7
    assert abs(found.samples[1].log_ratio) < 0.1
    assert found.conditions["clock"] == "cuda-events"
    assert dict(found.fingerprint.details)["uuid_class"] in ("GPU", "MIG")
