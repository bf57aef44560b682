from __future__ import annotations

import math
from pathlib import Path

import pytest
from torch import nn

from nas_attn.analysis.latency import open_keys
from nas_attn.errors import MeasurementError
from nas_attn.latency import examine, measure
from nas_attn.latency.session import StillOpen
from nas_attn.recipe import LatencySection
from nas_attn.records import Session


@pytest.fixture(autouse=True)
def _own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_ATTN_LOCK_DIR", str(tmp_path / "locks"))


def test_the_doctor_looks_at_device_lock_and_control() -> None:
    seen: list[Session] = []
    section = LatencySection(session_seconds=0.1, max_sessions=1, front_tolerance=1e-6)
    found = {finding.name: finding for finding in examine(section, sessions=2, on_session=seen.append)}
    assert {"device", "lock", "A/A control", "sessions to search", "wall over thread time"} <= found.keys()
    assert len(seen) == 2
    assert not found["sessions for the front"].fit
    assert found["sessions for the front"].advice == "raise latency.max_sessions"
    assert all(finding.fit or finding.advice for finding in found.values())


def test_too_many_threads_are_not_fit() -> None:
    section = LatencySection(session_seconds=0.01, threads=1000)
    with pytest.raises(MeasurementError, match=r"latency\.threads is 1000: set \d+ or fewer"):
        examine(section, sessions=1)


def test_the_doctor_cannot_judge_another_machine() -> None:
    with pytest.raises(MeasurementError, match="command"):
        examine(LatencySection(mode="command", command="./phone"))


def test_measuring_goes_on_with_the_neediest_until_none_is_open() -> None:
    candidates: dict[str, nn.Module] = {str(i): nn.Conv2d(3, 3, 1) for i in range(10)}
    found: list[Session] = []

    def still_open(sessions: object) -> list[str]:
        assert list(found) == sessions
        return open_keys(found, candidates, tolerance=1e-9, max_sessions=2)

    checked: StillOpen = still_open
    section = LatencySection(session_seconds=0.01)
    for session in measure(
        section, reference=nn.Conv2d(3, 3, 1), candidates=candidates, input_shape=(3, 4, 4), seed=0, still_open=checked
    ):
        found.append(session)
    per_session = [[sample.key for sample in session.samples] for session in found]
    assert all(len(keys) == len(set(keys)) == 8 for keys in per_session)
    counts = [sum(key in keys for keys in per_session) for key in candidates]
    assert min(counts) == 2
    assert len(found) <= math.ceil(2 * 10 / 8) + 1
