"""Samplers and the pruner: on a replayed table, in plain Optuna studies, in a study of the
program.
"""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

import nas_attn as na
from nas_attn import backbones
from nas_attn.attachment import survey
from nas_attn.recipe.reading import load_recipe
from nas_attn.recipe.recipe import BackboneSection
from nas_attn.searching.phases.screening import Search
from nas_attn.searching.propose.halving import ParetoHalving
from nas_attn.searching.propose.sampling import DistinctSampler, distributions
from nas_attn.searching.run import taking_part
from nas_attn.searching.worker.worker import Worker
from nas_attn.space.schema import SpaceSpec
from nas_attn.space.search_space import SearchSpace
from nas_attn.storage.opening import create_study, open_study

TYPES = ["none", "se", "eca", "simam", "cbam"]


@cache
def sites():  # type: ignore[no-untyped-def]
    model = backbones.build(
        BackboneSection(name="resnet14", width=8), input_shape=(3, 16, 16), classes=4
    )
    return survey(model, (3, 16, 16)).sites


def space(types: list[str] = TYPES, **table: object) -> SearchSpace:
    choices: dict[str, Any] = {name: {} for name in types if name != "none"}
    spec = {"name": "table", "sites": {"granularity": "block"}, "choices": choices, **table}
    return SearchSpace(SpaceSpec.model_validate(spec), sites())


def run(name: str, found: SearchSpace, trials: int, seed: int, objective) -> optuna.Study:  # type: ignore[no-untyped-def]
    sampler = DistinctSampler(name, found, seed=seed, trials=trials)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    for _ in range(trials):
        trial = study.ask(distributions(found))
        study.tell(trial, objective(trial.params))
    return study


def values(params: dict[str, str]) -> tuple[float, float]:
    """Something cheap whose optimum the samplers can find."""
    return sum(len(v) * (i + 1) for i, v in enumerate(params.values())), sum(
        v != "none" for v in params.values()
    )


@pytest.mark.parametrize("name", ["tpe", "placement"])
def test_proposals_do_not_depend_on_a_restart(name: str) -> None:
    found = space()
    whole = run(name, found, 16, 3, values)
    half = run(name, found, 10, 3, values)
    half.sampler = DistinctSampler(name, found, seed=3, trials=16)
    for _ in range(6):
        trial = half.ask(distributions(found))
        half.tell(trial, values(trial.params))
    assert [t.params for t in whole.trials] == [t.params for t in half.trials]


def test_a_trial_that_only_waits_counts_as_seen() -> None:
    found = space(["simam"], sites={"granularity": "block", "include": ["stage3.*"]})
    sampler = DistinctSampler("random", found, seed=0, trials=4)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    waiting = {"stage3.block1": "simam", "stage3.block2": "simam"}
    study.enqueue_trial(waiting)
    study.enqueue_trial({"stage3.block1": "none", "stage3.block2": "none"})
    first = study.ask(distributions(found))
    assert first.params == waiting
    asked = [study.ask(distributions(found)).params for _ in range(3)]
    assert len({tuple(p.items()) for p in [first.params, *asked]}) == 4


URL = "sqlite:///nas_attn.db"
OVERRIDES = {
    "search.sampler": "placement",
    "search.trials": 18,
    "search.confirm_seeds": 0,
    "training.backbones": 1,
}


def tried(study: optuna.Study) -> list[dict[str, str]]:
    return [trial.params for trial in study.get_trials(deepcopy=False)]


# a search of 14; test_model_evidence.py asks what a rung below is worth
@pytest.mark.slow
def test_candidates_that_were_pruned_are_learned_from(table: Path) -> None:
    """At the end, the sampler knows a value of every candidate: net of what the last epoch adds,
    and as a weaker one.
    """
    longer = OVERRIDES | {"search.trials": 14}
    opened = create_study(load_recipe("table.toml", overrides=longer), URL)
    seen: list[Search] = []
    taking_part.with_worker(
        opened, taking_part.Options(say=lambda line: None), lambda worker: _look(worker, seen)
    )
    na.search("table.toml", overrides=longer, say=lambda line: None)
    search, study = seen[0], open_study("table", URL).book.study
    known, trials = search.scores.known(), study.get_trials(deepcopy=False)
    pruned = [t.number for t in trials if t.state == optuna.trial.TrialState.PRUNED]
    assert len(pruned) >= 3
    assert known.keys() == {t.number for t in trials}
    for trial in trials:
        values, noise = known[trial.number].values, known[trial.number].noise
        assert None not in values
        if trial.number in pruned:
            assert min(noise) > 1
        else:
            assert values == tuple(trial.values)
            assert max(noise) <= 1


def test_a_search_ends_when_what_is_left_is_over_a_limit(table: Path) -> None:
    """And of the few placements within it, none is pruned before some are scored."""
    # of three sites, each bare, with SE, or with ECA
    most = {
        "space": {"name": "table", "choices": {"se": {"reduction": [2]}, "eca": {}}},
        "search.trials": 27,
        "limits.max_parameters": 18_876 + 20,
        "search.baselines": "bare",
    }
    study = na.search("table.toml", overrides=OVERRIDES | most, say=lambda line: None)
    found = {str(view.placement): view.state for view in study.candidates()}
    within = {text for text in found if "se(" not in text}
    assert len(within) == 2**3
    assert {text for text, state in found.items() if state != "infeasible"} == within
    assert sum(found[text] == "scored" for text in within) > 4
    assert len(found) < 27


def _look(worker: Worker, seen: list[Search]) -> Any:
    seen.append(Search(worker))
    return "complete"


# two searches; that proposals do not depend on a restart is asked of the samplers above
@pytest.mark.slow
def test_a_resumed_study_proposes_what_an_uninterrupted_one_would(table: Path) -> None:
    overrides = {**OVERRIDES, "search.trials": 9}
    na.search("table.toml", overrides=overrides, say=lambda line: None)
    whole = tried(open_study("table", URL).book.study)
    opened, stop = (
        create_study(load_recipe("table.toml", overrides=overrides), "sqlite:///other.db"),
        threading.Event(),
    )

    def say(line: str) -> None:
        if line.startswith("trial 6"):
            stop.set()

    assert taking_part.work(opened, taking_part.Options(say=say, stop=stop)) == "stopped"
    half = open_study("table", "sqlite:///other.db")
    assert len(tried(half.book.study)) < 9
    assert taking_part.work(half, taking_part.Options(say=lambda line: None)) == "complete"
    assert tried(half.book.study) == whole


RUNGS = [1, 3, 9]


def optimise(trials: int, seed: int) -> tuple[optuna.Study, int]:
    """A study of two objectives; returns it and the steps that it took."""
    halving = ParetoHalving(eta=3, rungs=RUNGS)
    rng = np.random.default_rng(seed)
    steps = 0

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        nonlocal steps
        worth, cost = trial.suggest_float("worth", 0, 1), trial.suggest_float("cost", 0, 1)
        for epochs in RUNGS:
            steps += epochs
            accuracy = worth * (1 - 0.5**epochs) + rng.normal(0, 0.01)
            halving.report(trial, epochs, [accuracy, cost])
            if halving.should_prune(trial):
                raise optuna.TrialPruned
        return accuracy, cost

    study = optuna.create_study(
        directions=["maximize", "minimize"], sampler=optuna.samplers.RandomSampler(seed=seed)
    )
    study.optimize(objective, n_trials=trials)
    return study, steps


def test_it_prunes_most_and_keeps_the_front() -> None:
    study, steps = optimise(60, 0)
    pruned = [t for t in study.trials if t.state == optuna.trial.TrialState.PRUNED]
    assert len(pruned) > 30
    assert steps < 0.6 * 60 * sum(RUNGS)
    kept = [t for t in study.trials if t.state == optuna.trial.TrialState.COMPLETE]
    for trial in pruned:
        params = trial.params
        better = [
            k
            for k in kept
            if k.params["worth"] > params["worth"] and k.params["cost"] < params["cost"]
        ]
        close = [
            k
            for k in kept
            if abs(k.params["worth"] - params["worth"]) + abs(k.params["cost"] - params["cost"])
            < 0.3
        ]
        assert better or close, f"{params} was pruned although nothing beats it or comes near"


def test_workers_that_see_the_same_trials_agree(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    study = optuna.create_study(study_name="s", storage=url, directions=["maximize", "minimize"])
    trials = [study.ask() for _ in range(9)]
    for trial in trials:
        ParetoHalving(3, RUNGS).report(trial, 1, [trial.number / 10, trial.number % 3])
    here = [ParetoHalving(3, RUNGS).should_prune(trial) for trial in trials]
    other = optuna.load_study(study_name="s", storage=url)
    there = [
        ParetoHalving(3, RUNGS).should_prune(optuna.Trial(other, trial._trial_id))
        for trial in trials
    ]
    assert here == there
    assert here.count(False) == 3


def test_the_last_rung_prunes_nobody_and_the_first_to_arrive_goes_on() -> None:
    study = optuna.create_study(directions=["minimize", "minimize"])
    halving = ParetoHalving(3, RUNGS)
    first = study.ask()
    halving.report(first, 1, [9.0, 9.0])
    assert not halving.should_prune(first)
    for number in range(6):
        trial = study.ask()
        halving.report(trial, 9, [number, number])
        assert not halving.should_prune(trial)


def test_a_diverged_trial_does_not_go_on() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    halving = ParetoHalving(3, RUNGS)
    for number in range(4):
        halving.report(study.ask(), 1, [0.5 + number / 10, number])
    trial = study.ask()
    halving.report(trial, 1, [float("nan"), 0.5])
    assert halving.should_prune(trial)


def test_settings_and_reports_that_make_no_sense_are_refused() -> None:
    for eta, rungs, told in [
        (1.0, RUNGS, "eta must be above 1"),
        (3.0, [3, 1], "rungs must"),
        (3.0, [], "rungs must"),
    ]:
        with pytest.raises(ValueError, match=told):
            ParetoHalving(eta, rungs)
    trial = optuna.create_study(directions=["maximize", "minimize"]).ask()
    with pytest.raises(ValueError, match=r"2 objectives.* 1"):
        ParetoHalving(3, RUNGS).report(trial, 1, [0.5])
    with pytest.raises(ValueError, match="step 2"):
        ParetoHalving(3, RUNGS).report(trial, 2, [0.5, 1.0])
