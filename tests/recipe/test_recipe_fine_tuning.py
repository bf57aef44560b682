"""How trained weights are fine-tuned, where the recipe does not say it."""

from typing import Any

import pytest

from nas_attn.recipe.reading import frozen_recipe, recipe_from
from nas_attn.recipe.recipe import Recipe, TrainingSection
from nas_attn.recipe.tables import FINE_TUNING_PRESET, PRESETS

USUAL = TrainingSection.model_validate({"preset": FINE_TUNING_PRESET})
KEYS = tuple(PRESETS[FINE_TUNING_PRESET])


def read(training: dict[str, Any], data: str = "folder:photos", **sections: Any) -> Recipe:
    table = {
        "name": "study",
        "space": "small",
        "backbone": {"name": "torchvision:resnet18"},
        "data": {"name": data, "size": 64},
        "training": training,
        "target": {"start": "pretrained", "weights": "default"},
        **sections,
    }
    return recipe_from(table, where="study.toml")


def settings(training: TrainingSection) -> list[object]:
    return [getattr(training, key) for key in KEYS]


def test_a_start_from_weights_alone_is_the_preset_in_search_and_target() -> None:
    recipe = read({})
    assert settings(recipe.training) == settings(recipe.target_training) == settings(USUAL)
    assert recipe.training.optimizer == PRESETS[FINE_TUNING_PRESET]["optimizer"]
    assert frozen_recipe(recipe.to_json(), where="study").model_dump() == recipe.model_dump()
    alone = read({"start": "pretrained", "weights": "default"}, target={"start": "scratch"})
    assert settings(alone.training) == settings(USUAL)


def test_keys_of_the_recipe_come_first() -> None:
    given = {"batch_size": 7, "finetune_learning_rate": 0.004, "augment": []}
    training = read(given).training
    assert (training.batch_size, training.finetune_learning_rate, training.augment) == (
        7,
        0.004,
        [],
    )
    assert training.optimizer == USUAL.optimizer
    target = {"start": "pretrained", "weights": "default", "learning_rate": 0.002}
    training = read({}, target=target).training
    assert (training.finetune_learning_rate, training.optimizer) == (0.002, USUAL.optimizer)


@pytest.mark.parametrize(
    "training",
    [
        {"optimizer": "SGD"},
        {"learning_rate": 0.05},
        {"evaluator": "mine:train"},
        {"preset": "cifar"},
    ],
)
def test_who_says_how_weights_are_changed_gets_no_preset(training: dict[str, Any]) -> None:
    alone = {**training, "start": "pretrained", "weights": "default"}
    found = read(training | {"rungs": [10]}).training
    assert found == TrainingSection.model_validate(alone)


def test_pictures_of_text_are_not_mirrored_and_nothing_changes_from_scratch() -> None:
    assert read({}, data="mnist").training.augment == []
    scratch = read({}, target={"start": "scratch"}).training
    assert settings(scratch) == settings(TrainingSection())
