"""What goes into the model, and what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Source = Literal["seeds", "images", "assumed", "none"]
TARGET = 1_000_000
"""The rung of runs that train as the network finally will be. It is above all others, which may say little about it."""


@dataclass(frozen=True, slots=True)
class Run:
    """One metric of one run at one rung."""

    key: str
    """Of the placement."""
    seed: int
    rung: int
    """Levels of training in the order of their worth; the answers are about the last one."""
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
    """95 % interval of the expected score on these validation images, over seeds (and backbones, where there are several)."""
    high: float
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

    mean: float = 0.0
    sd: float = 0.0
    low: float = 0.0
    """95 % interval, on these images."""
    high: float = 0.0
    probability: float = 0.0
    """That it is better. A tie is not better."""
    worse: float = 0.0
    """Probability that it is worse; the rest is a tie."""
    new_low: float | None = None
    """95 % interval on new images, and the probability of being better there; None without results per image."""
    new_high: float | None = None
    new_probability: float | None = None

    @property
    def worth(self) -> float:
        """Gain weighted with the probability that there is one: what a placement is chosen by."""
        return self.mean * self.probability


@dataclass(frozen=True, slots=True)
class Noise:
    """How much runs of one placement differ, at the rung of the answers."""

    metric: str
    source: Source
    """`seeds`: placements that ran with several; `images`: what the validation images give, and how the scores of one seed
    spread; `assumed`: only the latter; `none`: fewer than two runs."""
    repeated: int
    """Placements that ran more than once."""
    runs: int
    seed_sd: float | None = None
    """Standard deviation of one run around its placement's expected score, over seeds; None where nothing is known."""
    paired_sd: float | None = None
    """The same, net of what all runs of one seed have in common: what comparisons with shared seeds suffer from."""
    between_sd: float | None = None
    """Typical spread between placements (posterior mean)."""
    interaction_sd: float | None = None
    """Placement x backbone; None with one backbone."""
    correlation: float | None = None
    """Of the placements' effects, between the rung below (of the target: the search's last one) and this one; None without."""

    def reliability(self, runs: int = 1) -> float | None:
        """Share of the variance of a mean of `runs` runs that is difference between placements, 0 to 1."""
        if self.paired_sd is None or self.between_sd is None:
            return None
        signal, noise = self.between_sd**2, self.paired_sd**2 / runs
        return signal / (signal + noise) if signal + noise > 0 else None
