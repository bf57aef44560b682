"""What trains and scores a recipe's networks in place of our own trainer."""

from __future__ import annotations

from nas_attn.errors import RecipeError
from nas_attn.recipe import tasks
from nas_attn.recipe.recipe import Recipe
from nas_attn.system.importing import load_object
from nas_attn.training.evaluators import COMMAND, Evaluator
from nas_attn.training.programs import program


def find_evaluator(name: str) -> Evaluator:
    """The evaluator of a recipe: a function, or a command (`training.programs`). Raises
    RecipeError: it cannot be imported, called or found.
    """
    if name.startswith(COMMAND):
        return program(name)
    evaluator: Evaluator = load_object(name, what="training.evaluator", error=RecipeError)
    return evaluator


def evaluator_of(recipe: Recipe) -> Evaluator | None:
    """The evaluator that a recipe names, else its task's; None: our own trainer trains. Raises
    RecipeError: it cannot be imported, called or found. Raises DataError: it lacks its data.
    """
    if recipe.training.evaluator is not None:
        return find_evaluator(recipe.training.evaluator)
    make = tasks.of(recipe).row.evaluator
    evaluator: Evaluator | None = make()(recipe) if make else None
    return evaluator
