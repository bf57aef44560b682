"""What a hypothesis about the runs does not know, and what drawn parameters mean."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike

from nas_attn.model.assembling import Data
from nas_attn.model.coding import Floats, Ints, Shape
from nas_attn.model.priors import (
    BACKBONE_SCATTER,
    LEVEL_FREEDOMS,
    SEED_SCATTER,
    TARGET_NOISE,
    log_half_t,
)

# values of the noise at each draw
NOISES = 14
# correlation of a run's luck at two rungs: middle of its prior (normal scale), end
LUCK = 0.5
MOST_ETA = 0.97
# correlation of the effects on a second witness with those on the metric: middle of its prior
# (normal scale). It was 0.73 and 0.84 for the Brier score and accuracy in two folders; the prior's
# mean is 0.64, and a tenth of it lies below 0.22.
WITNESSED = 0.5
# prior probability that the search says nothing about the target
UNRELATED = 1 / 3
# the same placements on other images: middle of the prior of the correlation (normal scale)
OTHER_IMAGES = 1.0


def cdf(z: ArrayLike) -> Floats:
    """Probability below z of a standard normal variable."""
    from scipy.special import ndtr

    return np.asarray(ndtr(z), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Draws:
    """m draws of the variances, in units of the noise at the last rung of the search."""

    # (m,) index into the shapes
    shape: Ints
    # (m, rungs)
    noise: Floats
    # (m, rungs) of the placements' effects; 0 where all are equal
    spread: Floats
    # (m, rungs) of placement x backbone; 0 with one backbone
    interaction: Floats
    # (m, rungs, rungs) correlation of the effects at two rungs
    rho: Floats
    # (m, rungs, rungs) correlation of a run's noise at two rungs
    eta: Floats
    # (m,) scatter of the levels over seeds, in units of the noise
    seeds: Floats
    # (m, rungs) the same at each rung: that of a second witness has a factor of its own
    levels: Floats
    # (m,) the same over backbones
    backbones: Floats

    def some(self, which: slice | Ints) -> Draws:
        return Draws(*(getattr(self, field.name)[which] for field in fields(self)))


class Hypothesis:
    """One hypothesis: its parameters, and what they mean. `differ`: at how many rungs, from the
    lowest, placements differ.
    """

    def __init__(self, data: Data, shapes: Sequence[Shape], differ: int) -> None:
        self.data = data
        self.differ = differ
        self.several = data.backbones > 1
        # the rung whose noise is the unit
        self.unit = data.searched
        self.shapes = list(shapes)
        if not differ and not self.several:
            self.shapes = list(shapes[:1])
        unknowns = self._unknowns()
        self.index = {name: i for i, name in enumerate(unknowns)}
        self.middle, self.width = np.array([*unknowns.values()]).reshape(-1, 2).T
        prior = np.array([shape.prior for shape in self.shapes])
        self.prior = prior / prior.sum()

    def _unknowns(self) -> dict[str, tuple[float, float]]:
        """Name of a parameter -> middle and width of its first proposal, on the scale on which it
        is drawn.
        """
        data = self.data
        found: dict[str, tuple[float, float]] = {}
        for rung in range(data.rungs):
            found.update(self._unknowns_of(rung))
        if data.target:
            found[f"noise{self.unit + 1}"] = (0.0, TARGET_NOISE)
        found.update(self._correlations())
        if self.several:
            found["backbones"] = (0.0, 1.2)
        if self.several and self.differ:
            found["interaction"] = (-0.3, 0.8)
        # blocks of the last rung, of the search or the target
        last = data.block[data.rung >= self.unit]
        blocks_repeat = len(np.unique(last)) < len(last)
        if blocks_repeat:
            found["seeds"] = (0.0, 1.2)
        if data.witness and blocks_repeat:
            found["levels"] = (0.0, 1.0)
        return found

    def _unknowns_of(self, rung: int) -> dict[str, tuple[float, float]]:
        """The same of one rung: the spread of effects, and the noise if it is not the unit."""
        data = self.data
        found: dict[str, tuple[float, float]] = {}
        if rung < self.differ or self.several:
            # wide: a module that alone sees a cue spreads a hundred times the noise
            found[f"spread{rung}"] = (0.5, 2.2)
        on_test_images = data.tested and rung == data.rungs - 1
        if rung < self.unit or on_test_images:
            sizes = np.log([priors.size for priors in data.priors])
            ratio = np.clip(sizes[rung] - sizes[self.unit], -4, 4)
            found[f"noise{rung}"] = (float(ratio), 0.6)
        return found

    def _correlations(self) -> dict[str, tuple[float, float]]:
        """The same of correlations between rungs: of a run's luck, then of effects."""
        data = self.data
        found: dict[str, tuple[float, float]] = {}
        if data.rungs - data.tested > 1:
            found["eta"] = (LUCK, 1.0)
        if data.tested:
            found["luck"] = (0.0, 1.0)
        if self.unit and (self.differ or self.several):
            found["rho"] = (0.0, 1.0)
        differ_at_last = self.differ == data.rungs or self.several
        if data.target and differ_at_last:
            found["target"] = (0.0, 1.0)
        if data.tested and differ_at_last:
            found["tested"] = (OTHER_IMAGES, 1.0)
        return found

    def draws(self, shape: Ints, z: Floats) -> Draws:
        m = len(z)
        rungs = self.data.rungs
        noise = np.stack([self._exp(z, f"noise{k}") for k in range(rungs)], axis=1)
        size = noise * np.stack([self._exp(z, f"spread{k}") for k in range(rungs)], axis=1)
        differ = np.arange(rungs) < self.differ
        ratio = np.where(differ, self._exp(z, "interaction")[:, None], 1.0)
        rho = [np.sin(0.5 * math.pi * cdf(self._get(z, "rho")))] * (rungs - 1)
        eta = [MOST_ETA * cdf(self._get(z, "eta"))] * (rungs - 1)
        if self.data.witness:
            rho[0] = cdf(WITNESSED + self._get(z, "rho"))
        if self.data.target:
            related = (cdf(self._get(z, "target")) - UNRELATED) / (1 - UNRELATED)
            rho[self.unit] = np.maximum(related, 0.0)
        if self.data.tested:
            rho[-1] = np.sin(0.5 * math.pi * cdf(self._get(z, "tested")))
            eta[-1] = MOST_ETA * cdf(self._get(z, "luck"))
        seeds = self._exp(z, "seeds") if "seeds" in self.index else np.zeros(m)
        levels = np.repeat(seeds[:, None], rungs, axis=1)
        if self.data.witness:
            levels[:, 0] *= self._exp(z, "levels")
        return Draws(
            shape,
            noise=noise,
            spread=size * differ,
            interaction=size * ratio * self.several,
            rho=_chained(rho, m),
            eta=_chained(eta, m),
            seeds=seeds,
            levels=levels,
            backbones=self._exp(z, "backbones") if "backbones" in self.index else np.zeros(m),
        )

    def noises(self, squares: Floats) -> Floats:
        """(m, NOISES) noises around what the runs' squares (m,) say, in even steps of their
        logarithm.
        """
        freedoms = max(len(self.data.value) - self.data.rungs, 1)
        near = np.sqrt(squares / freedoms)
        reach = 4 / math.sqrt(2 * freedoms)
        least, most = self.data.priors[self.unit].bounds
        low = np.clip(near * math.exp(-reach), least, most / 2)
        high = np.clip(np.maximum(near * math.exp(1.3 * reach), 1.3 * low), 1.3 * least, most)
        return np.asarray(np.exp(np.linspace(np.log(low), np.log(high), NOISES)).T)

    def log_prior(self, draws: Draws, z: Floats, noises: Floats) -> Floats:
        """(m, NOISES) log density of the parameters and of the log noise, shapes included."""
        # (m, rungs, NOISES)
        s = draws.noise[:, :, None] * noises[:, None, :]
        log_density = np.log(self.prior)[draws.shape][:, None] + np.zeros(noises.shape)
        for k, priors in enumerate(self.data.priors):
            tied = k > self.unit
            luck = None
            if self.data.target and k == self.unit + 1:
                luck = np.hypot(s[:, k - 1], draws.interaction[:, k - 1, None] * noises)
            log_density = log_density + priors.log_noise(s[:, k], luck)
            t = draws.spread[:, k, None] * noises
            u = draws.interaction[:, k, None] * noises
            if k < self.differ:
                below = draws.spread[:, k - 1, None] * noises if tied else 0.0
                log_density = log_density + priors.log_spread(t, s[:, k], below)
            if self.several and k >= self.differ - 1:
                log_density = log_density + priors.log_interaction(u, t, s[:, k])
        middles = {
            "rho": 0.0,
            "target": 0.0,
            "tested": OTHER_IMAGES,
            "eta": LUCK,
            "luck": 0.0,
            "levels": 0.0,
        }
        for name, middle in middles.items():
            if name in self.index:
                log_density = (
                    log_density
                    - 0.5 * (self._get(z, name)[:, None] - middle) ** 2
                    - 0.5 * math.log(2 * math.pi)
                )
        for name, value, scale in (
            ("seeds", draws.seeds, SEED_SCATTER),
            ("backbones", draws.backbones, BACKBONE_SCATTER),
        ):
            if name in self.index:
                log_density = log_density + log_half_t(value, scale, LEVEL_FREEDOMS)[:, None]
        return np.asarray(log_density)

    def _get(self, z: Floats, name: str) -> Floats:
        return z[:, self.index[name]] if name in self.index else np.zeros(len(z))

    def _exp(self, z: Floats, name: str) -> Floats:
        return np.asarray(np.exp(np.clip(self._get(z, name), -12, 12)))


def _chained(links: Sequence[Floats], count: int) -> Floats:
    """(count, rungs, rungs) correlations, from those (count,) of neighbouring rungs."""
    correlations = np.ones((count, len(links) + 1, len(links) + 1))
    for below, above in itertools.combinations(range(len(links) + 1), 2):
        correlations[:, below, above] = correlations[:, above, below] = math.prod(
            links[below:above]
        )
    return correlations
