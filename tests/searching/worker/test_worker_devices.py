"""The devices of workers: GPUs in turn, how many share one, and NVIDIA's MPS."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from stubbed_cuda import StubbedCuda

from nas_attn.recipe.reading import load_recipe
from nas_attn.searching.worker import devices, mps
from nas_attn.storage.opening import create_study
from nas_attn.system.memory import Share

TWO = ["cuda:0", "cuda:0"]
CONTROL = """#!/bin/sh
echo "$CUDA_VISIBLE_DEVICES" > "$MPS_TEST_LOG.visible"
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
    chosen = devices.devices_of("auto", 5)
    assert chosen == ["cuda:0", "cuda:1", "cuda:0", "cuda:1", "cuda:0"]
    assert devices.shares_of(chosen) == [
        Share(5, 3),
        Share(5, 2),
        Share(5, 3),
        Share(5, 2),
        Share(5, 3),
    ]
    assert devices.devices_of("cuda:1", 2) == ["cuda:1", "cuda:1"]
    assert devices.devices_of("cpu", 2) == ["cpu", "cpu"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert devices.devices_of("auto", 2) == ["auto", "auto"]


@pytest.mark.parametrize(
    ("gpus", "memory", "cores", "macs", "device", "workers"),
    [
        (1, 80, 16, 2e8, "auto", 4),
        (1, 80, 16, 3e8, "auto", 1),
        (2, 80, 4, 1, "auto", 4),
        (2, 80, 16, 1, "cuda:1", 4),
        (1, 16, 16, 1, "auto", 2),
        (1, 6, 1, 1, "cuda", 1),
        (1, 80, 16, 1, "cpu", 4),
        (0, 80, 3, 1, "auto", 3),
    ],
)
def test_by_default_workers_with_a_small_network_share_a_gpu(
    gpus: int,
    memory: int,
    cores: int,
    macs: float,
    device: str,
    workers: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    properties = SimpleNamespace(total_memory=memory * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(devices, "cores", lambda: cores)
    plan = SimpleNamespace(resolved=lambda placement: None, cost=lambda network: {"macs": macs})
    training = SimpleNamespace(evaluator=None)
    monkeypatch.setattr(devices, "study_plan", lambda store: plan)
    opened: Any = SimpleNamespace(store=None, recipe=SimpleNamespace(training=training))
    assert devices.usual_workers(opened, device) == workers


def test_a_users_evaluator_has_its_gpu_alone(table: Path, stub: StubbedCuda) -> None:
    opened = create_study(load_recipe("table.toml"), "sqlite:///nas_attn.db")
    assert devices.usual_workers(opened, "auto") == 1


def test_a_server_runs_while_workers_share_a_gpu(control: Path) -> None:
    with mps.mps(TWO, pytest.fail, probe=["true"]) as environment:
        folder = environment["CUDA_MPS_PIPE_DIRECTORY"]
        assert control.read_text() == f"start {folder}\n"
        assert Path(folder).is_dir()
    assert control.read_text() == f"start {folder}\nquit\n"
    assert not Path(folder).exists()


@pytest.mark.parametrize(
    ("status", "probe"), [("1", "true"), ("0", "false")], ids=["does not start", "serves no GPU"]
)
def test_a_server_that_does_not_work_is_ended_and_the_workers_go_without(
    control: Path, status: str, probe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPS_TEST_STATUS", status)
    said: list[str] = []
    with mps.mps(TWO, said.append, probe=[probe]) as environment:
        assert environment == {}
    assert said == [
        "NVIDIA's MPS is installed but does not work here: the workers on one GPU take turns"
    ]
    assert control.read_text().endswith("quit\n")


@pytest.mark.parametrize(
    "devices", [["cuda:0", "cuda:1"], ["cpu", "cpu"], ["auto", "auto"], [], TWO]
)
def test_no_server_where_no_gpu_is_shared_or_the_user_has_one(
    control: Path, devices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if devices == TWO:
        monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", "/somewhere")
    with mps.mps(devices, pytest.fail, probe=["true"]) as environment:
        assert environment == {}
    assert not control.exists()


@pytest.mark.parametrize(
    ("given", "to_clients"),
    [("3", "0"), ("2,0", "0,1"), ("GPU-8932f937,GPU-2b1c", "GPU-8932f937,GPU-2b1c"), (None, "")],
)
def test_clients_number_the_gpus_as_the_server_does(
    control: Path, given: str | None, to_clients: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server with GPU 3 alone calls it 0; a client that asks for 3 finds none."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    probe = ["sh", "-c", f'test "$CUDA_VISIBLE_DEVICES" = "{to_clients}"']
    with mps.mps(TWO, pytest.fail, probe=probe) as environment:
        workers = {**os.environ, **environment}
        assert workers.get("CUDA_VISIBLE_DEVICES", "") == to_clients
    seen_by_server = control.with_name(f"{control.name}.visible").read_text().strip()
    assert seen_by_server == (given or "")


@pytest.mark.gpu
def test_a_worker_keeps_to_its_share_of_the_memory() -> None:
    device = torch.device("cuda:0")
    total = torch.cuda.get_device_properties(device).total_memory
    with devices.on_device(device, Share(8, 8)), pytest.raises(torch.OutOfMemoryError):
        torch.empty(total // 4, dtype=torch.uint8, device=device)
    torch.cuda.set_per_process_memory_fraction(1.0)
