"""For how many epochs a target is usually trained, and the lengths that are tried beside it."""

from __future__ import annotations

from collections.abc import Iterator

from nas_attn.answer.modelling import searched_as_target
from nas_attn.answer.plans import LongerTarget
from nas_attn.recipe import tables, tasks
from nas_attn.recipe.recipe import Recipe
from nas_attn.recipe.task import Pace, Task
from nas_attn.searching.prepare.timing import WITH_CONTROLS, Speed, least_s

# of each length: with one, a lucky training decides
SEEDS_PER_LENGTH = 2
# with fewer, an epoch has few steps
FEW_TRAINING_IMAGES = 2000
# of a search's time, at most, for finding the length
LENGTH_SHARE = 0.4
# times the usual length: on 3,200 photographs, from random weights, the three networks of libraries
# that were trained so long gained clearly up to it (research/notes/advice.md)
OFTEN_NEEDED = 4


def usual_epochs(recipe: Recipe, images: float) -> int:
    """How long a network is usually trained on so many images, with which the trials begin."""
    pretrained = recipe.target.start == "pretrained"
    return usual_length(tasks.of(recipe), recipe.data.name, images, pretrained=pretrained)


def usual_length(task: Task, data: str, images: float, *, pretrained: bool) -> int:
    """The same of a task and a data set's name. `pretrained`: from trained weights."""
    pace = usual_pace(task, data, images)
    if pretrained:
        return pace.tuned()
    return pace.epochs


def usual_pace(task: Task, data: str, images: float) -> Pace:
    """Epochs and batch of a training on so many images of a data set."""
    if task.paced_by_images and 0 < images < FEW_TRAINING_IMAGES:
        return task.pace_of_few(images)
    row = tables.find_data_set(data)
    return task.pace(data, small=row is not None and row.small)


def shorter_lengths(epochs: int, *, with_itself: bool) -> Iterator[int]:
    """The length itself, a half of it, a quarter …"""
    length = epochs if with_itself else epochs // 2
    while length > 1:
        yield length
        length //= 2
    yield 1


def lengths_s(speed: Speed, *lengths: int) -> float:
    """Seconds that the bare network's trainings of these lengths take."""
    return SEEDS_PER_LENGTH * sum(lengths) * speed.epoch_s / speed.workers


def usual_found_s(speed: Speed, usual: int) -> float:
    """Seconds of finding that the usual length will do: it is compared with twice as long."""
    return lengths_s(speed, usual, 2 * usual)


def found_length_s(speed: Speed, usual: int, needed: int) -> float:
    """The shortest time of a search that begins with the usual length, finds how many epochs
    are needed, and trains for so many.
    """
    tried = [usual]
    while tried[-1] < 2 * needed:
        tried.append(2 * tried[-1])
    return least_s(speed, needed) + lengths_s(speed, *tried)


def longer_target(
    speed: Speed, usual: int, *, images: float, seconds: float, pretrained: bool
) -> LongerTarget | None:
    """What it takes if the usual length is too short, as it often is from random weights; None:
    that is not known of so few training images, or fits into these seconds, too.
    """
    if pretrained or images < FEW_TRAINING_IMAGES:
        return None
    epochs = OFTEN_NEEDED * usual
    needed_s = found_length_s(speed, usual, epochs)
    return LongerTarget(epochs, needed_s) if needed_s > seconds else None


def control_lengths(recipe: Recipe, trials: int) -> list[int]:
    """For how many epochs the bare network is trained beside the search's own runs."""
    searched = recipe.training.rungs[-1]
    target = recipe.target_training.rungs[-1]
    # a user's own, which may cost anything
    if recipe.training.evaluator is not None:
        return []
    if recipe.training.start == recipe.target.start and searched < target:
        # found ones are tried already
        if recipe.target.found:
            return []
        return [target]
    asked = recipe.search.baselines == "all" and recipe.search.confirm_seeds > 0
    if not asked or trials < WITH_CONTROLS:
        return []
    if searched_as_target(recipe):
        return [2 * target]
    return [target, 2 * target]
