"""An answer and its study as JSON: the data, and beside it the same in words."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from nas_attn.answer.answer import Answer
from nas_attn.answer.answer_text import answer_lines, below, rows
from nas_attn.answer.choosing import Chosen, choice_sentences
from nas_attn.answer.headline import headline
from nas_attn.answer.reasons import reasons, rule_text
from nas_attn.answer.recommending import Comparison, Recommendation
from nas_attn.answer.snapshot import Snapshot
from nas_attn.space.placement import Placement
from nas_attn.system.wrapping import Line

Plain = dict[str, Any]
_FACTS = (
    "verdict",
    "taken",
    "drawing",
    "gain",
    "cost",
    "certainty",
    "next",
    "faster",
    "slower",
    "longer",
    "means",
    "attention",
    "also",
)
"""Of the answer; what else it has stands in the snapshot."""


def answer_as_json(answer: Answer) -> Plain:
    """An answer and its study in JSON's types; NaN and infinity become None."""
    now = answer.now
    own = {
        "recipe": now.recipe.model_dump(mode="json"),
        "cautions": [caution.text for caution in now.cautions],
        "images": now.images.described() if now.images else [],
    }
    plain: Plain = {}
    for item in dataclasses.fields(now):
        if item.name in own:
            plain[item.name] = own[item.name]
        elif item.compare:
            plain[item.name] = as_json(getattr(now, item.name))
        # its place among the keys
        if item.name == "noise":
            plain["recommendation"] = None
    plain["front"] = [view.key for view in now.front]
    plain["card"] = _card(answer)
    best = answer.best
    plain["recommendation"] = None if best is None else _recommendation(answer, best)
    # no program shall take it for a recommendation
    if now.brief is not None:
        plain["early"] = plain.pop("recommendation")
        plain["recommendation"] = None
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


def _card(answer: Answer) -> Plain:
    """The answer's facts, and the same in words: headline and rows in their order."""
    facts = {name: as_json(getattr(answer, name)) for name in _FACTS}
    certainty = answer.certainty
    if certainty is not None and certainty.training is not None:
        facts["certainty"]["training"] = certainty.training.said
    return {
        "headline": headline(answer),
        "rows": lines_as_json(rows(answer)),
        "below": lines_as_json(below(answer)),
        **facts,
    }


def lines_as_json(lines: Sequence[Line]) -> list[Plain]:
    """Lines of an answer in JSON's types."""
    return [{"label": line.label, "text": line.text, "command": line.command} for line in lines]


def _recommendation(answer: Answer, best: Recommendation) -> Plain:
    return {
        "key": best.key,
        "placement": str(best.placement),
        "metric": best.metric,
        "estimate": as_json(best.estimate),
        "latency": as_json(best.latency),
        "rule": rule_text(best),
        "against_none": _comparison(best.against_none),
        "against_uniform": _comparison(best.against_uniform),
        "worth": None if best.worth is None else best.worth.size,
        "best_bet": _comparison(best.best_bet),
        "more_accurate": _comparison(best.more_accurate),
        "cheaper": _comparison(best.cheaper),
        "answer": answer_lines(answer),
        "why": reasons(answer),
        "capacity": None if best.capacity is None else _comparison(best.capacity.lead),
        "in_reach": best.in_reach,
        "instead": best.instead,
    }


def _comparison(comparison: Comparison | None) -> Plain | None:
    if comparison is None:
        return None
    return {
        "key": comparison.key,
        "name": comparison.name,
        "gain": as_json(comparison.gain),
        "latency_ratio": as_json(comparison.latency_ratio),
    }
