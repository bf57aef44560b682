"""An answer and its study as JSON: the data, and beside it the same in words."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from pydantic import BaseModel

from nas_attn.answer.answer import Answer, Option
from nas_attn.answer.answer_text import answer_lines, below, rows
from nas_attn.answer.choosing import Chosen, choice_sentences
from nas_attn.answer.headline import headline
from nas_attn.answer.next_step import next_of
from nas_attn.answer.reasons import reasons, rule_text
from nas_attn.answer.shown import NetworkNames, shown
from nas_attn.answer.snapshot import Snapshot
from nas_attn.space.placement import Placement
from nas_attn.system.wrapping import Line

Plain = dict[str, Any]
CARD_FACTS = ("verdict", "means", "drawing", "faster", "slower", "longer", "attention", "also")
OPTION_FACTS = ("means", "key", "label", "placement", "gain", "ratio", "needed", "length")


def answer_as_json(answer: Answer) -> Plain:
    """An answer and its study in JSON's types; NaN and infinity become None."""
    now = answer.now
    plain: Plain = as_json(now)
    plain["images"] = now.images.described() if now.images else []
    plain["cautions"] = [caution.text for caution in now.cautions]
    plain["front"] = [view.key for view in now.front]
    plain["card"] = _card(answer)
    plain["recommendation"] = None if answer.reason is None else _recommendation(answer)
    for metric, floor in now.noise.items():
        # of one run, and of the mean of three
        plain["noise"][metric]["reliability"] = [floor.reliability(1), floor.reliability(3)]
    return plain


def choice_as_json(now: Snapshot, choice: Chosen) -> Plain:
    """A chosen candidate, why it was chosen, and code that builds it."""
    view = choice.view
    return {
        "key": view.key,
        "trial": view.trial,
        "placement": str(view.placement),
        "snippet": view.snippet,
        "rule": choice.rule,
        "sentences": choice_sentences(now, choice),
    }


def as_json(value: Any) -> Any:
    """Data classes, mappings and sequences in JSON's types; placements in notation."""
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, Placement):
        return str(value)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Option):
        return _attributes(value, OPTION_FACTS)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = (item for item in dataclasses.fields(value) if item.compare)
        return {item.name: as_json(getattr(value, item.name)) for item in items}
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def lines_as_json(lines: Sequence[Line]) -> list[Plain]:
    """Lines of an answer in JSON's types."""
    return [as_json(line) for line in lines]


def _attributes(of: Any, names: Sequence[str]) -> Plain:
    return {name: as_json(getattr(of, name)) for name in names}


def _card(answer: Answer) -> Plain:
    """The answer's facts, and the same in words: headline and rows in their order."""
    found = shown(answer)
    view = answer.now.find(answer.taken_key or "")
    card: Plain = {
        "headline": headline(answer),
        "rows": lines_as_json(rows(answer)),
        "below": lines_as_json(below(answer)),
        "taken": None,
        **_attributes(answer, CARD_FACTS),
        "next": as_json(next_of(answer)),
        "gain": as_json(found),
        "cost": None,
        "certainty": None,
    }
    if view is not None and answer.lacking is None:
        card["taken"] = as_json(NetworkNames(view.key, view.label, view.placement))
    if found is None:
        return card
    if found.latency is not None:
        machine = answer.now.latency
        card["cost"] = {
            "of": as_json(found.of),
            **_attributes(found.latency, ("ratio", "low", "high")),
            "before_ms": found.latency.reference_ms,
            "after_ms": found.latency.ms,
            "machine": "" if machine is None else machine.machine,
            "measured": found.latency.measured,
        }
    estimate = found.view and found.view.estimates.get(answer.now.metric)
    card["certainty"] = {
        "probability": found.estimated and found.estimated.probability,
        "runs": estimate.seeds if estimate else 0,
        "training": answer.training and answer.training.said,
        "test": as_json(answer.test),
        "confirmed": answer.confirmed,
    }
    return card


def _recommendation(answer: Answer) -> Plain:
    """What is chosen of the placements, with the larger network beside it."""
    view = answer.now.bare if answer.chosen is None else answer.chosen.view
    assert view is not None
    return {
        "key": view.key,
        "placement": str(view.placement),
        "metric": answer.now.metric,
        "estimate": as_json(view.estimates[answer.now.metric]),
        "latency": as_json(view.latency),
        "rule": rule_text(answer),
        "gain": None if answer.chosen is None else as_json(answer.chosen.gain),
        "worth": answer.worth,
        "best_bet": as_json(answer.bet),
        "capacity": as_json(answer.larger),
        "in_reach": answer.in_reach,
        "answer": answer_lines(answer),
        "why": reasons(answer),
    }
