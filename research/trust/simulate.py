"""How far the answers of a study can be believed: simulated studies whose truth is known, from the
first run to the answer.

    python -m research.trust.simulate                   # 500 studies of each kind
    python -m research.trust.simulate --studies 60      # or as many as there is time for
    python -m research.trust.simulate --only scratch    # kinds whose name has this in it
    python -m research.trust.simulate --unseen          # kinds thought up after the model
    python -m research.trust.simulate --lasting         # a placement's luck lasts over seeds
    python -m research.trust.simulate --keep FOLDER     # goes on where it was stopped

Each study runs its candidates (with `rungs`, the best third by raw score goes on), and then four
times a fresh seed for none, the one that would be recommended (`answer/answer.py`,
latencies included; where that is none, the most promising one), and two rivals: a slower one if it
was preferred to that for its latency, else a faster one; some drawn from the posterior; the best of
the others. The model is fitted anew each time.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from multiprocessing import Pool
from pathlib import Path

import numpy as np

from nas_attn.answer.answer import REQUIRED, REQUIRED_FROM_SCRATCH, answer_of
from nas_attn.answer.snapshot import STATES, CandidateView, Means, Snapshot
from nas_attn.model import Beforehand, Evidence, ScoredRun, fit
from nas_attn.model.dominance import non_dominated
from nas_attn.recipe.reading import recipe_from
from nas_attn.space.notation import parse
from research.trust import figures
from research.trust.figures import Outcome
from research.trust.studies import (
    FINE_TUNING,
    MEASURED,
    SCRATCH,
    AnyStudy,
    AnyWorld,
    MeasuredWorld,
    TableWorld,
    World,
    study,
    tables,
)
from research.trust.unseen import UNSEEN

ROUNDS, RIVALS = 4, 2
CONFIRMED = 6


def simulate(job: tuple[AnyWorld, int]) -> Outcome:
    """One study from its first run to its answer; of measured effects as a search does it."""
    world, seed = job
    made = study(world, np.random.default_rng([seed, *world.name.encode()]))
    if isinstance(world, MeasuredWorld):
        return carry_out(
            made, confirm_seeds=world.confirm_seeds, rounds=world.rounds or 2 * world.confirm_seeds
        )
    return carry_out(made)


def carry_out(made: AnyStudy, confirm_seeds: int = 0, rounds: int = ROUNDS) -> Outcome:
    """A study's runs, those of the comparison too, and what is made of them.

    Args:
        confirm_seeds: first, so many further seeds for six networks, as a search does.
        rounds: then so many fresh seeds for none, what would be taken, and two rivals.
    """
    started = time.process_time()
    runs = search(made)
    if confirm_seeds:
        keys = confirmed(made, look(made, runs))
        runs += [
            run
            for seed in range(confirm_seeds)
            for key in keys
            for run in made.runs(key, 50 + seed)
        ]
    evidence = look(made, runs)
    chosen, first, named = choose(made, evidence)
    compared = 0
    for number in range(rounds):
        for key in ["none", chosen, *rivals(made, evidence, chosen, first)]:
            runs += made.runs(key, 100 + number)
            compared += 1
        evidence = look(made, runs)
        chosen, first, named = choose(made, evidence)
    return judge(made, evidence, chosen, named, compared, time.process_time() - started)


def search(study: AnyStudy) -> list[ScoredRun]:
    """Every candidate with one seed; with several rungs the best third by raw score goes on, and
    the uniform ones.
    """
    world = study.world
    runs: list[ScoredRun] = []
    seeds = {key: i % world.backbones for i, key in enumerate(study.placements)}
    found = {key: study.runs(key, seeds[key]) for key in study.placements}
    going = list(study.placements)
    for rung in range(world.rungs):
        runs += [found[key][rung] for key in going]
        ranked = sorted(going, key=lambda key: -found[key][rung].value)
        fixed = [key for key in going if key == "none" or key.startswith("uniform")]
        going = list(dict.fromkeys([*fixed, *ranked[: math.ceil(len(going) / 3)]]))
    return runs


def look(study: AnyStudy, runs: Sequence[ScoredRun]) -> Evidence:
    texts = {key: parse(text) for key, text in study.placements.items()}
    found = fit(
        runs, texts, metric="accuracy", beforehand=Beforehand(pretrained=study.world.pretrained)
    )
    assert found is not None
    return found


def choose(study: AnyStudy, evidence: Evidence) -> tuple[str, list[str], bool]:
    """(what is taken, or promises most where that is none; the rival that comes first; whether it
    is taken).
    """
    answer = answer_of(snapshot(study, evidence))
    other = answer.bet if answer.bet is not answer.chosen else answer.faster
    first = [other.key] if other and answer.chosen else []
    if answer.chosen is not None:
        return answer.chosen.key, first, True
    return max(answer.options, key=lambda one: one.gain.worth).key, first, False


def snapshot(study: AnyStudy, evidence: Evidence, beside: Sequence[CandidateView] = ()) -> Snapshot:
    """The study as its answer is computed from; `beside`: networks other than placements."""
    able = [key for key in study.placements if evidence.estimates[key].seeds]
    latencies = {key: study.latency(key) for key in able}
    gains = evidence.gains("none")
    front = non_dominated(
        np.array([[-evidence.estimates[key].mean, latencies[key].ratio] for key in able])
    )
    views = [
        CandidateView(
            key=key,
            placement=parse(study.placements[key]),
            trial=trial,
            state="scored",
            baseline=key if key == "none" else None,
            reason="",
            cost=None,
            latency=latencies[key],
            scores=(),
            rung=0,
            estimates={evidence.metric: evidence.estimates[key]},
            beats_none=None,
            values=(evidence.estimates[key].mean, latencies[key].ratio),
            on_front=bool(best),
            gains={} if key == "none" else {evidence.metric: gains[key]},
            means=Means.NOTHING if key == "none" else Means.ATTENTION,
            on_front_of_placements=bool(best),
        )
        for trial, (key, best) in enumerate(zip(able, front, strict=True))
    ]
    start = "scratch" if required(study.world) == REQUIRED_FROM_SCRATCH else "pretrained"
    training = RECIPE.training.model_copy(update={"start": start})
    return Snapshot(
        study="simulated",
        created_at=0.0,
        recipe=RECIPE.model_copy(update={"training": training}),
        versions={},
        objectives=("accuracy", "latency"),
        primary=evidence.metric,
        counts=dict.fromkeys(STATES, 0) | {"scored": len(views)},
        candidates=(*views, *beside),
        backbone=(),
        noise={evidence.metric: evidence.noise},
        longer=None,
        latency=None,
        test_readings=(),
        validations=(),
        pooled=(),
        planned=len(views),
        constants=(),
        cautions=(),
        retrained=(),
        elsewhere=(),
        evidence={evidence.metric: evidence},
        searched={},
    )


RECIPE = recipe_from(
    {
        "name": "simulated",
        "space": {"name": "simulated", "choices": {"eca": {}}},
        "backbone": {"name": "resnet8"},
        "data": {"name": "digits-8x8"},
        "training": {"rungs": [10]},
        "target": {"epochs": 10},
    },
    where="simulated",
)


def required(world: AnyWorld) -> float:
    """The bar of attention."""
    from_scratch = isinstance(world, MeasuredWorld) or (
        isinstance(world, World) and world.noise.name == SCRATCH.name
    )
    return REQUIRED_FROM_SCRATCH if from_scratch else REQUIRED


def confirmed(study: AnyStudy, evidence: Evidence) -> list[str]:
    """Who gets further seeds when a search ends."""
    able = [key for key in study.placements if evidence.estimates[key].seeds]
    best = sorted(able, key=lambda key: -evidence.estimates[key].mean)
    rows = np.array([[-evidence.estimates[key].mean, study.latency(key).ratio] for key in best])
    front = [key for key, among in zip(best, non_dominated(rows), strict=True) if among]
    uniform = [key for key in best if key.startswith("uniform")][:1]
    return list(dict.fromkeys(["none", *uniform, *front, *best]))[:CONFIRMED]


def rivals(study: AnyStudy, evidence: Evidence, chosen: str, first: Sequence[str]) -> list[str]:
    """Who else is in a round, as in `rounds.next_round`: what the choice depends on most, the
    best uniform one, the best in draws from the posterior, the best others.
    """
    able = np.array(
        [key not in ("none", chosen) and evidence.estimates[key].seeds > 0 for key in evidence.keys]
    )
    drawn = np.where(able, evidence.draw(study.rng, 8), -np.inf).argmax(axis=1)
    best = sorted(evidence.keys, key=lambda key: -evidence.estimates[key].mean)
    uniform = [key for key in best if key.startswith("uniform") and evidence.estimates[key].seeds][
        :1
    ]
    who = dict.fromkeys([*first, *uniform, *(evidence.keys[i] for i in drawn), *best])
    return [key for key in who if able[evidence.keys.index(key)]][:RIVALS]


def judge(
    study: AnyStudy, evidence: Evidence, chosen: str, named: bool, compared: int, cpu_s: float
) -> Outcome:
    gain, value = evidence.gain(chosen, "none"), evidence.estimates[chosen]
    assert gain is not None
    true = study.true_gain(chosen, "none")
    at = study.true_value(chosen)
    values = [
        e.low <= study.true_value(key) / 100 <= e.high for key, e in evidence.estimates.items()
    ]
    return Outcome(
        probability=gain.probability,
        gain=100 * gain.mean,
        true=true,
        gain_covers=gain.low <= true / 100 <= gain.high,
        value_covers=value.low <= at / 100 <= value.high,
        all_value_covers=float(np.mean(values)),
        runs=compared,
        noise=100 * (evidence.noise.paired_sd or 0.0),
        cpu_s=cpu_s,
        named=named,
    )


# ------------------------------------------------------------------------------------------- tables


def worlds() -> Iterator[AnyWorld]:
    """All kinds of study that the model was developed with."""
    yield from made_up_worlds()
    for table in tables():
        yield TableWorld(table)
        yield TableWorld(table, rungs=2)
    for problem in MEASURED:
        yield from measured_worlds(problem)


def made_up_worlds() -> Iterator[World]:
    """Kinds whose effects and noise are drawn."""
    for noise in (FINE_TUNING, SCRATCH):
        for effects in ("null", "small", "planted"):
            for candidates in (20, 60):
                yield World(noise, effects, candidates)
    for effects in ("null", "small", "planted"):
        yield World(FINE_TUNING, effects, 60, backbones=3, interaction=0.2)
    yield World(FINE_TUNING, "null", 60, backbones=3)
    for noise in (FINE_TUNING, SCRATCH):
        for effects in ("null", "small", "planted"):
            yield World(noise, effects, 60, rungs=2)
    for effects in ("null", "planted"):
        yield World(FINE_TUNING, effects, 60, rungs=3)
    for effects in ("any", "pair", "sparse pair", "count", "heavy"):
        for noise in (FINE_TUNING, SCRATCH):
            yield World(noise, effects, 40)


def measured_worlds(problem: str) -> Iterator[MeasuredWorld]:
    """Kinds with the effects and the noise that were measured on a problem."""
    yield MeasuredWorld(problem)
    yield MeasuredWorld(problem, candidates=40)
    for seeds in (2, 3, 4):
        yield MeasuredWorld(problem, candidates=30, confirm_seeds=seeds)
    yield MeasuredWorld(problem, candidates=30, confirm_seeds=3, rounds=60)
    yield MeasuredWorld(problem, effects="null")
    for rounds in (0, 60):
        yield MeasuredWorld(problem, candidates=30, confirm_seeds=3, rounds=rounds, effects="null")


def unseen() -> Iterator[AnyWorld]:
    """Kinds that were thought up after the model was fixed, and a third as many in which nothing
    differs: a quarter of all.
    """
    for noise in (FINE_TUNING, SCRATCH):
        for effects in (*UNSEEN, "uneven"):
            yield World(noise, effects, 40)
        for candidates in (20, 25, 30, 40, 45, 50, 60):
            yield World(noise, "null", candidates)


def lasting() -> Iterator[World]:
    """Kinds in which a placement's luck is the same in all seeds of a study, and not true."""
    for effects in ("any", "null"):
        for noise, sizes in ((FINE_TUNING, (0.1, 0.2)), (SCRATCH, (0.2, 0.4))):
            for size in sizes:
                yield World(noise, effects, 40, lasting=size)


ROUND = 10
"""Studies of each kind before the next ones of the first kind, so that wherever it is stopped all
kinds have some.
"""


class Kept:
    """Outcomes in a file, a line each, so that a benchmark of hours can be stopped; without a
    folder nothing is kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self._file = folder and folder / "trust.jsonl"
        self.outcomes: dict[str, dict[int, Outcome]] = {}
        if self._file is not None and self._file.exists():
            for line in self._file.read_text().splitlines():
                known = json.loads(line)
                self.outcomes.setdefault(known["world"], {})[known["seed"]] = Outcome(
                    **known["outcome"]
                )

    def add(self, world: str, seed: int, outcome: Outcome) -> None:
        self.outcomes.setdefault(world, {})[seed] = outcome
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a") as file:
                known = {"world": world, "seed": seed, "outcome": asdict(outcome)}
                file.write(json.dumps(known) + "\n")


def run(kept: Kept, chosen: Sequence[AnyWorld], seeds: range, workers: int) -> None:
    """The studies that are not kept yet, in rounds over all kinds."""
    with Pool(workers) as pool:
        for start in range(seeds.start, seeds.stop, ROUND):
            for world in chosen:
                known = kept.outcomes.get(world.name, {})
                missing = [
                    seed for seed in seeds[start - seeds.start :][:ROUND] if seed not in known
                ]
                for seed, outcome in zip(
                    missing, pool.map(simulate, [(world, s) for s in missing]), strict=True
                ):
                    kept.add(world.name, seed, outcome)
            done = start + ROUND - seeds.start
            print(
                f"{min(done, len(seeds))} of {len(seeds)} studies of each kind",
                file=sys.stderr,
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=500, help="of each kind")
    parser.add_argument("--only", default="", help="kinds with this in their name")
    parser.add_argument(
        "--unseen", action="store_true", help="kinds that were thought up after the model was fixed"
    )
    parser.add_argument(
        "--lasting", action="store_true", help="kinds in which luck is the same in all seeds"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder where outcomes are kept, to go on from")
    parser.add_argument(
        "--data", type=Path, help="folder for the tables as trust-kinds.csv and trust-stated.csv"
    )
    options = parser.parse_args()
    kinds = lasting() if options.lasting else unseen() if options.unseen else worlds()
    chosen = [world for world in kinds if options.only in world.name]
    kept = Kept(options.keep)
    run(kept, chosen, range(options.seed, options.seed + options.studies), options.workers)
    found = [
        (world, [*kept.outcomes[world.name].values()])
        for world in chosen
        if world.name in kept.outcomes
    ]
    print(figures.page(found))
    if options.data:
        figures.write_data(found, options.data)


if __name__ == "__main__":
    main()
