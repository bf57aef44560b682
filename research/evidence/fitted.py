"""What published comparisons of networks with and without attention say together: a table that
`research/evidence` fits and writes, and what follows from it for a situation.

    from research.evidence.fitted import Situation, pooled
    gain = pooled().gain(Situation("detection", "neck", "pretrained", "random", "se"))
    gain.mean, gain.low, gain.high, gain.probability, gain.sources

A gain is its extent times the sum of a mean, a slope over depth, and effects of the setting (task,
place, start, form) and of the module; a source and a network that are not in the table add their
spreads, and so does a single pair of trainings. Intervals are Student's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

TABLE_FILE = Path(__file__).with_suffix(".json")
# A source does not say how its modules begin, or what its networks start from.
NOT_SAID = "unknown"
# Share of the next comparisons that an interval is to hold.
COVERAGE = 0.8


@dataclass(frozen=True, slots=True)
class Situation:
    """Where a module stands, and how training begins."""

    task: str
    """`classification`, `detection` or `segmentation`."""
    place: str
    """`backbone`, `neck` or `head`."""
    start: str
    """What the network has learned before: `scratch` nothing, `pretrained` (its backbone)."""
    form: str
    """How the module begins: `random`, or as the `identity`."""
    module: str
    """The catalogue's name if it is there."""
    begin: float = 0.0
    """Where in the backbone the modules begin, 0 (input) to 1 (output)."""
    end: float = 1.0
    """Where in the backbone they end."""

    @property
    def setting(self) -> Situation:
        """The same for any module at any depth."""
        return replace(self, module="", begin=0.0, end=1.0)

    @property
    def depth(self) -> float:
        """Of the middle, from -0.5 to 0.5; 0 for a whole backbone, a neck and a head."""
        return (self.begin + self.end) / 2 - 0.5

    @property
    def extent(self) -> float:
        """1 for modules everywhere in the backbone, in the neck or in the head; else less: parts
        gain less than all of it, and more than their share.
        """
        return math.sqrt(self.end - self.begin)


@dataclass(frozen=True, slots=True)
class ExpectedGain:
    """What the next comparison in a situation would show, points."""

    mean: float
    low: float
    """With `high`, the interval that holds a share of `COVERAGE`."""
    high: float
    probability: float
    """That the gain is above zero."""
    sd: float
    """Of the prediction."""
    error: float
    """Of the mean over sources and networks, so without what a new one adds."""
    rows: int
    """Pairs of trainings with this task, place, start and form."""
    groups: int
    """Networks on data sets among them."""
    sources: tuple[str, ...]
    """Where these rows are from; empty: the gain is an extrapolation from other settings."""
    modules: tuple[str, ...]
    """Which these rows have, the most frequent first."""
    own_module: int
    """Those rows that have this module; 0: what is said of it is said of other modules."""
    own_groups: int
    """Networks on data sets among the rows of this module."""
    own_sources: tuple[str, ...]
    """Where the rows of this module are from."""


@dataclass(frozen=True, slots=True)
class PublishedRows:
    """How many rows there are of something."""

    rows: int
    """Pairs of trainings."""
    groups: int
    """Networks on data sets among them."""
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PublishedSetting:
    """What was compared with a task, place, start and form."""

    setting: Situation
    """Without module and depth."""
    rows: PublishedRows
    mean: float
    """Of the plain gains, points."""
    positive: int
    """Pairs of trainings with a gain above zero."""
    modules: Mapping[str, PublishedRows]
    """The most frequent first."""
    usual: tuple[float, float, float] | None
    """Mean, standard deviation and error of the gain for a module and a depth as the rows have
    them; None: the task has too few sources to expect a gain.
    """


class PooledFit:
    """The fitted table; `pooled` reads the package's own."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        """`table`: as JSON, with numbers for mean, slope, fitted settings and modules, in this
        order.
        """
        self.settings: tuple[PublishedSetting, ...] = tuple(map(_setting, table["settings"]))
        self.spreads: dict[str, float] = table["spreads"]
        self._degrees: int = table["degrees"]
        self._by_setting = {one.setting: one for one in self.settings}
        self._effects: NDArray[np.float64] = np.array(table["effects"])
        size = len(self._effects)
        lower = np.zeros((size, size))
        lower[np.tril_indices(size)] = table["covariance"]
        self._covariance: NDArray[np.float64] = lower + np.tril(lower, -1).T
        names: list[object] = [one.setting for one in self.fitted]
        names += table["modules"]
        self._places = {name: place for place, name in enumerate(names, start=2)}

    @property
    def fitted(self) -> tuple[PublishedSetting, ...]:
        """The settings of tasks with enough sources to expect a gain."""
        return tuple(one for one in self.settings if one.usual is not None)

    def knows(self, task: str) -> bool:
        """Whether a gain can be expected in a task."""
        return any(one.setting.task == task for one in self.fitted)

    def gain(self, situation: Situation) -> ExpectedGain:
        """The prediction for a network and a source that are not in the table."""
        mean, sd, error = self.predicted([situation])
        return self._expected(situation, mean, sd, error)

    def usual_gain(self, setting: Situation) -> ExpectedGain:
        """The same for a module and a depth as the rows of this setting have them on average."""
        known = self._by_setting.get(setting)
        if known is None or known.usual is None:
            return self.gain(setting)
        return self._expected(setting, *known.usual)

    def predicted(self, mixed: Sequence[Situation]) -> tuple[float, float, float]:
        """Mean, standard deviation and error of the mean gain of situations of one setting."""
        weights = np.zeros(len(self._effects))
        unseen = 0.0
        for one in mixed:
            share = one.extent / len(mixed)
            weights[:2] += share * np.array([1.0, one.depth])
            for kind, level in (("setting", one.setting), ("module", one.module)):
                place = self._places.get(level)
                if place is None:
                    unseen += one.extent * share * self.spreads[kind] ** 2
                else:
                    weights[place] += share
        extent = sum(one.extent for one in mixed) / len(mixed)
        new = sum((extent * self.spreads[name]) ** 2 for name in ("source", "group"))
        variance = float(weights @ self._covariance @ weights) + unseen
        sd = math.sqrt(variance + new + self.spreads["rest"] ** 2)
        return float(weights @ self._effects), sd, math.sqrt(variance)

    def _expected(self, situation: Situation, mean: float, sd: float, error: float) -> ExpectedGain:
        # here: it takes a tenth of a second to load
        from scipy.special import stdtr, stdtrit

        half = sd * float(stdtrit(self._degrees, (1 + COVERAGE) / 2))
        none = PublishedRows(0, 0, ())
        known = self._by_setting.get(situation.setting)
        rows = none
        modules: Mapping[str, PublishedRows] = {}
        if known is not None and known.usual is not None:
            rows = known.rows
            modules = known.modules
        own = modules.get(situation.module, none)
        return ExpectedGain(
            mean=mean,
            low=mean - half,
            high=mean + half,
            probability=float(stdtr(self._degrees, mean / sd)),
            sd=sd,
            error=error,
            rows=rows.rows,
            groups=rows.groups,
            sources=rows.sources,
            modules=tuple(modules),
            own_module=own.rows,
            own_groups=own.groups,
            own_sources=own.sources,
        )


@lru_cache(maxsize=1)
def pooled() -> PooledFit:
    """The fit of all published comparisons."""
    return PooledFit(json.loads(TABLE_FILE.read_text(encoding="utf-8")))


def _setting(row: Mapping[str, Any]) -> PublishedSetting:
    return PublishedSetting(
        setting=Situation(row["task"], row["place"], row["start"], row["form"], module=""),
        rows=_rows(row),
        mean=row["mean"],
        positive=row["positive"],
        modules={name: _rows(own) for name, own in row["modules"].items()},
        usual=None if row["usual"] is None else tuple(row["usual"]),
    )


def _rows(row: Mapping[str, Any]) -> PublishedRows:
    return PublishedRows(row["rows"], row["groups"], tuple(row["sources"]))
