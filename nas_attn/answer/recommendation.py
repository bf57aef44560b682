"""What is recommended, and all that the reasons need: numbers and kinds, no sentences."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from nas_attn.model import Estimate, Gain, Noise
from nas_attn.recipe.recipe import TrainingSection
from nas_attn.space.placement import BARE, BARE_NAME, Placement
from nas_attn.storage.records import Latency

# probability of being better than the bare backbone that a placement needs
REQUIRED = 0.70
# probability of being better that a best bet needs
PROMISING = 0.5
# least probability of a difference that is not called chance
NO_CHANCE = 0.95


@dataclass(frozen=True, slots=True)
class Contender:
    """The facts about a candidate scored at the last rung that the rule needs."""

    key: str
    placement: Placement
    baseline: str | None
    estimate: Estimate
    latency: Latency | None
    on_front: bool
    costs: tuple[float, ...] = ()
    """Its other costs that are objectives, in the recipe's order."""

    @property
    def name(self) -> str:
        """`none`, `uniform se(reduction=16)`, or its placement."""
        return self.baseline or str(self.placement)

    @property
    def is_bare(self) -> bool:
        """Whether it is the bare backbone, with which all others are compared."""
        return self.baseline == BARE_NAME


@dataclass(frozen=True, slots=True)
class Comparison:
    """The recommended network compared with another, of this key and name."""

    key: str
    name: str
    gain: Gain | None
    """Of the recommended one over the other (of a best bet: over the recommended one); None while
    the noise is unknown.
    """
    latency_ratio: float | None
    """Latency of the network that gains, divided by the other's."""
    placement: Placement = BARE
    """The other's."""
    latency: Latency | None = None
    """The other's."""


class Reason(Enum):
    """Why a network is the recommended one."""

    BEST_ESTIMATE = auto()
    """The bare backbone has not been scored, so nothing is known of gains."""
    NOTHING_LIKELY = auto()
    """No placement is likely enough to be better than the bare backbone."""
    OUT_OF_REACH = auto()
    """No scored placement is within the latency limit."""
    TOO_SMALL = auto()
    """The gain of the best bet does not count."""
    LARGEST_GAIN = auto()
    FASTEST = auto()
    """The fastest of those that give up too little against the best bet to count."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How the recommended network was chosen."""

    reason: Reason
    limit: float | None = None
    """The recipe's limit of the latency ratio."""
    fastest: float | None = None
    """Latency ratio of the fastest placement, where it is beyond the limit."""


@dataclass(frozen=True, slots=True)
class Worth:
    """The smallest difference that counts."""

    size: float
    """In the metric's unit."""
    stated: bool
    """Whether the recipe states it; else it follows from the best gain and one run's noise."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """A control, a larger network without attention, beside the recommended network."""

    key: str
    placement: Placement
    baseline: str | None
    latency: Latency | None
    gain: Gain
    """Over the bare backbone."""
    lead: Comparison
    """Of the recommended network over the control."""
    dearer: bool
    """Whether it has more latency than the answer may take."""
    in_reach: bool
    """Whether the answer could take it: it is within the limit, or without one, not slower than
    attention.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """The recommended placement, with the reasons."""

    key: str
    placement: Placement
    metric: str
    estimate: Estimate
    latency: Latency | None
    rule: Rule
    is_bare: bool
    is_best_uniform: bool
    bare: Estimate | None
    """Of the bare backbone; None if it has not been scored."""
    against_none: Comparison | None
    """None: it is the bare backbone, or that has not been scored."""
    against_uniform: Comparison | None
    """Against the best uniform baseline; None: it is that one, or none was scored."""
    worth: Worth | None
    """None: nothing is likely to help."""
    best_bet: Comparison | None
    """The placement most likely to help, if the bare backbone is recommended."""
    most_promising: Comparison | None
    """The most promising placement, where it is not the recommended one and not likely enough."""
    more_accurate: Comparison | None
    """Against the one with the largest likely gain, if slower; None: it is that one."""
    slower: Comparison | None
    """Against the one on the front with the largest estimate, of those that are certainly slower;
    None without one, or for the bare backbone.
    """
    cheaper: Comparison | None
    """Against the fastest one that loses less than twice the difference that counts, else the most
    promising of the faster ones that are likely to help; None without one.
    """
    training: TrainingSection | None
    """How the runs were trained that the estimates are of; None: it is not known."""
    backbones: int
    """Own backbones that the runs started from; 0: they started from none, or nothing is known."""
    noise: Noise
    tested: bool = False
    """Whether results on test images count in it, too."""
    capacity: Capacity | None = None
    """The best control, of those in reach if there are any; None if no control was scored."""
    instead: str | None = None
    """Key of the control that the answer takes, since no placement helps as much."""

    @property
    def in_reach(self) -> bool:
        """Whether the answer could take the control."""
        return self.capacity is not None and self.capacity.in_reach

    @property
    def taken(self) -> str:
        """Key of the network that the answer takes: the recommended placement, or a control
        instead.
        """
        return self.instead or self.key


def promising(gain: Gain) -> bool:
    """Whether a placement is more likely to help than not."""
    return gain.mean > 0 and gain.probability >= PROMISING
