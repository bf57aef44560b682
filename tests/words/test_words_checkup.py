"""What the check of a GPU says of each fact."""

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
from nas_attn.words.checkup import finding_json, finding_line, finding_text

# fact -> what a person must read of it
TOLD: list[tuple[Any, str]] = [
    (Raised("ValueError: its message"), "ValueError: its message"),
    (Versions("3.12.1", "2.11", 8, ()), "torch 2.11, 8 cores"),
    (Versions("3.12.1", "2.11", 8, ("numpy", "rich")), "numpy, rich"),
    (NoGpu(None), "without CUDA"),
    (NoGpu("12.8"), "CUDA_VISIBLE_DEVICES"),
    (Gpu("NVIDIA H100", 79.96, "12.8"), "80.0 GiB"),
    (Precision(bfloat16=True), "bfloat16"),
    (Precision(bfloat16=False), "float32"),
    (Mps(installed=False), "not installed"),
    (NoAnswer(90.0), "90 s"),
    (ProcessEnded(-11, ""), "status -11"),
    (ProcessEnded(1, "it is broken"), "it is broken"),
    (FailedCapture("torch", "2.11", errors={"dropout": "refused", "empty_cache": ""}), "2.11"),
    (FailedCapture("torch", "2.12"), "as it was"),
    (FailedCapture("mended", "2.11", errors={"dropout": "refused"}), "dropout fails: refused"),
    (FailedCapture("mended", "2.11"), "records again"),
    (FailedCapture("mended", "2.11", failed=False), "did not fail"),
    (WaitNoticed(noticed=False), "does not tell"),
    (BesidePinning("thread_local", used=True, error=""), "works"),
    (BesidePinning("thread_local", used=True, error="refused"), "refused"),
    (BesidePinning("global", used=False, error="refused"), "as expected"),
    (NearFloat64(6e-8, 3e-3), "float32 6e-08, bfloat16 3e-03"),
    (FarFromFloat64("float32", 0.01, 1e-4), "more than 0.0001: its results are wrong"),
    (FarFromFloat64("bfloat16", 0.1, 0.05), "more than 0.05"),
    (WaitingModule("network.py:12"), "network.py:12"),
    (EpochTime(1.23456, 40_500.4), "1.2346 s an epoch, 40,500 images/s"),
    (Unrecorded("it waits"), "it waits"),
    (Unrecorded(""), "no reason"),
    (StepProfile(120.4, 2.34567), "120 kernels and 2.346 ms"),
    (CastTimes(20, 100.0, 40.0, 3000.0), "2.0 % of a step of 3.00 ms"),
    (TwoCopies(1.23456, 0.01, steady=True), "1.2346 ms; two copies differ by 1.0 %"),
    (TwoCopies(1.23456, 0.05, steady=False), "unsteady"),
]


def found(fact: Any) -> Finding:
    return Finding("part", "subject", "ok", fact, {"epoch_s": 1.5})


@pytest.mark.parametrize(("fact", "told"), TOLD)
def test_a_fact_is_told(fact: Any, told: str) -> None:
    finding = found(fact)
    assert told in finding_text(finding)
    assert finding_line(finding).endswith(finding_text(finding))
    line = finding_json(finding)
    assert line["said"] == finding_text(finding)
    assert line["epoch_s"] == 1.5


def test_every_fact_is_told() -> None:
    facts, _ = get_args(CheckedFact)
    assert {type(fact) for fact, _ in TOLD} == set(get_args(facts))


@pytest.mark.parametrize("fact", [fact for fact, _ in TOLD])
def test_a_fact_comes_whole_from_another_process(fact: Any) -> None:
    findings = TypeAdapter(Finding)
    assert findings.validate_json(findings.dump_json(found(fact))) == found(fact)
