"""A study as of now. Everything that shows results (pareto, status, report, notes, API) reads a snapshot."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nas_attn.analysis.additive import with_predictions
from nas_attn.analysis.estimates import Estimate, NoiseFloor, NoiseModel, Runs
from nas_attn.analysis.front import non_dominated
from nas_attn.analysis.latency import dropped
from nas_attn.analysis.latency import estimate as estimate_latency
from nas_attn.analysis.objectives import COSTS, objective_value
from nas_attn.analysis.recommendation import Contender, Recommendation, recommend
from nas_attn.analysis.ties import ties
from nas_attn.recipe import Recipe, lower_is_better, objective_name
from nas_attn.records import CandidateRow, Cost, Latency, Session
from nas_attn.space.notation import parse
from nas_attn.storage import SplitReading, StoredScore, StudyStore

STATES = ("running", "scored", "pruned", "infeasible", "failed")


@dataclass(frozen=True, slots=True)
class ScorePoint:
    """One point of a learning curve."""

    purpose: str
    """`search`, `confirm` (a further seed after the search) or `backbone`."""
    seed: int
    rung: int
    epochs: int
    metrics: Mapping[str, float]
    wall_s: float


@dataclass(frozen=True, slots=True)
class CandidateView:
    """A candidate with all that is known about it now."""

    key: str
    placement: str
    """Explicit notation: can be pasted into any command."""
    trial: int
    state: str
    baseline: str | None
    reason: str
    """Why it was pruned, is infeasible or failed."""
    cost: Cost | None
    latency: Latency | None
    scores: tuple[ScorePoint, ...]
    rung: int | None
    """The highest rung with a score; the estimates are of this rung."""
    estimates: Mapping[str, Estimate]
    """Metric -> estimate at that rung."""
    beats_none: float | None
    """Probability that its primary metric is better than without attention, where both are scored at the last rung."""
    values: tuple[float | None, ...]
    """The objectives as estimated now, in the recipe's order and units (accuracy 0 to 1, latency as ratio, bytes)."""
    told: tuple[float, ...] | None
    """The objectives as told to Optuna."""
    on_front: bool
    told_on_front: bool
    tied_with: tuple[str, ...] = ()
    """Keys of other members of the front that it cannot be told apart from in any objective."""

    @property
    def label(self) -> str:
        """A short name: the baseline's, or the trial's."""
        return self.baseline or f"trial {self.trial}"

    @property
    def choices(self) -> dict[str, str]:
        """Site (with its position where it is written) -> choice in notation, without `none`."""
        return {
            f"{a.site}@{a.position}" if a.position else a.site: str(a.choice)
            for a in parse(self.placement).assignments
            if not a.choice.is_none
        }


@dataclass(frozen=True, slots=True)
class LatencyRecord:
    """What stands behind the study's latencies."""

    machine: str
    details: Mapping[str, str]
    conditions: Mapping[str, Any]
    sessions: int
    duration_s: float
    reference_ms: float
    """Median time of the bare backbone."""
    dropped: int
    """Sessions that do not count, because two copies of the bare backbone came out too far apart (A/A control)."""
    control_spread: float
    """Median distance from 1 of the ratio of those two copies, over all sessions."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A study as of now."""

    study: str
    created_at: float
    """Unix seconds."""
    recipe: Recipe
    versions: Mapping[str, str]
    objectives: tuple[str, ...]
    primary: str | None
    """The trained metric that the recommendation is about: the first of the objectives that is one, else accuracy."""
    counts: Mapping[str, int]
    """State -> candidates."""
    candidates: tuple[CandidateView, ...]
    """By trial."""
    backbone: tuple[ScorePoint, ...]
    """The study's own training of the bare backbone."""
    noise: Mapping[str, NoiseFloor]
    """Metric -> noise floor at the last rung."""
    recommendation: Recommendation | None
    latency: LatencyRecord | None
    test_readings: tuple[SplitReading, ...]

    @property
    def front(self) -> tuple[CandidateView, ...]:
        """The candidates not dominated in the current estimates, the best in the first objective first."""
        return self.ordered([view for view in self.candidates if view.on_front])

    @property
    def baselines(self) -> tuple[CandidateView, ...]:
        """No attention and the uniform ones, by trial."""
        return tuple(view for view in self.candidates if view.baseline is not None)

    @property
    def told_front_differs(self) -> bool:
        """Whether what Optuna was told gives another front than the current estimates."""
        return any(view.on_front != view.told_on_front for view in self.candidates)

    def ordered(self, views: Iterable[CandidateView]) -> tuple[CandidateView, ...]:
        """Best in the first objective first; unscored last, by trial."""

        def place(view: CandidateView) -> tuple[float, int]:
            first = view.values[0]
            sign = 1.0 if lower_is_better(self.objectives[0]) else -1.0
            return (math.inf if first is None else sign * first, view.trial)

        return tuple(sorted(views, key=place))

    @property
    def ties(self) -> tuple[tuple[CandidateView, CandidateView], ...]:
        """Pairs of the front that cannot be told apart in any objective."""
        front = self.front
        return tuple((a, b) for i, a in enumerate(front) for b in front[i + 1 :] if b.key in a.tied_with)

    def find(self, key: str) -> CandidateView | None:
        """The candidate with this key."""
        return next((view for view in self.candidates if view.key == key), None)

    def as_dict(self) -> dict[str, Any]:
        """Only what JSON knows; NaN and infinity become null. `reliability`: of one run, and of the mean of three."""
        plain = _plain(self)
        plain["recipe"] = self.recipe.model_dump(mode="json")
        plain["front"] = [view.key for view in self.front]
        plain["told_front_differs"] = self.told_front_differs
        for metric, floor in self.noise.items():
            plain["noise"][metric]["reliability"] = [floor.reliability(1), floor.reliability(3)]
        return plain  # type: ignore[no-any-return]


def snapshot(store: StudyStore) -> Snapshot:
    """The study as of now, read through its store; also of an empty or half-finished study."""
    recipe = Recipe.model_validate_json(store.recipe)
    rows, sessions = store.candidates(), store.sessions()
    scores: dict[str, list[StoredScore]] = defaultdict(list)
    for stored in store.scores(with_correct=True):
        scores["" if stored.purpose == "backbone" else stored.key].append(stored)
    backbone = _points(scores.pop("", []))
    views, models = _views(recipe, rows, scores, _latencies(rows, sessions))
    primary = _primary(recipe, [metric for metric, _ in models])
    last = len(recipe.training.rungs) - 1
    model = models.get((primary, last)) if primary else None
    views = _with_odds(views, model)
    views = _with_ties(views, recipe, {metric: m for (metric, rung), m in models.items() if rung == last}, sessions)
    return Snapshot(
        study=store.name,
        created_at=store.created_at,
        recipe=recipe,
        versions=store.versions,
        objectives=tuple(recipe.objectives),
        primary=primary,
        counts={state: sum(row.state == state for row in rows) for state in STATES},
        candidates=tuple(views),
        backbone=backbone,
        noise={metric: fitted.floor for (metric, rung), fitted in models.items() if rung == last},
        recommendation=_recommend(recipe, views, model, last),
        latency=_latency_record(sessions),
        test_readings=tuple(store.test_readings()),
    )


# ------------------------------------------------------------------------------------------- candidates


def _views(
    recipe: Recipe,
    rows: Sequence[CandidateRow],
    scores: Mapping[str, list[StoredScore]],
    latencies: Mapping[str, Latency],
) -> tuple[list[CandidateView], dict[tuple[str, int], NoiseModel]]:
    """The candidates, and the model of each metric at each rung."""
    models = _models(recipe, {row.key: scores.get(row.key, []) for row in rows})
    views = []
    for row in rows:
        points = _points(scores.get(row.key, []))
        rung = max((point.rung for point in points), default=None)
        estimates = {
            metric: found
            for (metric, at), model in models.items()
            if at == rung and (found := model.estimate(row.key)) is not None
        }
        latency, means = latencies.get(row.key), {metric: found.mean for metric, found in estimates.items()}
        views.append(
            CandidateView(
                key=row.key,
                placement=row.placement,
                trial=row.trial,
                state=row.state,
                baseline=row.baseline,
                reason=row.reason,
                cost=row.cost,
                latency=latency,
                scores=points,
                rung=rung,
                estimates=estimates,
                beats_none=None,
                values=tuple(objective_value(o, means, row.cost, latency) for o in recipe.objectives),
                told=row.values,
                on_front=False,
                told_on_front=False,
            )
        )
    return _with_fronts(recipe, views), models


def _models(recipe: Recipe, scores: Mapping[str, Sequence[StoredScore]]) -> dict[tuple[str, int], NoiseModel]:
    """(metric, rung) -> model over all candidates scored there, for the objectives, accuracy and loss."""
    wanted = {objective_name(o): lower_is_better(o) for o in recipe.objectives if o not in COSTS}
    wanted = {"accuracy": False, "loss": True} | wanted
    runs: dict[tuple[str, int], dict[str, Runs]] = {}
    for key, stored in scores.items():
        by_rung: dict[int, dict[int, StoredScore]] = defaultdict(dict)
        for one in stored:
            by_rung[one.score.rung][one.score.seed] = one
        for rung, seeds in by_rung.items():
            for metric in wanted:
                values = {s: one.score.metrics[metric] for s, one in seeds.items() if _known(one, metric)}
                if values:
                    runs.setdefault((metric, rung), {})[key] = _runs(metric, values, seeds)
    return {at: NoiseModel(at[0], found, lower_is_better=wanted[at[0]]) for at, found in sorted(runs.items())}


def _known(stored: StoredScore, metric: str) -> bool:
    return math.isfinite(stored.score.metrics.get(metric, math.nan))


def _runs(metric: str, values: Mapping[int, float], seeds: Mapping[int, StoredScore]) -> Runs:
    if metric != "accuracy":
        return Runs(values, {})
    correct = {s: bits for s in values if (bits := seeds[s].score.correct) is not None}
    return Runs(values, correct, min(seeds[s].score.examples for s in values))


def _points(stored: Iterable[StoredScore]) -> tuple[ScorePoint, ...]:
    points = [
        ScorePoint(s.purpose, s.score.seed, s.score.rung, s.score.epochs, dict(s.score.metrics), s.score.wall_s)
        for s in stored
    ]
    order = ("backbone", "search", "confirm")
    return tuple(sorted(points, key=lambda p: (order.index(p.purpose), p.seed, p.epochs)))


def _with_fronts(recipe: Recipe, views: list[CandidateView]) -> list[CandidateView]:
    """Marks the fronts: of what is estimated now, and of what was told; of the scored candidates."""
    signs = [1.0 if lower_is_better(objective) else -1.0 for objective in recipe.objectives]

    def front(rows: Mapping[str, Sequence[float | None]]) -> set[str]:
        known = {key: row for key, row in rows.items() if len(row) == len(signs)}
        if not known:
            return set()
        values = np.array([[math.nan if v is None else v for v in row] for row in known.values()], dtype=float)
        return {key for key, best in zip(known, non_dominated(values * signs), strict=True) if best}

    scored = [view for view in views if view.state == "scored"]
    now = front({view.key: view.values for view in scored})
    told = front({view.key: view.told for view in scored if view.told is not None})
    return [dataclasses.replace(v, on_front=v.key in now, told_on_front=v.key in told) for v in views]


def _with_odds(views: list[CandidateView], model: NoiseModel | None) -> list[CandidateView]:
    bare = next((view.key for view in views if view.baseline == "none"), None)
    if model is None or bare is None:
        return views
    return [
        view if view.key == bare else dataclasses.replace(view, beats_none=model.probability(view.key, bare))
        for view in views
    ]


def _with_ties(
    views: list[CandidateView], recipe: Recipe, models: Mapping[str, NoiseModel], sessions: Sequence[Session]
) -> list[CandidateView]:
    front = {view.key: view.values for view in views if view.on_front}
    bare = next((view.key for view in views if view.placement == "none"), None)
    tied = ties(list(front), recipe.objectives, front, models, sessions, bare)
    return [dataclasses.replace(view, tied_with=tied.get(view.key, ())) for view in views]


def _primary(recipe: Recipe, scored: Iterable[str]) -> str | None:
    trained = [objective_name(objective) for objective in recipe.objectives if objective not in COSTS]
    return trained[0] if trained else next((metric for metric in scored if metric == "accuracy"), None)


def _recommend(
    recipe: Recipe, views: Iterable[CandidateView], model: NoiseModel | None, last: int
) -> Recommendation | None:
    if model is None:
        return None
    contenders = [
        Contender(view.key, view.placement, view.baseline, view.estimates[model.metric], view.latency, view.on_front)
        for view in views
        if view.state == "scored" and view.rung == last and model.metric in view.estimates
    ]
    direction = model.metric in ("loss",) or f"-{model.metric}" in recipe.objectives
    limit = recipe.limits.max_latency_ratio
    return recommend(contenders, model, lower_is_better=direction, max_latency_ratio=limit)


# ------------------------------------------------------------------------------------------- latency


def _latencies(rows: Iterable[CandidateRow], sessions: Sequence[Session]) -> dict[str, Latency]:
    """Estimates of the measured, predictions of the others; the bare backbone is 1 by definition."""
    found = dict(estimate_latency(sessions)) if sessions else {}
    for row in rows:
        if sessions and not any(not a.choice.is_none for a in parse(row.placement).assignments):
            found[row.key] = Latency(1.0, 1.0, 1.0, _reference_ms(sessions), len(sessions))
    return with_predictions(found, {row.key: row.placement for row in rows})


def _reference_ms(sessions: Sequence[Session]) -> float:
    return statistics.median(session.reference_ms for session in sessions)


def _latency_record(sessions: Sequence[Session]) -> LatencyRecord | None:
    if not sessions:
        return None
    newest = sessions[-1]
    return LatencyRecord(
        machine=newest.fingerprint.name,
        details=dict(newest.fingerprint.details),
        conditions=dict(newest.conditions),
        sessions=len(sessions),
        duration_s=sum(session.duration_s for session in sessions),
        reference_ms=_reference_ms(sessions),
        dropped=len(dropped(sessions)),
        control_spread=statistics.median(abs(math.expm1(session.control_log_ratio)) for session in sessions),
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Recipe):
        return None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
