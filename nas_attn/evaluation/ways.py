"""Ways of training: the recipe's own, its target, and others that a study keeps by what they say."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from nas_attn.errors import StudyError
from nas_attn.recipe import DataSection, Recipe, TrainingSection
from nas_attn.recipe_reading import frozen_recipe
from nas_attn.storage import SEARCH, StudyStore

TARGET = "target"
"""The way that the recipe's `[target]` says."""
_OF_CANDIDATES = frozenset(
    {
        "start",
        "weights",
        "init",
        "rungs",
        "finetune_learning_rate",
        "attention_learning_rate",
        "backbone_learning_rate",
        "backbones",
        "seeds",
        "evaluator",
    }
)
"""Settings of the training that a backbone does not depend on."""


def keep_way(store: StudyStore, training: TrainingSection, data: DataSection) -> str:
    """The name of a way of training; the study keeps what it says, so that any worker can train so."""
    content = {"training": training.model_dump(mode="json"), "data": _data(data)}
    if content == _said(store, SEARCH):
        return SEARCH
    if content == _said(store, TARGET):
        return TARGET
    text = json.dumps(content, sort_keys=True)
    name = f"own-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    if store.ways.get(name) is None:
        store.ways.put(name, text)
    return name


def way_recipe(store: StudyStore, way: str) -> Recipe:
    """The study's recipe with the training and the data of one of its ways.

    Raises:
        StudyError: the study has no such way.
    """
    recipe = frozen_recipe(store.recipe, where=f"study '{store.name}'")
    if way == SEARCH:
        return recipe
    if way == TARGET:
        return recipe.model_copy(update={"training": recipe.target_training})
    text = store.ways.get(way)
    if text is None:
        raise StudyError(f"study '{store.name}' has lost its training protocol '{way}': restore the database")
    content = json.loads(text)
    return recipe.model_copy(
        update={
            "training": TrainingSection.model_validate(content["training"]),
            "data": DataSection.model_validate(content["data"]),
        }
    )


def backbone_way(store: StudyStore, way: str) -> str:
    """The way of training under which the backbones of `way` are kept: one for all that train them alike."""
    mine = _backbone_identity(way_recipe(store, way))
    if way == SEARCH or mine == _backbone_identity(way_recipe(store, SEARCH)):
        return SEARCH
    name = f"backbone-{hashlib.sha256(mine.encode()).hexdigest()[:12]}"
    if store.ways.get(name) is None:
        store.ways.put(name, store.ways.get(way) or json.dumps(_said(store, way), sort_keys=True))
    return name


def backbone_number(recipe: Recipe, seed: int) -> int:
    """The backbone that a run of the search with this seed starts from."""
    training = recipe.training
    return seed % training.backbones if training.start == "backbone" else 0


def _said(store: StudyStore, way: str) -> Mapping[str, Any]:
    recipe = way_recipe(store, way)
    return {"training": recipe.training.model_dump(mode="json"), "data": _data(recipe.data)}


def _data(section: DataSection) -> Mapping[str, Any]:
    return section.model_dump(mode="json", exclude={"memory_share", "workers"})


def _backbone_identity(recipe: Recipe) -> str:
    """All that determines a backbone but its number."""
    training = recipe.training.model_dump(mode="json", exclude=set(_OF_CANDIDATES))
    return json.dumps([recipe.backbone.model_dump(mode="json"), _data(recipe.data), training], sort_keys=True)
