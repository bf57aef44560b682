"""What the estimates of a study mean: of which training, on which images, and what is chance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from nas_attn.answer.answer import Answer
from nas_attn.answer.candidates import short_name
from nas_attn.answer.fronts import sign_of
from nas_attn.answer.pooled import PooledTest
from nas_attn.answer.reasons import measured_on
from nas_attn.answer.snapshot import CandidateView, Snapshot
from nas_attn.errors import listed, several
from nas_attn.model import TARGET_RUNG, TESTED
from nas_attn.recipe import units

# A share of signal above this says nothing: rounded, it would be all
MOST_SIGNAL = 0.97


class Provenance(Enum):
    """The training and the images that estimates are about."""

    SEARCH = auto()
    """The search's own training, on the validation images."""
    TARGET = auto()
    """Training as the target says, on the validation images."""
    TESTED = auto()
    """Training as the target says, on the test images."""


def provenance(now: Snapshot, metric: str) -> Provenance:
    """The training and the images that the estimates of a metric are about."""
    model = now.evidence.get(metric)
    if model is None or model.rung < TARGET_RUNG:
        return Provenance.SEARCH
    return Provenance.TESTED if model.rung >= TESTED else Provenance.TARGET


@dataclass(frozen=True, slots=True)
class RunsBesideTest:
    """The search's runs of a network some of which lie outside the interval of its test."""

    test: PooledTest
    # of the runs: those outside, and the epochs of each
    outside: int
    epochs: int
    # candidates among which such runs have chosen the network; 0 where none lies above the interval
    chosen_among: int


def gains_of_runs(now: Snapshot, metric: str, view: CandidateView) -> list[float]:
    """The gain of each of a candidate's runs at the last rung over the bare backbone's run of the
    same seed, where there is one; positive is better.
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
        sign * (point.metrics[metric] - level[point.seed])
        for point in view.scores
        if point.rung == last and metric in point.metrics and point.seed in level
    ]


def gains_of_the_taken(answer: Answer) -> list[float]:
    """The gains of the runs of the network that the answer takes; empty with fewer than two."""
    now = answer.now
    view = now.find(answer.taken_key or "")
    if now.primary is None or view is None or view.is_bare:
        return []
    gains = gains_of_runs(now, now.primary, view)
    return gains if len(gains) > 1 else []


def runs_beside_test(answer: Answer) -> RunsBesideTest | None:
    """The runs of the network that the answer takes, beside its test; None without a test of it,
    or if no run is outside of its interval.
    """
    now = answer.now
    gains = gains_of_the_taken(answer)
    test = None if answer.certainty is None else answer.certainty.test
    if not gains or test is None or test.key != answer.taken_key:
        return None
    low, high = test.between
    outside = sum(not low <= gain <= high for gain in gains)
    if not outside:
        return None
    return RunsBesideTest(
        test=test,
        outside=outside,
        epochs=now.recipe.training.rungs[-1],
        chosen_among=len(now.candidates) if max(gains) > high else 0,
    )


def estimates_sentences(answer: Answer) -> Iterator[str]:
    """What chance does to a score, and what the estimates are about; none before it is known."""
    now = answer.now
    noise = now.noise.get(now.primary or "")
    if noise is None or not noise.seed_sd:
        return
    gains = gains_of_the_taken(answer)
    view = now.find(answer.taken_key or "")
    if gains and view is not None:
        ends = units.difference_range(noise.metric, min(gains), max(gains))
        yield (
            f"The {len(gains)} runs of {short_name(view)} gained {ends} over the bare backbone's"
            " runs of the same seeds."
        )
    beside = runs_beside_test(answer)
    if beside is not None:
        yield _beside_test(beside)
    source = "inferred from the spread of the scores, since no candidate has run twice yet"
    if noise.source == "seeds":
        source = measured_on(noise.repeated)
    yield (
        "Training the same candidate again with another seed changes its score by"
        f" {units.size(noise.metric, noise.seed_sd)} (standard deviation, {source}). This is"
        " the noise floor of this study. Part of it is common to all candidates: two equally good"
        " candidates with the same seed differ by"
        f" {units.size(noise.metric, 2**0.5 * (noise.paired_sd or 0.0))} by chance."
    )
    spread = (
        "The candidates' true scores spread by about"
        f" {units.size(noise.metric, noise.between_sd or 0.0)}."
    )
    one = noise.reliability(1) or 0.0
    if one > MOST_SIGNAL:
        yield spread
    else:
        three = noise.reliability(3) or 0.0
        yield (
            f"{spread} So one run is {100 * one:.0f} % signal, and the mean of three runs"
            f" {100 * three:.0f} %."
        )
    yield (
        "Each estimate uses all runs: it is the mean of a candidate's runs, pulled towards what its"
        " sites and types did elsewhere. The fewer its runs, the stronger the pull. It corrects for"
        " the luck of the best-looking of many."
    )
    yield {
        Provenance.SEARCH: (
            "These are estimates from the search's training and the validation images. They are not"
            " a claim about longer training, or about the test images, which the search does not"
            " read."
        ),
        Provenance.TARGET: (
            "These are estimates for training as the target says and the validation images. They"
            " are not a claim about the test images, which the search does not read."
        ),
        Provenance.TESTED: (
            "These are estimates for training as the target says and the test images. All runs"
            " count in them: those of the tests, and those of the search."
        ),
    }[provenance(now, noise.metric)]


def _beside_test(beside: RunsBesideTest) -> str:
    """Why runs of the search lie outside of what the test has found."""
    test = beside.test
    ends = units.difference_range(test.metric, *test.between)
    verb = "lies" if beside.outside == 1 else "lie"
    differs = []
    if test.epochs != beside.epochs:
        differs.append(f"it trained for {several(test.epochs, 'epoch')} instead of {beside.epochs}")
    differs.append("it was scored on the test images instead of the validation images")
    if beside.chosen_among:
        differs.append(
            f"the search's runs had chosen this network among {beside.chosen_among} candidates, so"
            " they look better than it is"
        )
    return (
        f"{beside.outside} of them {verb} outside the interval of the test, {ends}. That interval"
        f" is of a mean of {several(test.blocks, 'training')}, and the test differs:"
        f" {listed(differs)}."
    )
