"""An additive model over sites: what each choice adds at each place. Of latency; of metrics the model of all evidence. numpy only.

    value = intercept + sum over sites of effect(site, choice) + lack of fit + noise

The effect of a choice at a site is itself a sum, from the general to the particular: the type anywhere, the type in this
stage, at this site, with these knobs; optionally the first use of a type, wherever it is. Each level's effects are drawn
from a normal distribution whose width is estimated from the data (empirical Bayes by expectation maximisation), so a choice
that was rarely or never seen borrows from its kin, and the standard error says how much was borrowed. Observations that do
not fit are down-weighted as Huber does. Prediction errors are left-one-out, exact for the fitted widths.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from nas_attn.records import Latency, ResolvedPlacement
from nas_attn.space import parse

Floats = npt.NDArray[np.float64]

HUBER = 2.0
"""Residuals beyond this many standard deviations are down-weighted."""
HUBER_SHARE = 0.9205
"""What is left of a normal variable's variance when it is cut at HUBER."""
OUTLIER = 4.0
"""Residuals beyond this many are flagged."""
FEWEST = 3
"""Observations below which nothing can be said about an error."""
MOST = 1500
"""Observations from which the widths are found, spread evenly over all; the coefficients are found from all."""
STEPS = 3
"""Rounds of down-weighting once the widths are known."""
ITERATIONS = 100
SETTLED = 1e-3
"""Relative change of the widths below which they count as found."""


@dataclass(frozen=True, slots=True, order=True)
class Feature:
    """One choice at one site of a placement."""

    site: str
    """`stage2`, `stage2.block1`, with `@position` where it was written."""
    type: str
    knobs: str
    """`reduction=8`, as in notation."""

    @property
    def text(self) -> str:
        """In notation."""
        return f"{self.site}={self.type}({self.knobs})" if self.knobs else f"{self.site}={self.type}"


Features = tuple[Feature, ...]
LEAST_MEASURED = 8
"""Measured candidates from which on the model speaks of others."""
Observation = tuple[Features, float, float]
"""(features, value, weight): the weight is 1 / variance of the value's own noise."""
_Term = tuple[str, ...]
"""(level, …): a column of the model."""
_LEVELS = ("type", "stage", "site", "knobs", "first")


def features(placement: ResolvedPlacement | str) -> Features:
    """Features of an explicit placement or its text; `none` has none."""
    return _features(placement if isinstance(placement, str) else placement.text)


@lru_cache(maxsize=32_768)
def _features(text: str) -> Features:
    found = []
    for assignment in parse(text).assignments:
        if not assignment.choice.is_none:
            site = f"{assignment.site}@{assignment.position}" if assignment.position else assignment.site
            inside = str(assignment.choice).partition("(")[2].removesuffix(")")
            found.append(Feature(site, assignment.choice.type, inside))
    return tuple(sorted(found))


class AdditiveModel:
    """A fitted model. Immutable; `fit` makes it."""

    def __init__(self, terms: Mapping[_Term, int], posterior: _Posterior, first_use: bool) -> None:
        self._terms, self._posterior, self._first_use = terms, posterior, first_use

    @property
    def cv_error(self) -> float:
        """Root mean square left-one-out error; errors beyond Huber's limit count as at the limit."""
        return math.sqrt(float(np.mean((self._posterior.left_out * self._posterior.trust) ** 2)))

    @property
    def outliers(self) -> tuple[int, ...]:
        """Indices of observations more than four standard deviations from what all others predict."""
        return tuple(int(i) for i in np.flatnonzero(np.abs(self._posterior.standardised) > OUTLIER))

    @property
    def lack_of_fit(self) -> float:
        """Standard deviation of what is not additive, beyond the observations' own noise."""
        return math.sqrt(self._posterior.lack)

    @property
    def intercept(self) -> float:
        """Predicted value of the bare backbone."""
        return self.predict(())[0]

    def predict(self, placement: Features) -> tuple[float, float]:
        """(value, standard error) of a placement's true value, lack of fit and unseen choices included."""
        row, unseen = self._row(_terms_of(placement, self._first_use))
        variance = float(row @ self._posterior.covariance @ row) + unseen + self._posterior.lack
        return float(row @ self._posterior.mean), math.sqrt(variance)

    def sum(self, parts: Iterable[tuple[Features, float]]) -> tuple[float, float]:
        """(value, standard error) of a weighted sum of what placements add to the bare backbone, without lack of fit."""
        terms: dict[_Term, float] = {}
        for placement, weight in parts:
            for term, count in _terms_of(placement, self._first_use).items():
                terms[term] = terms.get(term, 0.0) + weight * count
        row, unseen = self._row(terms)
        row[0] = 0.0
        variance = float(row @ self._posterior.covariance @ row) + unseen
        return float(row @ self._posterior.mean), math.sqrt(variance)

    def _row(self, terms: Mapping[_Term, float]) -> tuple[Floats, float]:
        """(columns, variance of the terms that no observation had)."""
        row, unseen = np.zeros(len(self._terms) + 1), 0.0
        row[0] = 1.0
        for term, value in terms.items():
            if term in self._terms:
                row[self._terms[term] + 1] = value
            else:
                unseen += value**2 * self._posterior.widths[_LEVELS.index(term[0])]
        return row, unseen


def fit(observations: Sequence[Observation], *, first_use: bool = False) -> AdditiveModel:
    """Fits the additive model.

    Args:
        observations: (features, value, weight); weight = 1 / variance of the value's noise, finite and positive.
        first_use: a term for a type's first use anywhere in the network (cold caches).

    Raises:
        ValueError: fewer than 3 observations, or a value or weight that is not finite, or a weight that is not positive.
    """
    return _fitted(tuple(observations), first_use)


@lru_cache(maxsize=2)  # a report asks the same of it in several places
def _fitted(observations: tuple[Observation, ...], first_use: bool) -> AdditiveModel:
    if len(observations) < FEWEST:
        raise ValueError(f"the additive model needs at least {FEWEST} observations, not {len(observations)}")
    values = np.array([value for _, value, _ in observations], dtype=np.float64)
    weights = np.array([weight for _, _, weight in observations], dtype=np.float64)
    if not (np.isfinite(values).all() and np.isfinite(weights).all() and (weights > 0).all()):
        raise ValueError("the additive model needs finite values and finite, positive weights")
    rows = [_terms_of(placement, first_use) for placement, _, _ in observations]
    terms = {term: index for index, term in enumerate(sorted(set().union(*rows)))}
    design = np.zeros((len(rows), len(terms) + 1))
    design[:, 0] = 1.0
    for i, row in enumerate(rows):
        for term, value in row.items():
            design[i, terms[term] + 1] = value
    levels = np.array([_LEVELS.index(term[0]) for term in terms], dtype=np.intp)
    return AdditiveModel(terms, _posterior(design, levels, values, 1 / weights), first_use)


def latency_observations(latencies: Mapping[str, Latency], texts: Mapping[str, str]) -> list[Observation]:
    """Observations of the ratio to the bare backbone from measured latencies.

    Args:
        latencies: key -> latency; predictions are left out.
        texts: key -> explicit notation.
    """
    return [
        (features(texts[key]), latency.ratio, 1 / _variance(latency))
        for key, latency in latencies.items()
        if latency.measured and key in texts
    ]


def predict_latency(model: AdditiveModel, placement: Features, reference_ms: float) -> Latency:
    """A latency that was not measured: the model's ratio with its 95 % interval."""
    ratio, error = model.predict(placement)
    low = max(ratio - 1.96 * error, 1e-3)
    return Latency(max(ratio, low), low, max(ratio + 1.96 * error, low), reference_ms, sessions=0, measured=False)


def with_predictions(latencies: Mapping[str, Latency], texts: Mapping[str, str]) -> dict[str, Latency]:
    """Latencies with what the model says of candidates that were not measured; unchanged while too few were.

    Args:
        latencies: key -> measured latency, the bare backbone's included.
        texts: key -> explicit notation of all candidates.
    """
    return Predictions().added(latencies, texts)


class Predictions:
    """Latencies of candidates that were not measured, kept for as long as what was measured stays the same."""

    def __init__(self) -> None:
        self._observations: Sequence[Observation] | None = None
        self._model: AdditiveModel | None = None
        self._made: dict[str, Latency] = {}

    def added(self, latencies: Mapping[str, Latency], texts: Mapping[str, str]) -> dict[str, Latency]:
        """As `with_predictions`."""
        missing = texts.keys() - latencies.keys()
        observations = latency_observations(latencies, texts) if missing else []
        if len(observations) < LEAST_MEASURED:
            return dict(latencies)
        if self._model is None or observations != self._observations:
            self._model, self._observations, self._made = fit(observations), observations, {}
        reference_ms = next(iter(latencies.values())).reference_ms
        for text in {texts[key] for key in missing} - self._made.keys():
            self._made[text] = predict_latency(self._model, features(text), reference_ms)
        return {**latencies, **{key: self._made[texts[key]] for key in missing}}


def suspicious(latencies: Mapping[str, Latency], texts: Mapping[str, str]) -> list[str]:
    """Keys whose measured latency is far from what all others predict: worth measuring again. Empty while too few are."""
    keys = [key for key, latency in latencies.items() if latency.measured and key in texts]
    if len(keys) < LEAST_MEASURED:
        return []
    found = fit(latency_observations({key: latencies[key] for key in keys}, texts))
    return [keys[index] for index in found.outliers]


# ------------------------------------------------------------------------------------------- inside


@dataclass(frozen=True, slots=True)
class _Posterior:
    """What is known of the coefficients (intercept first) given the data."""

    mean: Floats
    covariance: Floats
    widths: Floats
    """Prior variance of each level's effects."""
    lack: float
    """Variance of the lack of fit."""
    left_out: Floats
    """Left-one-out errors."""
    standardised: Floats
    """The same in standard deviations."""
    trust: Floats
    """Huber weights, 0 to 1."""


def _terms_of(placement: Iterable[Feature], first_use: bool) -> dict[_Term, float]:
    """Term -> how often a placement has it."""
    terms: Counter[_Term] = Counter()
    for feature in placement:
        stage = feature.site.partition("@")[0].partition(".")[0]
        terms["type", feature.type] += 1
        terms["stage", stage, feature.type] += 1
        if feature.site != stage:
            terms["site", feature.site, feature.type] += 1
        terms["knobs", feature.site, feature.type, feature.knobs] += 1
        if first_use:
            terms["first", feature.type] = 1
    return {term: float(count) for term, count in terms.items()}


def _posterior(design: Floats, levels: npt.NDArray[np.intp], values: Floats, noise: Floats) -> _Posterior:
    """As `_expectation_maximisation`, whose rounds would take minutes with many thousands of observations."""
    if len(values) <= MOST:
        return _expectation_maximisation(design, levels, values, noise)
    some = np.linspace(0, len(values) - 1, MOST).astype(np.intp)
    found = _expectation_maximisation(design[some], levels, values[some], noise[some])
    trust = np.ones(len(values))
    for _ in range(STEPS):
        now = _given(design, levels, values, noise, found.widths, found.lack, trust)
        trust = _trust(now.standardised)
    return _given(design, levels, values, noise, found.widths, found.lack, trust)


def _trust(standardised: Floats) -> Floats:
    return np.minimum(1.0, HUBER / np.maximum(np.abs(standardised), 1e-12))


def _expectation_maximisation(
    design: Floats, levels: npt.NDArray[np.intp], values: Floats, noise: Floats
) -> _Posterior:
    """Widths of the levels' effects and of the lack of fit, and the coefficients given them.

    Args:
        design: (observations, 1 + terms), intercept first.
        levels: (terms,) index into _LEVELS.
        noise: (observations,) variance of each value's noise.
    """
    spread_of_values = float(np.var(values))
    scale = max(spread_of_values - float(np.mean(noise)), spread_of_values / 10, 1e-12)
    widths, lack = np.full(len(_LEVELS), scale), scale / 4
    trust = np.ones(len(values))
    for _ in range(ITERATIONS):
        now = _given(design, levels, values, noise, widths, lack, trust)
        trust = _trust(now.standardised)
        second_moments = now.mean[1:] ** 2 + np.diag(now.covariance)[1:]
        for level in set(levels.tolist()):
            mine = second_moments[levels == level]
            widths[level] = (float(mine.sum()) + scale) / (
                len(mine) + 1
            )  # one effect of the data's own size beside them
        residuals = values - design @ now.mean
        spread = (residuals * trust) ** 2 / HUBER_SHARE + _quadratic(design, now.covariance)
        share = lack / (lack + noise)
        lack = max(float(np.mean(share**2 * spread + lack * (1 - share))), 1e-9 * scale)
        before = np.append(now.widths, now.lack)
        if np.all(np.abs(np.append(widths, lack) - before) <= SETTLED * before):
            break
    return _given(design, levels, values, noise, widths, lack, trust)


def _given(
    design: Floats,
    levels: npt.NDArray[np.intp],
    values: Floats,
    noise: Floats,
    widths: Floats,
    lack: float,
    trust: Floats,
) -> _Posterior:
    """The coefficients' posterior for fixed widths; the intercept has a flat prior."""
    precision = trust / (noise + lack)
    prior = np.concatenate([[0.0], 1 / widths[levels]])
    information = design.T @ (design * precision[:, None]) + np.diag(prior)
    covariance = np.asarray(np.linalg.inv(information), dtype=np.float64)
    mean = covariance @ (design.T @ (precision * values))
    leverage = np.minimum(_quadratic(design, covariance) * precision, 1 - 1e-9)
    left_out = (values - design @ mean) / (1 - leverage)
    standardised = left_out * np.sqrt((1 - leverage) / (noise + lack))
    return _Posterior(mean, covariance, widths.copy(), lack, left_out, standardised, trust)


def _quadratic(rows: Floats, matrix: Floats) -> Floats:
    """(n,) each row's x'Mx."""
    return np.asarray(((rows @ matrix) * rows).sum(axis=1))


def _variance(latency: Latency) -> float:
    """Variance of a measured ratio, from its interval; never below that of ±0.1 %."""
    error = (latency.high - latency.low) / (2 * 1.96)
    return max(error, 5e-4 * latency.ratio) ** 2
