"""What each choice adds at each site, in plain words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from nas_attn.answer.effects import Effect, Effects
from nas_attn.errors import several
from nas_attn.recipe import units

# choices that are named, those with the largest effects; the others are counted
NAMED_EFFECTS = 3


def effects_heading(what: str) -> str:
    """The title of a table of effects on a metric or the latency, with the unit."""
    adds = "adds" if what == "latency" else "gains"
    title = f"What each choice {adds} at each site ({unit_of_effects(what)})"
    unit = units.unit(what).of_differences
    return f"{title}, {unit}" if unit else title


def unit_of_effects(what: str) -> str:
    """What effects are counted in: a metric, or shares of the backbone's time."""
    return "relative to the bare backbone's time" if what == "latency" else what


def left_out_line(error: float) -> str:
    """How far the fit is from candidates that it was not given."""
    return (
        "Predicted for a candidate that the fit was not given, the latency is off by"
        f" {100 * error:.0f} % of the bare backbone's, on average."
    )


def effects_message(effects: Effects) -> str:
    """Which choices have the largest effects that are shown, and how many may be chance."""
    count = len(effects.at("choice"))
    sure = effects.sure
    does = "to cost or to save latency" if effects.of == "latency" else "to help or to harm"
    if not sure:
        return f"No single choice is shown {does}: every interval contains zero."
    names = short_names(effects.at("choice"))
    named = [
        f"{names[row]} at {row.site} {units.plus_minus(effects.of, row.mean, row.half)}"
        for row in sure[:NAMED_EFFECTS]
    ]
    if len(sure) > NAMED_EFFECTS:
        named.append(f"{len(sure) - NAMED_EFFECTS} more")
    open_ = ""
    if len(sure) < count:
        open_ = f" {count - len(sure)} of {several(count, 'choice')} may be chance."
    return f"Shown {does}: {'; '.join(named)}.{open_}"


def short_names(rows: Sequence[Effect]) -> Mapping[Effect, str]:
    """Names each choice by its type, with the knobs that tell it from another choice of the type at
    the same site; others follow from the channels.
    """
    knobs = {
        row: dict(part.partition("=")[::2] for part in row.knobs.split(", ") if part)
        for row in rows
    }
    alike = defaultdict[tuple[str, str], list[dict[str, str]]](list)
    for row in rows:
        alike[row.site, row.type].append(knobs[row])
    differ = {
        (kind, knob)
        for (_, kind), choices in alike.items()
        for knob in {knob for choice in choices for knob in choice}
        if len({choice.get(knob) for choice in choices}) > 1
    }
    names = {}
    for row in rows:
        told = [
            f"{knob}={value}" for knob, value in knobs[row].items() if (row.type, knob) in differ
        ]
        names[row] = f"{row.type}({', '.join(told)})" if told else row.type
    return names
