"""What is one's own: model, attention module and evaluator as files in the folder, with several
workers.
"""

from __future__ import annotations

import pytest
from answers import DIGITS, finished, scored, settings
from materials import everything_of_ones_own
from shell import Shell


@pytest.mark.slow
def test_own_model_module_and_evaluator_with_two_workers(shell: Shell) -> None:
    everything_of_ones_own(shell.folder)
    before = shell.files()
    shell.variables["EPOCH_SECONDS"] = "0.3"
    search = shell.begins("search own.toml --workers 2").until(r"trial \d \(uniform").ctrl_c()
    stopped = search.ends(130)
    assert stopped.err.count("done (stopped)") == 2
    assert "nas-attn resume own" in stopped.err

    del shell.variables["EPOCH_SECONDS"]
    ended = shell.types("resume own --workers 2 --try 'stage1=spotlight:Spotlight(power=2.0)'")
    assert ended.err.count("done (complete)") == 2
    answer = finished(shell, "own", trials=9)
    assert "stage1=spotlight:Spotlight(power=2.0)" in {c["placement"] for c in answer["candidates"]}
    assert all(
        c["values"] == [pytest.approx(c["estimates"]["f1"]["mean"]), c["cost"]["params"]]
        for c in scored(answer)
    )
    assert max(c["values"][0] for c in scored(answer)) > 0.5
    assert shell.files() == before | {"nas_attn.db", "nas_attn.artifacts", "own.html"}


@pytest.mark.slow
def test_a_placement_outside_the_space(shell: Shell) -> None:
    tiny = settings(DIGITS, latency__session_seconds="0.1")
    shell.types(
        f"search digits --trials 7 --workers 1 --threads 1 --try 'stage3=mhsa(heads=2)' {tiny}"
    )
    tried = "stage1=gct stage2.block1@block=se(reduction=2)"
    shell.types(f"resume digits --workers 1 --threads 1 --try '{tried}'")
    answer = finished(shell, "digits", trials=8)
    first, second = [c for c in answer["candidates"] if c["trial"] in (1, 7)]
    assert first["placement"].startswith("stage3=mhsa(heads=2")
    assert second["placement"].startswith("stage1=gct")
    assert {first["state"], second["state"]} <= {"scored", "pruned"}
    refused = shell.types("resume digits --try 'stage9=se'", status=2).error
    assert "stage9" in refused
