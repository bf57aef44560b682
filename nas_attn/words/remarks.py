"""Warnings and remarks: what speaks against a conclusion, and metrics and rungs that say little."""

from __future__ import annotations

from collections.abc import Iterator

from nas_attn.answer.beyond_front import beyond_front
from nas_attn.answer.cautions import (
    Caution,
    FewImages,
    HardlyLearned,
    LearnedByHeart,
    OnlyBaselines,
    StillLearning,
    WaitsForImages,
)
from nas_attn.answer.sanity import Constant, Int8Change, WeakRung, int8_change
from nas_attn.answer.snapshot import CandidateView, Snapshot
from nas_attn.errors import listed, several
from nas_attn.latency.estimates import Elsewhere
from nas_attn.model import Evidence
from nas_attn.recipe import tasks, units
from nas_attn.recipe.recipe import Recipe
from nas_attn.recipe.tables import is_share_of_images, saturation

RECOMMENDED = "the recommended placement"


def remarks(now: Snapshot) -> list[str]:
    """Sentences about what separates no candidates, and about what else is known of them."""
    model = now.evidence.get(now.primary or "")
    return [
        *(constant_sentence(now.recipe, constant) for constant in now.constants),
        *(weak_rung_sentence(now.recipe, weak) for weak in now.weak_rungs),
        *(_two_values(model) if model else ()),
        *_beyond_front(now),
        *_by_prior(now),
        *_in_int8(now),
        *_on_other_devices(now),
    ]


def caution_text(caution: Caution) -> str:
    """A warning in a few sentences; it begins in lower case."""
    match caution:
        case OnlyBaselines():
            return (
                "only the baselines were tried, no placement of the search's own. Give it more"
                " time, or more trials."
            )
        case HardlyLearned(value, guessing):
            return (
                "the bare backbone has hardly learned"
                f" ({units.SHARE_UNIT.value(value)} as the mean over classes, where guessing gives"
                f" {units.SHARE_UNIT.value(guessing)}). Train longer, or with another learning"
                " rate, before you compare."
            )
        case StillLearning(metric, earlier, value):
            return (
                f"the bare backbone is still learning ({units.value(metric, earlier)}, then"
                f" {units.value(metric, value)}). What helps now may only help to learn faster."
                " Train longer."
            )
        case LearnedByHeart(training_loss, validation_loss):
            return (
                "the bare backbone has learned its training images by heart (loss"
                f" {training_loss:.2g} there, {validation_loss:.2g} on validation images). More"
                " images or augmentation will help more than attention."
            )
        case WaitsForImages(share):
            return (
                f"training waits for images {100 * share:.0f} % of the time. Raise data.workers, or"
                " leave out costly transforms."
            )
        case FewImages():
            return _few_images(caution)


def constant_sentence(recipe: Recipe, constant: Constant) -> str:
    """That a metric is the same for all candidates, and what it may mean."""
    return f"{constant_clause(recipe, constant)}."


def constant_clause(recipe: Recipe, constant: Constant) -> str:
    """The same, as a part of a sentence."""
    metric = constant.metric
    ends = (units.value(metric, value) for value in (constant.lowest, constant.highest))
    shown = " to ".join(dict.fromkeys(ends))
    what = (
        f"{metric} is {shown} in all {constant.runs} runs of all {constant.candidates} candidates"
    )
    why, each = _why_constant(recipe, constant)
    return f"{what}{each}. It separates no candidates, so nothing can be recommended by it; {why}"


def weak_rung_sentence(recipe: Recipe, weak: WeakRung) -> str:
    """That a rung says little of placements, and what to change."""
    sentence = (
        f"After {several(weak.epochs, 'epoch')} scores hardly tell placements apart:"
        f" {100 * weak.reliability:.0f} % of the variance of one run's {weak.metric} comes from the"
        f" placements ({weak.candidates} candidates)."
    )
    if recipe.search.pruner == "none":
        return sentence
    return (
        f"{sentence} Pruning at this rung is mostly chance. In a new study, train longer before the"
        " first score (training.rungs)."
    )


def int8_sentence(mode: str, change: Int8Change, who: str = RECOMMENDED) -> str:
    """What a placement changes in int8 and in float32, against the bare backbone."""
    lost = ". The gain does not survive int8" if change.is_lost else ""
    return (
        f"In {mode}, {who} changes {change.metric} by"
        f" {units.difference(change.metric, change.in_int8)}, in float32 by"
        f" {units.difference(change.metric, change.in_float)} (against the bare backbone,"
        f" {several(change.runs, 'run')}){lost}."
    )


def _few_images(caution: FewImages) -> str:
    # an image of a small class counts for more in metrics in which each class counts the same
    mean = "" if is_share_of_images(caution.metric) else " on average"
    sentence = (
        f"with {caution.images} validation images, one image is {100 / caution.images:.1f}"
        f" points{mean}. More of them are the cheapest improvement."
    )
    if not caution.chance:
        return sentence
    return (
        f"{sentence} Two networks with {several(caution.runs, 'run')} each may differ by"
        f" {units.size(caution.metric, caution.chance)} by chance. Narrower intervals here also"
        " use what is usual in other studies."
    )


def _why_constant(recipe: Recipe, constant: Constant) -> tuple[str, str]:
    """(what it may come from, what is said of each run)."""
    why = tasks.of(recipe).why_constant
    if recipe.training.evaluator is not None:
        empty = "returns a constant"
        if constant.value == 0:
            empty = "finds nothing to score (no detection, labels that do not fit)"
        return (
            f"perhaps training.evaluator {empty}, or it trains too briefly for this metric to"
            " change"
        ), ""
    if why:
        return why, ""
    if constant.value == 1 and saturation(constant.metric) is not None:
        return (
            "perhaps the task is too easy, or validation images are among the training images"
        ), ""
    epochs = "training.rungs"
    if recipe.training.rungs == [recipe.target.epochs]:
        epochs = "target.epochs"
    if recipe.training.start == "backbone":
        epochs = "training.backbone_epochs"
    return (
        f"perhaps training is too brief to exceed chance ({epochs}), or the labels do not match"
        " the images"
    ), ", each predicting the same class for every image" if constant.guessing else ""


def _two_values(model: Evidence) -> Iterator[str]:
    """A warning if runs end near one of two values."""
    if model.two_values is None:
        return
    worse, better = (units.value(model.metric, value) for value in model.two_values)
    yield (
        f"Runs end near one of two values, {model.metric} {worse} or {better}, and runs of the same"
        " placement end at both. What counts is how often a placement reaches the better value, and"
        " a few runs say little about that."
    )


def _beyond_front(now: Snapshot) -> Iterator[str]:
    """Why controls that are better than members of the front are no members."""
    beyond = beyond_front(now)
    if not beyond:
        return
    why = "The front compares placements of attention; a control is a larger network without it."
    if len(beyond) == 1:
        (only,) = beyond
        members = listed([view.label for view in only.members])
        better = f"{only.control.label} is not on the front, though better in every objective than"
        yield f"{better} {members}. {why}"
        return
    controls = listed([one.control.label for one in beyond])
    better = "Each is better in every objective than a member of it."
    yield f"{controls} are not on the front. {better} {why}"


def _by_prior(now: Snapshot) -> Iterator[str]:
    """Whether the sampler's prior mattered, if it had one."""
    if now.recipe.search.prior == "none":
        return
    led = {view.key for view in now.candidates if view.by_prior}
    own = sum(view.baseline is None for view in now.candidates)
    best = now.recommendation.key if now.recommendation else None
    there = f"; {RECOMMENDED} is one of them" if best in led else ""
    yield f"The prior ({now.recipe.search.prior}) changed {len(led)} of {own} proposals{there}."


def _in_int8(now: Snapshot) -> Iterator[str]:
    best = now.find(now.recommendation.key) if now.recommendation else None
    bare = next((view for view in now.candidates if view.is_bare), None)
    who = RECOMMENDED
    # then it is about the best alternative
    if best is bare:
        best = next((view for view in now.front if view.baseline is None), None)
        who = best.label if best else ""
    if best is None or bare is None:
        return
    change = int8_change(now.primary, _last_runs(now, best), _last_runs(now, bare))
    if change is not None:
        yield int8_sentence(now.recipe.latency.mode, change, who)


def _last_runs(now: Snapshot, view: CandidateView) -> dict[int, dict[str, float]]:
    """Seed -> metrics at the last rung."""
    last = len(now.recipe.training.rungs) - 1
    return {point.seed: dict(point.metrics) for point in view.scores if point.rung == last}


def _on_other_devices(now: Snapshot) -> Iterator[str]:
    best = now.recommendation.key if now.recommendation else None
    for device in now.elsewhere:
        timed = [view for view in now.ordered(now.candidates) if view.key in device.latencies]
        parts = []
        for view in timed:
            name = RECOMMENDED if view.key == best else view.label
            latency = device.latencies[view.key]
            parts.append(f"{name} {latency.ratio:.3f} ({latency.low:.3f} to {latency.high:.3f})")
        if parts:
            conditions = ", ".join([device.mode, *_differing(now, device)])
            yield (
                f"On {device.machine} ({conditions}), relative to the bare backbone there:"
                f" {', '.join(parts)}."
            )


def _differing(now: Snapshot, device: Elsewhere) -> list[str]:
    """What tells another device of the same name from the one that measures now: `torch 2.14`."""
    if now.latency is None or now.latency.machine != device.machine:
        return []
    return [
        f"{name} {value}"
        for name, value in device.details.items()
        if now.latency.details.get(name) != value
    ]
