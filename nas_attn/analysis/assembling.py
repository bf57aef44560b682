"""Makes the snapshot of a study from what its database holds."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from nas_attn import tasks
from nas_attn.analysis.capacity import with_capacity
from nas_attn.analysis.cautions import cautions, untried
from nas_attn.analysis.facts import StudyFacts
from nas_attn.analysis.features import is_control, is_other, snippets
from nas_attn.analysis.fronts import front_of, objective_value, primary_metric
from nas_attn.analysis.latency import by_device, latencies, latency_record
from nas_attn.analysis.length import (
    Brief,
    Runs,
    bare_runs,
    brief_of,
    length_found,
    longer_of,
)
from nas_attn.analysis.modelling import Models, StudyScores, models_of, searched_as_target
from nas_attn.analysis.pooled import pooled_tests
from nas_attn.analysis.recommendation import Contender, Recommendation
from nas_attn.analysis.recommending import recommend
from nas_attn.analysis.sanity import constants, weak_rungs
from nas_attn.analysis.snapshot import STATES, CandidateView, ScorePoint, Snapshot
from nas_attn.analysis.validation import validation_results
from nas_attn.model import TARGET, TESTED, Estimate, Evidence, Gain
from nas_attn.purposes import BACKBONE, CONFIRM, ROUND, SEARCH, TEST_PROTOCOL
from nas_attn.recipe import Recipe, objective_name
from nas_attn.records import (
    CandidateRow,
    StoredScore,
)
from nas_attn.tables import is_cost

# a gain at the target is not stated if half its interval exceeds so many times one run's noise
UNKNOWN = 5.0


def snapshot_of(facts: StudyFacts) -> Snapshot:
    """The snapshot of what a database holds; also of an empty or half-finished study."""
    recipe = facts.recipe
    rows = facts.candidates
    sessions = facts.sessions
    scores: dict[str, list[StoredScore]] = defaultdict(list)
    for stored in facts.scores:
        scores[stored.key].append(stored)
    own = scores.pop(BACKBONE, [])
    last = len(recipe.training.rungs) - 1

    def fitted(keys: Collection[str], larger: Collection[str] = ()) -> Models:
        placements = {row.key: row.placement for row in rows if row.key in keys}
        all_scores = StudyScores(
            searched=[stored for key in placements for stored in scores.get(key, ())],
            target=facts.target_scores,
            tested=facts.test_scores,
            labels=facts.labels.get(SEARCH),
            test_labels=facts.labels.get(TEST_PROTOCOL),
        )
        return models_of(recipe, placements, all_scores, larger)

    known = fitted({row.key for row in rows if not is_other(row.placement)})
    models = _at_the_end(known, last)
    primary = primary_metric(recipe, [metric for metric, _ in known])
    scored = [row.key for row in rows if row.state == "scored"]
    ended = {
        key: [s.score.metrics for s in scores.get(key, ()) if s.score.rung == last]
        for key in scored
    }
    same = {constant.metric: constant for constant in constants(recipe, primary, ended)}
    model = models.get(primary) if primary and primary not in same else None
    wanted = {objective_name(objective) for objective in recipe.objectives} | {primary}
    # solving a model takes seconds in a large study
    shown = wanted | {tasks.of(recipe).metric}
    told = {name: found for name, found in models.items() if name in wanted - same.keys()}
    gains = _gains(recipe, rows, told)
    bare = [s.score for row in rows if row.baseline == "none" for s in scores.get(row.key, ())]
    classes = facts.built.classes if facts.built else None
    before = [
        s.score for s in own if s.score.seed - recipe.first_seed in range(recipe.training.backbones)
    ]
    noise = known[primary, last].noise.paired_sd if primary and (primary, last) in known else None
    apart = _apart(rows, fitted)
    for key, its_own in apart.items():
        gains[key] = _gains(recipe, rows, _alike(recipe, _at_the_end(its_own, last), told)).get(
            key, {}
        )
    views = _views(facts, scores, known, apart, gains, model, shown)
    runs = _bare_runs(facts, rows)
    labels = facts.labels.get(SEARCH)
    validations = validation_results(
        recipe, facts.families, facts.ended, facts.test_scores, facts.labels.get(TEST_PROTOCOL)
    )
    as_target = model is not None and (model.rung >= TARGET or searched_as_target(recipe))
    return Snapshot(
        study=facts.name,
        created_at=facts.created_at,
        recipe=recipe,
        versions=facts.versions,
        objectives=tuple(recipe.objectives),
        primary=primary,
        counts={state: sum(row.state == state for row in rows) for state in STATES},
        candidates=tuple(views),
        backbone=_points(own),
        noise={metric: evidence.noise for metric, evidence in models.items() if metric in shown},
        recommendation=_recommend(recipe, views, model, last),
        brief=None if as_target or primary is None else _brief(facts, runs, primary),
        longer=None if primary is None else longer_of(recipe, runs, primary, labels),
        latency=latency_record(sessions, tasks.of(recipe).conditions),
        test_readings=tuple(facts.test_readings),
        validations=validations,
        pooled=pooled_tests(recipe, validations),
        planned=facts.planned,
        constants=tuple(same.values()),
        weak_rungs=tuple(weak_rungs(recipe, primary, known.items())),
        cautions=(
            *untried(rows, facts.planned),
            *cautions(recipe, primary, before, bare, classes, noise),
        ),
        retrained=tuple(facts.retrained),
        elsewhere=tuple(by_device(facts.sessions_elsewhere)),
        arithmetic=tuple(facts.arithmetic),
        evidence=models,
        images=tuple(facts.images),
        time_use=tuple(facts.time_use),
        stages=facts.built.stages if facts.built else (),
    )


def _bare_runs(facts: StudyFacts, rows: Iterable[CandidateRow]) -> Runs:
    """The bare network's trainings that start as the target does."""
    bare = {row.key for row in rows if row.baseline == "none"}
    searched = [stored for stored in facts.scores if stored.key in bare]
    target = [stored for stored in facts.target_scores if stored.key in bare]
    return bare_runs(facts.recipe, facts.length_scores, searched, target)


def _brief(facts: StudyFacts, runs: Runs, metric: str) -> Brief | None:
    known = length_found(facts.recipe, facts.length_scores, metric)
    labels = facts.labels.get(SEARCH)
    return brief_of(facts.recipe, runs, metric, _pace(facts), labels, known=known)


def _pace(facts: StudyFacts) -> float | None:
    """Epochs per second that all workers have trained, from the first candidate to the last; None
    before two have ended.
    """
    ended = [row.finished_at for row in facts.candidates if row.finished_at is not None]
    if len(ended) < 2:
        return None
    seconds = max(ended) - min(row.created_at for row in facts.candidates)
    last = max(facts.recipe.training.rungs)
    epochs = sum(
        stored.score.epochs
        for stored in facts.scores
        if stored.purpose == SEARCH and stored.score.epochs == last
    )
    return epochs / seconds if epochs and seconds > 0 else None


def _at_the_end(known: Models, last: int) -> dict[str, Evidence]:
    """Metric -> its model of the target, if that ran, else at the last rung."""
    return {metric: model for (metric, rung), model in known.items() if rung >= last}


def _alike(
    recipe: Recipe, some: Mapping[str, Evidence], models: Mapping[str, Evidence]
) -> dict[str, Evidence]:
    """The models in `some` of metrics for which `models` is about the same training."""
    return {
        metric: one
        for metric, one in some.items()
        if metric in models and _training(recipe, one) == _training(recipe, models[metric])
    }


def _training(recipe: Recipe, model: Evidence) -> int:
    """The rung whose training a model is about: scores on other images are about the same one."""
    return TARGET if model.rung >= TARGET or searched_as_target(recipe) else model.rung


def _apart(
    rows: Iterable[CandidateRow], fitted: Callable[[Collection[str], Collection[str]], Models]
) -> dict[str, Models]:
    """Models of each control that is another backbone, with the bare one only: its gain says
    nothing about attention's.

    Baselines among them are larger networks of the backbone's family; what a user has tried may be
    any network.
    """
    bare = [row.key for row in rows if row.baseline == "none"]
    others = (row for row in rows if is_other(row.placement))
    return {row.key: fitted({row.key, *bare}, {row.key} if row.baseline else ()) for row in others}


def _views(
    facts: StudyFacts,
    scores: Mapping[str, Sequence[StoredScore]],
    known: Models,
    apart: Mapping[str, Models],
    gains: Mapping[str, Mapping[str, Gain]],
    model: Evidence | None,
    shown: Collection[str | None],
) -> list[CandidateView]:
    """The candidates with their estimates at the highest rung. `model`: of the primary metric;
    `shown`: metrics to estimate.
    """
    recipe = facts.recipe
    rows = facts.candidates
    lines = snippets(facts.recipe, facts.built)
    at_rung = defaultdict[int | None, dict[str, Mapping[str, Estimate]]](dict)
    last = len(recipe.training.rungs) - 1
    for (metric, rung), evidence in known.items():
        if metric in shown:
            here = dict(evidence.estimates)
            for key, of in apart.items():
                own = of.get((metric, rung))
                if own is None and rung == TESTED and searched_as_target(recipe):
                    own = of.get((metric, last))
                if own is not None and key in own.ran:
                    here[key] = own.estimates[key]
            # The estimates of the target, and of the test images, replace the last rung's.
            at_rung[min(rung, last)][metric] = here
    times = latencies(rows, facts.sessions)
    points = {row.key: _points(scores.get(row.key, ())) for row in rows}
    highest = {
        key: max([point.rung for point in found], default=None) for key, found in points.items()
    }
    estimates = {
        key: {metric: of[key] for metric, of in at_rung[rung].items() if key in of}
        for key, rung in highest.items()
    }
    values = {
        row.key: tuple(
            objective_value(o, estimates[row.key], row.cost, times.get(row.key))
            for o in recipe.objectives
        )
        for row in rows
    }
    scored = {
        row.key: values[row.key]
        for row in rows
        if row.state == "scored" and not is_control(row.placement)
    }
    front = front_of(recipe.objectives, scored)
    return [
        CandidateView(
            key=row.key,
            placement=row.placement,
            trial=row.trial,
            state=row.state,
            baseline=row.baseline,
            reason=row.reason,
            cost=row.cost,
            latency=times.get(row.key),
            scores=points[row.key],
            rung=highest[row.key],
            estimates=estimates[row.key],
            beats_none=(
                gain.probability
                if model and (gain := gains.get(row.key, {}).get(model.metric))
                else None
            ),
            values=values[row.key],
            on_front=row.key in front,
            gains=gains.get(row.key, {}),
            by_prior=row.by_prior,
            snippet=lines(row.placement, row.key),
        )
        for row in rows
    ]


def _points(stored: Iterable[StoredScore]) -> tuple[ScorePoint, ...]:
    order = {BACKBONE: 0, SEARCH: 1, CONFIRM: 2, ROUND: 3}
    points = [
        ScorePoint(s.purpose, of.seed, of.rung, of.epochs, of.metrics, of.wall_s, of.arithmetic)
        for s in stored
        for of in (s.score,)
    ]
    return tuple(
        sorted(points, key=lambda point: (order.get(point.purpose, 4), point.seed, point.epochs))
    )


def _gains(
    recipe: Recipe, rows: Iterable[CandidateRow], models: Mapping[str, Evidence]
) -> dict[str, dict[str, Gain]]:
    """Key -> metric -> gain over the bare backbone, if both ran to the last rung and the interval
    is not too wide.
    """
    bare = next((row.key for row in rows if row.baseline == "none"), "")
    found: defaultdict[str, dict[str, Gain]] = defaultdict(dict)
    for metric, model in models.items():
        widest = math.inf
        if model.rung >= TARGET and not searched_as_target(recipe):
            widest = 2 * UNKNOWN * (model.noise.paired_sd or math.inf)
        for key, gain in model.gains(bare).items() if bare in model.ran else ():
            if key != bare and gain.high - gain.low < widest:
                found[key][metric] = gain
    return found


def _recommend(
    recipe: Recipe,
    views: Sequence[CandidateView],
    model: Evidence | None,
    last: int,
) -> Recommendation | None:
    if model is None or any(view.baseline == "none" and view.state == "running" for view in views):
        # the bare backbone, with which all others are compared, is not scored yet
        return None
    able = [
        v for v in views if v.state == "scored" and v.rung == last and model.metric in v.estimates
    ]
    known = [
        Contender(
            v.key,
            v.placement,
            v.baseline,
            v.estimates[model.metric],
            v.latency,
            v.on_front,
            _other_costs(recipe, v),
        )
        for v in able
    ]
    contenders, controls = (
        [c for c in known if is_control(c.placement) == of] for of in (False, True)
    )
    training = recipe.target_training if model.rung >= TARGET else recipe.training
    limit = recipe.limits.max_latency_ratio
    worth = recipe.answer.worth
    own = training.start != "scratch"
    found = recommend(
        contenders,
        model,
        max_latency_ratio=limit,
        own_backbone=own,
        training=training,
        worth=worth,
    )
    gains = {view.key: gain for view in able if (gain := view.gains.get(model.metric)) is not None}
    controls = [c for c in controls if c.key in gains]
    return with_capacity(
        found, contenders, controls, model, gains, max_latency_ratio=limit, worth=worth
    )


def _other_costs(recipe: Recipe, view: CandidateView) -> tuple[float, ...]:
    """A candidate's costs that are objectives, besides the latency; empty if they are not known."""
    names = [o for o in recipe.objectives if is_cost(o) and o != "latency"]
    return () if view.cost is None else tuple(view.cost[name] for name in names)
