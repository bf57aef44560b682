"""Latency sessions: two copies of one network must take the same time, by mode and dtype."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from gpu_check.findings import Finding, found_by
from gpu_check.training import CLASSES
from nas_attn import attachment, backbones
from nas_attn.latency.session import run_session
from nas_attn.recipe.recipe import BackboneSection, LatencySection
from nas_attn.space import notation, search_space
from nas_attn.storage.records import Session

LATENCY = "latency"
TIMED_PLACEMENTS = ("se", "eca", "cbam")
SESSIONS = 3
# relative difference that two copies of one network may have
STEADY = 0.02


@dataclass(frozen=True)
class SessionJob:
    """One network, measured in one way."""

    network: str
    side: int
    batch: int
    mode: str
    dtype: str = "float32"

    @property
    def subject(self) -> str:
        return f"{self.network}, batch {self.batch}, {self.mode}, {self.dtype}"


def jobs(device: torch.device) -> list[SessionJob]:
    """What is measured, the most telling first."""
    if device.type != "cuda":
        return [SessionJob("resnet8", 32, 1, "eager")]
    networks = [
        ("resnet20", 32, 1),
        ("torchvision:resnet18", 224, 32),
        ("torchvision:resnet18", 224, 1),
    ]
    ways = [("cuda-graph", "float32"), ("eager", "float32"), ("cuda-graph", "float16")]
    return [SessionJob(*network, *way) for network in networks for way in ways]


def findings(device: torch.device) -> Iterator[Finding]:
    """All jobs."""
    for job in jobs(device):
        yield found_by(partial(look, job, device), LATENCY, job.subject)


def look(job: SessionJob, device: torch.device) -> Finding:
    """Some sessions with the bare backbone, its copy and three candidates."""
    settings = {
        "device": device.type,
        "mode": job.mode,
        "dtype": job.dtype,
        "batch_size": job.batch,
        "channels_last": job.dtype != "float32",
        "session_seconds": 1.0,
    }
    section = LatencySection.model_validate(settings)
    shape = (3, job.side, job.side)
    models = {name: _network(job, name) for name in TIMED_PLACEMENTS}
    sessions = [
        run_session(
            section, reference=_network(job), candidates=models, input_shape=shape, seed=seed
        )
        for seed in range(SESSIONS)
    ]
    return _judged(job, sessions)


def _judged(job: SessionJob, sessions: list[Session]) -> Finding:
    apart = max(abs(session.control_log_ratio) for session in sessions)
    last = sessions[-1]
    values: dict[str, Any] = {
        "network": job.network,
        "batch": job.batch,
        "mode": job.mode,
        "dtype": job.dtype,
        "clock": last.conditions["clock"],
        "reference_ms": round(last.reference_ms, 4),
        "control": [round(session.control_log_ratio, 4) for session in sessions],
        "ratios": {
            name: [round(math.exp(session.samples[at].log_ratio), 3) for session in sessions]
            for at, name in enumerate(TIMED_PLACEMENTS)
        },
        "notes": dict(last.notes),
    }
    measured = f"{round(last.reference_ms, 4)} ms; two copies differ by {100 * apart:.1f} %"
    if apart <= STEADY:
        return Finding(LATENCY, job.subject, "ok", measured, values)
    said = f"{measured}: the clock is unsteady, so measuring takes more sessions"
    return Finding(LATENCY, job.subject, "note", said, values)


def _network(job: SessionJob, module: str = "") -> nn.Module:
    torch.manual_seed(0)
    shape = (3, job.side, job.side)
    section = BackboneSection(name=job.network)
    model = backbones.build(section, input_shape=shape, classes=CLASSES).eval()
    if not module:
        return model
    placement = notation.parse(f"stage2={module} stage3={module}")
    sites = attachment.survey(model, shape).sites
    return attachment.attach(model, search_space.resolve(placement, sites, init="identity"))
