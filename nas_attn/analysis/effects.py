"""What each choice does at each site, each type over all its sites, each position and each knob; and that in sentences.

An effect on a metric is what a choice does wherever it stands, as the model of all evidence has it: shared by all placements
that have it, so that what is one placement's own luck or merit is no part of it. On latency it is the additive model's.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nas_attn.analysis import units
from nas_attn.analysis.features import Feature, features
from nas_attn.analysis.recommendation import format_probability
from nas_attn.analysis.snapshot import Snapshot
from nas_attn.model.evidence import Sum
from nas_attn.model.latencies import LEAST_MEASURED, latency_model
from nas_attn.model.mixture import cdf

Level = Literal["choice", "type", "position", "knob"]
HELPS, PERHAPS = 0.95, 0.80
"""Probability of being better from which it is said that a choice helps, and that it may."""
MOST_SITES = 8
"""Sites that get a sentence of their own, those with the largest effects; the others are counted."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What a choice does. Of a choice and of a type: against nothing there, a site. Of a position and of a knob: against the
    mean of all that occur at the same site, where there are others."""

    level: Level
    site: str
    """`stage2`, with `@position` where it was written; empty for all sites."""
    type: str
    """Empty for a position."""
    knobs: str
    """`reduction=8`, as in notation; of a knob one of them."""
    position: str
    """Empty unless the effect is a position's."""
    effect: float
    """In the metric's unit and direction; on latency as a relative to the bare backbone's time."""
    low: float
    """95 % interval."""
    high: float
    better: float
    """Probability that it does good; what does neither good nor harm is a tie."""
    worse: float
    observations: int
    """Candidates that have exactly this."""
    elsewhere: int
    """Candidates that have the type without having exactly this: what the effect is borrowed from, besides."""

    @property
    def name(self) -> str:
        """`se(reduction=8)`, `@block`."""
        if self.level == "position":
            return f"@{self.position}"
        return f"{self.type}({self.knobs})" if self.knobs else self.type

    @property
    def half(self) -> float:
        """Half of the 95 % interval."""
        return (self.high - self.low) / 2

    @property
    def sure(self) -> bool:
        """Whether the 95 % interval excludes zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class Effects:
    """The effects on one metric, or on latency."""

    of: str
    rows: tuple[Effect, ...]
    """By level, site and choice."""
    sentences: tuple[str, ...]
    """The same as a person would write it; empty for latency."""
    cv_error: float | None
    """Root mean square error of the additive model on candidates left out of it; None but for latency."""

    def at(self, level: Level) -> tuple[Effect, ...]:
        """The rows of one level."""
        return tuple(row for row in self.rows if row.level == level)


def fit_effects(taken: Snapshot, what: str) -> Effects | None:
    """The effects on `latency` (as a relative to the bare backbone's time) or on a metric (in its own unit).

    None with fewer than eight candidates that were measured, or that ran, one of them to the last rung.
    """

    return _on_latency(taken) if what == "latency" else _on_metric(taken, what)


# ------------------------------------------------------------------------------------------- what is asked


@dataclass(frozen=True, slots=True)
class _Wanted:
    """An effect that is asked for, and the sum of placements' effects that it is."""

    level: Level
    site: str
    type: str
    knobs: str
    position: str
    sum: Sum
    observations: int
    elsewhere: int

    def effect(self, mean: float, low: float, high: float, better: float, worse: float) -> Effect:
        numbers = (mean, low, high, better, worse, self.observations, self.elsewhere)
        return Effect(self.level, self.site, self.type, self.knobs, self.position, *numbers)


def _wanted(placements: Iterable[str]) -> list[_Wanted]:
    """All effects that can be spoken of, given the placements that there are."""
    have = _Uses(placements)
    seen = have.features
    found = [_want("choice", have, [([f], [])], site=f.site, type=f.type, knobs=f.knobs) for f in seen]
    for kind in sorted({f.type for f in seen}):
        mine = [f for f in seen if f.type == kind]
        found.append(_want("type", have, [(mine, [])], type=kind))
        for piece in sorted({piece for f in mine for piece in _pieces(f)}):
            groups = _within(mine, [f for f in mine if piece in _pieces(f)], lambda f: f.site)
            if groups:
                found.append(_want("knob", have, groups, type=kind, knobs=piece))
    for position in sorted({position for f in seen if (position := f.site.partition("@")[2])}):
        groups = _within(
            seen, [f for f in seen if f.site.endswith(f"@{position}")], lambda f: f"{f.site.partition('@')[0]}={f.type}"
        )
        if groups:
            found.append(_want("position", have, groups, position=position))
    return found


class _Uses:
    """Which placement has which choices."""

    def __init__(self, placements: Iterable[str]) -> None:
        rows = [features(text) for text in placements]
        self.features = sorted(set().union(*rows))
        self._column = {feature: i for i, feature in enumerate(self.features)}
        self._has = np.zeros((len(rows), len(self.features)), dtype=bool)
        for row, found in enumerate(rows):
            self._has[row, [self._column[feature] for feature in found]] = True

    def count(self, wanted: Iterable[Feature]) -> int:
        """Placements that have any of some choices."""
        return int(self._has[:, [self._column[feature] for feature in wanted]].any(axis=1).sum())


_Contrast = tuple[Sequence[Feature], Sequence[Feature]]
"""Some choices, and those that their mean is held against; nothing where there are none."""


def _within(all_: Sequence[Feature], these: Sequence[Feature], place: Callable[[Feature], str]) -> list[_Contrast]:
    """Some choices against all, place by place, where there are others: what differs between places is no merit of theirs."""
    found: list[_Contrast] = []
    for at in sorted({place(f) for f in these}):
        mine, every = ([f for f in some if place(f) == at] for some in (these, all_))
        if len(mine) < len(every):
            found.append((mine, every))
    return found


def _want(
    level: Level,
    have: _Uses,
    groups: Sequence[_Contrast],
    *,
    site: str = "",
    type: str = "",
    knobs: str = "",
    position: str = "",
) -> _Wanted:
    """The mean of some contrasts."""
    total: list[tuple[str, float]] = []
    for these, others in groups:
        total += [(f.text, 1 / len(these) / len(groups)) for f in these]
        against = [f.text for f in others] or ["none"]
        total += [(text, -1 / len(against) / len(groups)) for text in against]
    chosen = {f for these, _ in groups for f in these}
    exactly, kinds = have.count(chosen), {f.type for f in chosen}
    kin = have.count([f for f in have.features if f.type in kinds]) - exactly
    return _Wanted(level, site, type, knobs, position, tuple(total), exactly, kin)


def _pieces(feature: Feature) -> list[str]:
    """`kernel_size=7`, `groups=4` of a choice with these knobs."""
    return [piece.strip() for piece in feature.knobs.split(",")] if feature.knobs else []


# ------------------------------------------------------------------------------------------- answers


def _on_latency(taken: Snapshot) -> Effects | None:
    latencies = {view.key: view.latency for view in taken.candidates if view.latency is not None}
    texts = {view.key: view.placement for view in taken.candidates}
    model = latency_model(latencies, texts)
    if model is None:
        return None
    asked = _wanted(texts[key] for key, latency in latencies.items() if latency.measured)
    rows = []
    for wanted, (mean, error) in zip(asked, model.sums([one.sum for one in asked]), strict=True):
        faster = float(cdf(-mean / error)) if error > 0 else float(mean < 0)
        rows.append(wanted.effect(mean, mean - 1.96 * error, mean + 1.96 * error, faster, 1 - faster))
    return Effects("latency", tuple(rows), (), model.cv_error)


def _on_metric(taken: Snapshot, metric: str) -> Effects | None:
    model, ran = taken.evidence.get(metric), [view for view in taken.candidates if view.scores]
    if model is None or len(ran) < LEAST_MEASURED:
        return None
    wanted = {str(number): one for number, one in enumerate(_wanted(view.placement for view in ran))}
    gains = model.effects({name: one.sum for name, one in wanted.items()})
    rows = []
    for name, gain in gains.items():
        rows.append(wanted[name].effect(gain.mean, gain.low, gain.high, gain.probability, gain.worse))
    latency = fit_effects(taken, "latency")
    cost = {(row.site, row.name): row for row in latency.at("choice")} if latency else {}
    return Effects(metric, tuple(rows), _sentences(rows, metric, cost), None) if rows else None


# ------------------------------------------------------------------------------------------- in plain words

_Cost = Mapping[tuple[str, str], Effect]


def _sentences(rows: Sequence[Effect], metric: str, cost: _Cost) -> tuple[str, ...]:
    """What helps where, what may, what harms, and where nothing does."""
    by_site: defaultdict[str, list[Effect]] = defaultdict(list)
    for row in rows:
        if row.level == "choice":
            by_site[row.site].append(row)
    best = {site: max(mine, key=_telling) for site, mine in by_site.items()}
    ranked = sorted((site for site in best if best[site].better >= PERHAPS), key=lambda site: -abs(best[site].effect))
    said = [_helping(best[site], by_site[site], metric, cost) for site in ranked[:MOST_SITES]]
    if len(ranked) > MOST_SITES:
        said.append(f"At {len(ranked) - MOST_SITES} more sites something helps or may help, but less.")
    nothing = [site for site in by_site if site not in ranked]
    if nothing:
        said.append(f"At {_places(nothing)}, nothing helps more than the noise.")
    harmful = sorted(
        (row for row in rows if row.level == "choice" and row.worse >= HELPS), key=lambda r: -abs(r.effect)
    )
    said += [f"At {row.site}, `{row.name}` is harmful: {_size(row, metric)}." for row in harmful[:MOST_SITES]]
    anywhere = [row for row in rows if row.level == "type" and row.better >= HELPS]
    said += [
        f"`{row.type}` at any site: {_size(row, metric)} per site."
        for row in anywhere
        if Counter(r.type for r in rows if r.level == "choice")[row.type] > 1
    ]
    return tuple(said)


def _telling(row: Effect) -> tuple[bool, float]:
    """Which of a site's choices is spoken of: of those that surely help the largest, else the most likely gain."""
    return row.better >= HELPS, abs(row.effect) * row.better if row.better >= HELPS else row.better


def _helping(row: Effect, others: Sequence[Effect], metric: str, cost: _Cost) -> str:
    paid = cost.get((row.site, row.name))
    price = "" if paid is None else f" for {_percent(paid.effect)} of latency"
    if row.better < HELPS:
        odds = format_probability(row.better)
        return f"At {row.site}, perhaps `{row.name}`: {_size(row, metric)}{price} (probability of a gain {odds})."
    also = [other for other in others if other is not row and other.better >= HELPS]
    so_do = ", ".join(f"`{other.name}` ({_size(other, metric)})" for other in also[:2])
    more = f" and {len(also) - 2} more" if len(also) > 2 else ""
    return f"At {row.site}, `{row.name}`: {_size(row, metric)}{price}" + (f"; so do {so_do}{more}." if also else ".")


def _size(row: Effect, metric: str) -> str:
    """`+0.60 ± 0.20 points`, the 95 % interval; of a metric without a unit its name."""
    said = units.plus_minus(metric, row.effect, row.half)
    return said if units.unit(metric).of_differences else f"{said} in {units.title(metric)}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if abs(share) >= 0.0095 else f"{100 * share:.1f} %"


def _places(sites: Sequence[str]) -> str:
    if len(sites) > 4:
        return f"{len(sites)} sites"
    return " and ".join(filter(None, (", ".join(sites[:-1]), sites[-1])))
