"""The workers of a study, and what was launched, as they are seen from outside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker that has not left."""

    machine: str
    pid: str
    device: str
    # `working`, `waiting`, `silent` (for longer than its leases last) or `gone` (its process has
    # died)
    state: str
    doing: str
    waiting: str
    at_it_s: float
    silent_s: float
    here_s: float


@dataclass(frozen=True, slots=True)
class FormerView:
    """A worker that has ended, and what it has written. Times in Unix seconds."""

    machine: str
    pid: str
    device: str
    began_at: float
    left_at: float
    # `left` in order, or `lost`
    ending: str
    scores: int
    sessions: int


@dataclass(frozen=True, slots=True)
class LaunchState:
    """How workers of one launch are, as far as their engine says."""

    # state in the engine's own words -> how many workers
    counts: Mapping[str, int] = field(default_factory=dict)
    # the machine that alone can say, if it is another one; else empty
    host: str = ""
    # the engine's command that does not answer; else empty
    silent: str = ""


@dataclass(frozen=True, slots=True)
class FailedStart:
    """A worker that ended with an error soon after its start."""

    name: str
    status: int
    # the last one of its log; empty: it has none
    line: str
    log: Path
