"""What the published comparisons say together: a mixed model, fitted by REML.

    python -m research.evidence.pooling     # writes the package's table anew

    gain = extent * (mean + depth + setting + module + source + group) + rest

Setting (task, place, start and form), module, source and group (source, data set, network) are
random effects; source and group are effects within a setting. So rows of one source count as
related, a setting's estimate lies between its own rows and the mean of all settings, and a
situation that no row has gets the spread of settings into its interval. Depth in the backbone is a
slope, held near zero by a normal prior. Modules in a part of the backbone have the square root of
its share as their extent: parts gain less than all of it, and more than their share. The rest is
one pair of trainings: its noise, and what is its own.

The spreads maximise the restricted likelihood (Patterson and Thompson 1971) with a penalty that
keeps them above zero where there are few sources or settings (Chung et al. 2013: a gamma density
of shape 2 and a wide scale). Effects and their errors are those of Henderson's equations (1950).
Intervals are for the next comparison, in a network and a source that are not in the table (Higgins
et al. 2009): Student's t with the number of sources less two degrees of freedom. What else was
tried: research/notes/published.md.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_attn.attention.catalogue import ROWS
from nas_attn.model import published_gains
from research.evidence.comparisons import PublishedComparison, comparisons, trained_pairs
from research.evidence.fitted import TABLE_FILE, ExpectedGain, PooledFit, Situation

# Random effects: name -> what a row belongs to.
LEVELS: dict[str, Callable[[PublishedComparison], object]] = {
    "setting": lambda row: row.situation.setting,
    "module": lambda row: row.situation.module,
    "source": lambda row: (row.situation.setting, row.source),
    "group": lambda row: (row.situation.setting, row.group),
}
# Of these, each level lies in one level of the next; they are the last of LEVELS.
NESTED = ("group", "source")
# What has a spread; the last is that of the rest.
SPREADS = (*LEVELS, "rest")
# Points; where the search for each spread begins, and the factors of its steps.
START_SD = 0.7
STEPS = (2.0, 1.3, 1.1, 1.03)
# Points; the scale of the spreads' gamma density.
PENALTY_SD = 2.0
FEWEST_DEGREES = 2
# Of a task: one source does not say how far another one may be from it.
FEWEST_SOURCES = 2
# Points from input to output: what the slope is expected to be at most.
SLOPE_SD = 0.5

Array = NDArray[np.float64]


def fit(rows: Sequence[PublishedComparison]) -> PooledFit:
    """Fits the tasks of which there are two sources; rows that score one pair of trainings count
    once.
    """
    return PooledFit(fitted_table(rows))


def fitted_table(rows: Sequence[PublishedComparison]) -> dict[str, Any]:
    """The fit as the package's table has it: fitted settings first, each with its plain figures."""
    fitted = fitted_pairs(rows)
    equations = _Equations(fitted)
    sd = _most_likely(equations)
    effects, covariance = equations.solved(sd)
    settings = list(dict.fromkeys(row.situation.setting for row in fitted))
    modules = list(dict.fromkeys(row.situation.module for row in fitted))
    places = [*range(equations.fixed)]
    places += [equations.places["setting", setting] for setting in settings]
    places += [equations.places["module", module] for module in modules]
    chosen = covariance[np.ix_(places, places)]
    sources = len({row.source for row in fitted})
    table: dict[str, Any] = {
        "degrees": max(sources - 2, FEWEST_DEGREES),
        "spreads": dict(zip(SPREADS, sd.tolist(), strict=True)),
        "modules": modules,
        "effects": effects[places].tolist(),
        "covariance": chosen[np.tril_indices(len(places))].tolist(),
    }
    by_setting: dict[Situation, list[PublishedComparison]] = {setting: [] for setting in settings}
    for row in trained_pairs(rows):
        by_setting.setdefault(row.situation.setting, []).append(row)
    plain = [_plain_figures(setting, own) for setting, own in by_setting.items()]
    expected = PooledFit({**table, "settings": _with_any_gain(plain, len(settings))})
    for number, (row, own) in enumerate(zip(plain, by_setting.values(), strict=True)):
        if number < len(settings):
            row["usual"] = expected.predicted([one.situation for one in own])
    return {**table, "settings": plain}


def _with_any_gain(plain: Sequence[dict[str, Any]], fitted: int) -> list[dict[str, Any]]:
    """The settings, the fitted ones marked as such, whose gain is not known yet."""
    return [{**row, "usual": (0.0, 0.0, 0.0)} for row in plain[:fitted]]


def _plain_figures(setting: Situation, rows: Sequence[PublishedComparison]) -> dict[str, Any]:
    """What the rows of a setting say by themselves."""
    counts = Counter(row.situation.module for row in rows)
    modules = {
        name: _counted([row for row in rows if row.situation.module == name])
        for name, _ in counts.most_common()
    }
    return {
        "task": setting.task,
        "place": setting.place,
        "start": setting.start,
        "form": setting.form,
        **_counted(rows),
        "mean": fmean(row.gain for row in rows),
        "positive": sum(row.gain > 0 for row in rows),
        "modules": modules,
        "usual": None,
    }


def _counted(rows: Sequence[PublishedComparison]) -> dict[str, Any]:
    return {
        "rows": len(rows),
        "groups": len({row.group for row in rows}),
        "sources": sorted({row.source for row in rows}),
    }


def _most_likely(equations: _Equations) -> Array:
    """The spreads of the greatest penalised likelihood, found by steps of each in turn."""
    log_sd = np.full(len(SPREADS), math.log(START_SD))
    best = equations.likelihood(np.exp(log_sd))
    for factor in STEPS:
        step = math.log(factor)
        moved = True
        while moved:
            moved = False
            for index in range(len(SPREADS)):
                for sign in (1.0, -1.0):
                    tried = log_sd.copy()
                    tried[index] += sign * step
                    value = equations.likelihood(np.exp(tried))
                    if value > best:
                        log_sd = tried
                        best = value
                        moved = True
                        break
    return np.asarray(np.exp(log_sd))


def fitted_pairs(rows: Sequence[PublishedComparison]) -> tuple[PublishedComparison, ...]:
    """The pairs of trainings of the tasks of which there are enough sources."""
    pairs = trained_pairs(rows)
    sources: dict[str, set[str]] = defaultdict(set)
    for pair in pairs:
        sources[pair.situation.task].add(pair.source)
    return tuple(pair for pair in pairs if len(sources[pair.situation.task]) >= FEWEST_SOURCES)


class _Equations:
    """Henderson's equations of some rows.

    A fit asks for some hundred likelihoods. If a BLAS divides each among threads, which wait for
    each other, it takes many times the processor's time, above all beside other work. So the matrix
    is summed over the few effects of each row, and nested effects are absorbed before it is solved:
    what is left is too small for threads.
    """

    def __init__(self, rows: Sequence[PublishedComparison]) -> None:
        fixed = np.array([[1.0, row.situation.depth] for row in rows])
        self.fixed = fixed.shape[1]
        self.places: dict[tuple[str, object], int] = {}
        kinds: list[int] = []
        for number, (name, level_of) in enumerate(LEVELS.items()):
            for row in rows:
                key = (name, level_of(row))
                if key not in self.places:
                    self.places[key] = self.fixed + len(kinds)
                    kinds.append(number)
        self._kind = np.array(kinds)
        self._starts = [
            min(index for (effect, _), index in self.places.items() if effect == name)
            for name in NESTED
        ]
        # of each row: its effects, and how often each counts
        effects = np.array([self._effects_of(row) for row in rows])
        counts = np.hstack([fixed, np.ones((len(rows), len(LEVELS)))])
        counts *= np.array([[row.situation.extent] for row in rows])
        size = self.fixed + len(kinds)
        self._design = np.zeros((len(rows), size))
        np.put_along_axis(self._design, effects, counts, axis=1)
        self._cells = (effects[:, :, None] * size + effects[:, None, :]).ravel()
        self._products = counts[:, :, None] * counts[:, None, :]
        self._gain = np.array([row.gain for row in rows])
        self._variance = np.array([(row.error or 0.0) ** 2 for row in rows])

    def _effects_of(self, row: PublishedComparison) -> list[int]:
        """The numbers of a row's effects: all fixed ones, then a level of each random one."""
        levels = [self.places[name, level_of(row)] for name, level_of in LEVELS.items()]
        return [*range(self.fixed), *levels]

    def likelihood(self, sd: Array) -> float:
        """The logarithm of the penalised restricted likelihood, but for a constant."""
        noise = self._variance + sd[-1] ** 2
        prior = sd[self._kind] ** 2
        left = self._left(noise, prior)
        right = self._design.T @ (self._gain / noise)
        log_determinant = 0.0
        explained = 0.0
        for start in self._starts:
            own, shares, left = _absorbed(left, start)
            log_determinant += float(np.log(own).sum())
            explained += float((right[start:] ** 2 / own).sum())
            right = right[:start] - right[start:] @ shares
        log_determinant += float(np.linalg.slogdet(left)[1])
        explained += float(right @ np.linalg.solve(left, right))
        misfit = float(self._gain @ (self._gain / noise)) - explained
        spread = float(np.log(noise).sum() + np.log(prior).sum()) + log_determinant
        return -0.5 * (spread + misfit) + float(np.sum(np.log(sd) - sd / PENALTY_SD))

    def solved(self, sd: Array) -> tuple[Array, Array]:
        """(effects, covariance of their errors)."""
        noise = self._variance + sd[-1] ** 2
        covariance = _inverse(self._left(noise, sd[self._kind] ** 2), self._starts)
        effects: Array = covariance @ (self._design.T @ (self._gain / noise))
        return effects, covariance

    def _left(self, noise: Array, prior: Array) -> Array:
        size = self._design.shape[1]
        products = self._products / noise[:, None, None]
        left = np.bincount(self._cells, products.ravel(), size**2).astype(np.float64)
        left = left.reshape(size, size)
        random = np.arange(self.fixed, len(left))
        left[random, random] += 1 / prior
        slopes = np.arange(1, self.fixed)
        left[slopes, slopes] += 1 / SLOPE_SD**2
        return left


def _absorbed(left: Array, start: int) -> tuple[Array, Array, Array]:
    """Takes the effects from `start` on out of equations in which they have nothing in common with
    each other: (their diagonal, what they share with the other effects as a part of it, the
    equations of the others).
    """
    own = np.diag(left)[start:]
    shared = left[start:, :start]
    shares = shared / own[:, None]
    # einsum, unlike @, uses no threads
    return own, shares, left[:start, :start] - np.einsum("ij,ik->jk", shared, shares)


def _inverse(left: Array, starts: Sequence[int]) -> Array:
    """The inverse, with the effects from each of these places on absorbed in turn."""
    if not starts:
        return np.asarray(np.linalg.inv(left), dtype=np.float64)
    own, shares, others = _absorbed(left, starts[0])
    inner = _inverse(others, starts[1:])
    corner = -np.einsum("ij,jk->ik", shares, inner)
    outer = np.diag(1 / own) - np.einsum("ij,kj->ik", corner, shares)
    return np.block([[inner, corner.T], [corner, outer]])


def written() -> str:
    """The package's table of all comparisons, as text."""
    table = _rounded(fitted_table(comparisons()))
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in table.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def predictions() -> str:
    """What the package has: a line for each setting, and for each module of the catalogue there."""
    fitted = PooledFit(json.loads(TABLE_FILE.read_text(encoding="utf-8")))
    lines = []
    for one in fitted.fitted:
        gains = {"": fitted.usual_gain(one.setting)}
        for module in one.modules:
            if module in ROWS:
                gains[module] = fitted.gain(replace(one.setting, module=module))
        lines += [_prediction(one.setting, module, gain) for module, gain in gains.items()]
    return "[\n" + ",\n".join(lines) + "\n]\n"


def _prediction(setting: Situation, module: str, gain: ExpectedGain) -> str:
    figures = {name: round(getattr(gain, name), 4) for name in FIGURES}
    counts = {"pairs": gain.rows, "networks": gain.groups, "sources": gain.sources}
    if module:
        own = gain.own_module, gain.own_groups, gain.own_sources
        counts = dict(zip(counts, own, strict=True))
    at = [setting.task, setting.place, setting.start, setting.form, module]
    return json.dumps({"of": at, "gain": {**figures, **counts}}, ensure_ascii=False)


FIGURES = ("mean", "low", "high", "probability")


def _rounded(value: Any) -> Any:
    """The same with nine digits of each number, which all computers have in common."""
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return value


if __name__ == "__main__":
    TABLE_FILE.write_text(written(), encoding="utf-8")
    published_gains.TABLE_FILE.write_text(predictions(), encoding="utf-8")
