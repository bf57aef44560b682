"""What all runs of a study say about one metric: every rung, seed, backbone and purpose, read
together.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from nas_attn.model.assembling import Assembled, assemble
from nas_attn.model.coding import Floats
from nas_attn.model.hypotheses import cdf
from nas_attn.model.mixtures import TINY_SPREAD, interval, moments, ties
from nas_attn.model.new_images import NewImages
from nas_attn.model.priors import NOTHING_KNOWN, Beforehand
from nas_attn.model.runs import ScoredRun
from nas_attn.model.solution import NodeEffects, Solution, Sum
from nas_attn.recipe.tables import is_share
from nas_attn.space.placement import Placement

# What tells of the noise: repeated runs; images and single scores; single scores; nothing, with one
# run.
Source = Literal["seeds", "images", "assumed", "none"]
# repetitions without any difference that show that a metric (no share of images) has no noise
REPEATS = 3


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is believed about a placement's metric, in the metric's own direction and unit."""

    mean: float
    sd: float
    # 95 % interval of the expected score on these validation images, over seeds and backbones
    low: float
    high: float
    # its runs at this rung
    seeds: int


@dataclass(frozen=True, slots=True)
class Gain:
    """How much better one placement is than another: positive is better, whatever the metric's
    direction.

    On new images of the same kind, where results per image are known; else on these validation
    images. All allow for the case that nothing differs; only the probabilities allow for a tie of
    these two where others differ.
    """

    mean: float = 0.0
    sd: float = 0.0
    # 95 % interval
    low: float = 0.0
    high: float = 0.0
    # that it is better; a tie is not better
    probability: float = 0.0
    # probability that it is worse; the rest is a tie
    worse: float = 0.0

    @classmethod
    def normal(cls, mean: float, sd: float) -> Gain:
        """One whose error is normal."""
        better = float(cdf(mean / max(sd, 1e-12)))
        return cls(mean, sd, mean - 1.96 * sd, mean + 1.96 * sd, better, 1 - better)

    @property
    def worth(self) -> float:
        """Gain weighted with the probability that there is one: what a placement is chosen by."""
        return self.mean * self.probability


@dataclass(frozen=True, slots=True)
class Noise:
    """How much runs of one placement differ, at the rung of the answers. None where nothing is
    known.
    """

    metric: str
    source: Source
    # placements that ran more than once
    repeated: int
    runs: int
    # standard deviation of one run around its placement's expected score, over seeds
    seed_sd: float | None = None
    paired_sd: float | None = None
    # typical spread between placements (posterior mean)
    between_sd: float | None = None
    correlation: float | None = None

    def reliability(self, runs: int = 1) -> float | None:
        """Share of the variance of a mean of `runs` runs that is difference between placements, 0
        to 1.
        """
        if self.paired_sd is None or self.between_sd is None:
            return None
        signal = self.between_sd**2
        noise = self.paired_sd**2 / runs
        return signal / (signal + noise) if signal + noise > 0 else None


class Evidence:
    """The fitted model of one metric at one rung, solved when the first answer is asked of it;
    `fit` makes it.

    With several backbones, a value is the mean over all possible ones. `two_values`: the two at
    which runs end by chance, worse first.
    """

    def __init__(
        self, runs: Assembled, placements: Mapping[str, Placement], known: Solution | None = None
    ) -> None:
        self.metric = runs.metric
        self.lower_is_better = runs.lower_is_better
        self.backbones = runs.data.backbones
        self.keys = tuple(placements)
        self.rung = runs.last[0].rung
        self._runs = runs
        self._placements = placements
        self._sign = -1.0 if runs.lower_is_better else 1.0
        self.two_values = (
            None if runs.two is None else (self._sign * runs.two[0], self._sign * runs.two[1])
        )
        self._solution = known or Solution(runs.data, [placements[key] for key in runs.keys])
        self._index = {key: i for i, key in enumerate(self.keys)}
        self._gains: defaultdict[str, dict[str, Gain]] = defaultdict(dict)

    @property
    def ran(self) -> Collection[str]:
        """Keys of the placements that ran at this rung."""
        return self._runs.values.keys()

    @cached_property
    def estimates(self) -> dict[str, Estimate]:
        """Every placement's expected score at this rung, also of those that had no run there."""
        runs = {key: self._runs.values.get(key, ()) for key in self.keys}
        if self._constant:
            value = self._runs.last[0].value
            return {
                key: Estimate(value, 0.0, value, value, len(values)) for key, values in runs.items()
            }
        weight = self._solution.nodes.weight
        (means, variances, _) = self._effects.marginals()
        shift, more = self._broken(self.keys, means)
        means = means + shift
        variances = variances + more
        mean, sd = moments(weight, means, variances)
        mean, low, high = np.clip([mean, *interval(weight, means, variances)], *self._runs.limits)
        estimates = {}
        for i, (key, values) in enumerate(runs.items()):
            least, most = sorted((self._sign * float(low[i]), self._sign * float(high[i])))
            estimates[key] = Estimate(
                self._sign * float(mean[i]), float(sd[i]), least, most, len(values)
            )
            if self._exact and values:
                estimates[key] = Estimate(values[0], 0.0, values[0], values[0], len(values))
        return estimates

    def gain(self, a: str, b: str) -> Gain | None:
        """How much better `a` is than `b`; None where either is unknown, or nothing can be said of
        differences.
        """
        return self.gains(b, [a]).get(a) if a in self._index else None

    def gains(self, over: str, keys: Sequence[str] | None = None) -> dict[str, Gain]:
        """How much better each of some placements (None: all) is than one; empty where nothing can
        be said of differences.
        """
        if over not in self._index or len(self._runs.last) < 2:
            return {}
        wanted = self.keys if keys is None else keys
        gains = self._gains[over]
        missing = [key for key in wanted if key not in gains]
        if missing and self._constant:
            gains |= dict.fromkeys(missing, Gain())
        elif missing:
            places = np.array([self._index[key] for key in [*missing, over]], dtype=np.intp)
            means, variances, before = self._effects.marginals(places[:-1], self._index[over])
            if self._runs.broken:
                shift, more = self._broken([*missing, over], self._effects.marginals(places)[0])
                means = means + shift[:, :-1] - shift[:, -1:]
                variances = variances + more[:, :-1] + more[:, -1:]
            tied = (
                np.zeros_like(means)
                if not self._runs.data.equal
                else ties(means, variances, before)
            )
            computed = self._as_gains(means, variances, tied, missing, over)
            gains |= {
                key: Gain() if key == over else gain
                for key, gain in zip(missing, computed, strict=True)
            }
        return {key: gains[key] for key in wanted}

    @cached_property
    def noise(self) -> Noise:
        repeated = sum(n > 1 for n in Counter(run.key for run in self._runs.last).values())
        runs = len(self._runs.last)
        source: Source = "assumed"
        if repeated:
            source = "seeds"
        elif self._runs.data.priors[-1].floor:
            source = "images"
        if self._constant:
            return Noise(self.metric, source, repeated, runs, 0.0, 0.0, 0.0)
        if runs < 2:
            return Noise(self.metric, "none", repeated, runs)
        unit = self._solution.nodes.noise
        draws = self._solution.nodes.draws
        weight = self._solution.nodes.weight
        noise = unit * draws.noise[:, -1]
        below = self._runs.data.rungs > 1 + self._runs.data.witness
        # One block says nothing about how levels scatter over seeds and backbones.
        levels = draws.seeds if len(np.unique(self._runs.data.block)) > 1 else 0.0
        return Noise(
            self.metric,
            source,
            repeated,
            runs,
            seed_sd=math.sqrt(float(weight @ (noise**2 * (1 + levels**2)))),
            paired_sd=math.sqrt(float(weight @ noise**2)),
            between_sd=float(weight @ (unit * draws.spread[:, -1])),
            correlation=float(weight @ draws.rho[:, -1, -2]) if below else None,
        )

    def about(self, placements: Mapping[str, Placement]) -> Evidence:
        """The same model with answers about these placements alone, run or not; by key."""
        return Evidence(self._runs, placements, self._solution)

    def effects(self, sums: Mapping[str, Sum]) -> dict[str, Gain]:
        """What choices do at any site: `{"se": [("stage1=se", 1), ("none", -1)]}`, weights that add
        up to 0.
        """
        if len(self._runs.last) < 2 or not sums:
            return {}
        if self._constant:
            return dict.fromkeys(sums, Gain())
        means, variances = self._solution.sums([*sums.values()])
        return dict(zip(sums, self._as_gains(means, variances, np.zeros_like(means)), strict=True))

    def draw(self, rng: np.random.Generator, count: int) -> Floats:
        """(count, placements) joint draws of expected scores, in the order of `keys`."""
        if self._constant:
            return np.full((count, len(self.keys)), self._runs.last[0].value)
        drawn = self._effects.draws(rng, count)
        if self._runs.broken:
            shift, more = self._broken(self.keys, self._effects.marginals()[0])
            drawn += rng.normal(*moments(self._solution.nodes.weight, shift, more), drawn.shape)
        return np.asarray(self._sign * drawn)

    @cached_property
    def _effects(self) -> NodeEffects:
        places = {
            key: place for place, key in enumerate(self._runs.keys[: len(self._runs.data.codes)])
        }
        place = np.array([places.get(key, -1) for key in self.keys], dtype=np.intp)
        return NodeEffects(self._solution, [*self._placements.values()], place)

    @cached_property
    def _constant(self) -> bool:
        """Whether all of several runs came out the same: then nothing differs, as far as can be
        seen. Images set a floor.
        """
        last = self._runs.last
        return (
            len(last) > 1
            and len({run.value for run in last}) == 1
            and self._runs.data.priors[-1].floor is None
        )

    @cached_property
    def _exact(self) -> bool:
        """Whether repeated runs always came out the same, as a size does: then a run says all, with
        nothing to be shrunk.
        """
        repeated = [values for values in self._runs.values.values() if len(values) > 1]
        if (
            is_share(self.metric)
            or len(repeated) < 2
            or sum(map(len, repeated)) < REPEATS + len(repeated)
        ):
            return False
        return all(len(set(values)) == 1 for values in repeated)

    def _broken(self, keys: Sequence[str], scores: Floats) -> tuple[Floats, Floats]:
        """(nodes, keys) what is added to the means and variances of scores, where a placement had
        broken runs.

        The more they are broken, the more its own runs alone count: others say nothing of a network
        that does not train.
        """
        nodes = self._solution.nodes
        (shift, more) = np.zeros((2, *scores.shape))
        for i, key in ((i, key) for i, key in enumerate(keys) if key in self._runs.broken):
            (off, broken) = self._runs.broken[key]
            own = self._runs.values[key]
            shift[:, i] = broken * (self._sign * np.mean(own) - scores[:, i]) + (1 - broken) * off
            more[:, i] = broken * (nodes.noise * nodes.draws.noise[:, -1]) ** 2 / len(own)
        return shift, more

    def _possible(self, over: str) -> tuple[float, float]:
        """The least and the largest gain over a placement that the metric's limits allow."""
        (least, most) = self._runs.limits
        estimate = self.estimates[over]
        low, high = sorted((self._sign * estimate.low, self._sign * estimate.high))
        return least - high, most - low

    @property
    def on_new_images(self) -> bool:
        """Whether gains are for new images of the same kind, not only for these."""
        return self._images is not None

    @cached_property
    def _images(self) -> NewImages | None:
        model = NewImages(self._runs.last)
        return model if len(model.runs) > 1 else None

    def _as_gains(
        self,
        means: Floats,
        variances: Floats,
        tied: Floats,
        keys: Sequence[str] = (),
        over: str = "",
    ) -> list[Gain]:
        """From means, variances and probabilities of a tie (nodes, k), of these placements `over`
        one within the metric's limits.
        """
        weight = self._solution.nodes.weight
        # false where a node holds all to be equal
        differ = variances + np.abs(means) > 0
        if keys and self._images is not None:
            variances = variances + differ * np.array(
                [self._images.gain(key, over) for key in keys]
            )
        untied = weight[:, None] * differ * (1 - tied)
        z = means / np.sqrt(variances + TINY_SPREAD)
        better = (untied * cdf(z)).sum(axis=0)
        worse = (untied * cdf(-z)).sum(axis=0)
        # the weights' sum is 1 but for rounding
        better = np.minimum(better, 1.0)
        worse = np.minimum(worse, 1.0)
        mean, sd = moments(weight, means, variances)
        possible = self._possible(over) if keys else (-math.inf, math.inf)
        mean, low, high = np.clip([mean, *interval(weight, means, variances)], *possible)
        return [Gain(*row) for row in np.array([mean, sd, low, high, better, worse]).T.tolist()]


def fit(
    runs: Iterable[ScoredRun],
    placements: Mapping[str, Placement],
    *,
    metric: str,
    lower_is_better: bool = False,
    rung: int | None = None,
    beforehand: Beforehand = NOTHING_KNOWN,
) -> Evidence | None:
    """Fits the model of one metric.

    Args:
        runs: of this metric; those that are not finite, or of other placements, are left out.
        placements: explicit ones by key, run or not.
        metric: its name; shares are told from other metrics by it.
        lower_is_better: whether less of it is better.
        rung: the last one that counts, which answers are about; None: the highest.
        beforehand: what is known of the placements.

    Returns:
        The model; None without a run at the rung.
    """
    placed = [run for run in runs if run.key in placements and math.isfinite(run.value)]
    last = max((run.rung for run in placed), default=None) if rung is None else rung
    if last is None or not any(run.rung == last for run in placed):
        return None
    assembled = assemble(
        placed,
        placements,
        metric=metric,
        lower_is_better=lower_is_better,
        rung=last,
        beforehand=beforehand,
    )
    return Evidence(assembled, {key: placements[key] for key in assembled.keys})
