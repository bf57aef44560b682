"""ParetoHalving as any Optuna user would take it, and on real learning curves."""

from pathlib import Path

import numpy as np
import optuna
import pytest

from nas_attn.study.placement_sampler import ParetoHalving

CURVES = Path(__file__).parents[2].parent / "shared" / "data" / "learning_curves.npz"
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

    study = optuna.create_study(directions=["maximize", "minimize"], sampler=optuna.samplers.RandomSampler(seed=seed))
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
        better = [k for k in kept if k.params["worth"] > params["worth"] and k.params["cost"] < params["cost"]]
        close = [
            k for k in kept if abs(k.params["worth"] - params["worth"]) + abs(k.params["cost"] - params["cost"]) < 0.3
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
    there = [ParetoHalving(3, RUNGS).should_prune(optuna.Trial(other, trial._trial_id)) for trial in trials]
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


@pytest.mark.parametrize(
    ("eta", "rungs", "told"),
    [(1.0, RUNGS, "eta must be above 1"), (3.0, [3, 1], "rungs must increase"), (3.0, [], "rungs must increase")],
)
def test_settings_that_make_no_sense_are_refused(eta: float, rungs: list[int], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        ParetoHalving(eta, rungs)


def test_reports_that_do_not_fit_are_refused() -> None:
    trial = optuna.create_study(directions=["maximize", "minimize"]).ask()
    with pytest.raises(ValueError, match="has 2 objectives, not 1"):
        ParetoHalving(3, RUNGS).report(trial, 1, [0.5])
    with pytest.raises(ValueError, match="step 2 is no rung"):
        ParetoHalving(3, RUNGS).report(trial, 2, [0.5, 1.0])


def test_on_real_curves_the_best_configurations_survive() -> None:
    """TaskSet's validation losses: of random batches of 60, pruned by early loss, the survivors' best is close to the best."""
    if not CURVES.exists():
        pytest.skip(f"{CURVES} is not there")
    with np.load(CURVES) as file:
        curves = np.nan_to_num(file["valid_loss"][0], nan=np.inf)
    rng = np.random.default_rng(0)
    regrets = []
    for _ in range(5):
        study = optuna.create_study(directions=["minimize", "minimize"])
        halving = ParetoHalving(3, [5, 15, 50])
        batch = rng.choice(len(curves), 60, replace=False)
        kept = []
        for row in batch:
            trial = study.ask()
            for step in (5, 15, 50):
                halving.report(trial, step, [float(min(curves[row][step], 1e9)), 0.0])
                if halving.should_prune(trial):
                    break
            else:
                kept.append(row)
        finals = np.sort(curves[batch][:, 50])
        regrets.append(np.searchsorted(finals, min(curves[row][50] for row in kept)))
        assert len(kept) < 30
    assert np.median(regrets) <= 2, "ranks of the best survivor among 60"
