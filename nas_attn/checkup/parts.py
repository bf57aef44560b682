"""The parts of a check, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch

from nas_attn.checkup import captures, casts, environment, modules, sessions, training
from nas_attn.checkup.findings import Finding

Part = Callable[[torch.device], Iterator[Finding]]


def _kernels(device: torch.device) -> Iterator[Finding]:
    yield from casts.findings(device)
    yield from training.profiles(device)


CHECKED_PARTS: Mapping[str, Part] = {
    environment.ENVIRONMENT: environment.findings,
    captures.CAPTURES: captures.findings,
    modules.MODULES_PART: modules.findings,
    training.EPOCHS_PART: training.epochs,
    training.PROFILES: _kernels,
    sessions.LATENCY: sessions.findings,
}
"""All of a part, for `tools/gpu_check.sh`."""

QUICK: Mapping[str, Part] = {
    captures.CAPTURES: captures.findings,
    modules.MODULES_PART: partial(modules.findings, timed=False),
    training.EPOCHS_PART: training.quick,
    sessions.LATENCY: sessions.quick,
}
"""What `nas-attn doctor --gpu` does in about two minutes."""
