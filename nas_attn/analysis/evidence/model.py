"""One model of all evidence about a metric: every run of every rung, seed, backbone and purpose, read together.

    value = placement + level of (seed, backbone) + placement x backbone + images + rest

`rung.py` has the model of a rung, and how the rung below is evidence for it; `kernels.py` how placements are alike; `levels.py`
what placements score at all; `images.py` what the validation images give, and what new ones would change.
"""

from __future__ import annotations

import base64
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from nas_attn.analysis.evidence.assembling import RungRuns
from nas_attn.analysis.evidence.exact import Exact
from nas_attn.analysis.evidence.facts import Estimate, Gain, Noise, Run, Source
from nas_attn.analysis.evidence.fitting import Question
from nas_attn.analysis.evidence.images import NewImages, seed_floor
from nas_attn.analysis.evidence.kernels import Sum
from nas_attn.analysis.evidence.normal import cdf, condensed, interval
from nas_attn.analysis.evidence.values import Values
from nas_attn.analysis.evidence.wide import Wide

Floats = NDArray[np.float64]
T = TypeVar("T")

_NODES, _EXTRAS = 32, 6
"""Components that stand for the posterior where only the ends of intervals are asked for."""
TINY = 1e-300
CERTAIN, POWER = 1.645, 0.842
"""Standard deviations of 95 % certainty, and of 80 % power."""


class Evidence:
    """The fitted model of one metric at one rung; `fit` makes it.

    Attributes:
        metric: its name.
        rung: the rung that the answers are about.
        keys: all placements, the evaluated ones first.
        backbones: how many the runs started from. With several, a placement's value is its mean over all possible
            backbones; with one, it is conditional on that one.
    """

    def __init__(self, question: Question, stored: str | None = None) -> None:
        self.metric, self.lower_is_better = question.metric, question.lower_is_better
        self._question, self.keys = question, question.keys
        self._sign = -1.0 if self.lower_is_better else 1.0
        self._index = {key: i for i, key in enumerate(self.keys)}
        self._gains: defaultdict[str, dict[str, Gain]] = defaultdict(dict)
        if stored is not None:
            self._recall(stored)

    # ------------------------------------------------------------------------------------------- answers

    def estimate(self, key: str) -> Estimate | None:
        """A placement's expected score; None for one that the model does not know."""
        return self.estimates.get(key)

    @cached_property
    def estimates(self) -> dict[str, Estimate]:
        """Every placement's expected score at this rung, those that had no run there included."""
        if self._constant:
            return {key: self._same(key) for key in self.keys}
        values, weights = self._values, self._posterior.weight
        mean = weights @ values.means
        extra = float(values.levels.extra_weights @ values.levels.extra)
        sd = np.sqrt(weights @ (values.variances + (values.means - mean) ** 2) + extra)
        mean = mean + self._last.excess
        low, high = self._value_interval(values, 0.0)
        new = None if self._images is None else self._value_interval(values, self._images.value())
        found = {}
        for i, key in enumerate(self.keys):
            raw, count = self._last.raw.get(key, (None, 0))
            shift = self._last.excess[i]
            ends = self._turned(low[i] + shift, high[i] + shift)
            low_new, high_new = (None, None) if new is None else self._turned(new[0][i] + shift, new[1][i] + shift)
            found[key] = Estimate(self._sign * float(mean[i]), float(sd[i]), *ends, low_new, high_new, raw, count)
        return found

    def gain(self, a: str, b: str) -> Gain | None:
        """How much better `a` is than `b`. None where either is unknown, or nothing can be said of differences."""
        return self.gains(b, [a]).get(a) if a in self._index else None

    def gains(self, over: str, keys: Sequence[str] | None = None) -> dict[str, Gain]:
        """How much better each of some placements is than one; empty where nothing can be said of differences.

        Args:
            over: what they are compared with.
            keys: the placements; None: all.
        """
        if over not in self._index:
            return {}
        wanted, known = self.keys if keys is None else keys, self._gains[over]
        missing = [key for key in wanted if key not in known]
        if missing:
            if not self._last.data.freedoms:
                return {}
            known |= self._gains_over(over, missing)
        return {key: known[key] for key in wanted}

    @cached_property
    def noise(self) -> Noise:
        """How much runs of one placement differ."""
        counts, runs = [count for _, count in self._last.raw.values()], len(self._last.runs)
        repeated = sum(count > 1 for count in counts)
        source: Source = "seeds" if repeated else "images" if self._last.priors.floor else "assumed"
        binomial = self._binomial_sd
        if self._constant:
            return Noise(self.metric, 0.0, 0.0, 0.0, 0.0, source, repeated, runs, binomial, None, 0.0, None, None)
        if not self._last.data.freedoms:
            return Noise(self.metric, None, None, None, None, "none", repeated, runs, binomial, *[None] * 4)
        nodes = self._posterior.nodes
        order = np.argsort(nodes.noise)
        below = np.cumsum(nodes.weight[order])
        low, high = (float(nodes.noise[order][int(np.searchsorted(below, q))]) for q in (0.025, 0.975 * below[-1]))
        square = float(nodes.weight @ nodes.noise**2)
        return Noise(
            metric=self.metric,
            seed_sd=math.sqrt(square + self._values.levels.seeds_sd**2),
            paired_sd=math.sqrt(square),
            paired_low=low,
            paired_high=high,
            source=source,
            repeated=repeated,
            runs=runs,
            binomial_sd=binomial,
            images_sd=self._last.priors.floor,
            between_sd=float(nodes.weight @ nodes.spread),
            interaction_sd=float(nodes.weight @ nodes.interaction) if self.backbones > 1 else None,
            correlation=float(nodes.weight @ nodes.rho) if self._last.below else None,
        )

    def pairs(self, a: str, b: str) -> int:
        """Seeds (on one backbone) with which both ran to the rung of the answers."""
        seeds = {key: {(r.seed, r.backbone) for r in self._last.runs if r.key == key} for key in (a, b)}
        return len(seeds[a] & seeds[b])

    def detectable(self, pairs: int) -> float:
        """The difference between two placements that so many more pairs of runs would show.

        Shown: said with 95 % certainty in 80 % of cases, from these pairs alone, by the posterior mean of the noise.
        """
        nodes = self._posterior.nodes
        variance = 2 * nodes.noise**2 / pairs
        if self.backbones > 1:
            variance = variance + 2 * nodes.interaction**2 / min(pairs, self.backbones)
        return (CERTAIN + POWER) * math.sqrt(float(nodes.weight @ variance))

    def predict(self, placements: Mapping[str, str]) -> dict[str, Estimate]:
        """Expected scores of placements that the model does not know yet; key -> explicit notation as in `fit`."""
        wider = self.including(placements)
        return {key: wider.estimates[key] for key in placements}

    def including(self, placements: Mapping[str, str]) -> Evidence:
        """The model with further placements, which changes nothing for the others; key -> explicit notation as in `fit`."""
        new = {key: text for key, text in placements.items() if key not in self._index}
        return Evidence(replace(self._question, placements={**self._question.placements, **new})) if new else self

    def effects(self, sums: Mapping[str, Sum]) -> dict[str, Gain]:
        """What choices do wherever they stand: sums of placements' shared effects, without what is a placement's own.

        Nothing is said of new images. Empty where nothing can be said of differences.

        Args:
            sums: name -> (explicit notation, weight) whose weights add up to 0, as in `{"se": [("stage1=se", 1), ("none", -1)]}`.
        """
        if not self._last.data.freedoms or not sums:
            return {}
        if self._constant:
            return {name: _gain(np.append(np.zeros(7), np.full(3, np.nan))) for name in sums}
        named = {f"sum/{name}": tuple(found) for name, found in sums.items()}
        wider = Evidence(replace(self._question, sums=named))
        targets = np.arange(len(self.keys), len(wider.keys), dtype=np.intp)
        columns = wider._columns(*wider._posterior.sums(targets))
        return {name: _gain(np.append(row, np.full(3, np.nan))) for name, row in zip(sums, columns, strict=True)}

    def draw(self, rng: np.random.Generator, count: int) -> Floats:
        """(count, placements) joint draws of the placements' expected scores, in the order of `keys`.

        The study's level is at its mean: it moves all placements alike.
        """
        drawn = self._posterior.draws(rng, count, self._seed_floor)
        return np.asarray(self._sign * (drawn + self._last.excess))

    # ------------------------------------------------------------------------------------------- kept answers

    @cached_property
    def digest(self) -> str:
        """Of the evidence and of what was asked: a model with the same one gives the same answers."""
        return self._question.digest

    def to_json(self) -> str:
        """The answers given so far, to be handed to `fit` as `stored`: asked again, nothing is computed for them."""
        known = {
            "digest": self.digest,
            "estimates": _as_columns(self.__dict__.get("estimates", {}), Estimate),
            "noise": asdict(self.__dict__["noise"]) if "noise" in self.__dict__ else None,
            "gains": {over: _as_columns(found, Gain) for over, found in self._gains.items()},
            "two_values": self.two_values,
        }
        return json.dumps(known)

    @property
    def newly_answered(self) -> bool:
        """Whether anything was asked that had to be computed, so that `to_json` says more than `stored` did."""
        return "_posterior" in self.__dict__

    def _recall(self, stored: str) -> None:
        """Takes over the answers of a model of the same evidence; of anything else nothing."""
        try:
            known = json.loads(stored)
            if known["digest"] != self.digest:
                return
            estimates = _from_columns(known["estimates"], Estimate)
            noise = Noise(**known["noise"]) if known["noise"] else None
            gains = {over: _from_columns(found, Gain) for over, found in known["gains"].items()}
            two = known["two_values"]
        except (ValueError, TypeError, KeyError, AttributeError):
            return  # not as it was written: worked out again
        if estimates:
            self.__dict__["estimates"] = estimates
        if noise:
            self.__dict__["noise"] = noise
        self.__dict__["two_values"] = None if two is None else tuple(two)
        self._gains |= gains

    # ------------------------------------------------------------------------------------------- inside

    @cached_property
    def _steps(self) -> Sequence[RungRuns]:
        """The rungs' runs: put in order when something is asked that was not kept."""
        return self._question.steps(self.keys)

    @property
    def _last(self) -> RungRuns:
        return self._steps[-1]

    @property
    def rung(self) -> int:
        return self._last.rung

    @cached_property
    def two_values(self) -> tuple[float, float] | None:
        """The values at which the runs lie, the worse one first, where they lie at two: a chance decides from run to run."""
        two = self._last.two
        return None if two is None else (self._sign * two[0], self._sign * two[1])

    @property
    def backbones(self) -> int:
        return self._last.data.points.backbones

    @cached_property
    def _posterior(self) -> Exact | Wide:
        return self._question.solve(self._steps)

    @cached_property
    def _values(self) -> Values:
        return self._posterior.values(self._seed_floor)

    @cached_property
    def _seed_floor(self) -> float | None:
        """What the images give the scatter of levels over seeds: from runs of different seeds, else half of a binomial's."""
        if self.metric != "accuracy":
            return None
        binomial = self._binomial_sd
        return seed_floor(self._last.runs) or (binomial and 0.5 * binomial)

    @property
    def _binomial_sd(self) -> float | None:
        examples, p = max(run.examples for run in self._last.runs), float(np.median(self._last.data.value))
        if self.metric != "accuracy" or not examples or not 0 < p < 1:
            return None
        return math.sqrt(p * (1 - p) / examples)

    @cached_property
    def _constant(self) -> bool:
        """Whether all of several runs came out the same: then nothing differs, as far as can be seen."""
        values = self._last.data.value
        return len(values) > 1 and bool((values == values[0]).all())

    def _same(self, key: str) -> Estimate:
        value = self._last.runs[0].value
        raw, count = self._last.raw.get(key, (None, 0))
        return Estimate(value, 0.0, value, value, None, None, raw, count)

    def _turned(self, low: float, high: float) -> tuple[float, float]:
        """An interval in the metric's own direction."""
        ends = sorted((self._sign * float(low), self._sign * float(high)))
        return ends[0], ends[1]

    @cached_property
    def _images(self) -> NewImages | None:
        found = NewImages(self._last.runs) if self.metric == "accuracy" else None
        return found if found is not None and found.known else None

    def _gains_over(self, over: str, keys: Sequence[str]) -> dict[str, Gain]:
        if self._constant:
            return {key: _gain(np.append(np.zeros(7), np.full(3, np.nan))) for key in keys}
        j, targets = self._index[over], np.array([self._index[key] for key in keys], dtype=np.intp)
        means, variances = self._posterior.gains(j, targets)
        means = means + (self._last.excess[targets] - self._last.excess[j])
        known = self._columns(means, variances)
        new = np.full((len(keys), 3), np.nan)
        if self._images is not None:
            added = np.array([self._images.gain(key, over) for key in keys])
            better = (self._untied(means, variances) * cdf(means / np.sqrt(variances + added + TINY))).sum(axis=0)
            new = np.stack((*self._gain_interval(means, variances, added), better), axis=1)
        columns = np.concatenate((known, new), axis=1)
        found = {key: _gain(row) for key, row in zip(keys, columns, strict=True)}
        if over in found:
            found[over] = _gain(np.where(np.isnan(columns[0]), np.nan, 0.0))
        return found

    def _untied(self, means: Floats, variances: Floats) -> Floats:
        """(m, k) weights of the nodes, 0 where they hold a difference to be none."""
        return np.asarray(self._posterior.weight[:, None] * (variances + np.abs(means) > 0))

    def _columns(self, means: Floats, variances: Floats) -> Floats:
        """(k, 7) what a `Gain` says of these images, from means and variances (m, k) of differences at the nodes."""
        nodes, weight = self._posterior.nodes, self._posterior.weight
        mean = weight @ means
        sd = np.sqrt(weight @ (variances + (means - mean) ** 2))
        untied, z = self._untied(means, variances), means / np.sqrt(variances + TINY)
        better, worse = (untied * cdf(z)).sum(axis=0), (untied * cdf(-z)).sum(axis=0)
        low, high = self._gain_interval(means, variances, np.zeros(len(mean)))
        next_sd = np.sqrt(sd**2 + 2 * float(nodes.weight @ nodes.interaction**2)) if self.backbones > 1 else sd
        return np.array((mean, sd, low, high, better, worse, next_sd)).T

    def _gain_interval(self, means: Floats, variances: Floats, added: Floats) -> tuple[Floats, Floats]:
        chosen, weights = self._few
        return interval(weights, means[chosen], np.sqrt(variances[chosen] + added))

    def _value_interval(self, values: Values, added: float) -> tuple[Floats, Floats]:
        """Ends of the values' intervals, (placements,) each."""
        chosen, weights = self._few
        extra, share = condensed(values.levels.extra_weights, values.levels.extra, _EXTRAS)
        more = values.levels.extra[extra] + added
        both = np.multiply.outer(weights, share).ravel()
        sds = np.sqrt(values.variances[chosen][:, None, :] + more[:, None]).reshape(len(both), -1)
        return interval(both, np.repeat(values.means[chosen], len(share), axis=0), sds)

    @cached_property
    def _few(self) -> tuple[NDArray[np.intp], Floats]:
        """(indices, weights) of a few nodes that stand for all; what holds "equal" is kept as it is."""
        weight = self._posterior.weight
        if len(weight) <= _NODES:
            return np.arange(len(weight)), weight
        equal = self._posterior.nodes.spread == 0
        chosen, weights = condensed(np.where(equal, 0.0, weight), np.arange(len(weight), dtype=np.float64), _NODES)
        held = float(weight[equal].sum())
        alike = np.flatnonzero(equal)[:1]
        if held >= 1:
            return alike, np.ones(1)
        return np.append(chosen, alike), np.append(weights * (1 - held), [held] * len(alike))


def _as_columns(found: Mapping[str, Any], kind: type[Any]) -> dict[str, list[Any] | str]:
    """Answers by key as columns, those of numbers as their bits: read many times as fast as records are."""
    names = [field.name for field in fields(kind)]
    return {"keys": list(found), **{name: _packed([getattr(one, name) for one in found.values()]) for name in names}}


def _from_columns(columns: Mapping[str, Any], kind: type[T]) -> dict[str, T]:
    """What `_as_columns` was made of."""
    values = (_unpacked(columns[field.name]) for field in fields(kind))  # type: ignore[arg-type]
    return dict(zip(columns["keys"], map(kind, *values), strict=True))


def _packed(values: list[Any]) -> list[Any] | str:
    if not values or set(map(type, values)) != {float}:
        return values
    return base64.b64encode(np.array(values, dtype="<f8").tobytes()).decode()


def _unpacked(column: list[Any] | str) -> list[Any]:
    return np.frombuffer(base64.b64decode(column), dtype="<f8").tolist() if isinstance(column, str) else column


def _gain(row: Floats) -> Gain:
    """From its fields in order, NaN where None."""
    plain = [float(value) for value in row]
    known, new = plain[:7], [None if math.isnan(value) else value for value in plain[7:]]
    return Gain(*known, *new)


def fit(
    runs: Iterable[Run],
    placements: Mapping[str, str],
    *,
    metric: str,
    lower_is_better: bool = False,
    rung: int | None = None,
    stored: str | None = None,
) -> Evidence | None:
    """The model of one metric, from all runs up to a rung. It is solved when the first answer is asked of it.

    Args:
        runs: in any order; one that is not finite or not of `placements` is left out.
        placements: key -> explicit notation; also of placements that were never run, which get a value too.
        metric: `accuracy` and other shares have priors of their own, all others are known by their own spread.
        lower_is_better: whether smaller values are better.
        rung: what the answers are about; default: the highest rung with a run.
        stored: `to_json` of an earlier model; of other evidence it is of no use and left alone.

    Returns:
        The model; None where no placement has a run at that rung.
    """
    known = [run for run in runs if run.key in placements and math.isfinite(run.value)]
    last = max((run.rung for run in known), default=None) if rung is None else rung
    if not any(run.rung == last for run in known):
        return None
    used = tuple(run for run in known if last is not None and run.rung <= last)
    return Evidence(Question(metric, lower_is_better, used, dict(placements), last), stored)
