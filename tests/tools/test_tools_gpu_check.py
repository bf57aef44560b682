"""The check of a machine finds what is wrong: on the CPU, and on a stub of a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from gpu_check import captures, casts, environment, modules, sessions, training
from gpu_check.__main__ import main
from stubbed_cuda import StubbedCuda, installed
from torch import Tensor, nn

from nas_attn.attention import catalogue
from nas_attn.system import cuda_graphs

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
CUDA = torch.device("cuda")
SMALL = training.Job("resnet8", "", 32, 256, 32, "cuda-graph", epochs=2)


@pytest.mark.parametrize("name", ["se", "cbam", "mhsa"])
def test_right_modules_are_found_right(name: str) -> None:
    finding = modules.look(name, CPU)
    assert finding.state == "ok"
    assert 0 < finding.values["float32"] < finding.values["bfloat16"]


class Doubtful(nn.Module):
    """Adds a hundredth, but not in float64."""

    def __init__(self, *, low_only: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.low_only = low_only

    def forward(self, x: Tensor) -> Tensor:
        low = x.dtype is torch.bfloat16
        wrong = low if self.low_only else x.dtype is torch.float32
        return x * self.weight + (0.01 + low) * wrong


@pytest.mark.parametrize(("low_only", "dtype"), [(False, "float32"), (True, "bfloat16")])
def test_a_module_that_computes_something_else_is_found(
    low_only: bool, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "create", lambda *args, **kwargs: Doubtful(low_only=low_only))
    finding = modules.look("se", CPU)
    assert finding.state == "bad"
    assert finding.said.startswith(f"{dtype} is ")


def test_a_module_is_recorded_on_a_gpu(stub: StubbedCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules, "TIMED_IMAGES", 4)
    finding = modules.look("se", CUDA)
    assert finding.state == "ok"
    assert finding.values["recorded"]
    assert stub.replays > 1


def test_a_module_that_waits_is_named(stub: StubbedCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    class Waiting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * (x.sum().item() > -1e9)

    monkeypatch.setattr(catalogue, "create", lambda *args, **kwargs: Waiting())
    finding = modules.look("se", CUDA)
    assert finding.state == "note"
    assert Path(__file__).name in finding.values["waits"][0]
    assert stub.calls["capture"] == 0


@pytest.mark.parametrize("name", captures.CASES)
def test_a_sound_gpu_passes_each_case_of_captures(name: str, stub: StubbedCuda) -> None:
    assert captures.case(name).state == "ok"


def test_what_torch_leaves_after_a_failed_capture_is_said() -> None:
    with installed(failing="2.11"):
        old = captures.case("torch")
    with installed(failing="2.12"):
        new = captures.case("torch")
    operations = ("dropout", "empty_cache", "next_capture")
    assert "ok" not in {old.values[operation] for operation in operations}
    assert {new.values[operation] for operation in operations} == {"ok"}


def test_a_process_that_stays_spoilt_is_bad(
    stub: StubbedCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_graphs, "mend", lambda *args, **kwargs: None)
    finding = captures.case("mended")
    assert finding.state == "bad"
    assert finding.values["dropout"] != "ok"


def test_a_capture_that_other_threads_spoil_is_bad(
    stub: StubbedCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_graphs, "CAPTURE_MODE", "global")
    assert captures.case("pinning").state == "bad"


def process_of(code: str) -> subprocess.Popen[str]:
    """A process of Python instead of a case's own."""
    command = [sys.executable, "-c", code]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_case_answers_from_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captures, "CASES", {"waits": captures.waits_noticed})
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (ROOT, ROOT / "tools"))))
    (finding,) = captures.findings(CUDA)
    # There is no GPU here, and torch says so in its own words.
    assert finding.state == "bad"
    assert finding.values["error"] in finding.said


def test_a_process_without_an_answer_is_bad_with_its_status_and_last_words() -> None:
    crashed = captures.answer("waits", process_of("print('first'); raise SystemExit('broken')"))
    silent = captures.answer("waits", process_of("raise SystemExit(3)"))
    assert {crashed.state, silent.state} == {"bad"}
    assert "status 1: broken" in crashed.said
    assert "status 3" in silent.said


def test_a_process_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captures, "CAPTURE_TIMEOUT_S", 0.1)
    hanging = process_of("import time; time.sleep(600)")
    assert "0.1 s" in captures.answer("waits", hanging).said
    with hanging:
        assert hanging.wait(30) != 0


def test_a_training_that_is_recorded_says_how_fast_it_was(stub: StubbedCuda) -> None:
    finding = training.timed(SMALL, CUDA)
    assert finding.state == "ok"
    assert finding.values["replays"] > SMALL.steps
    assert finding.values["images_per_s"] > 0


def test_a_training_that_is_not_recorded_is_bad_with_its_reason(
    stub: StubbedCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Waiting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(3, training.CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.last(x.mean((2, 3)))
            return y * (1 if y.sum().item() > -1e9 else 0)

    monkeypatch.setattr(training, "network", lambda job: Waiting())
    finding = training.timed(SMALL, CUDA)
    assert finding.state == "bad"
    assert "waits" in finding.said
    assert finding.values["replays"] == 0


def test_the_casts_of_a_step_are_those_that_autocast_does(stub: StubbedCuda) -> None:
    finding = casts.look(replace(SMALL, module="se"), CUDA)
    assert finding.values["weights"] == len(casts.cast_weights(training.network(SMALL))) + 12
    assert finding.values["apart_us"] > 0
    assert finding.values["saved_share"] >= 0
    assert stub.replays > 2


def test_all_weights_at_once_are_cast_as_one_by_one() -> None:
    weights = casts.cast_weights(training.network(SMALL))
    again = [weight.clone() for weight in weights]
    lows = [torch.empty_like(weight, dtype=torch.bfloat16) for weight in weights]
    casts.one_by_one(weights, lows)
    others = [torch.empty_like(low) for low in lows]
    casts.at_once(again, others)
    for one, other in zip((*weights, *lows), (*again, *others), strict=True):
        assert torch.equal(one, other)


def test_a_clock_that_two_copies_disagree_on_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    job = sessions.SessionJob("resnet8", 32, 1, "eager")
    run = sessions.run_session
    monkeypatch.setattr(sessions, "SESSIONS", 1)
    shift = {"log_ratio": 0.0}

    def shifted(section: Any, **options: Any) -> Any:
        short = section.model_copy(update={"session_seconds": 0.02})
        return replace(run(short, **options), control_log_ratio=shift["log_ratio"])

    monkeypatch.setattr(sessions, "run_session", shifted)
    assert sessions.look(job, CPU).state == "ok"
    shift["log_ratio"] = -0.05
    finding = sessions.look(job, CPU)
    assert finding.state == "note"
    assert finding.values["ratios"].keys() == set(sessions.TIMED_PLACEMENTS)


def test_an_old_gpu_trains_in_float32(stub: StubbedCuda) -> None:
    assert environment.precision(torch.device("cuda", 0)).state == "ok"
    stub.capability = (7, 5)
    # A device of its own, since the answer for a device is kept
    assert environment.precision(torch.device("cuda", 1)).state == "note"


def test_without_a_gpu_the_way_out_is_said() -> None:
    found = {finding.subject: finding for finding in environment.findings(CUDA)}
    assert found["GPU"].state == "bad"


def test_each_result_is_a_line_of_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text('{"part": "earlier"}\n')
    arguments = ["gpu_check", "environment", "--device", "cpu", "--results", str(path)]
    monkeypatch.setattr("sys.argv", arguments)
    assert main() == 0
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["part"] for line in lines] == ["earlier", "environment"]
    assert lines[1]["torch"] == torch.__version__
    assert "versions" in capsys.readouterr().out
