"""Makes the snapshot of a study from what its database holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace

from nas_attn.answer.cautions import (
    Caution,
    Constant,
    at_two_values,
    cautions,
    failures,
    trained_less,
    untried,
)
from nas_attn.answer.drawing import code_of
from nas_attn.answer.facts import StudyFacts, StudyState
from nas_attn.answer.fits import Fits, fits_of
from nas_attn.answer.fronts import front_of, objective_value, without_invisible
from nas_attn.answer.length import LengthGain, Runs, bare_runs, longer_of
from nas_attn.answer.modelling import scores_by_key
from nas_attn.answer.pair_tests import last_tests, validation_results
from nas_attn.answer.rate import rate_gain
from nas_attn.answer.snapshot import STATES, CandidateView, Means, ScorePoint, Snapshot
from nas_attn.latency.ratios import by_device, latencies, latency_record
from nas_attn.model import Noise
from nas_attn.model.features import is_control
from nas_attn.recipe import tasks
from nas_attn.recipe.purposes import BACKBONE, CONFIRM, ROUND, SEARCH, TEST_PROTOCOL
from nas_attn.recipe.recipe import Recipe
from nas_attn.recipe.tables import Costs
from nas_attn.space.search_space import other_of
from nas_attn.storage.labels import ValidationLabels
from nas_attn.storage.records import CandidateRow, Score, StoredScore

# the order in which a candidate's scores are listed, by what they were trained for
PURPOSE_ORDER = {BACKBONE: 0, SEARCH: 1, CONFIRM: 2, ROUND: 3}


def snapshot_of(facts: StudyFacts) -> Snapshot:
    """The snapshot of what a database holds; also of an empty or half-finished study."""
    recipe = facts.recipe
    rows = facts.candidates
    scores = scores_by_key(facts)
    own = scores.pop(BACKBONE, [])
    fits = fits_of(facts, scores)
    primary = fits.primary
    views = _views(facts, scores, fits)
    runs = _bare_runs(facts, rows)
    labels = ValidationLabels(facts.labels.get(SEARCH), facts.divisions)
    sd = fits.searched_sd
    test_labels = facts.labels.get(TEST_PROTOCOL)
    validations = validation_results(
        recipe, facts.families, facts.ended, facts.test_scores, test_labels
    )
    same = {item.name: getattr(facts, item.name) for item in fields(StudyState)}
    return Snapshot(
        **same,
        objectives=tuple(recipe.objectives),
        primary=primary,
        counts={state: sum(row.state == state for row in rows) for state in STATES},
        candidates=tuple(views),
        backbone=_points(own),
        noise=_noise(fits),
        longer=None if primary is None else _longer(facts, runs, primary, sd),
        rate=None if primary is None else rate_gain(recipe, facts.rates, primary, labels),
        latency=latency_record(facts.sessions, tasks.of(recipe).conditions),
        validations=validations,
        pooled=last_tests(validations),
        constants=tuple(fits.constants.values()),
        cautions=_cautions(facts, scores, own, fits),
        elsewhere=tuple(by_device(facts.sessions_elsewhere)),
        evidence=fits.at_the_end,
        searched=fits.searched,
        stages=facts.built.stages if facts.built else (),
    )


def _noise(fits: Fits) -> dict[str, Noise]:
    """Of the metrics that are shown."""
    shown = fits.shown
    return {metric: model.noise for metric, model in fits.at_the_end.items() if metric in shown}


def _cautions(
    facts: StudyFacts,
    scores: Mapping[str, Sequence[StoredScore]],
    own: Sequence[StoredScore],
    fits: Fits,
) -> tuple[Caution, ...]:
    """`own`: scores of the study's backbones."""
    recipe = facts.recipe
    seeds = range(recipe.first_seed, recipe.first_seed + recipe.training.backbones)
    before = [stored.score for stored in own if stored.score.seed in seeds]
    bare: list[Score] = []
    for row in facts.candidates:
        if row.is_bare:
            bare += [stored.score for stored in scores.get(row.key, ())]
    classes = None
    if facts.built:
        classes = facts.built.classes
    return (
        *untried(facts.candidates, facts.planned),
        *failures(facts.candidates),
        *(() if fits.as_target else trained_less(recipe)),
        *cautions(recipe, fits.primary, before, bare, classes),
        *at_two_values(fits.at_the_end.get(fits.primary or "")),
    )


def _bare_runs(facts: StudyFacts, rows: Iterable[CandidateRow]) -> Runs:
    """The bare backbone's trainings that start as the target does."""
    bare = {row.key for row in rows if row.is_bare}
    searched = [stored for stored in facts.scores if stored.key in bare]
    target = [stored for stored in facts.target_scores if stored.key in bare]
    return bare_runs(facts.recipe, facts.length_scores, searched, target)


def _longer(facts: StudyFacts, runs: Runs, metric: str, sd: float | None) -> LengthGain | None:
    """What twice the target's epochs bring; as many images are trained on as each seed has, else as
    are in the training split.
    """
    images = None
    known = facts.images
    if known is not None and known.division is not None:
        images = known.division.trained
    elif known is not None and known.inventory is not None:
        images = sum(known.inventory.counts.get("train", {}).values()) or None
    labels = ValidationLabels(facts.labels.get(SEARCH), facts.divisions)
    return longer_of(facts.recipe, runs, metric, labels, sd, images=images)


def _views(
    facts: StudyFacts, scores: Mapping[str, Sequence[StoredScore]], fits: Fits
) -> list[CandidateView]:
    """The candidates with their estimates at the highest rung."""
    rows = facts.candidates
    times = latencies(rows, facts.sessions)
    by_rung = fits.estimates_by_rung()
    model = fits.model
    bare_cost = next((row.cost for row in rows if row.is_bare), None)
    views = []
    for row in rows:
        points = _points(scores.get(row.key, ()))
        rung = max([point.rung for point in points], default=None)
        estimates = {}
        if rung is not None:
            for metric, estimates_by_key in by_rung.get(rung, {}).items():
                if row.key in estimates_by_key:
                    estimates[metric] = estimates_by_key[row.key]
        latency = times.get(row.key)
        gains = fits.gains.get(row.key, {})
        gain = None
        if model is not None:
            gain = gains.get(model.metric)
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
                beats_none=None if gain is None else gain.probability,
                values=tuple(
                    objective_value(objective, estimates, row.cost, latency)
                    for objective in facts.recipe.objectives
                ),
                on_front=False,
                gains=gains,
                snippet=code_of(facts.recipe, facts.built, row),
                means=_means(row, bare_cost),
            )
        )
    return _with_front(facts.recipe, views, fits.constants)


def _with_front(
    recipe: Recipe, views: Sequence[CandidateView], constants: Mapping[str, Constant]
) -> list[CandidateView]:
    """The candidates, those on the front of all and on that of placements marked."""
    same = {metric: constant.value for metric, constant in constants.items()}
    scored = [view for view in views if view.state == "scored"]
    fronts = []
    for some in (scored, [view for view in scored if not view.control]):
        values = {view.key: view.values for view in some}
        visible = without_invisible(recipe.objectives, values, same)
        fronts.append(front_of(recipe.objectives, visible))
    of_all, of_placements = fronts
    return [
        replace(
            view,
            on_front=view.key in of_all,
            on_front_of_placements=view.key in of_placements,
        )
        for view in views
    ]


def _means(row: CandidateRow, bare: Costs | None) -> Means:
    """What a user does who takes a candidate; `bare`: costs of the bare backbone."""
    if row.is_bare:
        return Means.NOTHING
    if not is_control(row.placement):
        return Means.ATTENTION
    # plain layers only add to the backbone, whatever the noise of their latency says
    if other_of(row.placement) is None or row.cost is None or bare is None:
        return Means.LARGER
    return Means.SMALLER if row.cost["params"] < bare["params"] else Means.LARGER


def _points(stored: Iterable[StoredScore]) -> tuple[ScorePoint, ...]:
    points = []
    for one in stored:
        score = one.score
        points.append(
            ScorePoint(
                one.purpose,
                score.seed,
                score.rung,
                score.epochs,
                score.metrics,
                score.wall_s,
                score.arithmetic,
            )
        )
    points.sort(key=lambda point: (PURPOSE_ORDER.get(point.purpose, 4), point.seed, point.epochs))
    return tuple(points)
