"""What a rule for going on at a rung is worth: simulated studies and replayed tables, at equal cost.

    python benchmarks/rungs.py --seeds 12 --out R.jsonl      # resumable
    python benchmarks/rungs.py --seeds 40 --methods none halving auto --out R.jsonl      # without what takes longest
    python benchmarks/rungs.py --report R.jsonl

Candidates come in random order, no attention and the uniform ones first, which always go on. The first rung costs a third of a full
run. `none` trains all to the end, `halving` asks `analysis.halving`, and `auto` asks `halving`
where `analysis.weak_rungs` has seen that the first rung tells placements apart (`search.rungs = "auto"`), until as much is spent as
40 full runs cost. What is reported is the model's front of those that were trained to the end; regret is what the best of it
within each of nine latencies misses, in points, on average; 0 would be to know all placements there are.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from kept_lines import keep, read
from simulated_studies import FINE_TUNING, SCRATCH, Study, TableStudy, TableWorld, World, study, tables

from nas_attn.analysis.evidence import Evidence, Run, fit
from nas_attn.analysis.front import non_dominated
from nas_attn.analysis.halving import survives
from nas_attn.analysis.levels import net
from nas_attn.analysis.weak_rungs import FEWEST, REPEATED, judged
from nas_attn.study.telling_rungs import AGAIN

AnyStudy = Study | TableStudy
METHODS = ("none", "halving", "auto")
ETA, FIRST, BUDGET, CANDIDATES = 3.0, 1 / 3, 40.0, 100
AGAIN_SEED = 99
"""Of the repeats with which `auto` looks at what the first rung is worth."""
OBJECTIVES = ("accuracy", "latency")


def worlds() -> Iterator[World | TableWorld]:
    for noise in (FINE_TUNING, SCRATCH):
        for correlation in (0.85, 0.0):
            yield World(noise, "any", CANDIDATES, rungs=2, rung_correlation=correlation)
        yield World(noise, "any", CANDIDATES, rungs=2, rung_spread=0.0)
    for table in tables():
        yield TableWorld(table, rungs=2)


def name(world: World | TableWorld) -> str:
    if isinstance(world, TableWorld):
        return world.name
    return world.name + (f", correlation {world.rung_correlation:g}" if world.rung_spread else ", first rung blind")


def search(made: AnyStudy, method: str, seed: int) -> list[Run]:
    """The runs of one search, both rungs."""
    latencies = {key: made.latency(key).ratio for key in made.placements}
    fixed = [key for key in made.placements if key == "none" or key.startswith("uniform")]
    others = [key for key in made.placements if key not in fixed]
    order = [*fixed, *np.random.default_rng(seed).permutation(others).tolist()]
    runs: list[Run] = []
    spent, telling = 0.0, Telling()
    for number, key in enumerate(order):
        if spent >= BUDGET:
            break
        first, last = made.runs(key, number % made.world.backbones)
        runs.append(first)
        spent += FIRST
        blind = method == "auto" and not telling.now(made, runs)
        if key in fixed or method == "none" or blind or promoted(made, runs, latencies, key):
            runs.append(last)
            spent += 1 - FIRST
        if method == "auto" and number < REPEATED:
            runs.append(made.runs(key, AGAIN_SEED)[0])
            spent += FIRST
    return runs


class Telling:
    """Whether a rung tells placements apart, looked at as `study.telling_rungs` does."""

    def __init__(self, rung: int = 0) -> None:
        self._rung, self._known, self._at = rung, False, 0.0

    def now(self, made: AnyStudy, runs: Sequence[Run]) -> bool:
        peers = [run for run in runs if run.rung == self._rung]
        count = len({run.key for run in peers})
        if count >= max(FEWEST, AGAIN * self._at):
            model = fit(peers, {run.key: made.placements[run.key] for run in peers}, metric="accuracy", rung=self._rung)
            found = judged(model) if model is not None else None
            self._known, self._at = found is not None and found.tells, count
        return self._known


def promoted(made: AnyStudy, runs: Sequence[Run], latencies: dict[str, float], key: str) -> bool:
    by_seed: dict[str, dict[int, float]] = defaultdict(dict)
    for run in runs:
        if run.rung == 0:
            by_seed[run.key][run.seed] = run.value
    values = {k: (-float(np.mean(list(found.values()))), latencies[k]) for k, found in net(by_seed).items()}
    return survives(values, key, ETA)


def regret(made: AnyStudy, runs: Sequence[Run]) -> float:
    """Points that the reported front misses within a latency, on average over latencies."""
    keys = list(made.placements)
    truth = {key: made.true_value(key) for key in keys}
    latency = {key: made.latency(key).ratio for key in keys}
    done = [run.key for run in runs if run.rung == 1]
    model: Evidence | None = fit(runs, {run.key: made.placements[run.key] for run in runs}, metric="accuracy")
    assert model is not None
    believed = {key: model.estimates[key].mean for key in done}
    front = [k for k, best in zip(done, non_dominated([[-believed[k], latency[k]] for k in done]), strict=True) if best]
    missed = []
    for limit in np.quantile(list(latency.values()), np.linspace(0.2, 1, 9)):
        mine = [key for key in front if latency[key] <= limit]
        taken = max(mine, key=lambda key: believed[key]) if mine else "none"
        missed.append(max(truth[key] for key in keys if latency[key] <= limit) - truth[taken])
    return float(np.mean(missed))


def report(lines: Sequence[dict[str, object]]) -> str:
    found: dict[str, dict[str, dict[int, dict[str, float]]]] = defaultdict(lambda: defaultdict(dict))
    for line in lines:
        found[str(line["world"])][str(line["method"])][int(str(line["seed"]))] = line  # type: ignore[assignment]
    pairs = (("halving", "none"), ("auto", "none"), ("auto", "halving"))
    rows = [f"| studies | all to the end | {' | '.join(f'{a} − {b}' for a, b in pairs)} |", "|---" * 6 + "|"]
    for world, by in found.items():
        cells = [mean(np.array([line["regret"] for line in by["none"].values()]))]
        for a, b in pairs:
            seeds = sorted(by[a].keys() & by[b].keys())
            cells.append(mean(np.array([by[a][seed]["regret"] - by[b][seed]["regret"] for seed in seeds]), "+"))
        rows.append(f"| {world} | {' | '.join(cells)} |")
    return "\n".join(rows)


def mean(values: np.ndarray, sign: str = "") -> str:
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    return f"{values.mean():{sign}.2f} ± {error:.2f} ({len(values)})" if len(values) else "–"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--out", type=Path, help="JSON lines; searches that are there are not done again")
    parser.add_argument("--report", type=Path, help="print the table of these lines, and search nothing")
    asked = parser.parse_args()
    lines = read(asked.report or asked.out)
    done = {(line["world"], line["method"], line["seed"]) for line in lines}
    for seed in range(0 if asked.report else asked.seeds):
        for world in worlds():
            for method in asked.methods:
                if (name(world), method, seed) in done:
                    continue
                began = time.process_time()
                made = study(world, np.random.default_rng([seed, *name(world).encode()]))
                runs = search(made, method, seed)
                line = {"world": name(world), "method": method, "seed": seed, "regret": regret(made, runs)}
                keep(lines, line | {"runs": len(runs), "seconds": round(time.process_time() - began, 1)}, asked.out)
    print(report(lines))


if __name__ == "__main__":
    main()
