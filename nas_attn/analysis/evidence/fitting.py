"""From runs to the posterior: exact where that is affordable, else in the space of the features."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nas_attn.analysis.evidence.assembling import RungRuns, assemble
from nas_attn.analysis.evidence.exact import Exact
from nas_attn.analysis.evidence.facts import Run, digest
from nas_attn.analysis.evidence.kernels import Likeness, Sum
from nas_attn.analysis.evidence.rung import parts_of
from nas_attn.analysis.evidence.wide import Wide

AFFORDABLE = 1.5e9
"""Cubes of runs up to which the posterior is exact: 600 placements at one rung, 300 at three."""
PART = 0.15
"""Share of that which the part of the placements may cost from which the variances are learned, if it is not."""
VERSION = 3
"""Of the model: answers of another one are not this one's."""


@dataclass(frozen=True)
class Question:
    """What a model is fitted to: the metric, the runs, the placements and the rung that is asked about."""

    metric: str
    lower_is_better: bool
    runs: tuple[Run, ...]
    placements: Mapping[str, str]
    rung: int | None
    sums: Mapping[str, Sum] = field(default_factory=dict)
    """Name -> sum of shared effects that is asked about besides."""

    @property
    def digest(self) -> str:
        """Equal for equal questions."""
        asked = (
            VERSION,
            self.metric,
            self.lower_is_better,
            self.rung,
            sorted(self.placements.items()),
            sorted(self.sums.items()),
            digest(self.runs),
        )
        return hashlib.sha256(repr(asked).encode()).hexdigest()[:16]

    @property
    def keys(self) -> tuple[str, ...]:
        """The placements, the evaluated ones first, and then the sums."""
        evaluated = self._evaluated
        return (*evaluated, *sorted(self.placements.keys() - set(evaluated)), *self.sums)

    @property
    def _evaluated(self) -> list[str]:
        return sorted({run.key for run in self.runs})

    def steps(self, keys: Sequence[str]) -> list[RungRuns]:
        """The rungs' runs of some placements."""
        return assemble(self.runs, keys, metric=self.metric, lower_is_better=self.lower_is_better, last=self.rung)

    def solve(self, steps: Sequence[RungRuns]) -> Exact | Wide:
        """The posterior, given the rungs' runs of all placements."""
        evaluated, others = self._evaluated, self.keys[len(self._evaluated) : len(self.placements)]
        texts = [self.placements[key] for key in (*evaluated, *others)]
        likeness = Likeness(texts[: len(evaluated)], texts[len(evaluated) :], list(self.sums.values()))
        cost = _cost(steps)
        if cost <= AFFORDABLE:
            return Exact(steps, likeness)
        part = _part(self.runs, evaluated, int(len(evaluated) * (PART * AFFORDABLE / cost) ** (1 / 3)))
        exact = Exact(self.steps(part), Likeness([self.placements[key] for key in part]))
        return Wide(steps, likeness, exact)


def _cost(steps: Sequence[RungRuns]) -> float:
    """What the exact posterior costs, in cubes of runs."""
    return sum(parts_of(step.data, below=step.below) * float(len(step.runs)) ** 3 for step in steps)


def _part(runs: Sequence[Run], keys: Sequence[str], count: int) -> list[str]:
    """Placements from which the variances are learned: half of them those with the most runs at the highest rungs, half drawn
    from all others, so that what was stopped early is among them."""
    rungs: defaultdict[str, list[int]] = defaultdict(list)
    for run in runs:
        rungs[run.key].append(run.rung)
    drawn = {key: hashlib.sha256(key.encode()).hexdigest() for key in keys}
    best = sorted(keys, key=lambda key: (-max(rungs[key]), -len(rungs[key]), drawn[key]))[: count // 2]
    others = sorted(set(keys) - set(best), key=drawn.__getitem__)[: count - len(best)]
    return sorted([*best, *others])
