"""What goes into the model, and what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Source = Literal["seeds", "images", "assumed", "none"]


@dataclass(frozen=True, slots=True)
class Run:
    """One metric of one run at one rung."""

    key: str
    """Of the placement."""
    seed: int
    rung: int
    """Ways of training in the order of their worth; the last one is what the answers are about."""
    value: float
    backbone: int = 0
    """Which of the study's backbones it started from; 0 where there is one, or none."""
    correct: bytes | None = None
    """Per validation image, right or wrong, as bits (numpy.packbits order); for accuracies."""
    examples: int = 0
    """Validation images behind the value; 0 where unknown."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is believed about a placement's metric, in the metric's own direction and unit."""

    mean: float
    sd: float
    low: float
    """95 % interval of the expected score on these validation images, over seeds (and backbones, where there are several),"""
    high: float
    new_low: float | None
    """and on new images of the same kind; None without results per image."""
    new_high: float | None
    raw_mean: float | None
    """Mean of its runs at this rung; None for one that had none."""
    seeds: int
    """Runs behind that."""

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, on these images."""
        return self.low, self.high


@dataclass(frozen=True, slots=True)
class Gain:
    """How much better one placement is than another: positive is better, whatever the metric's direction."""

    mean: float
    sd: float
    low: float
    """95 % interval, on these images."""
    high: float
    probability: float
    """That it is better. A tie is not better."""
    worse: float
    """Probability that it is worse; the rest is a tie."""
    next_sd: float
    """Standard deviation of the gain on one more backbone; equal to `sd` where the study has a single one."""
    new_low: float | None
    """95 % interval on new images, None without results per image, and"""
    new_high: float | None
    new_probability: float | None
    """the probability of being better there."""

    @property
    def worth(self) -> float:
        """Gain weighted with the probability that there is one: what a placement is chosen by."""
        return self.mean * self.probability


@dataclass(frozen=True, slots=True)
class Noise:
    """How much runs of one placement differ, at the rung of the answers."""

    metric: str
    seed_sd: float | None
    """Standard deviation of one run around its placement's expected score, over seeds; None where nothing is known."""
    paired_sd: float | None
    """The same, net of what all runs of one seed have in common: what comparisons with shared seeds suffer from."""
    paired_low: float | None
    """95 % interval of `paired_sd`."""
    paired_high: float | None
    source: Source
    """`seeds`: placements that ran with several; `images`: what the validation images give, and how the scores of one seed
    spread; `assumed`: only the latter; `none`: fewer than two runs with a seed in common."""
    repeated: int
    """Placements that ran more than once."""
    runs: int
    binomial_sd: float | None
    """Spread that the finite validation set gives an accuracy by itself: sqrt(p (1 - p) / images). Placements are scored
    on the same images, so most of it cancels between them."""
    images_sd: float | None
    """What is left of it in the difference of two placements with the same seed, over sqrt(2)."""
    between_sd: float | None
    """Typical spread between placements (posterior mean)."""
    interaction_sd: float | None
    """Placement x backbone; None with one backbone."""
    correlation: float | None
    """Between the rung below and this one, of the placements' effects; None without a rung below."""

    def reliability(self, runs: int = 1) -> float | None:
        """Share of the variance of a mean of `runs` runs that is difference between placements, 0 to 1."""
        if self.paired_sd is None or self.between_sd is None:
            return None
        signal, noise = self.between_sd**2, self.paired_sd**2 / runs
        return signal / (signal + noise) if signal + noise > 0 else None
