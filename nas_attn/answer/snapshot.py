"""A study as of now. Everything that shows results (show, status, report, notes, API) reads a
snapshot.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import median

from nas_attn.answer.cautions import Caution, Constant
from nas_attn.answer.facts import StudyState
from nas_attn.answer.fronts import sign_of
from nas_attn.answer.length import LengthGain
from nas_attn.answer.pair_tests import PairTest, ValidationResult
from nas_attn.answer.rate import RateGain
from nas_attn.attention.catalogue import CONTROLS
from nas_attn.latency.ratios import Elsewhere, LatencyRecord
from nas_attn.model import Estimate, Evidence, Gain, Noise
from nas_attn.model.features import BackboneStage, features, is_control
from nas_attn.recipe import tasks
from nas_attn.recipe.recipe import Recipe, lower_is_better, objective_name
from nas_attn.recipe.tables import Costs, is_cost
from nas_attn.space.placement import BARE_NAME, Placement
from nas_attn.space.search_space import BACKBONE_SITE
from nas_attn.storage.records import Latency

STATES = ("running", "scored", "pruned", "infeasible", "failed")


class Means(StrEnum):
    """What a user can do for a better network."""

    NOTHING = "nothing"
    """Keep the bare backbone."""
    ATTENTION = "attention"
    """Put attention into the study's backbone."""
    LARGER = "larger"
    """Take a larger network: a relative of the backbone, or a plain layer at every site."""
    SMALLER = "smaller"
    """Take a smaller relative, bare or with attention."""
    LONGER = "longer"
    """Train the bare backbone for more epochs."""


@dataclass(frozen=True, slots=True)
class ScorePoint:
    """One point of a learning curve."""

    # `search`; `confirm` or `round` (further seeds after the search); `backbone`
    purpose: str
    seed: int
    rung: int
    epochs: int
    metrics: Mapping[str, float]
    wall_s: float
    # as in `records.Score`
    arithmetic: str | None = None


@dataclass(frozen=True, slots=True)
class CandidateView:
    """A candidate with all that is known about it now."""

    key: str
    # explicit; its text can be pasted into any command
    placement: Placement
    trial: int
    state: str
    baseline: str | None
    # why it was pruned, is infeasible or failed
    reason: str
    cost: Costs | None
    latency: Latency | None
    scores: tuple[ScorePoint, ...]
    # the highest rung with a score; the estimates are of this rung
    rung: int | None
    # metric -> estimate at that rung
    estimates: Mapping[str, Estimate]
    # probability that it beats the bare backbone in the primary metric, at the last rung
    beats_none: float | None
    # objectives as estimated now (accuracy 0 to 1, latency as ratio, bytes)
    values: tuple[float | None, ...]
    # by these values, of candidates of any means
    on_front: bool
    # metric -> paired gain over the bare backbone
    gains: Mapping[str, Gain] = field(default_factory=dict)
    # Python that builds it; empty where the study does not know the images' shape
    snippet: str = ""
    means: Means = Means.ATTENTION
    # by the same values, of the bare backbone and placements in it alone
    on_front_of_placements: bool = field(default=False, compare=False)

    @property
    def label(self) -> str:
        return self.baseline or f"trial {self.trial}"

    @property
    def is_bare(self) -> bool:
        """Whether it is the bare backbone."""
        return self.baseline == BARE_NAME

    @property
    def attends(self) -> bool:
        """Whether attention is put into it, in the study's backbone or in another one."""
        return any(
            feature.site != BACKBONE_SITE and feature.type not in CONTROLS
            for feature in features(self.placement)
        )

    @property
    def choices(self) -> dict[str, str]:
        """Site (with its position where it is written) -> choice in notation, without `none`."""
        return {feature.site: feature.choice for feature in features(self.placement)}

    @property
    def train_bytes(self) -> float | None:
        """Most memory that its training has taken; None where that is not known."""
        return max(
            (p.metrics["peak_bytes"] for p in self.scores if "peak_bytes" in p.metrics),
            default=None,
        )

    @property
    def train_speed(self) -> float | None:
        """Images per second of its training, the median over rungs and runs; None where that is not
        known.
        """
        speeds = []
        for point in self.scores:
            if "images_per_s" in point.metrics:
                speeds.append(point.metrics["images_per_s"])
        if speeds:
            return median(speeds)
        return None

    @property
    def latency_ratio(self) -> float:
        """Latency in times of the bare backbone's; infinite where it is not known."""
        return math.inf if self.latency is None else self.latency.ratio

    @property
    def control(self) -> bool:
        """Whether it is no placement of attention in the study's backbone, but another network, or
        the backbone with plain layers.
        """
        return is_control(self.placement)


def unmeasured(
    recipe: Recipe, views: Iterable[CandidateView], *, measured: bool
) -> list[CandidateView]:
    """Candidates that are trained to the end and wait for the machine that measures latencies.

    Args:
        recipe: the study's; nothing waits if it needs no latency.
        views: all candidates.
        measured: whether the study's machine has measured anything; if not, scored ones wait, too.
    """
    needed = {objective_name(objective) for objective in recipe.objectives}
    if "latency" not in needed and not recipe.limits.bounds_latency:
        return []
    states = ("running",) if measured else ("running", "scored")
    last = recipe.training.last_rung
    return [
        view
        for view in views
        if view.state in states and view.rung == last and view.latency is None and not view.is_bare
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot(StudyState):
    """A study as of now."""

    objectives: tuple[str, ...]
    # the metric that the recommendation is about: the first trained objective, else accuracy
    primary: str | None
    # state -> candidates
    counts: Mapping[str, int]
    # by trial
    candidates: tuple[CandidateView, ...]
    # the study's own training of the bare backbone
    backbone: tuple[ScorePoint, ...]
    # metric -> noise floor at the last rung
    noise: Mapping[str, Noise]
    # of the bare backbone by twice the target's epochs; None: not tried
    longer: LengthGain | None
    latency: LatencyRecord | None
    # the oldest first
    validations: tuple[ValidationResult, ...]
    # each tested network, over all its validations
    pooled: tuple[PairTest, ...]
    # metrics that are the same for all candidates
    constants: tuple[Constant, ...]
    # warnings against any conclusion, the gravest first
    cautions: tuple[Caution, ...]
    # what other devices have measured; no objective, front or recommendation uses it
    elsewhere: tuple[Elsewhere, ...]
    # metric -> model at the last rung
    evidence: Mapping[str, Evidence] = field(repr=False, compare=False)
    # key -> model of the primary metric at the search's last rung, also where the target has run
    searched: Mapping[str, Evidence] = field(repr=False, compare=False)
    # what the rate brings that the study has found; None: it trains at the usual one
    rate: RateGain | None = None
    # of the backbone, as executed; empty where the study does not know them
    stages: tuple[BackboneStage, ...] = ()

    @property
    def planned_next(self) -> int:
        """Candidates in all of a search that goes on: twice as many. A search whose time ended
        before its first one plans none; then as many as its recipe says.
        """
        return 2 * self.planned or self.recipe.search.trials

    @property
    def front(self) -> tuple[CandidateView, ...]:
        """The candidates not dominated in the current estimates, the best in the primary metric
        first.
        """
        return self.ordered([view for view in self.candidates if view.on_front])

    @property
    def bare(self) -> CandidateView | None:
        """The bare backbone, with which all others are compared."""
        return next((view for view in self.candidates if view.is_bare), None)

    @property
    def finished(self) -> list[CandidateView]:
        """Candidates that were scored to the end."""
        last = self.recipe.training.last_rung
        pool = [view for view in self.candidates if view.state == "scored" and view.rung == last]
        return [view for view in pool if self.primary is None or self.primary in view.estimates]

    @property
    def reference_ms(self) -> float | None:
        """Milliseconds of the bare backbone; None: not measured."""
        latency = None if self.bare is None else self.bare.latency
        return None if latency is None else latency.reference_ms

    @property
    def latency_limit(self) -> float | None:
        """The recipe's limit of the latency, in times of the bare backbone's; None: none known."""
        return self.recipe.limits.latency_ratio(self.reference_ms)

    @property
    def able_to_win(self) -> list[CandidateView]:
        """The bare backbone and the placements in it that may be recommended: within the recipe's
        limit of the latency.
        """
        limit = self.latency_limit
        return [
            view
            for view in self.finished
            if not view.control and (limit is None or view.latency_ratio <= limit)
        ]

    @property
    def lacks_latency(self) -> list[CandidateView]:
        """Candidates that are trained and wait for their latencies."""
        return unmeasured(self.recipe, self.candidates, measured=self.latency is not None)

    @property
    def best_uniform(self) -> CandidateView | None:
        """The best of the uniform placements that may be recommended."""
        able = self.ordered(self.able_to_win)
        return next((view for view in able if view.baseline and not view.is_bare), None)

    @property
    def baselines(self) -> tuple[CandidateView, ...]:
        """The bare backbone and the uniform ones, by trial."""
        return tuple(
            view for view in self.candidates if view.baseline is not None and not view.control
        )

    @property
    def controls(self) -> tuple[CandidateView, ...]:
        """Networks that are no placement in the study's backbone: larger and smaller ones."""
        return self.ordered(view for view in self.candidates if view.control)

    @property
    def shown(self) -> tuple[CandidateView, ...]:
        """The candidates of tables: the front, the other baselines, the controls."""
        return (
            *self.front,
            *self.ordered(view for view in self.baselines if not view.on_front),
            *(view for view in self.controls if not view.on_front),
        )

    def compared(self, objective: str) -> bool:
        """Whether gains over the bare backbone are shown for an objective."""
        name = objective_name(objective)
        return not is_cost(objective) and any(name in view.gains for view in self.candidates)

    def ordered(self, views: Iterable[CandidateView]) -> tuple[CandidateView, ...]:
        """Best in the primary metric first: the best in a cost is only the cheapest. Unscored last,
        by trial.
        """
        metric = self.primary
        lower = lower_is_better(self.objectives[0])
        if metric is not None:
            lower = sign_of(self.recipe, metric) < 0

        def place(view: CandidateView) -> tuple[float, int]:
            value = view.values[0]
            if metric is not None:
                estimate = view.estimates.get(metric)
                value = None if estimate is None else estimate.mean
            if value is None:
                return math.inf, view.trial
            return (value if lower else -value), view.trial

        return tuple(sorted(views, key=place))

    @property
    def metric(self) -> str:
        """The primary metric; before anything is scored, the task's."""
        return self.primary or tasks.of(self.recipe).metric

    def runs_s(self, runs: int, epochs: int) -> float | None:
        """Seconds that further runs take, divided among as many workers as the study has.

        Args:
            runs: How many.
            epochs: Of each.

        Returns:
            By the pace of the study's runs; None before the first.
        """
        each_s = self.training_s(epochs)
        return None if each_s is None else math.ceil(runs / self.workers) * each_s

    def training_s(self, epochs: int) -> float | None:
        """Seconds that so many epochs of training take one worker, by the pace of the study's runs;
        None before the first.
        """
        longest: dict[tuple[str, str, int], int] = {}
        seconds = 0.0
        for view in self.candidates:
            for point in view.scores:
                run = (view.key, point.purpose, point.seed)
                longest[run] = max(longest.get(run, 0), point.epochs)
                seconds += point.wall_s
        return epochs * seconds / sum(longest.values()) if longest else None

    def find(self, key: str) -> CandidateView | None:
        return next((view for view in self.candidates if view.key == key), None)
