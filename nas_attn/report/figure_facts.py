"""What a study's figures show, as facts: who gains most, what is sure, where the curves end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from nas_attn.answer.answer import Answer
from nas_attn.answer.effects import Effect, Effects
from nas_attn.answer.facts import Retrained
from nas_attn.answer.fronts import sign_of
from nas_attn.answer.pooled import PooledTest
from nas_attn.answer.snapshot import CandidateView, ScorePoint, Snapshot
from nas_attn.model import TARGET_RUNG, TESTED, Gain
from nas_attn.recipe import tasks

# A loss that falls by less than this share in the last fifth of the epochs has levelled off
STILL_FALLING = 0.03
# Epochs that have a last fifth
FEWEST_EPOCHS = 5


class Provenance(Enum):
    """The training and the images that estimates are about."""

    SEARCH = auto()
    """The search's own training, on the validation images."""
    TARGET = auto()
    """Training as the target says, on the validation images."""
    TESTED = auto()
    """Training as the target says, on the test images."""


def provenance(now: Snapshot, metric: str) -> Provenance:
    """Of the estimates of a metric."""
    model = now.evidence.get(metric)
    if model is None or model.rung < TARGET_RUNG:
        return Provenance.SEARCH
    return Provenance.TESTED if model.rung >= TESTED else Provenance.TARGET


def is_sure(gain: Gain) -> bool:
    """Whether the 95 % interval excludes zero."""
    return gain.low > 0 or gain.high < 0


@dataclass(frozen=True, slots=True)
class GainFacts:
    """How the gains of candidates over the bare backbone lie."""

    metric: str
    # all with a known gain
    views: tuple[CandidateView, ...]
    # those whose interval is above zero, the largest gain first
    better: tuple[CandidateView, ...]
    # those whose interval is below zero
    worse: tuple[CandidateView, ...]
    # what the answer takes; None without an answer, or if it is the bare backbone
    taken: CandidateView | None
    bare_is_taken: bool

    @property
    def open(self) -> int:
        """Candidates whose interval contains zero."""
        return len(self.views) - len(self.better) - len(self.worse)


def gain_facts(now: Snapshot) -> GainFacts | None:
    """Of the candidates that were scored to the end; None where no gain is known."""
    metric = now.primary
    if metric is None:
        return None
    views = [v for v in now.candidates if v.state == "scored" and metric in v.gains]
    if views:
        return facts_of_gains(now, metric, views)
    return None


def facts_of_gains(now: Snapshot, metric: str, views: Sequence[CandidateView]) -> GainFacts:
    """Of candidates with a known gain in the metric."""
    ordered = sorted(views, key=lambda view: -view.gains[metric].mean)
    return GainFacts(
        metric,
        tuple(ordered),
        better=tuple(view for view in ordered if view.gains[metric].low > 0),
        worse=tuple(view for view in ordered if view.gains[metric].high < 0),
        taken=next((view for view in ordered if view.key == now.taken), None),
        bare_is_taken=any(v.key == now.taken for v in now.candidates if v.is_bare),
    )


@dataclass(frozen=True, slots=True)
class EffectFacts:
    """What can be told of the effects of choices at single sites."""

    of: str
    # choices at a site, with their number of sites
    choices: int
    sites: int
    # choices whose interval excludes zero: the good ones, and the bad ones; the largest first
    good: tuple[Effect, ...]
    bad: tuple[Effect, ...]
    # the same of types over all their sites
    good_types: tuple[Effect, ...]
    bad_types: tuple[Effect, ...]

    @property
    def open(self) -> int:
        """Choices whose interval contains zero."""
        return self.choices - len(self.good) - len(self.bad)

    @property
    def best_types(self) -> tuple[Effect, ...]:
        """The good types that cannot be told from the best one: their intervals reach it."""
        if not self.good_types:
            return ()
        most = abs(self.good_types[0].mean)
        return tuple(row for row in self.good_types if abs(row.mean) + row.half >= most)

    @property
    def nothing_is_sure(self) -> bool:
        return not self.good and not self.bad


def effect_facts(effects: Effects) -> EffectFacts:
    """On latency, more is bad."""
    rows = effects.at("choice")
    sign = -1.0 if effects.of == "latency" else 1.0

    def sure(level_rows: tuple[Effect, ...], side: float) -> tuple[Effect, ...]:
        matching = [row for row in level_rows if row.sure and side * row.mean > 0]
        return tuple(sorted(matching, key=lambda row: -abs(row.mean)))

    types = effects.at("type")
    return EffectFacts(
        of=effects.of,
        choices=len(rows),
        sites=len({row.site for row in rows}),
        good=sure(rows, sign),
        bad=sure(rows, -sign),
        good_types=sure(types, sign),
        bad_types=sure(types, -sign),
    )


@dataclass(frozen=True, slots=True)
class CurveFacts:
    """Where the learning curves of a study end."""

    metric: str
    epochs: int
    # what the answer takes and its estimate at the search's last rung, and the bare backbone's
    taken: tuple[CandidateView, float] | None
    bare: float | None
    # half of the 95 % interval of their difference; 0 where none is known
    half: float
    # runs that were stopped early
    pruned: int


def curve_facts(now: Snapshot) -> CurveFacts | None:
    """None with a single rung, which makes no curve, or without scores at the last one."""
    metric = now.primary
    rungs = now.recipe.training.rungs
    if metric is None or len(rungs) < 2:
        return None
    ends: dict[str, float] = {}
    for view in now.candidates:
        evidence = now.searched.get(view.key)
        if view.rung == len(rungs) - 1 and evidence is not None:
            ends[view.key] = evidence.estimates[view.key].mean
    if not ends:
        return None
    bare = next((ends.get(v.key) for v in now.candidates if v.is_bare), None)
    best = None
    if now.taken:
        best = now.find(now.taken)
    taken = None
    half = 0.0
    if best is not None and not best.is_bare and best.key in ends:
        taken = (best, ends[best.key])
        gain = _gain_of_search(now, metric, best)
        half = 0.0 if gain is None else (gain.high - gain.low) / 2
    return CurveFacts(
        metric=metric,
        epochs=rungs[-1],
        taken=taken,
        bare=bare,
        half=half,
        pruned=now.counts["pruned"],
    )


def _gain_of_search(now: Snapshot, metric: str, view: CandidateView) -> Gain | None:
    """Over the bare backbone, at the search's last rung."""
    if provenance(now, metric) is Provenance.SEARCH:
        return view.gains.get(metric)
    evidence = now.searched[view.key]
    bare = next((one.key for one in now.candidates if one.is_bare), "")
    return evidence.gains(bare).get(view.key) if bare in evidence.ran else None


@dataclass(frozen=True, slots=True)
class RetrainedFacts:
    """How the trainings for use ended."""

    metric: str
    # those with a curve
    runs: tuple[Retrained, ...]
    # the best at its last epoch, and its score
    best: Retrained
    score: float | None
    # whether its training loss was still falling at the end; None: too few epochs, or no end yet
    falling: bool | None


def retrained_facts(now: Snapshot) -> RetrainedFacts | None:
    """None without a curve."""
    runs = tuple(run for run in now.retrained if run.curve)
    if not runs:
        return None
    metric = tasks.of(now.recipe).metric
    if now.primary is not None and all(now.primary in run.curve[-1].metrics for run in runs):
        metric = now.primary
    sign = sign_of(now.recipe, metric)

    def score(run: Retrained) -> float:
        value = run.curve[-1].metrics.get(metric)
        if value is None:
            return float("-inf")
        return sign * value

    best = max(runs, key=score)
    return RetrainedFacts(metric, runs, best, best.curve[-1].metrics.get(metric), _is_falling(best))


def _is_falling(run: Retrained) -> bool | None:
    losses = [point.train_loss for point in run.curve]
    under_way = run.metrics is None
    if under_way or len(losses) < FEWEST_EPOCHS:
        return None
    before = losses[int(0.8 * (len(losses) - 1))]
    return losses[-1] < (1 - STILL_FALLING) * before


@dataclass(frozen=True, slots=True)
class RunRange:
    """A network's runs against the bare backbone's of the same seeds."""

    metric: str
    view: CandidateView
    count: int
    # the worst and the best run's gain; positive is better
    low: float
    high: float


def run_range(now: Snapshot) -> RunRange | None:
    """Of the network that the answer takes; None without two runs to compare."""
    metric = now.primary
    view = None
    if now.taken:
        view = now.find(now.taken)
    if metric is None or view is None or view.is_bare:
        return None
    gains = [gain for _, gain in gains_of_runs(now, metric, view)]
    if len(gains) < 2:
        return None
    return RunRange(metric, view, len(gains), min(gains), max(gains))


@dataclass(frozen=True, slots=True)
class RunsBesideTest:
    """The search's runs of a network some of which lie outside the interval of its test."""

    test: PooledTest
    # of the runs: those outside, and the epochs of each
    outside: int
    epochs: int
    # candidates among which such runs have chosen the network; 0 where none lies above the interval
    chosen_among: int


def runs_beside_test(answer: Answer) -> RunsBesideTest | None:
    """Of the network that the answer takes; None without a test of it, or if no run is outside."""
    now = answer.now
    runs = run_range(now)
    test = None if answer.certainty is None else answer.certainty.test
    if runs is None or test is None or test.key != runs.view.key:
        return None
    low, high = test.between
    gains = [gain for _, gain in gains_of_runs(now, runs.metric, runs.view)]
    outside = sum(not low <= gain <= high for gain in gains)
    if not outside:
        return None
    return RunsBesideTest(
        test=test,
        outside=outside,
        epochs=now.recipe.training.rungs[-1],
        chosen_among=len(now.candidates) if max(gains) > high else 0,
    )


def gains_of_runs(
    now: Snapshot, metric: str, view: CandidateView
) -> list[tuple[ScorePoint, float]]:
    """A candidate's runs at the last rung, each with its gain over the bare backbone's run of the
    same seed, where there is one.
    """
    last = len(now.recipe.training.rungs) - 1
    level = {
        point.seed: point.metrics[metric]
        for bare in now.candidates
        if bare.is_bare
        for point in bare.scores
        if point.rung == last and metric in point.metrics
    }
    sign = sign_of(now.recipe, metric)
    return [
        (point, sign * (point.metrics[metric] - level[point.seed]))
        for point in view.scores
        if point.rung == last and metric in point.metrics and point.seed in level
    ]
