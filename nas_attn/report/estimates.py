"""What the estimates of a study mean: of which training, on which images, and what is chance."""

from __future__ import annotations

from collections.abc import Iterator

from nas_attn.answer.fronts import sign_of
from nas_attn.answer.reasons import measured_on
from nas_attn.answer.snapshot import CandidateView, Snapshot
from nas_attn.model import TARGET_RUNG, TESTED
from nas_attn.recipe import units

# A share of signal above this says nothing: rounded, it would be all
MOST_SIGNAL = 0.97


def provenance(now: Snapshot, metric: str) -> str:
    """The training and the images that the estimates of a metric are about."""
    model = now.evidence.get(metric)
    if model is None or model.rung < TARGET_RUNG:
        return "from the search's training, on the validation images"
    images = "test" if model.rung >= TESTED else "validation"
    return f"for training as the target says, on the {images} images"


def gains_of_runs(now: Snapshot, metric: str, view: CandidateView) -> list[float]:
    """The gain of each of a candidate's runs at the last rung over the bare backbone's run of the
    same seed, where there is one; positive is better.
    """
    last = now.recipe.training.last_rung

    def scores(of: CandidateView | None) -> dict[int, float]:
        points = () if of is None else of.scores
        ended = (point for point in points if point.rung == last and metric in point.metrics)
        return {point.seed: point.metrics[metric] for point in ended}

    level = scores(now.bare)
    sign = sign_of(now.recipe, metric)
    return [sign * (of - level[seed]) for seed, of in scores(view).items() if seed in level]


def estimates_sentences(now: Snapshot) -> Iterator[str]:
    """What chance does to a score, and what the estimates are about; none before it is known."""
    noise = now.noise.get(now.primary or "")
    if noise is None or not noise.seed_sd:
        return
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
    if one <= MOST_SIGNAL:
        three = noise.reliability(3) or 0.0
        spread += (
            f" So one run is {100 * one:.0f} % signal, and the mean of three runs"
            f" {100 * three:.0f} %."
        )
    yield spread
    yield (
        f"These are estimates {provenance(now, noise.metric)}. They are not a claim about longer"
        " training or other images."
    )
