"""What the rows of a setting say by themselves, without a fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from nas_attn.model.published.table import PublishedComparison, Situation, trained_pairs


@dataclass(frozen=True, slots=True)
class SeenGain:
    """Gains of a task, place, start and form, points."""

    setting: Situation
    """Without module and depth."""
    mean: float
    positive: int
    """Pairs of trainings with a gain above zero."""
    rows: int
    """All pairs."""
    groups: int
    """Networks on data sets among them."""
    sources: tuple[str, ...]
    modules: tuple[str, ...]
    """The most frequent first."""


def seen_gains(rows: Iterable[PublishedComparison], task: str) -> tuple[SeenGain, ...]:
    """Of each setting of a task that these rows have, the highest mean first."""
    by_setting: dict[Situation, list[PublishedComparison]] = {}
    for row in trained_pairs(rows):
        if row.situation.task == task:
            by_setting.setdefault(row.situation.setting, []).append(row)
    seen = [_seen(setting, own) for setting, own in by_setting.items()]
    return tuple(sorted(seen, key=lambda one: -one.mean))


def _seen(setting: Situation, rows: list[PublishedComparison]) -> SeenGain:
    modules = Counter(row.situation.module for row in rows)
    return SeenGain(
        setting=setting,
        mean=fmean(row.gain for row in rows),
        positive=sum(row.gain > 0 for row in rows),
        rows=len(rows),
        groups=len({row.group for row in rows}),
        sources=tuple(sorted({row.source for row in rows})),
        modules=tuple(name for name, _ in modules.most_common()),
    )
