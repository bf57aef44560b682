"""A study and its answer as JSON: the data, and beside it the same in words."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from enum import Enum
from typing import Any

from pydantic import BaseModel

from nas_attn.answer.card import Card, card_of
from nas_attn.answer.choosing import Chosen
from nas_attn.answer.recommendation import Comparison, Recommendation
from nas_attn.answer.sanity import Constant, WeakRung
from nas_attn.answer.snapshot import Snapshot
from nas_attn.recipe.recipe import Recipe
from nas_attn.space.placement import Placement
from nas_attn.words.card import CardText, card_lines, card_text
from nas_attn.words.choosing import choice_rule, choice_sentences
from nas_attn.words.recommendation import reasons, rule_text
from nas_attn.words.remarks import caution_text, constant_sentence, weak_rung_sentence

Plain = dict[str, Any]
_CARD_FACTS = (
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
)
"""Of the card; what else it has stands in the snapshot."""


def snapshot_as_json(now: Snapshot) -> Plain:
    """A snapshot in JSON's types; NaN and infinity become None. `reliability`: of one run, and of
    the mean of three.
    """
    plain: Plain = {
        item.name: as_json(getattr(now, item.name))
        for item in dataclasses.fields(now)
        if item.compare
    }
    plain["recipe"] = now.recipe.model_dump(mode="json")
    plain["front"] = [view.key for view in now.front]
    plain["constants"] = [constant_as_json(now.recipe, same) for same in now.constants]
    plain["weak_rungs"] = [_weak_rung(now.recipe, weak) for weak in now.weak_rungs]
    plain["cautions"] = [caution_text(caution) for caution in now.cautions]
    plain["images"] = now.images.described() if now.images else []
    text = card_text(now)
    plain["card"] = card_as_json(card_of(now), text)
    best = now.recommendation
    plain["recommendation"] = None if best is None else _recommendation(best, text)
    # no program shall take it for a recommendation
    if now.brief is not None:
        plain["early"] = plain.pop("recommendation")
        plain["recommendation"] = None
    for metric, floor in now.noise.items():
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
        "rule": choice_rule(now, choice),
        "sentences": choice_sentences(now, choice),
    }


def constant_as_json(recipe: Recipe, constant: Constant) -> Plain:
    """A metric that is the same for all candidates."""
    return {
        "metric": constant.metric,
        "value": as_json(constant.value),
        "candidates": constant.candidates,
        "runs": constant.runs,
        "sentence": constant_sentence(recipe, constant),
    }


def _weak_rung(recipe: Recipe, weak: WeakRung) -> Plain:
    return {
        "rung": weak.rung,
        "epochs": weak.epochs,
        "reliability": as_json(weak.reliability),
        "candidates": weak.candidates,
        "sentence": weak_rung_sentence(recipe, weak),
    }


def as_json(value: Any) -> Any:
    """Data classes, mappings and sequences in JSON's types; placements in notation."""
    if isinstance(value, BaseModel):
        return None
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


def card_as_json(card: Card, text: CardText) -> Plain:
    """The card's facts, and the same in words: headline and rows in their order."""
    facts = {name: as_json(getattr(card, name)) for name in _CARD_FACTS}
    certainty = card.certainty
    if certainty is not None and certainty.training is not None:
        facts["certainty"]["training"] = certainty.training.said
    return {
        "headline": text.headline,
        "rows": [dataclasses.asdict(row) for row in text.rows],
        "below": [dataclasses.asdict(row) for row in text.below],
        **facts,
    }


def _recommendation(best: Recommendation, text: CardText) -> Plain:
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
        "answer": card_lines(text),
        "why": reasons(best),
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
