"""Whether this machine is fit to measure latency, and what to change."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
from torch import nn

from nas_attn.errors import MeasurementError
from nas_attn.latency.locks import DeviceLock, lock_directory
from nas_attn.latency.machine import fingerprint, state
from nas_attn.latency.session import run_session
from nas_attn.recipe import LatencySection
from nas_attn.records import Session

STEADY_CONTROL = 0.01  # two copies of one network should be within this share of each other, session by session
BUSY = 0.25  # share of the CPUs that others may use before it is mentioned
PREEMPTED = 1.2  # wall time over thread time from which the measuring thread has to wait for its core


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    value: str
    fit: bool  # false where it makes latencies repeat worse
    advice: str = ""


def examine(
    section: LatencySection, *, sessions: int = 6, on_session: Callable[[Session], None] | None = None
) -> tuple[Finding, ...]:
    """Looks at device, clocks, load and lock, and runs A/A sessions of a small CNN, each a third of `session_seconds`.
    Raises MeasurementError: the device is missing, has fewer cores than `threads`, or is a command's; no lock can be
    written.
    """
    if section.mode == "command":
        raise MeasurementError("latency.mode is 'command': nas_attn cannot check the command's machine")
    found = [*_device(section), *_load(section)]
    return (*found, *_sessions(section, _control_sessions(section, sessions, on_session)))


def _device(section: LatencySection) -> list[Finding]:
    here, cores = fingerprint(section), os.cpu_count() or 1
    if section.threads > cores:
        raise MeasurementError(f"with {cores} cores here, latency.threads is {section.threads}: set {cores} or fewer")
    details = ", ".join(f"{key} {value}" for key, value in here.details)
    found = [Finding("device", f"{here.name} ({details}; fingerprint {here.id})", fit=True)]
    with DeviceLock.for_section(section).exclusive():
        found.append(Finding("lock", f"{lock_directory()} can be written", fit=True))
    governor = dict(here.details).get("governor")
    if governor is not None:
        fit = governor == "performance"
        advice = "" if fit else "sudo cpupower frequency-set --governor performance"
        found.append(Finding("CPU governor", governor, fit, advice))
    return found


def _load(section: LatencySection) -> list[Finding]:
    busy = psutil.cpu_percent(interval=0.5) / 100
    if busy <= BUSY:
        advice = ""
    elif section.device == "cuda" or section.threads > 1:
        advice = "stop other work, or measure with threads = 1 on the CPU, where other work disturbs least"
    else:
        advice = "thread CPU time works here, but needs two to three times the sessions: stop other work"
    now = state(section)
    clock = "clocks change with heat and load; `sudo nvidia-smi --lock-gpu-clocks=MHZ` fixes them"
    found = [Finding("other load", f"{busy:.0%} of the CPUs busy", busy <= BUSY, advice)]
    for name in ("clock", "temperature", "power"):
        if name in now:
            found.append(Finding(name, now[name], True, clock if name == "clock" and section.device == "cuda" else ""))
    return found


def _control_sessions(
    section: LatencySection, count: int, on_session: Callable[[Session], None] | None
) -> list[Session]:
    short = section.model_copy(update={"session_seconds": section.session_seconds / 3})
    lock, model, found = DeviceLock.for_section(section), _small_cnn(), []
    of: dict[str, Any] = {"reference": model, "candidates": {"copy": model}, "input_shape": (3, 32, 32), "lock": lock}
    for seed in range(count):
        found.append(run_session(short, seed=seed, **of))
        if on_session is not None:
            on_session(found[-1])
    return found


def _small_cnn() -> nn.Module:
    """About as much work as a small CIFAR ResNet."""
    layers: list[nn.Module] = []
    for i in range(12):
        layers += [nn.Conv2d(16 if i else 3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


def _sessions(section: LatencySection, sessions: Sequence[Session]) -> list[Finding]:
    """What A/A sessions say: is a copy as fast as the original, how much do sessions differ, does the thread wait."""
    controls = [session.control_log_ratio for session in sessions]
    off = max(map(abs, controls))
    steady = off <= STEADY_CONTROL
    text = f"two copies of one network within {off:.2%} of each other in every one of {len(sessions)} sessions"
    advice = "" if steady else "use more sessions (latency.max_sessions) or longer ones (session_seconds)"
    found = [Finding("A/A control", text, steady, advice)]
    spread = statistics.stdev(s.samples[0].log_ratio for s in sessions) if len(sessions) > 1 else off
    for name, tolerance in (("to search", section.tolerance), ("for the front", section.front_tolerance)):
        needed = max(1, round((1.96 * 1.25 * spread / tolerance) ** 2 + 0.5))
        enough = needed <= section.max_sessions
        text = f"about {needed} sessions for ±{tolerance:.1%}, at most {section.max_sessions} are allowed"
        found.append(Finding(f"sessions {name}", text, enough, "" if enough else "raise latency.max_sessions"))
    if section.device == "cpu" and section.threads == 1:
        waits = statistics.median(s.samples[0].wall_ms / s.samples[0].candidate_ms for s in sessions)
        advice = "" if waits <= PREEMPTED else "other work uses the core: stop it; wall times mean little here"
        found.append(Finding("wall over thread time", f"{waits:.2f}", waits <= PREEMPTED, advice))
    return found
