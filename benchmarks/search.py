"""How far from the true front a search ends: regret of what it reports, for our sampler and
Optuna's.

    # a quick look: some minutes
    python -m benchmarks.search --nasbench FILE --imagenet FILE
    # all of docs/benchmarks/search.md; hours, resumable
    python -m benchmarks.search --nasbench FILE --full --out R.jsonl
    # the tables of what is there
    python -m benchmarks.search --report R.jsonl
    # time a proposal takes
    python -m benchmarks.search --speed

Problems are tables whose truth is known (benchmarks/problems.py): made-up ones whose
types share something or nothing, NAS-Bench-201 at several ratios of spread and noise, the same with
choices relabelled at each site, and the tables of research/tables. A search begins with the
baselines, as a study does, and is told accuracy and latency of what it ran, nothing else. It
reports a front of single values (`raw`) or of what the model of all evidence makes of the same
values (`model`, nas_attn.model), as the program does.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from benchmarks.problems import (
    IMAGENET_DEVICES,
    Problem,
    count,
    enumerate_all,
    heavy,
    imagenet,
    made_up,
    nasbench,
    own_tables,
    pairs,
    sparse,
    trial_problems,
    two_pairs,
)
from nas_attn.model import ScoredRun, fit
from nas_attn.model.coding import names_of
from nas_attn.searching.propose.placement_sampler import PlacementSampler
from nas_attn.searching.propose.sampling import DistinctSampler, distributions
from nas_attn.space.notation import parse
from research.tables import read

BUDGETS = (30, 60, 120, 300)
LONG = ("shared 0.5",)
"""Problems of the longest searches, beside NAS-Bench-201 at 1."""
OURS = "placement"
BY_DEFAULT = "optuna"
"""What a user of Optuna gets who names no sampler."""
DEVICES = (0, 1, 2, 3)
DRAWN = {"pairs": pairs, "two_pairs": two_pairs, "sparse": sparse, "count": count, "heavy": heavy}
GP_SEEDS = 10


@dataclass(frozen=True)
class Job:
    """One search."""

    problem: str
    """`shared RATIO`, `unshared RATIO`, one of DRAWN with its ratio, `nb201 DEVICE RATIO`,
    `relabelled DEVICE RATIO`, `imagenet DEVICE`, `tables` or `trials`.
    """
    method: str
    seed: int
    budget: int
    workers: int = 1


class TableSpace:
    """A problem as the search space that a study's sampler takes."""

    def __init__(self, problem: Problem) -> None:
        self.allowed = self.parameters = dict(problem.sites)
        self.most_modules = len(self.allowed)
        self._problem = problem

    def contains(self, values: Mapping[str, str]) -> bool:
        return all(values[site] in choices for site, choices in self.allowed.items())

    def count(self) -> int:
        return len(self._problem.codes)

    def enumerate(self) -> Iterator[dict[str, str]]:
        return enumerate_all(self._problem)

    def sample(self, rng: Any) -> dict[str, str]:
        return {site: rng.choice(choices) for site, choices in self.allowed.items()}

    def neighbours(self, values: Mapping[str, str]) -> Iterator[dict[str, str]]:
        for site, choices in self.allowed.items():
            yield from (
                {**values, site: choice} for choice in choices if choice != values.get(site)
            )


def search(problem: Problem, job: Job) -> tuple[np.ndarray, np.ndarray]:
    """(rows, accuracies) in the order in which they were told. Of several workers, the one that is
    out longest tells next.
    """
    if job.method == BY_DEFAULT:
        return search_by_default(problem, job)
    space = TableSpace(problem)
    sampler = DistinctSampler(
        job.method,
        space,
        seed=job.seed,
        trials=job.budget,
        objectives=["accuracy", "latency"],
    )
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    for row in problem.baselines:
        study.enqueue_trial(problem.params(row))
    asked: list[optuna.Trial] = []
    rows, accuracies = [], []
    spaces = distributions(space)
    budget = min(job.budget, len(problem.codes))
    for number in range(budget + job.workers - 1):
        if number < budget:
            asked.append(study.ask(spaces))
        if number >= job.workers - 1:
            trial = asked.pop(0)
            row = problem.row(trial.params)
            found = problem.observe(row, job.seed)
            study.tell(trial, found)
            rows.append(row)
            accuracies.append(found[0])
    return np.array(rows), np.array(accuracies)


def search_by_default(problem: Problem, job: Job) -> tuple[np.ndarray, np.ndarray]:
    """The same with `optuna.create_study(directions=…)`, which chooses the sampler, and with
    choices that are suggested one by one: nothing keeps it from running a placement again.
    """
    study = optuna.create_study(directions=["maximize", "minimize"])
    # The chosen sampler with its own defaults, but for the seed.
    study.sampler = type(study.sampler)(seed=job.seed)
    for row in problem.baselines:
        study.enqueue_trial(problem.params(row))
    rows = []
    accuracies = []
    for _ in range(min(job.budget, len(problem.codes))):
        trial = study.ask()
        params = {
            site: trial.suggest_categorical(site, choices)
            for site, choices in problem.sites.items()
        }
        row = problem.row(params)
        values = problem.observe(row, job.seed)
        study.tell(trial, values)
        rows.append(row)
        accuracies.append(values[0])
    return np.array(rows), np.array(accuracies)


def judged(problem: Problem, rows: np.ndarray, accuracies: np.ndarray) -> dict[str, float]:
    """Regrets of a search's report. A placement that was run again, with the same result, counts
    once.
    """
    once = np.sort(np.unique(rows, return_index=True)[1])
    rows = rows[once]
    accuracies = accuracies[once]
    runs = [
        ScoredRun(str(row), 0, 0, accuracy / 100)
        for row, accuracy in zip(rows, accuracies.tolist(), strict=True)
    ]
    model = fit(runs, {str(row): parse(problem.notation(row)) for row in rows}, metric="accuracy")
    assert model is not None
    believed = np.array([model.estimates[str(row)].mean for row in rows])
    return {
        "raw": problem.front_regret(rows, accuracies),
        "model": problem.front_regret(rows, believed),
        "pick raw": problem.pick_regret(rows, accuracies),
        "pick model": problem.pick_regret(rows, believed),
    }


# ----------------------------------------------------------------------------------- which searches


def jobs(
    full: bool, nasbench_there: bool, imagenet_there: bool, methods: Sequence[str], runs: int
) -> list[Job]:
    """All searches: first those up to 60 runs, seed by seed, so that what is done when it is
    stopped has all problems in it.

    Those that stop at a budget serve the smaller ones too, but for NSGA-II, whose population
    follows it.
    """
    made = [*(f"{kind} 0.5" for kind in ("shared", "unshared")), *(f"{kind} 1" for kind in DRAWN)]
    ratios = [("nb201", 0.5), ("nb201", 1.0), ("relabelled", 1.0), ("nb201", 3.0)]
    found = []
    for budgets in ((30, 60), (120,), (300,))[: 3 if full else 1]:
        for seed in range(runs):
            device = DEVICES[seed % len(DEVICES)]
            names = (
                [f"{kind} {device} {ratio:g}" for kind, ratio in ratios] if nasbench_there else []
            )
            published = [f"imagenet {seed % len(IMAGENET_DEVICES)}"] if imagenet_there else []
            chosen = [*names, *published, *made, "tables", "trials"]
            if budgets == (300,):
                chosen = [name for name in chosen if name in (f"nb201 {device} 1", *LONG)]
            for name, method in itertools.product(chosen, methods):
                own = budgets if method == "nsga2" else budgets[-1:]
                if method != "gp" or (seed < GP_SEEDS and 60 in own and name.endswith(" 0.5")):
                    found += [Job(name, method, seed, budget) for budget in own]
                if (
                    full
                    and method == OURS
                    and name in (f"nb201 {device} 0.5", "shared 0.5")
                    and seed < 20
                ):
                    found.append(Job(name, OURS, seed, budgets[-1], workers=8))
    return found


@lru_cache(maxsize=40)
def problems_of(
    name: str, nasbench_file: str, imagenet_file: str, tables: str, seed: int
) -> list[Problem]:
    """The problems behind a job's name; all but NAS-Bench-201 as it is differ from seed to seed."""
    kind, *rest = name.split()
    if kind == "tables":
        return [found for found in own_tables(Path(tables), seed) if not isinstance(found, str)]
    if kind == "trials":
        return [found for found in trial_problems(seed) if not isinstance(found, str)]
    if kind in ("shared", "unshared"):
        return [made_up(seed, float(rest[0]), shared=kind == "shared")]
    if kind in DRAWN:
        return [DRAWN[kind](seed, float(rest[0]))]
    if kind == "imagenet":
        return [imagenet(Path(imagenet_file), int(rest[0]), seed)]
    device, ratio = int(rest[0]), float(rest[1])
    return [nasbench(Path(nasbench_file), device, ratio, seed if kind == "relabelled" else None)]


def budgets_of(job: Job) -> list[int]:
    """Budgets that a search's beginning stands for."""
    return [job.budget] if job.method == "nsga2" else [b for b in BUDGETS if b <= job.budget]


def work(job: Job, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One line for each problem and budget."""
    fixed = job.seed if not job.problem.startswith("nb201") else 0
    for problem in problems_of(
        job.problem, str(arguments.nasbench), str(arguments.imagenet), str(arguments.tables), fixed
    ):
        began = time.process_time()
        rows, accuracies = search(problem, job)
        seconds = time.process_time() - began
        for budget in budgets_of(job):
            if budget <= len(problem.codes):
                regrets = judged(problem, rows[:budget], accuracies[:budget])
                yield {
                    **asdict(job),
                    "table": problem.name,
                    "at": budget,
                    **regrets,
                    "seconds": round(seconds, 2),
                }


# ---------------------------------------------------------------------------------------- tables


def report(lines: Sequence[Mapping[str, Any]]) -> str:
    """The page's tables."""
    groups: dict[tuple[str, int], dict[str, list[Mapping[str, Any]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    once = {
        tuple(line.get(name) for name in ("table", "method", "workers", "at", "seed")): line
        for line in lines
    }
    for line in once.values():  # a search of 120 runs begins like that of 60
        words = line["table"].split()
        kind = " ".join([words[0], *words[2:]]) if words[0] == "nb201" else line["table"]
        method = line["method"] + (f" x{line['workers']}" if line["workers"] > 1 else "")
        groups[kind, line["at"]][method].append(line)
    out = []
    for kind, at in sorted(groups):
        out += [
            "",
            f"**{kind}, {at} runs**",
            "",
            "| " + " | ".join(COLUMNS) + " |",
            "|---" * len(COLUMNS) + "|",
        ]
        by_method = groups[kind, at]
        luck = {(line["table"], line["seed"]): line for line in by_method.get("random", [])}
        for method, some in sorted(by_method.items(), key=lambda pair: _mean(pair[1], "model")):
            paired = [
                (line, luck[line["table"], line["seed"]])
                for line in some
                if (line["table"], line["seed"]) in luck
            ]
            gains = [
                [mine[name] - its[name] for mine, its in paired] for name in ("model", "pick model")
            ]
            cells = [method, str(len(some)), _cell([line["raw"] for line in some])]
            cells += [
                _cell([line["model"] for line in some], spread=True),
                _cell(gains[0], sign="+"),
            ]
            cells += [
                _cell([line["pick raw"] for line in some]),
                _cell([line["pick model"] for line in some]),
            ]
            cells += [_cell(gains[1], sign="+")]
            out.append(f"| {' | '.join(cells)} |")
    return "\n".join(out)


COLUMNS = (
    "method",
    "n",
    "front, raw",
    "front, model (quartiles)",
    "− random",
    "pick, raw",
    "pick, model",
    "− random",
)


def _mean(lines: Sequence[Mapping[str, Any]], name: str) -> float:
    return float(np.mean([line[name] for line in lines]))


def _cell(values: Sequence[float], *, sign: str = "", spread: bool = False) -> str:
    """Mean and its standard error."""
    if not values:
        return ""
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    quartiles = f" ({low:.2f} {middle:.2f} {high:.2f})" if spread else ""
    return f"{np.mean(values):{sign}.2f} ± {error:.2f}{quartiles}"


# ---------------------------------------------------------------------------------------- speed


def speed() -> None:
    """Prints the CPU time of a proposal by the number of trials, in ms: median and longest of some
    proposals in a row.
    """
    print("| space | trials | median | longest |\n|---|---|---|---|", flush=True)
    for sites, choices in ((16, 30), (48, 12), (4, 8)):
        for trials in (100, 1000, 10_000):
            times = _proposal_times(sites, choices, trials)
            print(
                f"| {sites} sites x {choices} | {trials} | {np.median(times):.1f} |"
                f" {max(times):.1f} |",
                flush=True,
            )


def _proposal_times(sites: int, choices: int, trials: int, count: int = 12) -> list[float]:
    rng = np.random.default_rng(0)
    values = ["none", *[f"type{k % 10}(reduction={2 + k // 10})" for k in range(choices - 1)]]
    space = {f"stage{1 + s // 4}.block{1 + s % 4}": tuple(values) for s in range(sites)}
    spaces = {site: optuna.distributions.CategoricalDistribution(v) for site, v in space.items()}
    effects = rng.standard_normal((2, sites, choices))
    study = optuna.create_study(
        directions=["maximize", "minimize"],
        sampler=PlacementSampler(seed=0, space=space, names=names_of),
    )

    def outcome(params: Mapping[str, str]) -> list[float]:
        codes = [values.index(params[site]) for site in space]
        accuracy, latency = effects[:, np.arange(sites), codes].sum(axis=1)
        return [float(accuracy + 3 * rng.standard_normal()), float(latency)]

    for _ in range(trials):
        params = {site: values[int(rng.integers(choices))] for site in space}
        study.add_trial(
            optuna.create_trial(params=params, distributions=spaces, values=outcome(params))
        )
    study.ask(spaces)
    times = []
    for _ in range(count):
        began = time.process_time()
        trial = study.ask(spaces)
        times.append(1000 * (time.process_time() - began))
        study.tell(trial, outcome(trial.params))
    return times


# -------------------------------------------------------------------------------------- the command


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--nasbench", type=Path, default=Path("nasbench201.npz"), help="NAS-Bench-201 as one .npz"
    )
    parser.add_argument(
        "--imagenet",
        type=Path,
        default=Path("accel_nasbench.npz"),
        help="Accel-NASBench as one .npz",
    )
    parser.add_argument("--tables", type=Path, default=read.HERE, help="folder of own tables")
    parser.add_argument("--first", type=int, default=0, help="seed of the first search")
    parser.add_argument("--full", action="store_true", help="all problems, 50 runs or more of each")
    parser.add_argument("--runs", type=int, help="searches a problem and method (quick 4, full 52)")
    parser.add_argument(
        "--methods", nargs="+", default=[OURS, BY_DEFAULT, "random", "tpe", "nsga2", "gp"]
    )
    parser.add_argument(
        "--only",
        default="",
        help="problems whose name begins so: 'nb201 0', 'relabelled', 'shared'",
    )
    parser.add_argument(
        "--out", type=Path, help="JSON lines; searches that are there are not done again"
    )
    parser.add_argument(
        "--part",
        default="0/1",
        help="k/n: every n-th search, from the k-th: pieces for several processes",
    )
    parser.add_argument(
        "--report",
        type=Path,
        nargs="+",
        help="print the tables of these JSON lines, and search nothing",
    )
    parser.add_argument("--speed", action="store_true", help="time proposals, and search nothing")
    return parser.parse_args()


def main() -> None:
    arguments = _arguments()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    if arguments.speed:
        speed()
        return
    if arguments.report:
        lines = [line for path in arguments.report for line in path.read_text().splitlines()]
        print(report([json.loads(line) for line in lines]))
        return
    print(report(list(_all(arguments))))


def _all(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    there = arguments.nasbench.is_file()
    if not there:
        print(f"NAS-Bench-201 is left out: --nasbench {arguments.nasbench} is no file")
    published = arguments.imagenet.is_file()
    if not published:
        print(f"ImageNet is left out: --imagenet {arguments.imagenet} is no file")
    for found in itertools.chain(own_tables(arguments.tables, 0), trial_problems(0)):
        if isinstance(found, str):
            print(f"left out: {found}")
    runs = arguments.runs or (52 if arguments.full else 4)
    part, parts = map(int, arguments.part.split("/"))
    todo = [
        replace(job, seed=job.seed + arguments.first)
        for job in jobs(arguments.full, there, published, arguments.methods, runs)
        if job.problem.startswith(arguments.only)
    ]
    done: dict[str, list[dict[str, Any]]] = defaultdict(list)
    if arguments.out and arguments.out.exists():
        for text in arguments.out.read_text().splitlines():
            line = json.loads(text)
            done[
                json.dumps(
                    {
                        name: line.get(name, field.default)
                        for name, field in Job.__dataclass_fields__.items()
                    }
                )
            ].append(line)
    for job in todo[part::parts]:
        lines = done.get(json.dumps(asdict(job)))
        if lines is None:
            lines = list(work(job, arguments))
            if arguments.out:
                with arguments.out.open("a") as file:
                    file.write("".join(json.dumps(line) + "\n" for line in lines))
                    file.flush()
                    os.fsync(file.fileno())
        yield from lines


if __name__ == "__main__":
    main()
