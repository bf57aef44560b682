"""What an untried placement may be worth: an additive model with effects shared over sites, made to be drawn from. numpy only.

    value = intercept + sum over sites of effect(site, choice) + rest

An effect is a sum over the names of a choice, from the general to the particular (`attention`, `se`, `se(reduction=8)`),
each of which may count anywhere in the network, within a stage, and at its site alone. All parts are drawn from normal
distributions. How the variance is shared between these levels, and how much of what is seen is signal, are points of a
grid, weighted by their marginal likelihood: where types mean the same everywhere, a site borrows from all others; where
they do not, it learns by itself. Measured: docs/benchmarks/search.md.

`analysis.additive` holds the same sum for another end, effects to be read, from one set of widths. Here the widths stay
uncertain, a draw takes milliseconds at thousands of placements, and what was seen decides it to the last bit, whatever
was computed before.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
"""(n, sites): which of its site's choices each placement has."""
Kin = Callable[[Hashable], Sequence[str]]
"""Choice -> its names, from the general to the particular; choices that share a name share an effect."""

LEVELS = ANYWHERE, STAGE, SITE = range(3)
MIXES = ((0.0, 0.0, 1.0), (0.5, 0.0, 0.5), (0.8, 0.0, 0.2))
"""Shares of the variance for effects anywhere, within a stage, at a site."""
STAGED_MIXES = ((0.0, 0.5, 0.5), (0.3, 0.3, 0.4), (0.2, 0.6, 0.2))
"""Further ones where stages have several sites."""
RATIOS = np.geomspace(0.03, 64.0, 10)
"""Variance of the signal over that of one run's noise."""
WINSOR = 3.0
"""Values worse than the median by more than this many times (median - best tenth) count as being there."""
GROWTH = 1.12
"""The grid's weights are found again when there are this many times as many values."""
LARGEST_FIT = 1000
"""Values that the grid's weights rest on at most: more of them do not move the weights."""
WEIGHT_STEPS = 64
"""Weights are whole multiples of 1 / this, so that sums of them are exact in whatever order they were made."""
CHUNK = 512
"""Placements whose sums of pairs are formed at once."""


def itself(choice: Hashable) -> tuple[str, ...]:
    """A choice that is related to its equals only."""
    return (f"{type(choice).__name__} {choice}",)


def kin_of_value(choice: Hashable) -> tuple[str, ...]:
    """Names of a value of a search space: `@block=se(reduction=8)` is `attention`, `se`, `se(reduction=8)`, `@block`, itself."""
    text = str(choice)
    if text in ("none", "original"):
        return (text,)
    position, _, bare = text.partition("=") if text.startswith("@") else ("", "", text)
    names = ["attention", bare.partition("(")[0], bare, *([position, text] if position else [])]
    return tuple(dict.fromkeys(names))


@dataclass(frozen=True)
class Prior:
    """Covariance of what a site's choices add, for a placement drawn at random of variance 1. E entries: a choice at a site."""

    covariance: Floats
    root: Floats
    """(E, E) as all of them: root · root transposed is the covariance."""
    inverse: Floats
    inverse_root: Floats


class Coding:
    """Placements as rows of numbers, and what of them is alike."""

    def __init__(self, sites: Mapping[str, Sequence[Hashable]], kin: Kin = itself) -> None:
        """Args:
        sites: site -> its choices. `stage2.block1` is in the stage `stage2`.
        """
        self.sites = {site: tuple(choices) for site, choices in sites.items()}
        self._codes = [{choice: code for code, choice in enumerate(choices)} for choices in self.sites.values()]
        self.most_choices = max(map(len, self.sites.values()), default=0)
        stages = [site.partition(".")[0] for site in self.sites]
        self.staged = 1 < len(set(stages)) < len(stages)
        names: dict[tuple[int, str, str], int] = {}
        found: list[list[list[int]]] = []
        for (site, choices), stage in zip(self.sites.items(), stages, strict=True):
            told_apart = _telling(choices, kin)
            scopes = [(ANYWHERE, ""), *([(STAGE, stage)] if self.staged else []), (SITE, site)]
            found.append(
                [
                    [
                        names.setdefault((level, scope, name), len(names))
                        for level, scope in scopes
                        for name in (kin(choice) if level == ANYWHERE else told_apart[choice])
                    ]
                    for choice in choices
                ]
            )
        self._level = np.array([level for level, _, _ in names], dtype=np.intp)
        self._first = np.cumsum([0, *map(len, self.sites.values())])[:-1]
        self.entries = sum(map(len, found))
        self._names = np.zeros((self.entries, len(names)))
        for entry, columns in enumerate(itertools.chain.from_iterable(found)):
            self._names[entry, columns] = 1.0
        self._scale = np.array([self._spread(level) for level in LEVELS])
        self._priors: dict[tuple[float, ...], Prior] = {}

    def encode(self, values: Mapping[str, object]) -> tuple[int, ...] | None:
        """A placement as one number per site; None where a site is missing or has a choice of another space."""
        try:
            return tuple(codes[values[site]] for site, codes in zip(self.sites, self._codes, strict=True))
        except (KeyError, TypeError):
            return None

    def decode(self, codes: Sequence[int]) -> dict[str, Hashable]:
        """Site -> choice."""
        return {site: choices[code] for (site, choices), code in zip(self.sites.items(), codes, strict=True)}

    def design(self, codes: Codes) -> Floats:
        """(n, entries): 1 for what each placement has."""
        found = np.zeros((len(codes), self.entries))
        found[np.arange(len(codes))[:, None], self._first + codes] = 1.0
        return found

    def transposed(self, codes: Codes, values: Floats) -> Floats:
        """(entries,): the design's transpose times `values` (n,), without the design."""
        repeated = np.repeat(values, codes.shape[1])
        return np.asarray(np.bincount((self._first + codes).ravel(), weights=repeated, minlength=self.entries))

    def gram(self, codes: Codes, weights: Floats) -> Floats:
        """(entries, entries): the design's transpose times weights (n,) times the design."""
        found = np.zeros(self.entries**2)
        for start in range(0, len(codes), CHUNK):
            entries = self._first + codes[start : start + CHUNK]
            pairs = entries[:, :, None] * self.entries + entries[:, None, :]
            repeated = np.repeat(weights[start : start + CHUNK], codes.shape[1] ** 2)
            found += np.bincount(pairs.ravel(), weights=repeated, minlength=len(found))
        return found.reshape(self.entries, self.entries)

    def table(self, values: Floats) -> Floats:
        """(sites, most choices) from one value per entry; 0 for what does not exist."""
        found = np.zeros((len(self.sites), self.most_choices))
        for row, first, choices in zip(found, self._first, self.sites.values(), strict=True):
            row[: len(choices)] = values[first : first + len(choices)]
        return found

    def effects(self, table: Mapping[str, Mapping[Hashable, float]]) -> Effects:
        """A function that is known: what each choice adds, by site; 0 where nothing is said."""
        entries = np.zeros((len(self.sites), self.most_choices))
        for row, (site, choices) in zip(entries, self.sites.items(), strict=True):
            row[: len(choices)] = [table.get(site, {}).get(choice, 0.0) for choice in choices]
        return Effects(0.0, entries)

    def prior(self, mix: Sequence[float]) -> Prior:
        """Of effects that share their variance between the levels so. Found once."""
        key = tuple(mix)
        if key not in self._priors:
            variances = (np.asarray(mix) * self._scale)[self._level]
            covariance = (self._names * variances) @ self._names.T
            root = np.linalg.cholesky(covariance)
            inverse_root = np.linalg.inv(root).T
            self._priors[key] = Prior(covariance, root, inverse_root @ inverse_root.T, inverse_root)
        return self._priors[key]

    def _spread(self, level: int) -> float:
        """1 / variance of a random placement's sum of unit effects of one level: sites vary by themselves."""
        total = 0.0
        for first, choices in zip(self._first, self.sites.values(), strict=True):
            mine = self._names[first : first + len(choices)][:, self._level == level]
            total += float(((mine - mine.mean(axis=0)) ** 2).sum(axis=1).mean())
        return 1 / total if total else 1.0


def _telling(choices: Sequence[Hashable], kin: Kin) -> dict[Hashable, list[str]]:
    """Choice -> those of its names that tell some of the site's choices from others, one for each such group; one its own."""
    groups: dict[str, frozenset[Hashable]] = {}
    for name in dict.fromkeys(name for choice in choices for name in kin(choice)):
        group = frozenset(choice for choice in choices if name in kin(choice))
        if group not in groups.values():
            groups[name] = group
    for choice in choices:
        if frozenset((choice,)) not in groups.values():
            groups[f"itself {choice!r}"] = frozenset((choice,))
    return {choice: [name for name, group in groups.items() if choice in group] for choice in choices}


@dataclass(frozen=True, slots=True)
class Value:
    """One value of one placement."""

    codes: tuple[int, ...]
    value: float
    """Less is better."""
    noise: float = 1.0
    """Variance of its noise over that of a full run: 4 for a weak hint."""


@dataclass(frozen=True)
class Effects:
    """A function over all placements: constant + the sum of a table's entries."""

    constant: float
    table: Floats
    """(sites, most choices)"""

    def of(self, codes: Codes) -> Floats:
        """(n,) its values."""
        return np.asarray(self.constant + self.table[np.arange(len(self.table)), codes].sum(axis=1))


@dataclass(frozen=True)
class _Point:
    """A point of the grid."""

    mix: tuple[float, ...]
    ratio: float


class Learner:
    """What is known of one objective. `update` it, then draw functions that may be the truth.

    Sums over placements are kept from one call to the next. They are sums of whole numbers, so what comes out depends on
    the values given alone, not on the calls before.
    """

    def __init__(self, coding: Coding) -> None:
        self.coding = coding
        self._rows: dict[int, Value] = {}
        self._gram = np.zeros((coding.entries, coding.entries))
        self._sums = np.zeros(coding.entries)
        self._codes: Codes = np.zeros((0, len(coding.sites)), dtype=np.intp)
        self._values = self._weights = np.zeros(0)
        self._grid: tuple[list[_Point], Floats] = ([], np.zeros(0))
        self._fitted_on: list[Value] = []

    @property
    def count(self) -> int:
        """Values known."""
        return len(self._rows)

    def update(self, rows: Mapping[int, Value]) -> None:
        """Takes `rows` (number of a trial -> its value, finite) for what is known, and nothing else."""
        gone = [row for number, row in self._rows.items() if rows.get(number) is not row]
        new = [row for number, row in rows.items() if self._rows.get(number) is not row]
        for signed, changed in ((-1.0, gone), (1.0, new)):
            self._add(changed, signed)
        self._rows = dict(sorted(rows.items()))
        known = list(self._rows.values())
        self._codes = _codes(known, self.coding)
        self._weights = _weights(known)
        self._values = winsorised(np.array([row.value for row in known]))
        if known:
            self._weigh(known)

    def draw(self, rng: np.random.Generator) -> tuple[Effects, Effects]:
        """(mean, draw): the posterior mean under one drawn point of the grid, and a function drawn around it.

        Raises:
            ValueError: nothing is known.
        """
        if not self._rows:
            raise ValueError("nothing is known to draw from: update() first")
        points, weights = self._grid
        point = points[int(rng.choice(len(points), p=weights))]
        prior = self.coding.prior(point.mix)
        centre, mean_value = self._centre()
        values = self._values - mean_value
        if len(self._rows) < self.coding.entries:
            mean, step = self._by_rows(point, prior, values, centre, rng)
        else:
            mean, step = self._by_entries(point, prior, values, centre, rng)
        return self._effects(mean, centre, mean_value), self._effects(mean + step, centre, mean_value)

    def _add(self, rows: Sequence[Value], sign: float) -> None:
        if rows:
            codes, weights = _codes(rows, self.coding), sign * _weights(rows)
            self._gram += self.coding.gram(codes, weights)
            self._sums += self.coding.transposed(codes, weights)

    def _centre(self) -> tuple[Floats, float]:
        """Weighted means of the columns and of the values: the intercept is flat."""
        total = float(self._weights.sum())
        return self._sums / total, float(self._weights @ self._values) / total

    def _effects(self, weights: Floats, centre: Floats, mean_value: float) -> Effects:
        return Effects(mean_value - float(centre @ weights), self.coding.table(weights))

    def _by_entries(
        self, point: _Point, prior: Prior, values: Floats, centre: Floats, rng: np.random.Generator
    ) -> tuple[Floats, Floats]:
        """(mean, step to a draw) of the entries, by equations in the entries: quick where placements are many."""
        weights = self._weights
        information = self._gram - weights.sum() * np.outer(centre, centre) + prior.inverse / point.ratio
        right = self.coding.transposed(self._codes, weights * values)
        noise = np.sqrt(weights) * rng.standard_normal(len(values))
        drawn = self.coding.transposed(self._codes, noise) - noise.sum() * centre
        drawn += prior.inverse_root @ rng.standard_normal(len(centre)) / np.sqrt(point.ratio)
        solved = np.linalg.solve(information, np.stack([right, drawn], axis=1))
        deviance = float(weights @ values**2 - right @ solved[:, 0])
        return solved[:, 0], solved[:, 1] * np.sqrt(_noise(deviance, values, weights))

    def _by_rows(
        self, point: _Point, prior: Prior, values: Floats, centre: Floats, rng: np.random.Generator
    ) -> tuple[Floats, Floats]:
        """The same by equations in the placements (Matheron's rule): quick where they are few."""
        design = self.coding.design(self._codes) - centre
        across = point.ratio * (design @ prior.covariance)
        covariance = across @ design.T
        covariance[np.diag_indices_from(covariance)] += 1 / self._weights
        effects = np.sqrt(point.ratio) * (prior.root @ rng.standard_normal(len(centre)))
        missed = design @ effects + rng.standard_normal(len(values)) / np.sqrt(self._weights)
        solved = np.linalg.solve(covariance, np.stack([values, missed], axis=1))
        back = across.T @ solved
        deviance = float(values @ solved[:, 0])
        return back[:, 0], (effects - back[:, 1]) * np.sqrt(_noise(deviance, values, self._weights))

    # ---------------------------------------------------------------- the grid

    def _weigh(self, known: Sequence[Value]) -> None:
        """Weights of the grid's points from the first values: their number grows in steps, so that most calls keep them."""
        some = known[: _step_below(len(known))]
        if len(some) > LARGEST_FIT:
            some = [some[i] for i in np.linspace(0, len(some) - 1, LARGEST_FIT).astype(int)]
        if len(some) == len(self._fitted_on) and all(a is b for a, b in zip(some, self._fitted_on, strict=True)):
            return
        values, weights = winsorised(np.array([row.value for row in some])), _weights(some)
        design = self.coding.design(_codes(some, self.coding))
        values = values - np.average(values, weights=weights)
        design = (design - np.average(design, axis=0, weights=weights)) * np.sqrt(weights)[:, None]
        points: list[_Point] = []
        logs: list[float] = []
        for mix in (*MIXES, *(STAGED_MIXES if self.coding.staged else ())):
            points += [_Point(mix, float(ratio)) for ratio in RATIOS]
            squares, projected = _of_design(design @ self.coding.prior(mix).root, values * np.sqrt(weights))
            logs += log_likelihoods(squares, projected, values, weights).tolist()
        relative = np.exp(np.array(logs) - max(logs))
        self._grid = points, relative / relative.sum()
        self._fitted_on = list(some)


def winsorised(values: Floats) -> Floats:
    """Values (less is better) of which the bad ones are cut, so that broken placements do not rule the fit."""
    if not len(values):
        return values
    median = float(np.median(values))
    reach = median - float(np.quantile(values, 0.1))
    return np.minimum(values, median + WINSOR * reach) if reach > 0 else values


def log_likelihoods(squares: Floats, projected: Floats, values: Floats, weights: Floats) -> Floats:
    """Log marginal likelihood at each of RATIOS, the noise profiled out.

    Args:
        squares: eigenvalues of the covariance of the weighted placements at a ratio of 1, or those that are not 0.
        projected: eigenvalue times the square of the weighted values' projection on its vector.
        values: (n,), centred; `weights` (n,).
    """
    terms = 1 + RATIOS[:, None] * squares
    deviances = weights @ values**2 - (RATIOS[:, None] * projected / terms).sum(axis=1)
    noise = np.array([_noise(deviance, values, weights) for deviance in deviances.tolist()])
    return np.asarray(-0.5 * np.log(terms).sum(axis=1) - 0.5 * (len(values) + 1) * np.log(noise))


def _of_design(design: Floats, values: Floats) -> tuple[Floats, Floats]:
    """(squares, projected) for `log_likelihoods`, by whichever side of the weighted design is shorter."""
    if design.shape[1] < len(values):
        squares, vectors = np.linalg.eigh(design.T @ design)
        return np.maximum(squares, 0.0), (vectors.T @ (design.T @ values)) ** 2
    squares, vectors = np.linalg.eigh(design @ design.T)
    squares = np.maximum(squares, 0.0)
    return squares, squares * (vectors.T @ values) ** 2


def _noise(deviance: float, values: Floats, weights: Floats) -> float:
    """Variance of a full run's noise, with two pseudo-observations at half of the variance of the (centred) values."""
    spread = float(weights @ values**2 / weights.sum())
    return max((max(deviance, 0.0) + spread) / (len(values) + 1), 1e-12 * spread, 1e-300)


def _step_below(count: int) -> int:
    """Largest number of the sequence 1, 2, …, then growing by GROWTH, that is not above `count`."""
    step = 1
    while (following := max(step + 1, int(np.ceil(step * GROWTH)))) <= count:
        step = following
    return step


def _codes(rows: Sequence[Value], coding: Coding) -> Codes:
    return np.array([row.codes for row in rows], dtype=np.intp).reshape(len(rows), len(coding.sites))


def _weights(rows: Sequence[Value]) -> Floats:
    weights = np.array([1 / row.noise for row in rows])
    return np.maximum(np.round(weights * WEIGHT_STEPS), 1.0) / WEIGHT_STEPS
