"""What noisy scores say about candidates: noise floor, shrunken estimates, probabilities. Estimates, not claims.

The model of one metric at one rung: run j of candidate i scores `theta_i + e_ij`, candidates `theta_i ~ N(mu, tau^2)`,
seed noise `e ~ N(0, sigma^2)`. The noise is pooled over the candidates that ran more than once. `mu` has a flat prior
and is integrated out; `tau` is integrated over a grid, because the usual moment estimate is often exactly 0 with a dozen
candidates and would call them all equal. Its prior: one fifth that there is no difference at all, the rest half-Cauchy of
scale `sigma` (Gelman, "Prior distributions for variance parameters in hierarchical models", 2006).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Source = Literal["seeds", "images", "assumed", "none"]

_PRIOR_RUNS = 4
"""Degrees of freedom that the spread expected from the images counts for beside the measured seed spread."""
_MOST_COMPARED = 64
"""Candidates whose per-image results are compared with each other for that."""
_TAU_GRID = np.concatenate(([0.0], np.geomspace(0.05, 20.0, 48)))
"""Spreads between candidates that are considered, in units of the seed noise."""
_NO_DIFFERENCE = 0.2
"""Prior probability that the candidates do not differ at all."""
_TAU_PRIOR = np.gradient(_TAU_GRID) / (1.0 + _TAU_GRID**2)
_TAU_PRIOR = np.concatenate(([_NO_DIFFERENCE], (1 - _NO_DIFFERENCE) * _TAU_PRIOR[1:] / _TAU_PRIOR[1:].sum()))


@dataclass(frozen=True, slots=True)
class Runs:
    """One candidate's runs of one metric at one rung, higher is better."""

    values: Mapping[int, float]
    """Seed -> value."""
    correct: Mapping[int, bytes]
    """Seed -> per-image correctness as packed bits, where it was kept."""
    examples: int = 0
    """Validation images behind a value; 0 where unknown."""


@dataclass(frozen=True, slots=True)
class NoiseFloor:
    """The spread of one candidate's score over seeds, measured in this study."""

    metric: str
    seed_sd: float | None
    """Standard deviation of one run around its candidate's true value; None with fewer than two runs in all."""
    source: Source
    """`seeds`: measured by repeated runs (with what the images let expect as a weak prior); `images`: only what the
    images let expect; `assumed`: half of the variance seen; `none`: nothing is known."""
    repeated: int
    """Candidates that ran with more than one seed."""
    runs: int
    binomial_sd: float | None
    """Spread that the finite validation set gives an accuracy by itself: sqrt(p (1 - p) / images). Candidates are
    scored on the same images, so most of it cancels between them."""
    between_sd: float | None
    """Spread between candidates (posterior mean of tau)."""

    def reliability(self, runs: int = 1) -> float | None:
        """Share of the variance of a mean of `runs` runs that is difference between candidates, 0 to 1."""
        if self.seed_sd is None or self.between_sd is None:
            return None
        signal, noise = self.between_sd**2, self.seed_sd**2 / runs
        return signal / (signal + noise) if signal + noise > 0 else None


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is believed about a candidate's metric, in the metric's own direction."""

    mean: float
    """Posterior mean: the mean of the runs, pulled towards the study's mean as far as the noise asks for."""
    sd: float
    """Posterior standard deviation; 0 where nothing is known about the noise."""
    raw_mean: float
    seeds: int

    @property
    def interval(self) -> tuple[float, float]:
        """About 95 %: two posterior standard deviations either side."""
        return self.mean - 2 * self.sd, self.mean + 2 * self.sd


class NoiseModel:
    """The fitted model of one metric at one rung.

    Args:
        metric: its name.
        runs: key -> runs, values as they were scored (at least one each).
        lower_is_better: whether smaller values are better.
    """

    def __init__(self, metric: str, runs: Mapping[str, Runs], *, lower_is_better: bool = False) -> None:
        self.metric = metric
        self._sign = -1.0 if lower_is_better else 1.0
        self._runs = {key: r for key, r in sorted(runs.items()) if r.values}
        self._keys = {key: i for i, key in enumerate(self._runs)}
        self._means = np.array([np.mean(list(r.values.values())) for r in self._runs.values()])
        self._counts = np.array([len(r.values) for r in self._runs.values()], dtype=float)
        self._binomial = self._binomial_sd()
        self._sigma, self._source = self._seed_noise()
        self._shared = self._shared_seed_correlation()
        self._fit()

    # ------------------------------------------------------------------------------------------- results

    @property
    def floor(self) -> NoiseFloor:
        """The noise floor behind the estimates."""
        return NoiseFloor(
            metric=self.metric,
            seed_sd=self._sigma,
            source=self._source,
            repeated=int((self._counts > 1).sum()),
            runs=int(self._counts.sum()),
            binomial_sd=self._binomial,
            between_sd=float(self._weights @ self._tau) if self._sigma is not None else None,
        )

    def estimate(self, key: str) -> Estimate | None:
        """None for a candidate without a run."""
        if key not in self._keys:
            return None
        i = self._keys[key]
        mean = float(self._weights @ self._post_mean[:, i])
        variance = float(self._weights @ (self._post_var[:, i] + (self._post_mean[:, i] - mean) ** 2))
        return Estimate(mean, math.sqrt(max(variance, 0.0)), float(self._means[i]), int(self._counts[i]))

    def gain(self, a: str, b: str) -> tuple[float, float] | None:
        """How much better `a` is than `b` (posterior mean), and the probability that it is better at all.

        From the runs with shared seeds where that is sharper, else from both posteriors. None where either has no run,
        or nothing is known about the noise.
        """
        if a not in self._keys or b not in self._keys or self._sigma is None:
            return None
        if a == b or self._sigma == 0.0:
            difference = self._sign * float(self._means[self._keys[a]] - self._means[self._keys[b]])
            return difference, 0.5 + 0.5 * float(np.sign(difference))
        mean_t, variance_t = self._paired(a, b) or self._unpaired(a, b)
        sd_t = np.sqrt(np.maximum(variance_t, 1e-300))
        beats = np.array([NormalDist().cdf(z) for z in self._sign * mean_t / sd_t])
        return self._sign * float(self._weights @ mean_t), float(self._weights @ beats)

    def probability(self, a: str, b: str) -> float | None:
        """Probability that candidate `a` is truly better than `b` at this training budget."""
        gain = self.gain(a, b)
        return None if gain is None else gain[1]

    # ------------------------------------------------------------------------------------------- noise

    def _binomial_sd(self) -> float | None:
        images = [r.examples for r in self._runs.values() if r.examples]
        if self.metric != "accuracy" or not images:
            return None
        p = float(self._means.mean())
        return math.sqrt(p * (1 - p) / min(images)) if 0 < p < 1 else None

    def _seed_noise(self) -> tuple[float | None, Source]:
        repeated = [np.array(list(r.values.values())) for r in self._runs.values() if len(r.values) > 1]
        freedom = sum(len(values) - 1 for values in repeated)
        squares = float(sum(((values - values.mean()) ** 2).sum() for values in repeated))
        expected = _expected_from_images(self._runs) or self._binomial
        if freedom and expected is not None:
            return math.sqrt((squares + _PRIOR_RUNS * expected**2) / (freedom + _PRIOR_RUNS)), "seeds"
        if freedom:
            return math.sqrt(squares / freedom), "seeds"
        if expected is not None:
            return expected, "images"
        if len(self._means) > 1:
            return math.sqrt(float(self._means.var(ddof=1)) / 2), "assumed"
        return None, "none"

    def _shared_seed_correlation(self) -> float:
        """Share of the seed noise that candidates trained with the same seed have in common, 0 to 0.9.

        From the residuals of candidates that ran more than once: residuals of one seed that agree across candidates.
        """
        residuals: dict[int, list[float]] = {}
        for r in self._runs.values():
            if len(r.values) > 1:
                centre = float(np.mean(list(r.values.values())))
                unbias = math.sqrt(len(r.values) / (len(r.values) - 1))
                for seed, value in r.values.items():
                    residuals.setdefault(seed, []).append((value - centre) * unbias)
        own = [value * value for values in residuals.values() for value in values]
        crossed = [
            (sum(v) ** 2 - sum(x * x for x in v), len(v) * (len(v) - 1)) for v in residuals.values() if len(v) > 1
        ]
        pairs = sum(count for _, count in crossed)
        if pairs < 2 * _PRIOR_RUNS or not sum(own):
            return 0.0
        return float(np.clip(sum(total for total, _ in crossed) / pairs / np.mean(own), 0.0, 0.9))

    # ------------------------------------------------------------------------------------------- posterior

    def _fit(self) -> None:
        """Weights over the grid of tau, and every candidate's posterior mean and variance at each (T, n)."""
        if self._sigma is None or self._sigma == 0.0 or not len(self._means):
            self._tau = np.zeros(1)
            self._weights = np.ones(1)
            self._post_mean = self._means[None, :]
            self._post_var = np.zeros_like(self._post_mean)
            return
        self._tau = _TAU_GRID * self._sigma
        noise_n = self._sigma**2 / self._counts
        precision_tn = 1.0 / (self._tau[:, None] ** 2 + noise_n)
        total_t = precision_tn.sum(axis=1)
        mu_t = (precision_tn * self._means).sum(axis=1) / total_t
        chi_t = (precision_tn * (self._means - mu_t[:, None]) ** 2).sum(axis=1)
        log_t = 0.5 * np.log(precision_tn).sum(axis=1) - 0.5 * np.log(total_t) - 0.5 * chi_t
        weights = np.exp(log_t - log_t.max()) * _TAU_PRIOR
        self._weights = weights / weights.sum()
        self._trust = self._tau[:, None] ** 2 * precision_tn
        self._mu_var = 1.0 / total_t
        self._post_mean = self._trust * self._means + (1 - self._trust) * mu_t[:, None]
        self._post_var = self._trust * noise_n + (1 - self._trust) ** 2 * self._mu_var[:, None]

    def _unpaired(self, a: str, b: str) -> tuple[Array, Array]:
        """Mean and variance of `theta_a - theta_b` at each tau, from all runs of the study."""
        i, j = self._keys[a], self._keys[b]
        trust_a, trust_b = self._trust[:, i], self._trust[:, j]
        variance = trust_a * self._noise(a) + trust_b * self._noise(b) + (trust_a - trust_b) ** 2 * self._mu_var
        return self._post_mean[:, i] - self._post_mean[:, j], variance

    def _noise(self, key: str) -> float:
        """Variance of a candidate's raw mean around its true value."""
        assert self._sigma is not None
        return self._sigma**2 / len(self._runs[key].values)

    def _paired(self, a: str, b: str) -> tuple[Array, Array] | None:
        """The same from the runs with shared seeds; None where all runs unpaired say more.

        The noise of the difference is never taken below what the validation images alone give it.
        """
        assert self._sigma is not None
        left, right = self._runs[a], self._runs[b]
        shared = sorted(left.values.keys() & right.values.keys())
        if not shared:
            return None
        difference = float(np.mean([left.values[s] - right.values[s] for s in shared]))
        by_seeds = 2 * self._sigma**2 * (1 - self._shared) / len(shared)
        by_images = _image_variance(left, right, shared)
        unpaired = self._noise(a) + self._noise(b)
        if by_seeds > unpaired and by_images <= unpaired:
            return None
        variance = max(by_seeds, by_images)
        prior = 2 * self._tau**2
        trust = prior / (prior + variance)
        return trust * difference, trust * variance


def _expected_from_images(runs: Mapping[str, Runs]) -> float | None:
    """Noise of one run, as far as it is comparable between candidates: sqrt of half the variance of a difference.

    The variance of a difference comes from the images that only one of two candidates gets right (median over pairs).
    None where fewer than two candidates have per-image results.
    """
    packed = [(r.examples, r.correct[min(r.correct)]) for r in runs.values() if r.correct and r.examples]
    images = max((n for n, _ in packed), default=0)
    rows = [_bits(bits, n) for n, bits in packed if n == images][:_MOST_COMPARED]
    if len(rows) < 2:
        return None
    right = np.array(rows)
    accuracy = right.mean(axis=1)
    one_only = accuracy[:, None] + accuracy - 2 * right @ right.T / images
    variance = (one_only - (accuracy[:, None] - accuracy) ** 2) / images
    upper = variance[np.triu_indices(len(rows), k=1)]
    return math.sqrt(max(float(np.median(upper)), 0.0) / 2) or None


def _image_variance(a: Runs, b: Runs, shared: list[int]) -> float:
    """Variance that the images give the mean difference: those that only one gets right (as in McNemar's test)."""
    kept = [s for s in shared if s in a.correct and s in b.correct and len(a.correct[s]) == len(b.correct[s])]
    images = min(a.examples, b.examples)
    if len(kept) < len(shared) or not images:
        return 0.0
    difference = np.zeros(images)
    for seed in kept:
        difference += _bits(a.correct[seed], images) - _bits(b.correct[seed], images)
    return float((difference / len(kept)).var()) / images


def _bits(packed: bytes, images: int) -> Array:
    return np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=images).astype(float)
