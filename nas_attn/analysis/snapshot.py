"""A study as of now. Everything that shows results (pareto, status, report, notes, API) reads a
snapshot.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from nas_attn import tasks
from nas_attn.analysis.arithmetic import ArithmeticUse, usual_arithmetic
from nas_attn.analysis.capacity import with_capacity
from nas_attn.analysis.cautions import Caution, cautions, untried
from nas_attn.analysis.features import BuiltFor, features, is_control, is_other, snippets
from nas_attn.analysis.fronts import front_of, objective_value, primary_metric, sign_of
from nas_attn.analysis.latency import Elsewhere, LatencyRecord, by_device, latencies, latency_record
from nas_attn.analysis.length import (
    Brief,
    LengthGain,
    Runs,
    bare_runs,
    brief_of,
    length_found,
    longer_of,
)
from nas_attn.analysis.per_image import Labels
from nas_attn.analysis.pooled import PooledTest, pooled_tests
from nas_attn.analysis.recommendation import Contender, Recommendation
from nas_attn.analysis.recommending import recommend
from nas_attn.analysis.sanity import Constant, WeakRung, constants, weak_rungs
from nas_attn.analysis.validation import Family, ValidationResult, validation_results
from nas_attn.model import TARGET, TESTED, Estimate, Evidence, Gain, Noise, Run, fit
from nas_attn.purposes import BACKBONE, CONFIRM, ROUND, SEARCH, TEST_PROTOCOL
from nas_attn.recipe import Recipe, lower_is_better, objective_name
from nas_attn.records import (
    CandidateRow,
    Costs,
    EpochPoint,
    Latency,
    Placement,
    Session,
    SplitReading,
    StoredScore,
)
from nas_attn.tables import is_cost


@dataclass(frozen=True, slots=True)
class Retrained:
    """A training for use (`nas-attn retrain`)."""

    key: str
    placement: Placement
    protocol: str  # `target`, or another protocol of the study
    seed: int
    state: str  # as in the queue: `waiting` until it has ended
    reason: str
    curve: tuple[EpochPoint, ...]  # epoch by epoch; an evaluator's trainings have none
    metrics: (
        Mapping[str, float] | None
    )  # of the trained network on the validation split; None before the end


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFacts:
    """A study as its database holds it at one moment."""

    name: str
    created_at: float  # unix seconds
    recipe: Recipe
    versions: Mapping[str, str]
    planned: int  # candidates that are to be evaluated in all
    candidates: Sequence[CandidateRow]  # by trial
    scores: Sequence[StoredScore]  # of the search and the study's backbones, with results per image
    sessions: Sequence[Session]
    sessions_elsewhere: Sequence[Session]  # of other devices than the study's own
    built: (
        BuiltFor | None
    )  # input shape and classes of the backbone; None before the study has begun
    labels: Mapping[str, Labels]  # training protocol -> labels of the images that it is scored on
    families: Sequence[Family]  # the validations, the oldest first
    ended: Collection[tuple[str, int]]  # (key, seed) of the target's runs that have ended
    target_scores: Sequence[
        StoredScore
    ]  # of the target's runs on the validation images, with results per image
    test_scores: Sequence[
        StoredScore
    ]  # of the target's runs on the test split, with results per image
    # of the bare network's trainings of several lengths, with results per image
    length_scores: Sequence[StoredScore]
    test_readings: Sequence[SplitReading]
    retrained: Sequence[Retrained]
    arithmetic: Sequence[ArithmeticUse]  # empty if an evaluator trains
    # what was said of the images when the study began: splits, classes, what is left out
    images: Sequence[str] = ()


def models_of(
    recipe: Recipe,
    placements: Mapping[str, Placement],
    scores: Iterable[StoredScore],
    target_scores: Iterable[StoredScore] = (),
    test_scores: Iterable[StoredScore] = (),
    larger: Collection[str] = (),
) -> dict[tuple[str, int], Evidence]:
    """(metric, rung) -> model of the study's runs at the rung, for trained objectives and the
    task's metrics.

    Runs of the target, scored on the validation images, are one more rung, `TARGET`, once two
    candidates have some; scored on the test images, one above that, `TESTED`.
    `placements`: explicit, by key; `scores`: of the search's protocol, of whatever purpose;
        `larger`: see `fit`.
    """
    found = dict[tuple[str, int], Evidence]()
    known = [(stored, stored.score.rung, stored.backbone) for stored in scores]
    usual = usual_arithmetic(stored.score.arithmetic for stored, _, _ in known)
    target = [stored for stored in target_scores if stored.key in placements]
    if len({stored.key for stored in target}) > 1:
        level = len(recipe.training.rungs) - 1 if searched_as_target(recipe) else TARGET
        known += [(stored, level, _backbone(recipe, stored)) for stored in target]
    tested = [stored for stored in test_scores if stored.key in placements]
    if len({stored.key for stored in tested}) > 1:
        known += [(stored, TESTED, _backbone(recipe, stored)) for stored in tested]
    task, trained = (
        tasks.of(recipe),
        [objective for objective in recipe.objectives if not is_cost(objective)],
    )
    unlike = any(is_other(placement) for placement in placements.values())
    for metric in dict.fromkeys(
        [task.metric, *task.shares, *task.losses, *map(objective_name, trained)]
    ):
        less = sign_of(recipe, metric) < 0
        runs = [_run(metric, usual, *one) for one in known if metric in one[0].score.metrics]
        for rung in sorted({run.rung for run in runs}):
            start = recipe.target.start if rung >= TARGET else recipe.training.start
            evidence = fit(
                runs,
                placements,
                metric=metric,
                lower_is_better=less,
                rung=rung,
                unlike=unlike,
                larger=larger,
                pretrained=start == "pretrained",
            )
            if evidence is not None:
                found[metric, rung] = evidence.about({key: placements[key] for key in evidence.ran})
    return found


def _run(metric: str, usual: str, stored: StoredScore, rung: int, backbone: int) -> Run:
    """`usual`: the arithmetic that a run counts as where it does not say its own."""
    score = stored.score
    return Run(
        stored.key,
        score.seed,
        rung,
        score.metrics[metric],
        backbone,
        correct=score.correct if metric == "accuracy" else None,
        examples=score.examples,
        arithmetic=score.arithmetic or usual,
    )


def searched_as_target(recipe: Recipe) -> bool:
    """Whether the search's last rung is the target: our trainer's rates make a cycle per rung,
    unless a schedule says otherwise.
    """
    training, ours = (
        recipe.training,
        recipe.training.evaluator is None and tasks.of(recipe).own_trainer,
    )
    if ours and len(training.rungs) > 1 and not training.schedule:
        return False
    alike = {"rungs": training.rungs[-1:], "seeds": 1}
    alike |= {"augment": training.augmentation, "transforms": None}
    return training.model_copy(update=alike) == recipe.target_training


def _backbone(recipe: Recipe, stored: StoredScore) -> int:
    """The backbone number of a run; a run of the target gets its own if the search has several
    backbones.
    """
    several = recipe.training.start == "backbone" and recipe.training.backbones > 1
    return stored.score.seed if several else stored.backbone


Models = dict[tuple[str, int], Evidence]
STATES = ("running", "scored", "pruned", "infeasible", "failed")
# a gain at the target is not stated if half its interval exceeds so many times one run's noise
UNKNOWN = 5.0


@dataclass(frozen=True, slots=True)
class ScorePoint:
    """One point of a learning curve."""

    purpose: str  # `search`; `confirm` or `round` (further seeds after the search); `backbone`
    seed: int
    rung: int
    epochs: int
    metrics: Mapping[str, float]
    wall_s: float
    arithmetic: str | None = None  # as in `records.Score`


@dataclass(frozen=True, slots=True)
class CandidateView:
    """A candidate with all that is known about it now."""

    key: str
    placement: Placement  # explicit; its text can be pasted into any command
    trial: int
    state: str
    baseline: str | None
    reason: str  # why it was pruned, is infeasible or failed
    cost: Costs | None
    latency: Latency | None
    scores: tuple[ScorePoint, ...]
    rung: int | None  # the highest rung with a score; the estimates are of this rung
    estimates: Mapping[str, Estimate]  # metric -> estimate at that rung
    beats_none: (
        float | None
    )  # probability that it beats the bare backbone in the primary metric, at the last rung
    values: tuple[
        float | None, ...
    ]  # objectives as estimated now (accuracy 0 to 1, latency as ratio, bytes)
    on_front: bool  # by these values
    gains: Mapping[str, Gain] = field(
        default_factory=dict
    )  # metric -> paired gain over the bare backbone
    by_prior: bool = (
        False  # whether the sampler, without its prior, would have proposed another one
    )
    snippet: str = (
        ""  # Python that builds it; empty where the study does not know the images' shape
    )

    @property
    def label(self) -> str:
        return self.baseline or f"trial {self.trial}"

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
        known = [
            point.metrics["images_per_s"]
            for point in self.scores
            if "images_per_s" in point.metrics
        ]
        return median(known) if known else None

    @property
    def control(self) -> bool:
        """Whether it is a larger network without attention, for comparison at a similar latency."""
        return is_control(self.placement)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A study as of now."""

    study: str
    created_at: float  # unix seconds
    recipe: Recipe
    versions: Mapping[str, str]
    objectives: tuple[str, ...]
    primary: (
        str | None
    )  # the metric that the recommendation is about: the first trained objective, else accuracy
    counts: Mapping[str, int]  # state -> candidates
    candidates: tuple[CandidateView, ...]  # by trial
    backbone: tuple[ScorePoint, ...]  # the study's own training of the bare backbone
    noise: Mapping[str, Noise]  # metric -> noise floor at the last rung
    recommendation: Recommendation | None
    brief: Brief | None  # not None: no run trained as the target says, so nothing is recommended
    longer: LengthGain | None  # of the bare network by twice the target's epochs; None: not tried
    latency: LatencyRecord | None
    test_readings: tuple[SplitReading, ...]
    validations: tuple[ValidationResult, ...]  # the oldest first
    pooled: tuple[PooledTest, ...]  # each tested network, over all its validations
    planned: int  # candidates that are to be evaluated in all
    constants: tuple[Constant, ...]  # metrics that are the same for all candidates
    weak_rungs: tuple[
        WeakRung, ...
    ]  # rungs before the last whose scores hardly tell placements apart
    cautions: tuple[Caution, ...]  # warnings against any conclusion, the gravest first
    retrained: tuple[Retrained, ...]  # trainings for use, in the order in which they were ordered
    elsewhere: tuple[
        Elsewhere, ...
    ]  # what other devices have measured; no objective, front or recommendation uses it
    arithmetic: tuple[ArithmeticUse, ...]  # what its runs were computed in
    evidence: Mapping[str, Evidence] = field(
        repr=False, compare=False
    )  # metric -> model at the last rung
    images: tuple[str, ...] = ()  # what was said of them when the study began

    @property
    def front(self) -> tuple[CandidateView, ...]:
        """The candidates not dominated in the current estimates, the best in the first objective
        first.
        """
        return self.ordered([view for view in self.candidates if view.on_front])

    @property
    def baselines(self) -> tuple[CandidateView, ...]:
        """The bare backbone and the uniform ones, by trial."""
        return tuple(
            view for view in self.candidates if view.baseline is not None and not view.control
        )

    @property
    def controls(self) -> tuple[CandidateView, ...]:
        """Larger networks without attention: never on the front."""
        return self.ordered(view for view in self.candidates if view.control)

    @property
    def shown(self) -> tuple[CandidateView, ...]:
        """The candidates of tables: the front, the other baselines, the controls."""
        return (
            *self.front,
            *self.ordered(view for view in self.baselines if not view.on_front),
            *self.controls,
        )

    @property
    def taken(self) -> str | None:
        """Key of the network that the answer takes; None without an answer."""
        if self.recommendation is None or self.brief is not None:
            return None
        return self.recommendation.taken

    @property
    def compared_keys(self) -> tuple[str, ...]:
        """The network that the answer takes, the bare backbone and the best of the others, as far
        as they exist, each once.
        """
        taken, metric = self.taken, self.primary or ""
        if taken is None or metric not in self.evidence:
            return ()
        bare = [view.key for view in self.candidates if view.baseline == "none"]
        sign = 1.0 if self.evidence[metric].lower_is_better else -1.0
        able = [
            v
            for v in self.candidates
            if v.state == "scored" and metric in v.estimates and not v.control
        ]
        ranked = sorted(able, key=lambda view: sign * view.estimates[metric].mean)
        first = list(dict.fromkeys([taken, *bare]))
        return (*first, *[view.key for view in ranked if view.key not in first][:1])

    def compared(self, objective: str) -> bool:
        """Whether gains over the bare backbone are shown for an objective."""
        name = objective_name(objective)
        return not is_cost(objective) and any(name in view.gains for view in self.candidates)

    def ordered(self, views: Iterable[CandidateView]) -> tuple[CandidateView, ...]:
        """Best in the first objective first; unscored last, by trial."""

        def place(view: CandidateView) -> tuple[float, int]:
            first = view.values[0]
            sign = 1.0 if lower_is_better(self.objectives[0]) else -1.0
            return (math.inf if first is None else sign * first, view.trial)

        return tuple(sorted(views, key=place))

    def find(self, key: str) -> CandidateView | None:
        return next((view for view in self.candidates if view.key == key), None)


def snapshot_of(facts: StudyFacts) -> Snapshot:
    """The snapshot of what a database holds; also of an empty or half-finished study."""
    recipe, rows, sessions = facts.recipe, facts.candidates, facts.sessions
    scores: dict[str, list[StoredScore]] = defaultdict(list)
    for stored in facts.scores:
        scores[stored.key].append(stored)
    own = scores.pop(BACKBONE, [])
    last = len(recipe.training.rungs) - 1

    def fitted(keys: Collection[str], larger: Collection[str] = ()) -> Models:
        placements = {row.key: row.placement for row in rows if row.key in keys}
        mine = (stored for key in placements for stored in scores.get(key, ()))
        return models_of(recipe, placements, mine, facts.target_scores, facts.test_scores, larger)

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
    shown = wanted | {tasks.of(recipe).metric}  # solving a model takes seconds in a large study
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
        longer=None if primary is None else longer_of(recipe, runs, primary),
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
    )


def _bare_runs(facts: StudyFacts, rows: Iterable[CandidateRow]) -> Runs:
    """The bare network's trainings that start as the target does."""
    bare = {row.key for row in rows if row.baseline == "none"}
    searched = [stored for stored in facts.scores if stored.key in bare]
    target = [stored for stored in facts.target_scores if stored.key in bare]
    return bare_runs(facts.recipe, facts.length_scores, searched, target)


def _brief(facts: StudyFacts, runs: Runs, metric: str) -> Brief | None:
    known = length_found(facts.recipe, facts.length_scores, metric)
    return brief_of(facts.recipe, runs, metric, _pace(facts), known=known)


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
    recipe, rows, lines = facts.recipe, facts.candidates, snippets(facts.recipe, facts.built)
    at_rung, last = (
        defaultdict[int | None, dict[str, Mapping[str, Estimate]]](dict),
        len(recipe.training.rungs) - 1,
    )
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
        return None  # the bare backbone, with which all others are compared, is not scored yet
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
    limit, worth, own = (
        recipe.limits.max_latency_ratio,
        recipe.answer.worth,
        training.start != "scratch",
    )
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
