"""Training protocols: the recipe's own, its target, and others that a study keeps by their content."""

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
"""The protocol of the recipe's `[target]`."""
_RATES = {"finetune_learning_rate", "attention_learning_rate", "backbone_learning_rate"}
_OF_CANDIDATES = _RATES | {"start", "weights", "init", "rungs", "backbones", "seeds", "evaluator"}
"""Settings of the training that a backbone does not depend on."""


def keep_protocol(store: StudyStore, training: TrainingSection, data: DataSection) -> str:
    """The name of a training protocol, which the study keeps, so that any worker can train by it."""
    content = _content(training, data)
    for name in (SEARCH, TARGET):
        recipe = protocol_recipe(store, name)
        if content == _content(recipe.training, recipe.data):
            return name
    text = json.dumps(content, sort_keys=True)
    name = f"own-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    if store.ways.get(name) is None:
        store.ways.put(name, text)
    return name


def protocol_recipe(store: StudyStore, way: str) -> Recipe:
    """The study's recipe with the training and the data of one of its protocols.

    Raises:
        StudyError: the study has no such protocol.
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
    training, data = TrainingSection.model_validate(content["training"]), DataSection.model_validate(content["data"])
    return recipe.model_copy(update={"training": training, "data": data})


def backbone_protocol(store: StudyStore, way: str) -> str:
    """The protocol under which the backbones of `way` are kept: one for all that train them alike."""
    recipe = protocol_recipe(store, way)
    mine = _backbone_identity(recipe)
    if way == SEARCH or mine == _backbone_identity(protocol_recipe(store, SEARCH)):
        return SEARCH
    name = f"backbone-{hashlib.sha256(mine.encode()).hexdigest()[:12]}"
    if store.ways.get(name) is None:
        store.ways.put(name, json.dumps(_content(recipe.training, recipe.data), sort_keys=True))
    return name


def backbone_number(recipe: Recipe, seed: int) -> int:
    """The backbone that a run of the search with this seed starts from."""
    training = recipe.training
    return seed % training.backbones if training.start == "backbone" else 0


def _content(training: TrainingSection, data: DataSection) -> Mapping[str, Any]:
    return {"training": training.model_dump(mode="json"), "data": _data(data)}


def _data(section: DataSection) -> Mapping[str, Any]:
    return section.model_dump(mode="json", exclude={"memory_share", "workers"})


def _backbone_identity(recipe: Recipe) -> str:
    """All that determines a backbone but its number."""
    training = recipe.training.model_dump(mode="json", exclude=_OF_CANDIDATES)
    return json.dumps([recipe.backbone.model_dump(mode="json"), _data(recipe.data), training], sort_keys=True)
