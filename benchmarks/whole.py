"""From data to a recommendation: our search against others at equal CPU time, judged by fresh full
trainings.

    # goes on where it ended
    python -m benchmarks.whole fashion-mnist --out DIR --minutes 20 --searches 3 --root DATA
    python -m benchmarks.whole fashion-mnist --show

A problem is a recipe of `benchmarks/recipes/` (64 placements in a narrow ResNet-8, a search's
protocol, a target). Each method gets the same CPU minutes for everything: backbones, trainings,
latencies. It names one placement of at most 1.3 times the bare backbone's latency. Each named
placement is then trained as the target says, in blocks of fresh seeds, next to the bare backbone,
and scored on the test images, which no method sees.

Methods: `ours` (`nas-attn search`, one worker); `tpe` and `nsga2` (the Optuna script that most
people would write: train a third of the target's epochs, two objectives, take the best of the front
within the limit); `moasha` (Syne Tune's scheduler, stopping at rungs) and `neps` (NePS' default for
one objective), where they are installed; `uniform` (each module everywhere, target trainings with
equal seeds, take the best mean); `se` (SE everywhere, no search).

Every search and training is one line of DIR/PROBLEM.whole.jsonl: a killed call costs what was under
way. `--keep` moves the lines to benchmarks/recipes, from where later calls and `--show` read them,
too.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import random
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.rows import append_row, read_rows
from nas_attn.answer.answer import answer_of
from nas_attn.answer.answer_text import answer_lines
from nas_attn.answer.reading import snapshot
from nas_attn.data import loading
from nas_attn.errors import NasAttnWarning
from nas_attn.latency.ratios import estimate, open_keys
from nas_attn.latency.session import measure
from nas_attn.recipe.reading import load_recipe
from nas_attn.space.notation import parse
from nas_attn.storage.database import Database
from nas_attn.storage.records import Arithmetic
from nas_attn.training.learning_rates import candidate_rates
from nas_attn.training.numerics import new_arithmetic
from nas_attn.training.plan import make_plan
from nas_attn.training.run import Callbacks
from nas_attn.training.trainer import Trainer

RECIPES = Path(__file__).parent / "recipes"
PROBLEMS = sorted(path.stem for path in RECIPES.glob("*.toml"))
NONE = "none"
"""The bare backbone's notation."""
REASON = "the judges of a benchmark, which no search sees"
LIMIT = 1.3
"""Times the bare backbone's latency that a placement may take."""
JUDGES = 5_000
"""The first seed of the trainings that judge; searches have lower ones."""


class Bench:
    """Data, plans and trainers of one problem, as its search and as its target trains."""

    def __init__(self, problem: str, out: Path, root: str | None = None) -> None:
        self.problem = problem
        overrides = {"data.root": root} if root else None
        given = load_recipe(str(RECIPES / f"{problem}.toml"), overrides=overrides)
        target = given.model_copy(update={"training": given.target_training})
        self.recipes = {"search": given, "target": target}
        self.dataset = loading.load(given.data, device="cpu")
        shape = self.dataset.input_shape
        classes = len(self.dataset.classes)
        self.plans = {kind: make_plan(of, shape, classes) for kind, of in self.recipes.items()}
        # what all trainings of a folder compute in: decided by the first call, and kept there
        kept = out / "arithmetic.json"
        if not kept.exists():
            bare = self.plans["search"].bare(0)
            new = new_arithmetic(given.training, self.dataset.task, torch.device("cpu"), bare=bare)
            kept.write_text(new.text)
        computes = Arithmetic.from_text(kept.read_text())
        self.trainer = Trainer(target.training, self.dataset, device="cpu", arithmetic=computes)
        self.placements = {
            notation(values): values for values in self.plans["search"].space.enumerate()
        }
        """Notation -> values, in the space's order."""


def notation(values: Mapping[str, str]) -> str:
    """`stage1=se(reduction=4) stage3=eca`; `none` for the bare backbone."""
    return " ".join(f"{site}={value}" for site, value in values.items() if value != NONE) or NONE


class OverBudget(Exception):
    """The CPU time of a search is used up."""


class Lab:
    """What a method may use: trainings on the problem's data, latencies, and a clock of CPU
    time.
    """

    def __init__(self, bench: Bench, seed: int, minutes: float) -> None:
        self.bench, self.seed, self.budget_s = bench, seed, 60 * minutes
        self.began = time.process_time()
        self.space = {
            site: list(values) for site, values in bench.plans["search"].space.allowed.items()
        }
        self.target_epochs = bench.recipes["target"].training.rungs[-1]
        self._ratios: dict[str, float] = {NONE: 1.0}

    def check(self) -> None:
        if time.process_time() - self.began > self.budget_s:
            raise OverBudget

    def train(
        self,
        text: str,
        seed: int,
        rungs: list[int],
        on_rung: Callable[[int, float], bool] | None = None,
    ) -> float:
        """Validation accuracy after the last rung, from scratch. `on_rung(epochs, accuracy)`: False
        ends it there.
        """
        self.check()
        scores = fit(self.bench, text, seed, rungs, on_rung)
        return float(scores[-1].metrics["accuracy"])

    def ratio(self, text: str) -> float:
        """Median time of a forward pass over the bare backbone's, as a script would take it: 50 of
        each by turns.
        """
        if text not in self._ratios:
            self.check()
            plan, shape = self.bench.plans["search"], self.bench.dataset.input_shape
            nets = [plan.bare(0).eval(), built(self.bench, text, 0).eval()]
            x = torch.zeros(1, *shape)
            times: tuple[list[float], list[float]] = ([], [])
            with torch.inference_mode():
                for _ in range(60):
                    for net, taken in zip(nets, times, strict=True):
                        start = time.perf_counter()
                        net(x)
                        taken.append(time.perf_counter() - start)
            self._ratios[text] = statistics.median(times[1][10:]) / statistics.median(times[0][10:])
        return self._ratios[text]


def built(bench: Bench, text: str, seed: int) -> torch.nn.Module:
    """A placement's network, or a larger bare one (`backbone=…`)."""
    plan = bench.plans["target"]
    if text not in bench.placements:
        return plan.network(plan.resolved(parse(text)), seed)
    return plan.attach(plan.bare(seed), plan.space.resolve(bench.placements[text]), seed)


def text_of(bench: Bench, explicit: str) -> str:
    """The text that the problem has for a placement: a search's own writes every setting out."""
    space = bench.plans["search"].space
    return next(
        text
        for text, placement in bench.placements.items()
        if space.resolve(placement).text == explicit
    )


def everywhere(bench: Bench) -> list[str]:
    """The bare backbone, then each module at every site; a module's settings may differ from site
    to site.
    """
    return [
        notation(dict(zip(bench.plans["search"].space.allowed, each, strict=True)))
        for each in zip(*bench.plans["search"].space.allowed.values(), strict=True)
    ]


def fit(
    bench: Bench,
    text: str,
    seed: int,
    rungs: list[int],
    on_rung: Callable[[int, float], bool] | None = None,
) -> tuple[Any, ...]:
    """Trains from scratch as the target says, in cycles that end at the rungs."""
    model = built(bench, text, seed)
    rates = candidate_rates(bench.plans["target"], model)
    callbacks = Callbacks()
    if on_rung is not None:
        callbacks = Callbacks(lambda score: on_rung(score.epochs, float(score.metrics["accuracy"])))
    fitted = bench.trainer.fit(model, seed=seed, rungs=rungs, rates=rates, callbacks=callbacks)
    if seed >= JUDGES:
        test = bench.dataset.read_test(REASON)
        fitted += (bench.trainer.score(model, test, seed=seed, rung=1),)
    return fitted


# ---------------------------------------------------------------------------------------- methods


def best_within(seen: dict[str, list[float]], lab: Lab) -> str:
    """The placement with the best mean accuracy within the limit."""
    allowed = {text: values for text, values in seen.items() if lab.ratio(text) <= LIMIT}
    return max(allowed, key=lambda text: statistics.fmean(allowed[text]), default=NONE)


def until_over(lab: Lab, step: Callable[[], tuple[str, float]]) -> str:
    """Repeats a step, which returns a placement and its accuracy, until the time is over; the best
    within the limit.
    """
    seen: dict[str, list[float]] = {}
    try:
        while True:
            text, accuracy = step()
            seen.setdefault(text, []).append(accuracy)
            lab.ratio(text)
    except OverBudget:
        lab.budget_s = math.inf
        return best_within(seen, lab)


def optuna_script(sampler: str) -> Callable[[Lab], str]:
    def search(lab: Lab) -> str:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        samplers = {"tpe": optuna.samplers.TPESampler, "nsga2": optuna.samplers.NSGAIISampler}
        study = optuna.create_study(
            directions=["maximize", "minimize"], sampler=samplers[sampler](seed=lab.seed)
        )
        brief, seeds = max(1, lab.target_epochs // 3), itertools.count(1000 * lab.seed)

        def step() -> tuple[str, float]:
            trial = study.ask()
            text = notation(
                {
                    site: trial.suggest_categorical(site, values)
                    for site, values in lab.space.items()
                }
            )
            accuracy = lab.train(text, next(seeds), [brief])
            study.tell(trial, (accuracy, lab.ratio(text)))
            return text, accuracy

        return until_over(lab, step)

    return search


def moasha(lab: Lab) -> str:
    import numpy as np
    from syne_tune.backend.trial_status import Trial
    from syne_tune.config_space import choice
    from syne_tune.optimizer.scheduler import SchedulerDecision
    from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA

    np.random.seed(
        lab.seed
    )  # its configurations and brackets are drawn from NumPy's global generator
    random.seed(lab.seed)
    scheduler = MOASHA(
        {site: choice(values) for site, values in lab.space.items()},
        metrics=["error", "latency"],
        max_t=lab.target_epochs,
        random_seed=lab.seed,
    )
    numbers = itertools.count()
    rungs = sorted({1, *(r for r in (3, 9, 27) if r < lab.target_epochs), lab.target_epochs})
    finished: dict[str, list[float]] = {}

    def step() -> tuple[str, float]:
        number = next(numbers)
        config = scheduler.suggest().config
        text, trial = notation(config), Trial(number, config, None)
        scheduler.on_trial_add(trial)
        ratio = lab.ratio(text)

        def goes_on(epochs: int, accuracy: float) -> bool:
            result = {"training_iteration": epochs, "error": 1 - accuracy, "latency": ratio}
            if epochs == lab.target_epochs:
                finished.setdefault(text, []).append(accuracy)
            return bool(scheduler.on_trial_result(trial, result) == SchedulerDecision.CONTINUE)

        return text, lab.train(text, 1000 * lab.seed + number, rungs, goes_on)

    last = until_over(lab, step)
    return best_within(finished, lab) if finished else last


def neps_script(lab: Lab) -> str:
    import neps

    space = type(
        "Space",
        (neps.PipelineSpace,),
        {site: neps.Categorical(values) for site, values in lab.space.items()},
    )
    torch.manual_seed(lab.seed)
    optimizer = neps.AskAndTell(neps.algorithms.bayesian_optimization(space()))
    brief, seeds = max(1, lab.target_epochs // 3), itertools.count(1000 * lab.seed)

    def step() -> tuple[str, float]:
        trial = optimizer.ask()
        given = dict(trial.config)
        values = {s: next(v for k, v in given.items() if s in k) for s in lab.space}
        text = notation(
            {s: v if isinstance(v, str) else lab.space[s][int(v)] for s, v in values.items()}
        )
        accuracy = lab.train(text, next(seeds), [brief])
        over = max(0.0, lab.ratio(text) - LIMIT)
        optimizer.tell(trial.metadata.id, 1 - accuracy + over)
        return text, accuracy

    return until_over(lab, step)


def uniform(lab: Lab) -> str:
    texts = everywhere(lab.bench)
    turns = itertools.cycle(texts)
    numbers = itertools.count()

    def step() -> tuple[str, float]:
        seed = 1000 * lab.seed + next(numbers) // len(texts)
        text = next(turns)
        return text, lab.train(text, seed, [lab.target_epochs])

    return until_over(lab, step)


def se(lab: Lab) -> str:
    return next(text for text in everywhere(lab.bench) if text.startswith("stage1=se"))


SCRIPTS: dict[str, Callable[[Lab], str]] = {
    "tpe": optuna_script("tpe"),
    "nsga2": optuna_script("nsga2"),
    "moasha": moasha,
    "neps": neps_script,
    "uniform": uniform,
    "se": se,
}
METHODS = ("ours", *SCRIPTS)
MINUTES = (8, 25, 60)
"""How long searches were; a row of `show` for each."""


def ours(
    bench: Bench, seed: int, minutes: float, out: Path, root: str | None
) -> tuple[str, float, dict[str, Any]]:
    """`nas-attn search --minutes` with one worker, which trains as the target does: no brief
    training is known to predict training from scratch. Returns the recommendation, CPU seconds, and
    what the answer said.
    """
    problem = bench.problem
    url = f"sqlite:///{(out / f'{problem}-{seed}.db').resolve()}"
    epochs = bench.recipes["target"].training.rungs[-1]
    settings = {"limits.max_latency_ratio": LIMIT, "search.seed": seed, "training.start": "scratch"}
    settings["training.rungs"] = f"[{epochs}]"
    if root:
        settings["data.root"] = root
    changes = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    recipe = str(RECIPES / f"{problem}.toml")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "nas_attn.cli.main", "search", recipe, *changes]
    command += ["--storage", url, "--quiet", "--workers", "1", "--threads", "1"]
    command += ["--minutes", str(minutes)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in (0, 4, 130):
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    with Database(url) as database:
        now = snapshot(database.study(database.studies()[0].name))
    found = answer_of(now)
    odds = found.chosen.gain.probability if found.chosen else None
    said = {"odds": odds, "answer": answer_lines(found)}
    text = NONE
    if found.taken is not None:
        text = str(found.taken.placement)
        if not found.taken.view.control:
            text = text_of(bench, text)
    return text, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, said


# ------------------------------------------------------------------------ searches and their judges


def searches(
    bench: Bench, asked: argparse.Namespace, runs: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    done = {(run["method"], run["seed"]) for run in runs if run["what"] == "search"}
    for seed, method in itertools.product(
        range(asked.first, asked.first + asked.searches), asked.methods
    ):
        if (method, seed) in done:
            continue
        wall, said = time.time(), {}
        if method == "ours":
            text, cpu, said = ours(bench, seed, asked.minutes, asked.out, asked.root)
        else:
            lab = Lab(bench, seed, asked.minutes)
            try:
                text = SCRIPTS[method](lab)
            except ImportError as error:
                print(f"{method}: left out ({error})", flush=True)
                continue
            cpu = time.process_time() - lab.began
        yield {
            "what": "search",
            "method": method,
            "seed": seed,
            "placement": text,
            "cpu_s": round(cpu, 1),
            "wall_s": round(time.time() - wall, 1),
            "said": said,
        }


def judge(
    bench: Bench, asked: argparse.Namespace, runs: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    done = {(run["placement"], run["block"]) for run in runs if run["what"] == "judge"}
    named = [NONE, *dict.fromkeys(run["placement"] for run in runs if run["what"] == "search")]
    named += everywhere(bench)
    epochs = bench.recipes["target"].training.rungs
    for block, text in itertools.product(range(asked.blocks), dict.fromkeys(named)):
        if (text, block) not in done:
            test = fit(bench, text, JUDGES + block, list(epochs))[-1]
            yield {
                "what": "judge",
                "placement": text,
                "block": block,
                "accuracy": test.metrics["accuracy"],
            }


def latencies(
    bench: Bench, asked: argparse.Namespace, runs: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Paired sessions of what was named, once."""
    done = {run["placement"] for run in runs if run["what"] == "latency"}
    named = {run["placement"] for run in runs if run["what"] == "judge"} - done - {NONE}
    if not named:
        return
    section = bench.recipes["search"].latency
    models = {text: built(bench, text, 0) for text in named}
    sessions = list(
        measure(
            section,
            reference=bench.plans["target"].bare(0),
            candidates=models,
            input_shape=bench.dataset.input_shape,
            seed=0,
            still_open=lambda found: open_keys(found, list(models), tolerance=0.02, max_sessions=6),
        )
    )
    for text, found in estimate(sessions).items():
        yield {"what": "latency", "placement": text, "ratio": found.ratio}


def minutes_of(search: dict[str, Any]) -> int:
    """What the search was given, by what it took: some shared their core, and took less of it."""
    return min(MINUTES, key=lambda minutes: abs(math.log(max(search["cpu_s"], 1.0) / 60 / minutes)))


def show(runs: list[dict[str, Any]]) -> None:
    """One row per method and time: true gain on the test images, how often it is positive, latency,
    time.
    """
    accuracy: dict[str, dict[int, float]] = {}
    for run in runs:
        if run["what"] == "judge":
            accuracy.setdefault(run["placement"], {})[run["block"]] = run["accuracy"]
    ratio = {run["placement"]: run["ratio"] for run in runs if run["what"] == "latency"} | {
        NONE: 1.0
    }

    def gains(text: str) -> list[float]:
        bare, mine = accuracy.get(NONE, {}), accuracy.get(text, {})
        return [100 * (mine[block] - bare[block]) for block in sorted(mine.keys() & bare.keys())]

    print(
        "| method | minutes | searches | true gain, points | positive | bare recommended | latency"
        " | CPU min |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for method, minutes in itertools.product(METHODS, MINUTES):
        mine = [
            run
            for run in runs
            if run["what"] == "search" and (run["method"], minutes_of(run)) == (method, minutes)
        ]
        means = [
            statistics.fmean(gains(run["placement"])) for run in mine if gains(run["placement"])
        ]
        if not means:
            continue
        spread = statistics.stdev(means) / math.sqrt(len(means)) if len(means) > 1 else math.nan
        times = [ratio[run["placement"]] for run in mine if run["placement"] in ratio]
        none = sum(run["placement"] == NONE for run in mine)
        print(
            f"| {method} | {minutes} | {len(mine)} | {statistics.fmean(means):+.2f} ± {spread:.2f}"
            f" | {sum(m > 0 for m in means)} of {len(means)} | {none} |"
            f" {statistics.fmean(times or [math.nan]):.2f} × |"
            f" {statistics.fmean(run['cpu_s'] for run in mine) / 60:.1f} |"
        )
    print("\n| placement | true gain, points | blocks | latency |\n|---|---|---|---|")
    for text in sorted(accuracy, key=lambda t: -statistics.fmean(gains(t) or [0.0])):
        found = gains(text)
        error = statistics.stdev(found) / math.sqrt(len(found)) if len(found) > 1 else math.nan
        shown = f"{ratio[text]:.2f} ×" if text in ratio else ""
        print(
            f"| {text} | {statistics.fmean(found or [0.0]):+.2f} ± {error:.2f} | {len(found)} |"
            f" {shown} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("problem", choices=PROBLEMS)
    parser.add_argument("--out", type=Path, help="where finished searches and trainings are kept")
    parser.add_argument("--root", help="where the data set's files lie")
    parser.add_argument("--minutes", type=float, default=20.0, help="CPU minutes of each search")
    parser.add_argument("--searches", type=int, default=3)
    parser.add_argument(
        "--first", type=int, default=0, help="seed of the first search, to run or to show"
    )
    parser.add_argument(
        "--blocks", type=int, default=8, help="full trainings of each named placement"
    )
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument(
        "--keep", action="store_true", help="move what is finished to benchmarks/recipes"
    )
    parser.add_argument("--show", action="store_true", help="print the tables of what is there")
    asked = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    warnings.simplefilter("ignore", NasAttnWarning)
    torch.set_num_threads(1)
    kept = RECIPES / f"{asked.problem}.jsonl"
    path = None if asked.out is None else asked.out / f"{asked.problem}.whole.jsonl"
    if path is not None and not asked.show:
        keep(kept, path) if asked.keep else work(asked, kept, path)
    runs = read_rows(kept) + (read_rows(path) if path is not None else [])
    show([run for run in runs if run["what"] != "search" or run["seed"] >= asked.first])


def work(asked: argparse.Namespace, kept: Path, path: Path) -> None:
    """Searches, judges and measures what is missing."""
    asked.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(asked.problem, asked.out, asked.root)
    for part in (searches, judge, latencies):
        for record in part(bench, asked, read_rows(kept) + read_rows(path)):
            append_row(path, record)
            print({key: value for key, value in record.items() if key != "said"}, flush=True)


def keep(kept: Path, path: Path) -> None:
    for record in read_rows(path):
        append_row(kept, record)
    path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
