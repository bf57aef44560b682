"""Who may be recommended, how two of them compare, and the answer, as facts."""

from __future__ import annotations

from dataclasses import dataclass

from nas_attn.model import Estimate
from nas_attn.records import Latency


@dataclass(frozen=True, slots=True)
class Contender:
    """What the rule needs to know about a candidate scored at the last rung."""

    key: str
    placement: str
    baseline: str | None
    estimate: Estimate
    latency: Latency | None
    on_front: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """The recommended placement held against another."""

    key: str
    name: str
    """The other's name: `none`, `uniform se(reduction=16)`, or its placement."""
    gain: float | None
    """Posterior mean of how much better the placement is, in the metric's units; None while the noise is unknown."""
    low: float | None
    """95 % interval of that, on these validation images."""
    high: float | None
    probability: float | None
    """That it is better at all, at this training budget. A tie is not better."""
    worse: float | None
    """Probability that it is worse; the rest is a tie."""
    new_low: float | None
    """95 % interval of the gain on new images of the same kind; None without results per image, and"""
    new_high: float | None
    new_probability: float | None
    """the probability of being better there."""
    latency_ratio: float | None
    """The placement's latency over the other's."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The placement to take, with what speaks for it."""

    key: str
    placement: str
    metric: str
    estimate: Estimate
    latency: Latency | None
    rule: str
    """How it was chosen, as a clause."""
    against_none: Comparison | None
    """None where it is itself no attention, or that has not been scored."""
    against_uniform: Comparison | None
    """Against the best uniform baseline, by posterior mean; None where it is that one, or none has been scored."""
    worth: float | None
    """The smallest difference that counts, in the metric's unit; None where the noise is unknown."""
    best_bet: Comparison | None
    """Where the bare backbone is recommended: the most promising placement held against it."""
    more_accurate: Comparison | None
    """The recommendation against the one with the largest likely gain, where that one is slower; None: it is that one."""
    cheaper: Comparison | None
    """The recommendation against the fastest one that loses less than twice what counts; None where there is none."""
    level_with: tuple[str, ...]
    """Keys of others on the front that it is not better than with 95 %, the most level first; empty for no attention."""
    answer: tuple[str, ...]
    """The answer in at most six lines, the first one whole, the others `Name  what it says`."""
    why: tuple[str, ...]
    """The reasons, in sentences."""
