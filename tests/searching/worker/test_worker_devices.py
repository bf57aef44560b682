"""The devices of workers: GPUs in turn, and how many workers there are."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from stubbed_cuda import StubbedCuda

from nas_attn.recipe.reading import load_recipe
from nas_attn.searching.worker import devices
from nas_attn.storage.opening import create_study


def test_gpus_are_taken_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    chosen = devices.devices_of("auto", 5)
    assert chosen == ["cuda:0", "cuda:1", "cuda:0", "cuda:1", "cuda:0"]
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
