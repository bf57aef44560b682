"""Our sampler and our pruner in a plain Optuna study with two objectives.

Optuna's own pruners take studies with one objective only. `ParetoHalving` prunes by Pareto rank.
"""

import optuna

from nas_attn import ParetoHalving, PlacementSampler

LAYERS = ("early", "middle", "late")
CHOICES = ("none", "gate", "blend", "mix")
WORTH = {"none": 0.0, "gate": 0.02, "blend": 0.03, "mix": -0.01}
COST = {"none": 0.0, "gate": 0.1, "blend": 0.3, "mix": 0.2}
STEPS = (1, 3, 9)

pruner = ParetoHalving(rungs=STEPS)


def objective(trial: optuna.Trial) -> tuple[float, float]:
    chosen = [trial.suggest_categorical(layer, CHOICES) for layer in LAYERS]
    cost = 1 + sum(COST[choice] for choice in chosen)
    score = 0.0
    for step in STEPS:
        score = 0.7 + sum(WORTH[choice] for choice in chosen) - 0.1 / step
        pruner.report(trial, step, [score, cost])
        if pruner.should_prune(trial):
            raise optuna.TrialPruned
    return score, cost


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        directions=["maximize", "minimize"], sampler=PlacementSampler(seed=0)
    )
    study.optimize(objective, n_trials=40)
    states = [trial.state.name for trial in study.trials]
    print(f"{states.count('COMPLETE')} complete, {states.count('PRUNED')} pruned")
    for best in study.best_trials:
        print(best.values, best.params)
