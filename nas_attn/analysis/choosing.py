"""The answer of a study, the candidate that criteria choose, and the candidates that get further
runs.
"""

from __future__ import annotations

import math
import shlex
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nas_attn.analysis import units
from nas_attn.analysis.criteria import Criteria
from nas_attn.analysis.features import is_other
from nas_attn.analysis.fronts import minimised, sign_of
from nas_attn.analysis.length import Brief
from nas_attn.analysis.recommendation import REQUIRED, Comparison, Recommendation, promising
from nas_attn.analysis.snapshot import CandidateView, Snapshot, searched_as_target
from nas_attn.analysis.validation import validation_epochs
from nas_attn.errors import StudyError, several, shorten
from nas_attn.model import TARGET, Gain
from nas_attn.records import BARE
from nas_attn.space import other_of
from nas_attn.tables import is_cost

LABELS = (
    "Gain",
    "Best bet",
    "Slower",
    "Faster",
    "Capacity",
    "Longer",
    "Limit",
    "Early",
    "Costs",
    "Time",
    "Tested",
    "Decide",
    "Target",
    "Next",
)
"""Labels of the answer's lines, except the first one; each takes ten columns."""
MOST_LINES = 8  # of the answer
MOST_NOTES = 2  # lines with warnings against any conclusion
MOST_RUNS = 32  # a test with more trainings of each network is not proposed
NEEDED = (
    1.96 + 0.84
)  # a difference of so many standard errors is shown with 95 % certainty in 80 % of tests
RIVALS = 2  # candidates of a round besides the best-looking one and the bare backbone
CONFIRMED = 6  # networks that get further seeds
DRAWS = 8  # draws from the posterior; the best in any of them may be the best
# a control that is less likely to be better than the recommended network joins no further round
SETTLED = 0.05


@dataclass(frozen=True, slots=True)
class Chosen:
    """The candidate that criteria choose."""

    view: CandidateView
    rule: str  # why this one, as a clause
    sentences: tuple[str, ...]  # the same in plain words

    def as_dict(self) -> dict[str, Any]:
        return {
            "key": self.view.key,
            "trial": self.view.trial,
            "placement": str(self.view.placement),
            "snippet": self.view.snippet,
            "rule": self.rule,
            "sentences": list(self.sentences),
        }


@dataclass(frozen=True, slots=True)
class Step:
    """A next command, as it is typed, without the database."""

    command: str
    study: str
    placement: str = ""
    seeds: int = 0  # 0: as many as the target says
    look: bool = False  # dry run
    why: bool = False  # with the reasons

    def __str__(self) -> str:
        options = [f"--seeds {self.seeds}"] if self.seeds else []
        options += [f'--placement "{self.placement}"'] if self.placement else []
        options += ["--dry-run"] * self.look + ["--why"] * self.why
        return " ".join(["nas-attn", self.command, self.study, *options])


def choose(now: Snapshot, criteria: Criteria, key_of: Callable[[str], str]) -> Chosen:
    """The candidate that the criteria choose; without criteria, the one that the answer takes. If
    none meets them, StudyError names the nearest. `key_of`: for `placement` only.
    """
    if criteria.trial is not None:
        found, rule = _by_trial(now, criteria.trial), f"the given trial {criteria.trial}"
    elif criteria.placement is not None:
        found, rule = (
            _by_key(now, key_of(criteria.placement), criteria.placement),
            "the given placement",
        )
    elif criteria.knee:
        found, rule = _knee(now)
    elif criteria.limited:
        found, rule = _within(now, criteria)
    else:
        best = now.recommendation
        if best is None or now.brief is not None:
            raise StudyError(
                f"study '{now.study}': {nothing_recommended(now).rstrip('.')}; choose a trial or a"
                " placement ('none' is the bare backbone)"
            )
        rule = (
            "it is likely to help more than attention (line Capacity)"
            if best.instead
            else best.rule
        )
        found = _by_key(now, best.taken, str(best.placement))
    return Chosen(found, rule, tuple(_sentences(now, criteria, found, rule)))


def nothing_recommended(now: Snapshot) -> str:
    """Why there is no recommendation, or only a bare backbone that was compared with nothing; one
    sentence.
    """
    if now.brief is not None and now.recommendation is not None:
        return _why_brief(now, now.brief)
    if any(constant.metric == now.primary for constant in now.constants):
        return f"Nothing is recommended: {now.primary} is the same for all candidates."
    trained = several(now.recipe.training.rungs[-1], "epoch")
    bare = next(
        (view for view in now.candidates if view.baseline == "none" and view.state == "running"),
        None,
    )
    if bare is not None:
        scored = bare.rung == len(now.recipe.training.rungs) - 1
        lacks = "has not ended all its runs" if scored else f"has not been scored at {trained}"
        return (
            "No recommendation yet: the bare backbone, with which all others are compared,"
            f" {lacks}."
        )
    if now.recommendation is not None:
        over = f"; {count} are over the limits" if (count := now.counts["infeasible"]) else ""
        return f"Nothing is recommended: only the bare backbone has been scored{over}."
    limit = now.recipe.limits.max_latency_ratio
    if limit is not None and (now.counts["scored"] or now.counts["infeasible"]):
        return (
            "Nothing is recommended: no scored candidate is within limits.max_latency_ratio ="
            f" {limit:g}."
        )
    return f"No recommendation yet: nothing has been scored at {trained}."


def key_among(now: Snapshot, placement: str) -> str | None:
    """The key of a candidate with exactly this notation or label; does not need the backbone."""
    words = notation(now, placement)
    return next((view.key for view in now.candidates if str(view.placement) == words), None)


def notation(now: Snapshot, text: str) -> str:
    """The notation of a candidate that goes by its label, as the answer calls it (`uniform se`);
    else the text itself.
    """
    words = " ".join(text.split())
    return next((str(view.placement) for view in now.candidates if view.label == words), words)


def _by_trial(now: Snapshot, number: int) -> CandidateView:
    found = next((view for view in now.candidates if view.trial == number), None)
    if found is None:
        trials = [view.trial for view in now.candidates]
        held = f"{min(trials)} to {max(trials)}" if trials else "none yet"
        raise StudyError(f"study '{now.study}' has no trial {number}: it has {held}")
    return found


def _by_key(now: Snapshot, key: str, placement: str) -> CandidateView:
    found = now.find(key)
    if found is None:
        tries = f"nas-attn resume {now.study} --try '{placement}' tries it"
        raise StudyError(f"study '{now.study}' has not tried '{shorten(placement)}': {tries}")
    return found


def _knee(now: Snapshot) -> tuple[CandidateView, str]:
    """The front's member with the smallest sum of objectives, each scaled from 0 (best) to 1
    (worst); never an end of the front.
    """
    front = [view for view in now.front if None not in view.values]
    if len(front) < 3:
        raise StudyError(
            f"the front of study '{now.study}' has no knee, as it has"
            f" {several(len(front), 'member')}: give a latency or a trial"
        )
    costs = np.array([minimised(now.objectives, view.values) for view in front])
    span = np.ptp(costs, axis=0)
    sums = ((costs - costs.min(axis=0)) / np.where(span > 0, span, 1.0)).sum(axis=1)
    best = min(range(len(front)), key=lambda index: (sums[index], front[index].trial))
    if sums[best] >= len(span) - 1 - 1e-9:
        raise StudyError(
            f"the front of study '{now.study}' has no knee: no member lies below the line between"
            " its ends; give a latency or a trial"
        )
    rule = (
        "the knee of the front: the smallest sum of its objectives, each scaled from 0 (best) to 1"
        " (worst)"
    )
    return front[best], rule


def _within(now: Snapshot, criteria: Criteria) -> tuple[CandidateView, str]:
    """The best within a latency limit; without one, the cheapest that reaches the accuracy."""
    metric, pool = now.primary or "accuracy", _finished(now)
    if not pool:
        raise StudyError(
            f"study '{now.study}' has scored no candidate at the last rung yet: continue the search"
        )
    limit, within = _latency_limit(now, criteria)
    if limit is not None:
        fast = [view for view in pool if _ratio(view) <= limit]
        if not fast:
            raise _nothing(now, f"is {within}", min(pool, key=_ratio))
        pool = fast
    if criteria.min_accuracy is not None:
        known = [view for view in pool if "accuracy" in view.estimates]
        if not known:
            raise StudyError(
                f"study '{now.study}' has no accuracy; its metric is {metric}: do not use"
                " min_accuracy"
            )
        pool = [view for view in known if view.estimates["accuracy"].mean >= criteria.min_accuracy]
        reach = f"reaches an accuracy of {units.value('accuracy', criteria.min_accuracy)}"
        if not pool:
            nearest = max(known, key=lambda view: view.estimates["accuracy"].mean)
            raise _nothing(now, f"{reach} {within}".rstrip(), nearest)
        if limit is None:
            what, cost = _cost(now, pool)
            return min(pool, key=lambda view: (cost(view), view.trial)), f"the {what} that {reach}"
    best = min(
        pool,
        key=lambda view: (-sign_of(now.recipe, metric) * view.estimates[metric].mean, view.trial),
    )
    return best, f"the best estimated {metric} {within}"


def _latency_limit(now: Snapshot, criteria: Criteria) -> tuple[float | None, str]:
    """The stricter limit as a ratio, and in words."""
    ratio, ms, limits = criteria.max_latency_ratio, criteria.max_latency_ms, []
    if now.latency is None and (ratio is not None or ms is not None):
        raise StudyError(
            f"study '{now.study}' has measured no latency: choose by min_accuracy, trial or"
            " placement"
        )
    if ratio is not None:
        limits.append((ratio, f"within {ratio:g} times the backbone's latency"))
    if ms is not None and now.latency is not None:
        limits.append((ms / now.latency.reference_ms, f"within {ms:g} ms on {now.latency.machine}"))
    return min(limits, default=(None, ""))


def _cost(
    now: Snapshot, pool: Sequence[CandidateView]
) -> tuple[str, Callable[[CandidateView], float]]:
    """The cost to minimise: the latency, else the first cost among the objectives, else parameters;
    and its value.
    """
    if now.latency is not None and any(view.latency is not None for view in pool):
        return "fastest", _ratio
    cost = next((objective for objective in now.objectives if is_cost(objective)), "params")
    what = "parameters" if cost == "params" and cost not in now.objectives else cost
    return f"one of fewest {what}", lambda view: math.inf if view.cost is None else view.cost[cost]


def _ratio(view: CandidateView) -> float:
    return math.inf if view.latency is None else view.latency.ratio


def _nothing(now: Snapshot, words: str, nearest: CandidateView) -> StudyError:
    text = f"no scored candidate of study '{now.study}' {words}"
    label = "the bare backbone" if nearest.baseline == "none" else nearest.label
    return StudyError(f"{text}: the nearest is {label} with {figures(now, nearest)}")


def figures(now: Snapshot, view: CandidateView) -> str:
    """The main figures of a candidate: `72.41 %, 1.132 times the latency (4.3 ms)`."""
    parts = []
    for metric in dict.fromkeys([now.primary or "accuracy", "accuracy"]):
        if metric in view.estimates:
            value = units.value(metric, view.estimates[metric].mean)
            parts.append(value if metric == "accuracy" else f"{metric} {value}")
    if view.latency is not None:
        parts.append(
            f"{view.latency.ratio:.3f} times the backbone's latency ({view.latency.ms:.3g} ms)"
        )
    return ", ".join(parts) or "no score"


def _sentences(now: Snapshot, criteria: Criteria, found: CandidateView, rule: str) -> list[str]:
    said = [f"{found.label}: {rule}.", f"{figures(now, found)}."]
    if found.beats_none is not None and found.beats_none < REQUIRED:
        said.append(
            "It is better than the bare backbone with a probability of only"
            f" {units.probability(found.beats_none)}."
        )
    limit = _latency_limit(now, criteria)[0] if criteria.limited else None
    if limit is not None and found.latency is not None and found.latency.high > limit:
        high = (
            f"{found.latency.high:.3f} times"
            f" ({found.latency.high * found.latency.reference_ms:.3g} ms)"
        )
        said.append(f"The 95 % interval of its latency exceeds the limit: it reaches {high}.")
    return said


def answer(now: Snapshot, at: str | None = None) -> list[str]:
    """Recommendation, certainty and next step in at most eight lines; warnings come first. `at`:
    the option with the database, for a command line; None elsewhere.
    """
    best, notes = now.recommendation, [f"Careful: {said}" for said in now.cautions[:MOST_NOTES]]
    if best is None or (
        best.placement == BARE and all(view.placement == BARE for view in _finished(now))
    ):
        return [*notes, nothing_recommended(now)]
    if now.brief is not None:
        return [*notes, *_brief_answer(now, now.brief, best)]
    test, ending = _tested(now), at or ""
    tested = [test[0]] if test else []
    lines = [line.removesuffix(", not tested") if tested else line for line in best.answer]
    lines += _longer(now, best)
    bet = best.best_bet if best.worth is None and best.instead is None else None
    open_ = [] if tested or bet is None else list(_decide(now, bet, ending))
    open_ = open_ or ([] if tested else list(_target(now, ending)))
    steps = (
        [] if open_ else [f"{test[1] if test else Step('validate', now.study, look=True)}{ending}"]
    )
    steps += [] if at is None else [f"reasons: {Step('pareto', now.study, why=True)}{at}"]
    rest = [*lines, *tested, *open_, *([f"Next      {'; '.join(steps)}"] if steps else [])]
    return [*notes[: max(0, MOST_LINES - len(rest))], *rest]


def _longer(now: Snapshot, best: Recommendation) -> list[str]:
    """What a longer training of the bare network brings, if it is likely to bring something: it
    costs no latency.
    """
    longer = now.longer
    worth = best.worth or now.recipe.answer.worth or 0.0
    if longer is None or longer.gain.probability < REQUIRED or longer.gain.mean < worth:
        return []
    gained = units.difference(best.metric, longer.gain.mean)
    between = _between(best.metric, longer.gain)
    line = (
        f"Longer    the bare network trained for {longer.longer} epochs instead of"
        f" {longer.shorter}: {gained} ({between}), at no latency"
    )
    return [line]


def _between(metric: str, gain: Gain) -> str:
    return f"{units.signed(metric, gain.low)} to {units.signed(metric, gain.high)}"


def _why_brief(now: Snapshot, brief: Brief) -> str:
    """Why a search that trained more briefly than the target recommends nothing."""
    needed = f"the target trains for {brief.target}"
    if not brief.known:
        needed = f"it is not known how long the network needs, but at least {brief.target // 2}"
    said = (
        f"Nothing is recommended: the search trained for {several(brief.searched, 'epoch')} only,"
        f" and {needed}."
    )
    if brief.gain is None or brief.gain.gain.mean <= 0:
        return said
    metric, gain = now.primary or "accuracy", brief.gain.gain
    between = _between(metric, gain)
    return (
        f"{said} The bare network alone gains {units.size(metric, gain.mean)} ({between}) when it"
        f" is trained for {brief.gain.longer}."
    )


def _brief_answer(now: Snapshot, brief: Brief, best: Recommendation) -> list[str]:
    """What is known after a training that is too short for a recommendation."""
    lines = [_why_brief(now, brief)]
    early = next((view for view in now.ordered(_able(now)) if view.baseline != "none"), None)
    gain = early.gains.get(best.metric) if early is not None else None
    if early is not None and gain is not None:
        at = "" if early.latency is None else f", at {early.latency.ratio:.2f} ×"
        between = _between(best.metric, gain)
        lines.append(
            f"Early     {early.label}: {units.difference(best.metric, gain.mean)} ({between}) after"
            f" {several(brief.searched, 'epoch')}{at}; this may be gone at the end"
        )
    costs = [
        f"{view.label.removeprefix('uniform ')} {view.latency.ratio:.2f} ×"
        for view in sorted(now.baselines, key=_ratio)
        if view.latency is not None and view.baseline != "none"
    ]
    if costs:
        lines.append(f"Costs     latency with a module at every site: {', '.join(costs)}")
    if brief.enough_s is not None:
        lines.append(f"Time      {_enough(now, brief, brief.enough_s)}")
    return lines


def _enough(now: Snapshot, brief: Brief, seconds: float) -> str:
    """The time in which runs as the target says would fit, and the command."""
    source, _, place = now.recipe.data.name.partition(":")
    what = shlex.quote(place) if source == "folder" else "RECIPE"
    length = f" --target {brief.target}" if brief.known else ""
    minutes = math.ceil(seconds / 60)
    command = f"nas-attn search {what}{length} --minutes {minutes} --name {now.study}-long"
    return f"about {units.duration(seconds)} would do for runs that train to the end: {command}"


def training_s(now: Snapshot, epochs: int) -> float | None:
    """Seconds that so many epochs of training take, by the pace of the study's runs; None before
    the first.
    """
    longest: dict[tuple[str, str, int], int] = {}
    seconds = 0.0
    for view in now.candidates:
        for point in view.scores:
            run = (view.key, point.purpose, point.seed)
            longest[run] = max(longest.get(run, 0), point.epochs)
            seconds += point.wall_s
    return epochs * seconds / sum(longest.values()) if longest else None


def _tested(now: Snapshot) -> tuple[str, Step] | None:
    """The result of the last finished validation for the recommended network, and the next step. If
    no placement is
    recommended: for the control that is taken instead, else for the best one.
    """
    best = now.recommendation
    control = now.find(best.instead) if best is not None and best.instead else None
    taken = control or best
    for result in reversed(now.validations):
        bare = next((n.key for n in result.family.networks if n.placement == BARE), None)
        against = [verdict for verdict in result.verdicts if verdict.control == bare]
        mine = [
            verdict for verdict in against if taken is not None and verdict.network == taken.key
        ]
        for verdict in mine or sorted(against, key=lambda verdict: -verdict.difference)[:1]:
            metric = result.family.metric
            network = next(n for n in result.family.networks if n.key == verdict.network)
            word = (
                "no difference shown"
                if verdict.word == "not shown"
                else f"{verdict.word} than the bare backbone"
            )
            about = (
                ""
                if mine and control is None
                else f"{other_of(network.placement) or network.placement}: "
            )
            between = f"{units.signed(metric, verdict.low)} to {units.signed(metric, verdict.high)}"
            size = f"{units.difference(metric, verdict.difference)} ({between})"
            line = f"Tested    {about}{word}, {size}; {result.blocks} trainings each, test images"
            if bool(mine) == (verdict.word == "better"):  # test and search agree
                if mine or control is None:
                    return line, Step("retrain", now.study)
                return line, Step(
                    "validate", now.study, str(control.placement)
                )  # the control was not tested
            if verdict.word != ("worse" if mine else "better"):
                return line, Step("validate", now.study, look=True)
            return f"{line}; the search does not agree", Step(
                "validate", now.study, str(network.placement)
            )
    return None


def _decide(now: Snapshot, bet: Comparison, at: str) -> Iterator[str]:
    noise = now.noise.get(now.primary or "")
    if bet.gain is None or not promising(bet.gain) or noise is None or not noise.seed_sd:
        return
    runs = 2 + math.ceil(
        (NEEDED * noise.seed_sd / bet.gain.mean) ** 2
    )  # runs of one block share a part of the noise
    if runs > MOST_RUNS:
        yield (
            f"Decide    not worth a test: to show a gain of this size takes more than {MOST_RUNS}"
            " trainings of each network"
        )
        return
    seconds = training_s(now, runs * 2 * now.recipe.target_training.rungs[-1])
    time = "" if seconds is None else f" (about {units.duration(seconds)})"
    view = now.find(bet.key)
    step = Step("validate", now.study, bet.name if view is None else str(view.placement), runs)
    yield f"Decide    train each network {runs} times as the target says{time}: {step}{at}"


def _target(now: Snapshot, at: str) -> Iterator[str]:
    """Says that no run was trained as the target says, and which step would do it; nothing if there
    is such a run.
    """
    if searched_as_target(now.recipe) or any(
        model.rung == TARGET for model in now.evidence.values()
    ):
        return
    seconds = training_s(now, validation_epochs(now.recipe))
    cost = f" in about {units.duration(seconds)}" if seconds else ""
    trained, step = now.recipe.target_training.said, Step("validate", now.study)
    yield f"Target    the gain {trained} is not known yet: {step}{at} finds out{cost}"


def to_confirm(now: Snapshot) -> list[CandidateView]:
    """The candidates that get further seeds when the search has ended: the bare backbone, the best
    uniform one, the control that the answer compares, the front, and the best of the others, up to
    CONFIRMED.
    """
    bare = next(
        (view for view in now.baselines if view.baseline == "none" and view.state == "scored"), None
    )
    wanted = [bare, best_uniform(now), _control(now), *now.front, *now.ordered(_able(now))]
    return list({view.key: view for view in wanted if view is not None}.values())[:CONFIRMED]


def _control(now: Snapshot) -> CandidateView | None:
    """The control of the answer's line `Capacity`, else the best-looking one."""
    best = now.recommendation
    if best is not None and best.capacity is not None:
        return now.find(best.capacity.key)
    return next((view for view in now.controls if view.state == "scored"), None)


def next_round(now: Snapshot, rng: np.random.Generator) -> list[CandidateView]:
    """The candidates of the next round, the bare backbone first; empty if nothing is recommended,
    or there is nothing to compare.

    A round has a fresh seed and backbone. The model reads these runs with all others, so they
    correct the luck of the best-looking. A control that may be better takes a rival's place, unless
    each round had to train a backbone for it.
    """
    model, best = now.evidence.get(now.primary or ""), now.recommendation
    if best is None or model is None:
        return []
    bare = [view for view in now.baselines if view.baseline == "none" and view.state == "scored"]
    able = {view.key: view for view in _able(now) if view not in bare}
    chosen = able.get(best.key)
    if chosen is None and bare and able:
        worth = {key: gain.worth if (gain := model.gain(key, bare[0].key)) else 0.0 for key in able}
        chosen = able[max(worth, key=lambda key: (worth[key], key))]
    if chosen is None:
        return []
    sign = -1.0 if model.lower_is_better else 1.0
    known = np.array([key in able for key in model.keys])
    drawn = np.where(known, sign * model.draw(rng, DRAWS), -np.inf).argmax(axis=1)
    first = best.more_accurate or best.cheaper  # the choice depends most on these two
    uniform = best_uniform(now)
    others = (view.key for view in now.ordered(able.values()))
    ahead = [one.key for one in (first, uniform) if one]
    rivals = dict.fromkeys([*ahead, *(model.keys[i] for i in drawn), *others])
    met, joins = [able[key] for key in rivals if key in able and key != chosen.key], _may_win(now)
    return [*bare, chosen, *met[: RIVALS - len(joins)], *joins]


def _may_win(now: Snapshot) -> list[CandidateView]:
    """The control, if the answer could take it and it may be better than the recommended
    network.
    """
    control, best = _control(now), now.recommendation
    if (
        control is None
        or best is None
        or not best.in_reach
        or best.capacity is None
        or best.capacity.gain is None
    ):
        return []
    own_backbone = now.recipe.training.start == "backbone" and is_other(control.placement)
    return [control] if not own_backbone and best.capacity.gain.worse > SETTLED else []


def price(now: Snapshot) -> float | None:
    """The latency ratio of attention: of the recommended or most promising placement, else the
    median one's; None if unknown.
    """
    best = now.recommendation
    keys = [best.key, *([best.best_bet.key] if best.best_bet else [])] if best else []
    tried = {
        v.key: v.latency.ratio
        for v in now.candidates
        if v.latency and v.baseline != "none" and not v.control
    }
    known = [tried[key] for key in keys if key in tried]
    return known[0] if known else statistics.median(tried.values()) if tried else None


def best_uniform(now: Snapshot) -> CandidateView | None:
    """The best of the uniform placements that may be recommended."""
    return next(
        (view for view in now.ordered(_able(now)) if view.baseline not in (None, "none")), None
    )


def _able(now: Snapshot) -> list[CandidateView]:
    """Those that may be recommended."""
    limit = now.recipe.limits.max_latency_ratio
    return [view for view in _finished(now) if limit is None or _ratio(view) <= limit]


def _finished(now: Snapshot) -> list[CandidateView]:
    """Candidates with attention or bare that were scored to the end."""
    last = len(now.recipe.training.rungs) - 1
    pool = [
        view
        for view in now.candidates
        if view.state == "scored" and view.rung == last and not view.control
    ]
    return [view for view in pool if now.primary is None or now.primary in view.estimates]
