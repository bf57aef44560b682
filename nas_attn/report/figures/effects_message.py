"""What a map of effects says: what adds most, what harms, and what may be chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nas_attn.answer.answer import Answer
from nas_attn.answer.effects import Effect, Effects, Level
from nas_attn.errors import listed, several
from nas_attn.model.features import features
from nas_attn.recipe import units

# Types that a title names; of more it gives the number
MOST_NAMED_IN_TITLE = 3


@dataclass(frozen=True, slots=True)
class SureEffects:
    """The effects of a level whose interval excludes zero, the largest first. On latency, more is
    bad.
    """

    good: Sequence[Effect]
    bad: Sequence[Effect]

    @classmethod
    def of(cls, effects: Effects, level: Level) -> SureEffects:
        sign = -1 if effects.of == "latency" else 1
        sure = [row for row in effects.at(level) if row.sure]
        sure.sort(key=lambda row: -abs(row.mean))
        good = [row for row in sure if sign * row.mean > 0]
        return cls(good, [row for row in sure if sign * row.mean < 0])

    @property
    def best(self) -> Sequence[Effect]:
        """The good ones that cannot be told from the best one: their intervals reach it."""
        if not self.good:
            return ()
        most = abs(self.good[0].mean)
        return [row for row in self.good if abs(row.mean) + row.half >= most]


def effects_message(effects: Effects) -> str:
    """What adds most and what harms; on latency, what costs most and least."""
    choices = SureEffects.of(effects, "choice")
    types = SureEffects.of(effects, "type")
    count = len(effects.at("choice"))
    unsure = count - len(choices.good) - len(choices.bad)
    open_ = f"{unsure} of {several(count, 'choice')}" if unsure else ""
    if effects.of == "latency":
        return f"{_costs(choices, types, open_)}."
    return f"{_adds(effects.of, choices, types, open_)}."


def _adds(metric: str, choices: SureEffects, types: SureEffects, unsure: str) -> str:
    parts = []
    best = types.best
    if best:
        size = _size(metric, best[0])
        one = f"{best[0].type} adds most, {size} a site"
        parts.append(one if len(best) == 1 else f"{_kinds(best)} add most, up to {size} a site")
    elif choices.good:
        parts.append(f"{_at_site(choices.good[0])} adds most, {_size(metric, choices.good[0])}")
    if types.bad:
        parts.append(f"{_kinds(types.bad)} {'harms' if len(types.bad) == 1 else 'harm'}")
    elif choices.bad:
        parts.append(f"{_at_site(choices.bad[0])} harms")
    if not best and not choices.good:
        parts.append("no choice is shown to help")
    elif unsure:
        parts.append(f"{unsure} may be chance")
    return "; ".join(parts)


def _costs(choices: SureEffects, types: SureEffects, unsure: str) -> str:
    if not choices.bad and not choices.good:
        return "no choice is shown to cost or to save latency"
    if not choices.bad:
        best = choices.good[0]
        return f"{_at_site(best)} saves most latency: {_size('latency', best)}"
    if not types.bad:
        dearest = choices.bad[0]
        return f"{_at_site(dearest)} costs most latency: {_size('latency', dearest)}"
    dearest = types.bad[0]
    clause = f"{dearest.type} costs most latency, {_size('latency', dearest)} a site"
    if unsure:
        return f"{clause}; {unsure} may cost nothing"
    cheapest = types.bad[-1]
    if cheapest is dearest:
        return clause
    return f"{clause}; {cheapest.type} adds only {_size('latency', cheapest)}"


def described_effects(effects: Effects) -> str:
    """A map for who cannot see it: its size, and its largest sure effects."""
    rows = effects.at("choice")
    sure = sorted((row for row in rows if row.sure), key=lambda row: -abs(row.mean))
    largest = "; ".join(f"{_at_site(row)} {_size(effects.of, row)}" for row in sure[:5])
    sites = several(len({row.site for row in rows}), "site")
    return f"Map of {several(len(rows), 'choice')} at {sites}. {largest}."


def no_map_sentence(answer: Answer, effects: Effects) -> str:
    """Why there is no map of the effects: none can be told from zero."""
    if effects.of == "latency":
        return (
            "What each choice alone costs cannot be told from the measurements: every interval"
            " contains zero. So there is no map."
        )
    alone = (
        "What each choice alone adds at its site cannot be told from this study's runs: every"
        " interval contains zero. So there is no map."
    )
    taken = answer.now.find(answer.taken_key or "")
    gain = None if taken is None else taken.gains.get(effects.of)
    if taken is None or gain is None or gain.low <= 0 or len(features(taken.placement)) < 2:
        return alone
    size = units.plus_minus(effects.of, gain.mean, (gain.high - gain.low) / 2)
    return f"Together the recommended choices gain {size}; one by one it is not known. {alone}"


def _at_site(row: Effect) -> str:
    return f"{row.name} at {row.site}"


def _size(of: str, row: Effect) -> str:
    return units.plus_minus(of, row.mean, row.half)


def _kinds(rows: Sequence[Effect]) -> str:
    if len(rows) > MOST_NAMED_IN_TITLE:
        return f"{len(rows)} types"
    return listed([row.type for row in rows])
