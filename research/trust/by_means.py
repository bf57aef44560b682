"""How far an answer can be believed whichever means it names: simulated studies with larger and
smaller networks and a longer training beside the placements, whose truth is known.

    python -m research.trust.by_means --studies 100 --seed 0        # tune on these
    python -m research.trust.by_means --studies 100 --seed 5000000  # judge on others
    python -m research.trust.by_means --keep FOLDER                 # goes on where it was stopped
    python -m research.trust.by_means --only "nothing, scratch" --keep FOLDER
    python -m research.trust.by_means --only "placement, scratch" --required 0.7 --keep FOLDER
    python -m research.trust.by_means --length --studies 400        # a longer training alone

Each study is carried out as in `simulate`: candidates, further seeds, rounds; relatives join as
`answer.rounds` lets them. Each bar is applied to the same studies.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import NormalDist

import numpy as np

from nas_attn.answer import answer as rule
from nas_attn.answer.answer import REQUIRED, REQUIRED_FROM_SCRATCH, Answer, answer_of
from nas_attn.answer.length import (
    Doubling,
    LengthGain,
    doublings,
    length_gain,
    may_bring_much,
    with_usual,
)
from nas_attn.answer.snapshot import CandidateView, Means
from nas_attn.model import Beforehand, Evidence, Gain, ScoredRun, fit
from nas_attn.recipe.reading import recipe_from
from nas_attn.space.notation import parse
from nas_attn.storage.labels import ValidationLabels
from nas_attn.storage.records import Score
from research.trust.simulate import confirmed, look, rivals, search, snapshot
from research.trust.studies import FINE_TUNING, SCRATCH, Floats, Noise, Study, World, known

BARS = (0.95, 0.99, 0.995)
# of attention; the others then need the last one of BARS
ATTENTION_BARS = (0.70, 0.75, 0.80, 0.85, 0.90)
CONFIRM_SEEDS = 3
ROUNDS = 6
MARGIN = 0.005
# points from which on a gain is not rounding
LEAST_TRUE = 1e-6
# on which a longer training is paired with the bare backbone: at first, and as long as it is open
LENGTH_SEEDS = 2
MOST_LENGTH_SEEDS = 8
# the least probability with which a relative joins further runs
IN_PLAY = 0.5
# of a larger network's gain, about as the model expects it; and what two runs differ by
EXPECTED = 0.005
SPREAD = 0.012
OF_A_PAIR = 0.011
LARGER = {"larger": 1.2, "next": 1.45}
SMALLER = {"smaller": 0.8, "smaller+": 0.9}
NOTATION = {
    "larger": "backbone=resnet8(width=20)",
    "next": "backbone=resnet8(width=24)",
    "smaller": "backbone=resnet8(width=12)",
    "smaller+": "backbone=resnet8(width=12) stage2=eca",
}
LONGER = "longer"
GAINS = {"nothing": (), "larger": ("larger", "next"), "longer": (LONGER,), "smaller": ()}
"""What gains twice a run's noise, by kind of study; in the last, smaller networks lose nothing, in
the others they lose as much."""
PLACED = {"half a point": 0.5, "placement": 0.0}
"""Points that one choice at one site adds, by kind of study; 0: twice a run's noise."""
RECIPE = recipe_from(
    {
        "name": "simulated",
        "space": {"name": "simulated", "choices": {"eca": {}}},
        "backbone": {"name": "resnet8"},
        "data": {"name": "digits-8x8"},
        "target": {"epochs": 10},
    },
    where="simulated",
)


@dataclass(frozen=True)
class Kind:
    """A kind of study."""

    noise: Noise
    what: str
    candidates: int = 20

    @property
    def name(self) -> str:
        return f"{self.what}, {self.noise.name}"

    @property
    def gain(self) -> float:
        """Twice the noise of one run, in points."""
        return 2 * (0.54 if self.noise is FINE_TUNING else 0.80)

    @property
    def required(self) -> float:
        """The bar of attention."""
        return REQUIRED if self.noise is FINE_TUNING else REQUIRED_FROM_SCRATCH


class StudyOfMeans(Study):
    """A study in which no placement gains anything, with other means beside them."""

    def add(self, kind: Kind) -> None:
        """Adds relatives, and the bare backbone trained longer."""
        lost = 0.0 if kind.what == "smaller" else -kind.gain
        gains = dict.fromkeys((*LARGER, LONGER), 0.0) | dict.fromkeys(SMALLER, lost)
        gains |= dict.fromkeys(GAINS.get(kind.what, ()), kind.gain)
        if kind.what in PLACED:
            # made with half a point
            self.effect = self.effect * (PLACED[kind.what] or kind.gain) / 0.5
            self._rung_effects = [self.effect]
        for key, gain in gains.items():
            self._index[key] = len(self._own)
            self._own = np.append(self._own, kind.noise.own)
            self._lasting = np.append(self._lasting, 0.0)
            self._interaction = np.append(self._interaction, np.zeros((1, 1)), axis=0)
            self._rung_effects = [np.append(self._rung_effects[0], gain)]
            self.effect = np.append(self.effect, gain)
            ways = kind.noise.placement_image * self._normal(1, self._ways.shape[1])
            self._ways: Floats = np.concatenate([self._ways, ways])


@dataclass(frozen=True)
class Taken:
    """What an answer takes."""

    what: str
    """A means; empty: the bare backbone."""
    probability: float
    """That the placement that is chosen, or promises most, is better than the bare backbone."""
    true: float
    """What that placement truly gains, in points."""


@dataclass(frozen=True)
class Found:
    """What a study says of each means."""

    attention: Mapping[str, Taken]
    """Bar of attention -> what is taken."""
    gains: Mapping[str, Gain]
    """Of the relatives over the bare backbone."""
    answers: Mapping[str, str]
    """Bar -> what is taken."""
    seeds: Mapping[str, int]
    """Bar -> on how many the bare backbone was trained longer."""


def carry_out(kind: Kind, seed: int, required: float) -> Found:
    """A study from its first run to its answer; `required`: the bar of attention on its way."""
    rng = np.random.default_rng([seed, *kind.name.encode()])
    effects = "planted" if kind.what in PLACED else "null"
    made = StudyOfMeans(World(kind.noise, effects, kind.candidates), rng)
    made.add(kind)
    runs = search(made)
    bare_runs = [run for run in runs if run.key == "none"]
    beside = {key: made.runs(key, 0) for key in NOTATION}
    evidence = look(made, runs)
    for number in range(CONFIRM_SEEDS):
        joined = _in_play(beside, bare_runs, 2)
        for key in confirmed(made, evidence)[: 6 - len(joined)]:
            runs += made.runs(key, 50 + number)
        bare_runs = [run for run in runs if run.key == "none"]
        for key in joined:
            beside[key] += made.runs(key, 50 + number)
    evidence = look(made, runs)
    for number in range(ROUNDS):
        chosen, first = _chosen(made, evidence, required)
        joined = _in_play(beside, bare_runs, 1)
        met = rivals(made, evidence, chosen, first)[: 2 - len(joined)]
        for key in ["none", chosen, *met]:
            runs += made.runs(key, 100 + number)
        bare_runs = [run for run in runs if run.key == "none"]
        for key in joined:
            beside[key] += made.runs(key, 100 + number)
        evidence = look(made, runs)
    return _judged(made, evidence, beside, bare_runs, required)


def _in_play(
    beside: Mapping[str, Sequence[ScoredRun]],
    bare: Sequence[ScoredRun],
    most: int,
) -> list[str]:
    """The relatives that may be the answer: larger ones that probably gain, smaller ones that may
    lose nothing; the likeliest first.
    """
    chances = {}
    for key, runs in beside.items():
        mean, error = _difference(runs, bare)
        if key in SMALLER:
            chances[key] = 0.75 if mean > -MARGIN else 0.25
            continue
        # what the model expects of a larger network, and how widely
        precision = 1 / error**2 + 1 / SPREAD**2
        posterior = (mean / error**2 + EXPECTED / SPREAD**2) / precision
        chances[key] = NormalDist().cdf(posterior * math.sqrt(precision))
    able = [key for key, chance in chances.items() if chance > IN_PLAY]
    return sorted(able, key=lambda key: -chances[key])[:most]


def _difference(runs: Sequence[ScoredRun], bare: Sequence[ScoredRun]) -> tuple[float, float]:
    """The mean difference on common seeds and its standard error. The model of a relative takes
    most of a study's time, and says nearly the same of who joins.
    """
    before = {run.seed: run.value for run in bare}
    pairs = [run.value - before[run.seed] for run in runs if run.seed in before]
    return float(np.mean(pairs)), OF_A_PAIR / math.sqrt(len(pairs))


def _apart(
    made: StudyOfMeans, key: str, runs: Sequence[ScoredRun], bare: Sequence[ScoredRun]
) -> tuple[Gain, Evidence]:
    """A relative's gain, by a model of it and the bare backbone alone."""
    placements = {"none": parse("none"), key: parse(NOTATION[key])}
    larger = {key} if key in LARGER else set()
    beforehand = Beforehand(True, larger, pretrained=made.world.pretrained)
    found = fit([*bare, *runs], placements, metric="accuracy", beforehand=beforehand)
    assert found is not None
    gain = found.gain(key, "none")
    assert gain is not None
    return gain, found


def _chosen(made: StudyOfMeans, evidence: Evidence, required: float) -> tuple[str, list[str]]:
    """What is taken of the placements, or promises most; and the rival that comes first."""
    answer = _answer(made, evidence, (), required)
    other = answer.bet if answer.bet is not answer.chosen else answer.faster
    first = [other.key] if other and answer.chosen else []
    if answer.chosen is not None:
        return answer.chosen.key, first
    return max(answer.options, key=lambda one: one.gain.worth).key, first


def _answer(
    made: StudyOfMeans, evidence: Evidence, beside: Sequence[CandidateView], required: float
) -> Answer:
    """What is recommended with this bar of attention, other networks beside it."""
    rule.required_from = lambda _start: required
    return answer_of(snapshot(made, evidence, beside))


def _judged(
    made: StudyOfMeans,
    evidence: Evidence,
    beside: Mapping[str, Sequence[ScoredRun]],
    bare: Sequence[ScoredRun],
    required: float,
) -> Found:
    gains = {}
    others = []
    like = snapshot(made, evidence).candidates[0]
    for key, runs in beside.items():
        gains[key], model = _apart(made, key, runs, bare)
        estimate = model.estimates[key]
        ratio = (LARGER | SMALLER)[key]
        others.append(
            replace(
                like,
                key=key,
                placement=parse(NOTATION[key]),
                baseline=key,
                latency=known(ratio),
                estimates={"accuracy": estimate},
                values=(estimate.mean, ratio),
                gains={"accuracy": gains[key]},
                means=Means.LARGER if key in LARGER else Means.SMALLER,
                on_front=False,
                on_front_of_placements=False,
            )
        )
    run_sd = evidence.noise.paired_sd or 0.0
    usual = usual_of(made.world.noise)
    trained = [made.runs(LONGER, run.seed)[0] for run in bare[:MOST_LENGTH_SEEDS]]
    answers = {}
    seeds = {}
    for bar in BARS:
        rule.SURE_ENOUGH = bar
        longer = _length(bare, trained, run_sd, bar, usual)
        answers[f"{bar:g}"] = _taken(_answer(made, evidence, others, required), longer.gain, bar)
        seeds[f"{bar:g}"] = longer.seeds
    attention = {}
    for at in ATTENTION_BARS:
        key, _ = _chosen(made, evidence, at)
        gain = evidence.gain(key, "none")
        assert gain is not None
        what = _taken(_answer(made, evidence, others, at), longer.gain, bar)
        attention[f"{at:g}"] = Taken(what, gain.probability, made.true_gain(key, "none"))
    return Found(attention, gains, answers, seeds)


def _taken(answer: Answer, longer: Gain, bar: float) -> str:
    """What is done; a longer training leads as in the rule."""
    taken = "" if answer.taken is None else str(answer.taken.means)
    gain = 0.0 if answer.taken is None else answer.taken.gain.mean
    if longer.probability >= bar and (taken in ("", "smaller") or longer.mean > gain):
        return LONGER
    return taken


def usual_of(noise: Noise) -> Doubling:
    """What twice the epochs usually bring in studies of this noise; from scratch the surest."""
    start = "pretrained" if noise is FINE_TUNING else "scratch"
    return next(one for one in doublings() if one.fits(start, 1200))


def _length(
    bare: Sequence[ScoredRun],
    trained: Sequence[ScoredRun],
    run_sd: float,
    bar: float,
    usual: Doubling | None = None,
) -> LengthGain:
    """What a longer training gains, on more seeds as long as that is open.

    Args:
        bare: the bare backbone's runs.
        trained: as long as twice that, on the same seeds, the first ones first.
        run_sd: what the noise of a run adds to a difference.
        bar: the probability that it needs.
        usual: what is expected beforehand; None: nothing.
    """
    for number in range(LENGTH_SEEDS, len(trained) + 1):
        before = {run.seed: _score(run, 10) for run in bare[:number]}
        after = {run.seed: _score(run, 20) for run in trained[:number]}
        runs = {10: before, 20: after}
        found = length_gain(RECIPE, runs, (10, 20), "accuracy", ValidationLabels(), run_sd)
        assert found is not None
        seen = found.gain
        if usual is not None:
            level = float(np.mean([score.metrics["accuracy"] for score in before.values()]))
            found = replace(found, gain=with_usual(seen, *usual.gain(level)), seen=seen)
        likely = seen.probability > 0.5 and found.gain.probability < bar
        if not likely and not may_bring_much(found, "accuracy"):
            break
    return found


def _score(run: ScoredRun, epochs: int) -> Score:
    return Score(
        run.seed,
        0,
        epochs,
        {"accuracy": run.value},
        correct=run.correct,
        examples=run.examples,
    )


# of the sum of squares from which a study knows the noise of runs
FREEDOMS = 20


def lengths(kind: Kind, seeds: range) -> dict[str, tuple[float, float, float]]:
    """Bar, without or with what is usual -> shares of studies whose longer training is taken for
    better, and is at least named (70 %), and on how many seeds it was trained. The bare backbone
    alone is trained, and the noise of runs is known with FREEDOMS.
    """
    rng = np.random.default_rng([99, *kind.name.encode()])
    alike = StudyOfMeans(World(kind.noise, "null", 3), rng)
    alike.add(Kind(kind.noise, "nothing"))
    pairs = (alike.runs("none", 0)[0].value - alike.runs(LONGER, 0)[0].value for _ in range(600))
    sd = float(np.std(list(pairs)))
    found: dict[tuple[float, bool], list[LengthGain]] = {}
    for seed in seeds:
        rng = np.random.default_rng([seed, *kind.name.encode()])
        made = StudyOfMeans(World(kind.noise, "null", 3), rng)
        made.add(kind)
        numbers = range(MOST_LENGTH_SEEDS)
        bare = [made.runs("none", number)[0] for number in numbers]
        trained = [made.runs(LONGER, number)[0] for number in numbers]
        run_sd = sd * math.sqrt(rng.chisquare(FREEDOMS) / FREEDOMS / 2)
        for bar, is_usual in itertools.product(BARS, (False, True)):
            usual = usual_of(kind.noise) if is_usual else None
            of = _length(bare, trained, run_sd, bar, usual)
            found.setdefault((bar, is_usual), []).append(of)
    shares = {}
    for (bar, is_usual), of in found.items():
        chances = np.array([longer.gain.probability for longer in of])
        trained_on = float(np.mean([longer.seeds for longer in of]))
        name = f"{bar:g}{', with what is usual' if is_usual else ''}"
        shares[name] = (
            float((chances >= bar).mean()),
            float((chances >= REQUIRED).mean()),
            trained_on,
        )
    return shares


def main() -> None:
    """Simulates, and prints how often each means is taken at each bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=100, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder where outcomes are kept")
    parser.add_argument("--length", action="store_true", help="a longer training alone")
    parser.add_argument("--only", default="", help="kinds with this in their name")
    parser.add_argument("--required", type=float, help="bar of attention on a study's way")
    options = parser.parse_args()
    kinds = [Kind(noise, what) for what in (*GAINS, *PLACED) for noise in (SCRATCH, FINE_TUNING)]
    kinds = [kind for kind in kinds if options.only in kind.name]
    if options.length:
        for kind in kinds:
            if kind.what in ("nothing", LONGER):
                print(kind.name, lengths(kind, range(options.seed, options.seed + options.studies)))
        return
    folder = options.keep or Path()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"means-{options.seed}.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    known_ones = {(line["kind"], line["seed"]): line for line in map(json.loads, lines)}
    for seed in range(options.seed, options.seed + options.studies):
        for kind in kinds:
            if (kind.name, seed) in known_ones:
                continue
            found = carry_out(kind, seed, options.required or kind.required)
            attention = {bar: asdict(taken) for bar, taken in found.attention.items()}
            line = {"kind": kind.name, "seed": seed, "attention": attention}
            line |= {"answers": dict(found.answers), "seeds": dict(found.seeds)}
            line["gains"] = {key: (g.mean, g.probability) for key, g in found.gains.items()}
            known_ones[kind.name, seed] = line
            with file.open("a") as kept:
                kept.write(json.dumps(line) + "\n")
        print(f"{seed - options.seed + 1} of {options.studies}", file=sys.stderr, flush=True)
    for kind in kinds:
        mine = [line for (name, _), line in known_ones.items() if name == kind.name]
        for bar in mine[0]["answers"] if mine else ():
            taken = [line["answers"][bar] for line in mine]
            print(f"{kind.name}; bar {bar}: {Counter(taken)} of {len(mine)}")
        for bar in mine[0]["attention"] if mine else ():
            at = [line["attention"][bar] for line in mine]
            taken = [one["what"] for one in at]
            false = sum(one["what"] == "attention" and one["true"] < LEAST_TRUE for one in at)
            counts = f"{Counter(taken)}, {false} of attention false, of {len(mine)}"
            print(f"{kind.name}; bar of attention {bar}: {counts}")


if __name__ == "__main__":
    main()
