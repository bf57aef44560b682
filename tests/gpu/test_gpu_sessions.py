"""Latency on a GPU: each mode measures, and the recorded one replays."""

from __future__ import annotations

import pytest
import torch
from real_cuda import Cuda
from torch import nn

from nas_attn.latency.session import run_session
from nas_attn.recipe.recipe import LatencySection

SHAPE = (3, 8, 8)


def network(layers: int) -> nn.Module:
    torch.manual_seed(0)
    body = [nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)) for _ in range(layers)]
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(192, 10)).eval()


@pytest.mark.parametrize("mode", ["eager", "cuda-graph"])
def test_a_longer_network_takes_longer(mode: str, cuda: Cuda) -> None:
    section = LatencySection.model_validate(
        {"device": "cuda", "mode": mode, "session_seconds": 0.2}
    )
    candidates = {"same": network(2), "longer": network(20)}
    session = run_session(
        section, reference=network(2), candidates=candidates, input_shape=SHAPE, seed=0
    )
    same, longer = (sample.log_ratio for sample in session.samples)
    assert session.conditions["clock"] == "cuda-events"
    assert longer > 0.3
    assert longer > same
    assert (cuda.replays > 0) == (mode == "cuda-graph")


def test_half_precision_is_measured_in_its_own_order(cuda: Cuda) -> None:
    changes = {"dtype": "bfloat16", "channels_last": True, "session_seconds": 0.05}
    section = LatencySection.model_validate({"device": "cuda", **changes})
    session = run_session(
        section, reference=network(2), candidates={"a": network(2)}, input_shape=SHAPE, seed=0
    )
    assert session.reference_ms > 0
    assert session.fingerprint.device == "cuda"
