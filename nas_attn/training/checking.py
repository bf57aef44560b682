"""Whether a recipe's trainings can begin, before anything is trained."""

from __future__ import annotations

from nas_attn.data.dataset import Dataset
from nas_attn.recipe.recipe import Recipe
from nas_attn.recipe.task import MIXING
from nas_attn.training.learning import learnt_of
from nas_attn.training.parameters import check_training


def check_trainings(recipe: Recipe, dataset: Dataset | None) -> None:
    """Makes the transforms, optimizers and schedules of search and target; DataError, RecipeError.
    Nothing is to be checked for an evaluator, which trains in its own way.
    """
    if dataset is None or recipe.training.evaluator is not None:
        return
    for training in (recipe.training, recipe.target_training):
        dataset.train.check(training.augmentation)
        check_training(training)
        learnt = learnt_of(dataset.task, len(dataset.classes), training.loss)
        if any(MIXING & augment.names for augment in training.augmentation):
            learnt.require_shares()
