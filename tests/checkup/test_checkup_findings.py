"""What the check of a machine has found comes whole from the process that found it."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import TypeAdapter

from nas_attn.checkup.findings import (
    BesidePinning,
    CastTimes,
    CheckedFact,
    EpochTime,
    FailedCapture,
    FarFromFloat64,
    Finding,
    Gpu,
    Mps,
    NearFloat64,
    NoAnswer,
    NoGpu,
    Precision,
    ProcessEnded,
    Raised,
    StepProfile,
    TwoCopies,
    Unrecorded,
    Versions,
    WaitingModule,
    WaitNoticed,
)

FOUND: list[Any] = [
    Raised("ValueError: its message"),
    Versions("3.12.1", "2.11", 8, ("numpy", "rich")),
    NoGpu(None),
    Gpu("NVIDIA H100", 79.96, "12.8"),
    Precision(bfloat16=True),
    Mps(installed=False),
    NoAnswer(90.0),
    ProcessEnded(-11, ""),
    FailedCapture("torch", "2.11", errors={"dropout": "refused", "empty_cache": ""}),
    WaitNoticed(noticed=False),
    BesidePinning("thread_local", used=True, error=""),
    NearFloat64(6e-8, 3e-3),
    FarFromFloat64("float32", 0.01, 1e-4),
    WaitingModule("network.py:12"),
    EpochTime(1.23456, 40_500.4),
    Unrecorded("it waits"),
    StepProfile(120.4, 2.34567),
    CastTimes(20, 100.0, 40.0, 3000.0),
    TwoCopies(1.23456, 0.01, steady=True),
]


@pytest.mark.parametrize("fact", FOUND, ids=lambda fact: type(fact).__name__)
def test_a_fact_comes_whole_from_another_process(fact: Any) -> None:
    findings = TypeAdapter(Finding)
    found = Finding("part", "subject", "ok", fact, {"epoch_s": 1.5})
    assert findings.validate_json(findings.dump_json(found)) == found


def test_every_fact_is_among_them() -> None:
    facts, _ = get_args(CheckedFact)
    assert {type(fact) for fact in FOUND} == set(get_args(facts))
