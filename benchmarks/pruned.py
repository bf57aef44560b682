"""Whole searches with rungs, at equal cost: sampler and pruner together, ours beside Optuna's and
Syne Tune's.

    python -m benchmarks.pruned --hub FOLDER --seeds 20 --out R.jsonl     # FOLDER: a checkout of
    optuna/optunahub-registry /path/to/env-with-syne-tune/bin/python -m benchmarks.pruned --methods
    moasha --seeds 20 --out R.jsonl python -m benchmarks.pruned --report R.jsonl

An environment with Syne Tune: `python -m venv E; E/bin/pip install syne-tune`, and PYTHONPATH with
this repository and the packages that it needs itself. Resumable.

Each search begins with the bare backbone and the uniform placements, which are trained to the end,
and goes on until as much is spent as 40 full runs cost. It is told accuracy and latency at each
rung. Problems: a replayed table of real trainings (benchmarks/tables, all three rungs), and
simulated studies of 1,296 placements with one rung at a third of the cost, on which effects are
much as at the last.

- `placement`, `halving`: our sampler; nobody is pruned, `search.pruner = "pareto_halving"`.
- `tpe`, `tpe halving`: Optuna's TPE, with our pruner or without.
- `tpe multi-metric`: with OptunaHub's MultiMetricPruner (Pareto ranks, the best third by Optuna's
  PercentilePruner).
- `moasha`: Syne Tune's MOASHA with random search, eta 3, as published.

What is reported is the front of those that reached the last rung: by the model of all evidence, or
of single values (`raw`). Regret: points that the best of it within a latency misses, on average
over nine latencies.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import optuna

from benchmarks.rows import keep_row, read_rows
from benchmarks.search import TableSpace
from benchmarks.simulated_studies import (
    FINE_TUNING,
    SITES,
    TYPES,
    Study,
    TableStudy,
    TableWorld,
    World,
    study,
    tables,
)
from nas_attn.dominance import non_dominated
from nas_attn.model import Beforehand, ScoredRun, fit
from nas_attn.notation import parse
from nas_attn.searching.propose.halving import ParetoHalving
from nas_attn.searching.propose.sampling import DistinctSampler
from nas_attn.searching.propose.untried import Exhausted, distributions

AnyStudy = Study | TableStudy
METHODS = ("placement", "halving", "tpe", "tpe halving", "tpe multi-metric", "moasha")
BUDGET = 40.0
ALL = 6**SITES


class Space(TableSpace):
    """All placements of a made study: site -> choice as its parameters are."""

    def __init__(self, made: AnyStudy) -> None:
        read = {key: _choices(text) for key, text in made.placements.items()}
        self.keys = {frozenset(choices.items()): key for key, choices in read.items()}
        found: dict[str, dict[str, None]] = {
            site: {"none": None} for site in sorted({s for c in read.values() for s in c})
        }
        for choices in read.values():
            for site, choice in choices.items():
                found[site][choice] = None
        self.allowed = self.parameters = {site: tuple(choices) for site, choices in found.items()}
        self.most_modules = len(found)
        self._read = read

    def count(self) -> int:
        return len(self.keys)

    def enumerate(self) -> Iterator[dict[str, str]]:
        yield from (self.values(key) for key in self.keys.values())

    def values(self, key: str) -> dict[str, str]:
        return {site: self._read[key].get(site, "none") for site in self.allowed}

    def key(self, values: Mapping[str, Any]) -> str:
        return self.keys[
            frozenset((site, choice) for site, choice in values.items() if choice != "none")
        ]


def _choices(text: str) -> dict[str, str]:
    """Site -> choice, without `none`."""
    return {a.site: str(a.choice) for a in parse(text).assignments if not a.choice.is_none}


class Search:
    """One search: what it ran, what it has spent."""

    def __init__(self, made: AnyStudy, epochs: Sequence[int]) -> None:
        self.made, self.epochs, self.space = made, epochs, Space(made)
        self.costs = np.diff([0, *epochs]) / epochs[-1]
        self.fixed = [key for key in made.placements if key == "none" or key.startswith("uniform")]
        self.runs: list[ScoredRun] = []
        self.spent, self._begun = 0.0, 0

    def carry_out(self, key: str, go_on: Callable[[int, ScoredRun], bool]) -> bool:
        """A candidate's run, rung by rung; whether it came to its end."""
        runs = self.made.runs(key, self._begun % self.made.world.backbones)
        self._begun += 1
        for rung, run in enumerate(runs):
            self.runs.append(run)
            self.spent += float(self.costs[rung])
            if rung < len(runs) - 1 and not (go_on(rung, run) or key in self.fixed):
                return False
        return True

    def latency(self, key: str) -> float:
        return self.made.latency(key).ratio


def with_optuna(found: Search, method: str, seed: int, hub: Path | None) -> None:
    """Ours and Optuna's."""
    sampler, pruner = (
        method.partition(" ")[::2] if method.startswith("tpe") else ("placement", method)
    )
    halving = ParetoHalving(3, found.epochs)
    chosen = DistinctSampler(
        sampler, found.space, seed=seed, trials=round(BUDGET), objectives=["accuracy", "latency"]
    )  # type: ignore[arg-type]
    foreign = MultiMetric(hub) if pruner == "multi-metric" else None
    made = optuna.create_study(
        directions=["maximize", "minimize"],
        sampler=chosen,
        pruner=foreign and foreign.pruner,
        storage=None,
    )
    for key in found.fixed:
        made.enqueue_trial(found.space.values(key))
    while found.spent < BUDGET:
        try:
            trial = made.ask(distributions(found.space))  # type: ignore[arg-type]
        except Exhausted:
            break
        key = found.space.key(trial.params)

        def go_on(rung: int, run: ScoredRun, trial: optuna.Trial = trial, key: str = key) -> bool:
            values = [100 * run.value, found.latency(key)]
            if foreign is not None:
                told = foreign.trial(trial)
                told.report({"accuracy": values[0], "latency": values[1]}, found.epochs[rung])
                return not told.should_prune()
            halving.report(trial, found.epochs[rung], values)
            return pruner != "halving" or not halving.should_prune(trial)

        if found.carry_out(key, go_on):
            made.tell(trial, [100 * found.runs[-1].value, found.latency(key)])
        else:
            made.tell(trial, state=optuna.trial.TrialState.PRUNED)


class MultiMetric:
    """OptunaHub's MultiMetricPruner, from a checkout of its registry."""

    def __init__(self, hub: Path | None) -> None:
        if hub is None:
            raise SystemExit(
                "tpe multi-metric needs --hub, a checkout of optuna/optunahub-registry"
            )
        module = _package(
            "multi_metric_pruner", hub / "package" / "pruners" / "multi_metric_pruner"
        )
        base = optuna.pruners.PercentilePruner(100 / 3, n_startup_trials=5)
        directions = {"accuracy": "maximize", "latency": "minimize"}
        self.pruner, self.trial = (
            module.MultiMetricPruner(base, metric_directions=directions, joint=True),
            module.MultiMetricPrunerTrial,
        )


def _package(name: str, folder: Path) -> ModuleType:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def with_moasha(found: Search, seed: int) -> None:
    """Syne Tune's."""
    from syne_tune.backend.trial_status import Trial
    from syne_tune.config_space import choice
    from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA

    space = {site: choice(list(choices)) for site, choices in found.space.allowed.items()}
    scheduler = MOASHA(
        space,
        metrics=["accuracy", "latency"],
        do_minimize=True,
        time_attr="epoch",
        max_t=found.epochs[-1],
        grace_period=found.epochs[0],
        reduction_factor=3,
        random_seed=seed,
    )
    queue, seen, number = list(found.fixed), set[str](), 0
    while found.spent < BUDGET and len(seen) < found.space.count():
        config = found.space.values(queue.pop(0)) if queue else scheduler.suggest().config
        key = found.space.key(config)
        if key in seen:
            continue
        seen.add(key)
        from datetime import datetime

        trial = Trial(trial_id=number, config=config, creation_time=datetime(2026, 1, 1))
        number += 1
        scheduler.on_trial_add(trial)

        def go_on(rung: int, run: ScoredRun, trial: Any = trial, key: str = key) -> bool:
            result = {
                "accuracy": -100 * run.value,
                "latency": found.latency(key),
                "epoch": found.epochs[rung],
            }
            return bool(scheduler.on_trial_result(trial, result) == "CONTINUE")

        if found.carry_out(key, go_on):
            run = found.runs[-1]
            scheduler.on_trial_complete(
                trial,
                {
                    "accuracy": -100 * run.value,
                    "latency": found.latency(key),
                    "epoch": found.epochs[-1],
                },
            )


def judged(found: Search) -> dict[str, float]:
    """Regret of the reported front, by the model and raw."""
    made, last = found.made, len(found.epochs) - 1
    truth = {key: made.true_value(key) for key in made.placements}
    latency = {key: found.latency(key) for key in made.placements}
    ended: dict[str, list[float]] = defaultdict(list)
    for run in found.runs:
        if run.rung == last:
            ended[run.key].append(run.value)
    texts = {run.key: parse(made.placements[run.key]) for run in found.runs}
    model = fit(
        found.runs,
        texts,
        metric="accuracy",
        beforehand=Beforehand(pretrained=found.made.world.pretrained),
    )
    assert model is not None
    raw = {key: float(np.mean(values)) for key, values in ended.items()}
    beliefs = {"raw": raw, "model": {key: model.estimates[key].mean for key in ended}}
    limits = np.quantile(list(latency.values()), np.linspace(0.2, 1, 9))
    regrets = {}
    for name, believed in beliefs.items():
        keys = list(believed)
        best = non_dominated(np.array([[-believed[key], latency[key]] for key in keys]))
        front = [key for key, among in zip(keys, best, strict=True) if among]
        missed = []
        for limit in limits:
            mine = [key for key in front if latency[key] <= limit]
            taken = max(mine, key=lambda key: believed[key]) if mine else "none"
            missed.append(max(truth[key] for key in truth if latency[key] <= limit) - truth[taken])
        regrets[name] = float(np.mean(missed))
    return {**regrets, "candidates": len(texts), "ended": len(ended)}


def worlds() -> list[tuple[World | TableWorld, tuple[int, ...]]]:
    """Worlds with their rungs' epochs."""
    found: list[tuple[World | TableWorld, tuple[int, ...]]] = [
        (TableWorld(name, rungs=3), (1, 2, 4)) for name in tables()
    ]
    assert len(TYPES) + 1 == 6
    found.append((World(FINE_TUNING, "any", ALL, rungs=2, rung_correlation=0.85), (1, 3)))
    return found


def report(lines: Sequence[Mapping[str, Any]]) -> str:
    """The page's table."""
    rows = [
        (
            "| problem | method | n | regret through the model | − placement | regret, raw |"
            " candidates, of these to the end |"
        )
    ]
    rows.append("|---" * 7 + "|")
    found: dict[str, dict[str, dict[int, Mapping[str, Any]]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for line in lines:
        found[line["world"]][line["method"]][line["seed"]] = line
    for world, by in found.items():
        for method in (m for m in METHODS if m in by):
            mine, ours = by[method], by["placement"]
            both = sorted(mine.keys() & ours.keys())
            gain = [mine[seed]["model"] - ours[seed]["model"] for seed in both]
            cells = [
                _mean([line["model"] for line in mine.values()]),
                _mean(gain, "+") if method != "placement" else "",
            ]
            cells += [_mean([line["raw"] for line in mine.values()])]
            sizes = [
                np.mean([line[name] for line in mine.values()]) for name in ("candidates", "ended")
            ]
            rows.append(
                f"| {world} | {method} | {len(mine)} | {' | '.join(cells)} | {sizes[0]:.0f},"
                f" {sizes[1]:.0f} |"
            )
    return "\n".join(rows)


def _mean(values: Sequence[float], sign: str = "") -> str:
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    return f"{np.mean(values):{sign}.2f} ± {error:.2f}" if len(values) else ""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, default=[m for m in METHODS if m != "moasha"]
    )
    parser.add_argument("--only", default="", help="problems with this in their name")
    parser.add_argument("--hub", type=Path, help="checkout of optuna/optunahub-registry")
    parser.add_argument(
        "--out", type=Path, help="JSON lines; searches that are there are not done again"
    )
    parser.add_argument(
        "--report", type=Path, nargs="+", help="print the table of these lines, and search nothing"
    )
    asked = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    kept = asked.report or ([asked.out] if asked.out else [])
    lines = [line for path in kept for line in read_rows(path)]
    done = {(line["world"], line["method"], line["seed"]) for line in lines}
    for seed in range(0 if asked.report else asked.seeds):
        for world, epochs in worlds():
            for method in asked.methods:
                if asked.only not in world.name or (world.name, method, seed) in done:
                    continue
                began = time.process_time()
                search = Search(
                    study(world, np.random.default_rng([seed, *world.name.encode()])), epochs
                )
                if method == "moasha":
                    with_moasha(search, seed)
                else:
                    with_optuna(search, method, seed, asked.hub)
                line = {"world": world.name, "method": method, "seed": seed, **judged(search)}
                keep_row(
                    lines, line | {"seconds": round(time.process_time() - began, 1)}, asked.out
                )
    print(report(lines))


if __name__ == "__main__":
    main()
