"""PlacementSampler in plain Optuna studies: Optuna's own contract, and what its users would
miss.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    RelativeSamplerTestCase,
)

from nas_attn.searching.propose.halving import ParetoHalving
from nas_attn.searching.propose.history import Known, known_of_trials, weak_values
from nas_attn.searching.propose.placement_sampler import PlacementSampler

TYPES = ["none", "se", "eca", "cbam"]
GAIN = {"none": 0.0, "se": 0.6, "eca": 0.3, "cbam": -0.4}
COST = {"none": 0.0, "se": 0.3, "eca": 0.1, "cbam": 1.0}
Params = dict[str, Any]


class TestOptunasContract(
    BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase
):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return PlacementSampler


def space(sites: int, choices: list[Any] = TYPES) -> dict[str, list[Any]]:
    return {f"site{i}": choices for i in range(sites)}


def gain(params: Params) -> float:
    return sum(GAIN[v] * (2.0 if i % 2 else 1.0) for i, v in enumerate(params.values()))


def cost(params: Params) -> float:
    return 1 + sum(COST[v] for v in params.values())


def study_of(
    sampler: BaseSampler, directions: tuple[str, ...] = ("maximize", "minimize")
) -> optuna.Study:
    return optuna.create_study(directions=list(directions), sampler=sampler)  # type: ignore[arg-type]


def distributions_of(among: dict[str, list[Any]]) -> dict[str, BaseDistribution]:
    return {name: CategoricalDistribution(choices) for name, choices in among.items()}


def go_on(
    study: optuna.Study,
    trials: int,
    objective: Callable[[Params], Any],
    among: dict[str, list[Any]],
) -> None:
    distributions = distributions_of(among)
    for _ in range(trials):
        trial = study.ask(distributions)
        study.tell(trial, objective(trial.params))


def noisy(params: Params) -> tuple[float, float]:
    """The same noise for the same placement."""
    rng = np.random.default_rng([len(v) + 7 * i for i, v in enumerate(params.values())])
    return gain(params) + float(rng.normal()), cost(params)


def proposed(study: optuna.Study) -> list[tuple[Any, ...]]:
    return [tuple(trial.params.values()) for trial in study.trials]


def test_each_placement_is_proposed_once_until_all_have_been() -> None:
    among = space(3, TYPES[:3])
    study = study_of(PlacementSampler(seed=1))
    go_on(study, 27, noisy, among)
    assert len(set(proposed(study))) == 27
    go_on(study, 3, noisy, among)  # then again
    assert len(study.trials) == 30


@settings(deadline=None, max_examples=12)
@given(st.data())
def test_proposals_stay_inside_any_space_and_differ(data: st.DataObject) -> None:
    choice = st.one_of(st.sampled_from(TYPES), st.integers(-2, 2), st.floats(3, 9), st.none())
    sites = data.draw(
        st.lists(st.lists(choice, min_size=1, max_size=4, unique=True), min_size=1, max_size=4)
    )
    among = {f"p{i}": values for i, values in enumerate(sites)}
    objectives = data.draw(st.integers(1, 4))
    directions = tuple(
        data.draw(
            st.lists(
                st.sampled_from(["minimize", "maximize"]), min_size=objectives, max_size=objectives
            )
        )
    )
    values = st.floats(allow_nan=False, width=32)
    count = int(np.prod([len(v) for v in sites]))
    study = study_of(PlacementSampler(seed=0, space=among), directions)
    go_on(study, min(count, 10), lambda params: [data.draw(values) for _ in directions], among)
    assert len(set(map(repr, proposed(study)))) == len(study.trials)
    assert all(
        trial.params[name] in choices for trial in study.trials for name, choices in among.items()
    )


@pytest.mark.parametrize(("sites", "most"), [(3, 1), (6, 1), (4, 2)])
def test_no_more_modules_than_allowed(sites: int, most: int) -> None:
    among = space(sites)
    count = 1 + 3 * sites + (9 * sites * (sites - 1) // 2 if most == 2 else 0)
    study = study_of(PlacementSampler(seed=0, space=among, at_most=most))
    go_on(study, min(count, 15), noisy, among)
    assert len(set(proposed(study))) == min(count, 15)
    assert all(sum(v != "none" for v in values) <= most for values in proposed(study))


def test_proposals_follow_from_seed_and_history_alone() -> None:
    among = space(5)
    whole, half = study_of(PlacementSampler(seed=3)), study_of(PlacementSampler(seed=3))
    go_on(whole, 20, noisy, among)
    go_on(half, 12, noisy, among)
    copied, other = study_of(copy.deepcopy(half.sampler)), study_of(PlacementSampler(seed=3))
    for study in (copied, other):
        study.add_trials(half.trials)
    for study in (half, copied, other):
        go_on(study, 8, noisy, among)
        assert proposed(study) == proposed(whole)
    different = study_of(PlacementSampler(seed=4))
    go_on(different, 20, noisy, among)
    assert proposed(different) != proposed(whole)


def test_workers_in_parallel_try_different_placements() -> None:
    among = distributions_of(space(4))
    study = study_of(PlacementSampler(seed=0, space=space(4)))
    asked = []
    for _ in range(30):
        asked.append(study.ask(among))
        if len(asked) == 8:
            trial = asked.pop(0)
            study.tell(trial, noisy(trial.params))
    assert len(set(proposed(study))) == 30


def test_threads_of_one_study_try_different_placements() -> None:
    study = study_of(PlacementSampler(seed=0, space=space(4)))

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        return noisy(
            {name: trial.suggest_categorical(name, choices) for name, choices in space(4).items()}
        )

    study.optimize(objective, n_trials=40, n_jobs=4)
    assert len(set(proposed(study))) == 40


def best_believed(study: optuna.Study, limit: float) -> float:
    """True gain of the best placement found below a cost."""
    return max((gain(t.params) for t in study.trials if cost(t.params) <= limit), default=-5.0)


def test_directions_and_the_order_of_objectives_do_not_matter() -> None:
    among = space(6)
    turned = study_of(PlacementSampler(seed=0, primary=1), ("minimize", "minimize"))
    usual = study_of(PlacementSampler(seed=0))
    go_on(usual, 40, noisy, among)
    go_on(turned, 40, lambda p: (noisy(p)[1], -noisy(p)[0]), among)
    for study in (usual, turned):
        assert max(gain(t.params) for t in study.trials) > 4


def test_three_objectives_and_one() -> None:
    among = space(6)
    three = study_of(PlacementSampler(seed=0), ("maximize", "minimize", "minimize"))
    go_on(three, 50, lambda p: (*noisy(p), sum(v == "se" for v in p.values())), among)
    assert (
        max(gain(t.params) - 2 * sum(v == "se" for v in t.params.values()) for t in three.trials)
        > 1.2
    )
    one = study_of(PlacementSampler(seed=0), ("maximize",))
    go_on(one, 50, gain, among)
    assert one.best_value == pytest.approx(sum(0.6 * (2 if i % 2 else 1) for i in range(6)))


@pytest.mark.slow
def test_what_breaks_limits_is_left_alone() -> None:
    """A limit on a cost, told as Optuna's constraint: as how much it is exceeded, and as yes or
    no. The share of six studies varies by 0.03.
    """
    among = distributions_of(space(6))
    for told, least in ((lambda over: over, 0.9), (lambda over: 1.0 if over > 0 else 0.0, 0.5)):
        late = []
        for seed in range(40):
            study = study_of(PlacementSampler(seed=seed), ("maximize",))
            for _ in range(60):
                trial = study.ask(among)
                over = cost(trial.params) - 1.6
                trial.set_constraint("cost", told(over))
                if over > 0:
                    study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                else:
                    study.tell(trial, gain(trial.params))
            late += [cost(t.params) <= 1.6 for t in study.trials[30:]]
        assert np.mean(late) > least, "of random placements, 17 % are within the limit"


def test_trials_without_parameters_without_values_and_with_broken_ones_are_borne() -> None:
    among = distributions_of(space(3))
    study = study_of(PlacementSampler(seed=0, space=space(3)))
    values: list[Any] = [
        None,
        (1.0, 2.0),
        (float("inf"), 1.0),
        (float("-inf"), 3.0),
        (0.5, float("inf")),
        (0.1, 1.0),
    ]
    for outcome in values * 4:
        trial = study.ask(among)
        if outcome is None:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            study.tell(trial, outcome)
    study.add_trial(
        optuna.create_trial(values=(9.0, 0.0))
    )  # a placement that no parameters describe
    study.enqueue_trial(dict.fromkeys(among, "none"))
    go_on(study, 30, noisy, space(3))
    with_parameters = [p for p in proposed(study) if p]
    assert (
        len(set(with_parameters)) >= len(with_parameters) - 1
    )  # the one that was asked for may have been tried


def test_evidence_replaces_what_trials_hold() -> None:
    """Optuna was told nonsense; what is handed over beside it counts."""
    among = space(6)

    def evidence(study: optuna.Study) -> dict[int, Known]:
        return {
            t.number: Known((gain(t.params), cost(t.params)))
            for t in study.trials
            if t.state.is_finished()
        }

    study = study_of(PlacementSampler(seed=0, evidence=evidence))
    go_on(study, 60, lambda p: (-gain(p), -cost(p)), among)
    assert max(gain(t.params) for t in study.trials) > 5
    assert all(
        known.values == tuple(study.trials[n].values) for n, known in known_of_trials(study).items()
    )


def test_hints_of_pruned_trials_are_moved_by_what_others_gained() -> None:
    full = {n: Known((0.8 + n / 10, 2.0)) for n in range(3)}
    brief = {n: {1: [0.5 + n / 10, 2.0], 3: [0.7 + n / 10, None]} for n in range(3)} | {
        7: {1: [0.4, 3.0]},
        8: {3: [0.2, 1.0]},
    }
    found = weak_values(brief, full)
    assert found.keys() == {7, 8}
    assert found[7].values == (pytest.approx(0.7), 3.0)
    assert found[8].values == (pytest.approx(0.3), None)  # nobody has told a cost at that rung
    assert found[7].noise[0] > 1


def test_pruned_trials_are_learned_from() -> None:
    """With ParetoHalving most trials stop early: what they showed keeps their like from being
    tried.
    """
    halving = ParetoHalving(eta=3, rungs=[1, 3])

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        params = {
            name: trial.suggest_categorical(name, choices) for name, choices in space(8).items()
        }
        accuracy, latency = noisy(params)
        halving.report(trial, 1, [accuracy - 3, latency])
        if halving.should_prune(trial):
            raise optuna.TrialPruned
        return accuracy, latency

    study = study_of(PlacementSampler(seed=0, space=space(8)))
    study.optimize(objective, n_trials=60)
    pruned = [t for t in study.trials if t.state == optuna.trial.TrialState.PRUNED]
    assert len(known_of_trials(study)) == 60
    assert len(pruned) > 20
    assert best_believed(study, 3.0) > 4.5
