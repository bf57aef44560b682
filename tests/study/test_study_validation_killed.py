"""A validation whose workers are killed in every phase, two at a time: in the end every run has read its test split once."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import nas_attn as na
from nas_attn.analysis.validation import TEST_WAY
from nas_attn.recipe_reading import load_recipe
from nas_attn.study import searching, target_runs
from nas_attn.study.opening import open_study
from nas_attn.study.reading import snapshot

PHASES = (
    "nas_attn.study.target_runs:Validation.want",
    "nas_attn.evaluation.workbench:Workbench.start",
    "nas_attn.evaluation.evaluators:EvaluatorTrainer.fit",
    "nas_attn.evaluation.workbench:Workbench.test",
    "nas_attn.storage.store:StudyStore.log_test_reading",
    "nas_attn.evaluation.evaluators:EvaluatorTrainer.test",
    "nas_attn.evaluation.workbench:Workbench.keep_weights",
    "nas_attn.storage.work:RunQueue.finish",
    "nas_attn.evaluation.artifacts:RunFiles.clear",
    "nas_attn.study.target_runs:Validation.ended",
)
"""Before and after each of these a worker is killed, in its second run: each has to take up what the one before left."""
WORKER = """
import importlib, os, signal, sys
from nas_attn.study import searching
from nas_attn.study.opening import open_study

url, phase, after = sys.argv[1], sys.argv[2], sys.argv[3] == "after"
module, _, path = phase.partition(":")
kind, _, name = path.partition(".")
owner = getattr(importlib.import_module(module), kind)
whole, left = getattr(owner, name), 1 if name == "want" else 2  # all runs are wanted at once

def dying(*arguments, **named):
    global left
    left -= 1
    if not after and left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    result = whole(*arguments, **named)
    if after and left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(owner, name, dying)
opened = open_study("killed", url)
searching.work(opened, searching.Options(device="cpu", say=lambda line: None), only="validate")
"""


@pytest.mark.slow
@pytest.mark.timeout(36_000)
@pytest.mark.parametrize("server", [False, True], ids=["sqlite", "postgresql"])
def test_killed_in_every_phase_by_several_workers(table: Path, server: bool, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue("postgres_url") if server else "sqlite:///nas_attn.db"
    blocks = len(PHASES) + 4
    recipe = load_recipe(
        "table.toml", overrides={"name": "killed", "search.trials": 6, "target.epochs": 4, "target.seeds": blocks}
    )
    na.search(recipe, storage=url, say=lambda line: None)
    opened = open_study("killed", url)
    plan = searching.plan_recipe(opened.recipe)
    family = target_runs.family_of(opened, na.open_study(url).snapshot(), plan, target_runs.Asked())
    target_runs.begin(opened, family)
    killed = 0
    for phase in PHASES:
        pair = []
        for when in ("before", "after"):
            command = [sys.executable, "-c", WORKER, url, phase, when]
            pair.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
            if phase == PHASES[0]:  # together, one may find all wanted by the other, and carry all out before it wants
                pair[-1].wait(3000)
        for worker in pair:
            _, said = worker.communicate(timeout=3000)
            assert worker.returncode in (0, -signal.SIGKILL), said
            killed += worker.returncode == -signal.SIGKILL
    assert killed >= len(PHASES), "there was work left to be killed at"
    assert searching.work(opened, searching.Options(device="cpu", say=lambda line: None), only="validate") == "complete"
    rows = opened.store.queue.rows(way="target")
    assert {row.run.identity for row in rows} == {run.identity for run in target_runs.family_runs(family)}
    assert {row.state for row in rows} == {"done"}
    readings = Counter(reading.reason for reading in opened.store.test_readings())
    assert readings == Counter(f"validate {row.run.files}" for row in rows), "each run's reading is logged, once"
    assert len(opened.store.scores(way=TEST_WAY)) == len(rows)
    (result,) = snapshot(opened.store).validations
    assert result.complete
    assert result.blocks == blocks
    assert not result.diverged
