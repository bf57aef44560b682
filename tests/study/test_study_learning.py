"""The placement sampler in a study of the program: what it is told of candidates that were pruned, and of resumed studies."""

from __future__ import annotations

import threading
from pathlib import Path

import optuna

import nas_attn as na
from nas_attn.recipe_reading import load_recipe
from nas_attn.study import searching
from nas_attn.study.opening import create_study, open_study
from nas_attn.study.proposing import Search
from nas_attn.study.worker import Worker

URL = "sqlite:///nas_attn.db"
OVERRIDES = {"search.sampler": "placement", "search.trials": 24, "search.confirm_seeds": 0}


def tried(study: optuna.Study) -> list[dict[str, str]]:
    return [trial.params for trial in study.get_trials(deepcopy=False)]


def test_candidates_that_were_pruned_are_learned_from(table: Path) -> None:
    """At the end, the sampler knows a value of every candidate: net of what the last epoch adds, and as a weaker one."""
    opened = create_study(load_recipe("table.toml", overrides=OVERRIDES), URL)
    seen: list[Search] = []
    searching.with_worker(opened, searching.Options(say=lambda line: None), lambda worker: _look(worker, seen))
    na.search("table.toml", overrides=OVERRIDES, say=lambda line: None)
    search, study = seen[0], open_study("table", URL).optuna_study
    known, trials = search.scores.known(), study.get_trials(deepcopy=False)
    pruned = [t.number for t in trials if t.state == optuna.trial.TrialState.PRUNED]
    assert len(pruned) >= 8
    assert known.keys() == {t.number for t in trials}
    for trial in trials:
        values, noise = known[trial.number].values, known[trial.number].noise
        assert None not in values
        if trial.number in pruned:
            assert min(noise) > 1
        else:
            assert values == tuple(trial.values)
            assert max(noise) <= 1


def _look(worker: Worker, seen: list[Search]) -> str:
    seen.append(Search(worker))
    return "complete"


def test_a_resumed_study_proposes_what_an_uninterrupted_one_would(table: Path) -> None:
    overrides = {**OVERRIDES, "search.trials": 14}
    na.search("table.toml", overrides=overrides, say=lambda line: None)
    whole = tried(open_study("table", URL).optuna_study)
    opened, stop = create_study(load_recipe("table.toml", overrides=overrides), "sqlite:///other.db"), threading.Event()

    def say(line: str) -> None:
        if line.startswith("trial 9"):
            stop.set()

    assert searching.work(opened, searching.Options(say=say, stop=stop)) == "stopped"
    half = open_study("table", "sqlite:///other.db")
    assert len(tried(half.optuna_study)) < 14
    assert searching.work(half, searching.Options(say=lambda line: None)) == "complete"
    assert tried(half.optuna_study) == whole
