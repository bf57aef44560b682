"""The validation images on which the recommended network's numbers are off most."""

from __future__ import annotations

from collections.abc import Iterator

from nas_attn.answer.answer import Answer
from nas_attn.answer.per_image import Mistakes
from nas_attn.recipe import tasks
from nas_attn.report.html import ShownImage
from nas_attn.report.maps import label_of, picture, some_of
from nas_attn.report.page_tables import role
from nas_attn.storage.opening import OpenStudy
from nas_attn.training.images import compare
from nas_attn.training.tasks.data import data_of


def largest_errors(opened: OpenStudy, answer: Answer, mistakes: Mistakes) -> Iterator[ShownImage]:
    """Draws these images, each with its true number and by how much each network is off.

    Args:
        opened: the study.
        answer: as of now.
        mistakes: of its networks.

    Yields:
        The images, the worst first; none for classes, or if nas_attn does not load the data.

    Raises:
        NasAttnError: the images are not here, or others.
    """
    recipe = opened.recipe
    dataset = None
    if mistakes.worst:
        dataset = data_of(tasks.of(recipe)).load(recipe, device="cpu")
        compare(opened.store, recipe, dataset)
    if dataset is None:
        return
    numbered = dataset.validation if dataset.whole is None else dataset.whole()
    shown = some_of(numbered, [error.image for error in mistakes.worst])
    stored, truth = next(shown.stored(len(mistakes.worst)))
    names = [role(answer, key) for key in mistakes.keys]
    for error, one, y in zip(mistakes.worst, stored, truth, strict=True):
        off = [f"{name}: off by {by:.3g}" for name, by in zip(names, error.off, strict=True)]
        yield ShownImage(picture(one), [label_of(dataset, y), *off])
