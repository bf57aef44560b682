"""Workers of one machine share its GPUs: who takes which, and an MPS server that lives as long as they do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from nas_attn.records import Share
from nas_attn.study.local import devices_of, mps, shares_of
from nas_attn.study.searching import on_device

TWO = ["cuda:0", "cuda:0"]
CONTROL = """#!/bin/sh
if [ "$1" = -d ]; then echo "start $CUDA_MPS_PIPE_DIRECTORY" >> "$MPS_TEST_LOG"; else cat >> "$MPS_TEST_LOG"; fi
exit ${MPS_TEST_STATUS:-0}
"""


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A command in the place of NVIDIA's, which writes down what it is told."""
    command, written = tmp_path / "nvidia-cuda-mps-control", tmp_path / "log"
    command.write_text(CONTROL)
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("MPS_TEST_LOG", str(written))
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)
    return written


def test_gpus_are_taken_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    devices = devices_of("auto", 5)
    assert devices == ["cuda:0", "cuda:1", "cuda:0", "cuda:1", "cuda:0"]
    assert shares_of(devices) == [Share(5, 3), Share(5, 2), Share(5, 3), Share(5, 2), Share(5, 3)]
    assert devices_of("cuda:1", 2) == ["cuda:1", "cuda:1"]
    assert devices_of("cpu", 2) == ["cpu", "cpu"]


def test_without_a_gpu_all_workers_are_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert devices_of("auto", 2) == ["auto", "auto"]


def test_a_server_runs_while_workers_share_a_gpu(control: Path) -> None:
    with mps(TWO, pytest.fail, probe=["true"]) as environment:
        folder = environment["CUDA_MPS_PIPE_DIRECTORY"]
        assert control.read_text() == f"start {folder}\n"
        assert Path(folder).is_dir()
    assert control.read_text() == f"start {folder}\nquit\n"
    assert not Path(folder).exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_server_that_serves_no_gpu_is_ended_and_the_workers_go_without(control: Path) -> None:
    said: list[str] = []
    with mps(TWO, said.append) as environment:
        assert environment == {}
    assert said == ["NVIDIA's MPS is installed but does not work here: the workers on one GPU take turns"]
    assert control.read_text().endswith("quit\n")


def test_a_server_that_does_not_start_is_no_error(control: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPS_TEST_STATUS", "1")
    said: list[str] = []
    with mps(TWO, said.append, probe=["true"]) as environment:
        assert environment == {}
    assert len(said) == 1


@pytest.mark.parametrize("devices", [["cuda:0", "cuda:1"], ["cpu", "cpu"], ["auto", "auto"], []])
def test_no_server_where_no_gpu_is_shared(control: Path, devices: list[str]) -> None:
    with mps(devices, pytest.fail, probe=["true"]) as environment:
        assert environment == {}
    assert not control.exists()


def test_ones_own_server_is_left_as_it_is(control: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", "/somewhere")
    with mps(TWO, pytest.fail, probe=["true"]) as environment:
        assert environment == {}
    assert not control.exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_worker_keeps_to_its_share_of_the_memory() -> None:
    device = torch.device("cuda:0")
    total = torch.cuda.get_device_properties(device).total_memory
    with on_device(device, Share(8, 8)), pytest.raises(torch.OutOfMemoryError):
        torch.empty(total // 4, dtype=torch.uint8, device=device)
    torch.cuda.set_per_process_memory_fraction(1.0)
