"""Validation images for the report and the notebook; true and predicted masks and boxes are drawn
over them.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor, nn

from nas_attn.answer.per_image import Picture
from nas_attn.data.dataset import SHOWN_SCORE, BoxedSplit, Dataset, Split, TargetSplit
from nas_attn.data.inventory import NOT_COUNTED
from nas_attn.recipe import tasks
from nas_attn.recipe.recipe import Recipe
from nas_attn.storage.store import StudyStore
from nas_attn.training.images import compare
from nas_attn.training.learnt import answer_of
from nas_attn.training.numerics import PLAIN
from nas_attn.training.tasks.data import data_of
from nas_attn.training.tasks.target_scores import NumbersOfImage
from nas_attn.training.trainer import Trainer

# pixels of the longer side, at most
PICTURE_SIDE = 96
# of images with something drawn over them
DRAWN_OVER_SIDE = 144
OUTLINES = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (213, 94, 0),
    (240, 228, 66),
)
"""Colours of the classes in turn, which colour-blind people can tell apart (Okabe and Ito 2008)."""


def pictures(
    recipe: Recipe,
    images: Iterable[int],
    networks: Mapping[str, nn.Module] | None = None,
    *,
    store: StudyStore | None = None,
) -> dict[int, tuple[Picture, ...]]:
    """Draws validation images: each image, with what networks say of its numbers; for masks and
    boxes one with the true ones, then one per network with its own.

    Args:
        recipe: of the study.
        images: numbers of validation images, among all that are divided where each seed divides
            them anew.
        networks: name -> network, whose masks, boxes or numbers are shown by the name.
        store: of the study that the images must be those of; None: not compared.

    Returns:
        Number of an image -> its pictures; empty if nas_attn does not load the data.

    Raises:
        DataError: loading failed, or the images are others.
    """
    wanted = sorted(set(images))
    dataset = None
    if wanted:
        dataset = data_of(tasks.of(recipe)).load(recipe, device="cpu")
    if store is not None:
        compare(store, recipe, dataset)
    if dataset is None:
        return {}
    numbered = dataset.validation if dataset.whole is None else dataset.whole()
    if wanted[-1] >= len(numbered):
        return {}
    split = some_of(numbered, wanted)
    stored, y = next(split.stored(len(wanted)))
    kind = dataset.task.labels
    if kind not in ("masks", "boxes"):
        lines = [[label_of(dataset, label)] for label in y]
        for name, network in (networks or {}).items() if kind == "numbers" else ():
            said = _found(network, dataset, split, recipe)
            for under, numbers in zip(lines, said, strict=True):
                under.append(f"{name} says {label_of(dataset, numbers)}")
        drawn = [
            [Picture(png(shown_image(one), PICTURE_SIDE), "\n".join(under))]
            for one, under in zip(stored, lines, strict=True)
        ]
    else:
        drawn = [
            [Picture(png(_over(one, truth, kind), DRAWN_OVER_SIDE), "true")]
            for one, truth in zip(stored, y, strict=True)
        ]
        for name, network in (networks or {}).items():
            for row, one, masks in zip(
                drawn, stored, _found(network, dataset, split, recipe), strict=True
            ):
                row.append(Picture(png(_over(one, masks, kind), DRAWN_OVER_SIDE), name))
    return {number: tuple(row) for number, row in zip(wanted, drawn, strict=True)}


def label_of(dataset: Dataset, y: Tensor) -> str:
    """An image's class, labels or numbers, to stand under it."""
    if dataset.task.labels == "classes":
        return dataset.classes[int(y)]
    values = zip(dataset.classes, y.tolist(), strict=True)
    if dataset.task.labels == "numbers":
        return ", ".join(f"{name} {value:.4g}" for name, value in values)
    return ", ".join(name for name, value in values if value) or "no label"


def some_of(split: Split, numbers: Sequence[int]) -> Split:
    """A split of a few of its images."""
    index = torch.tensor(numbers)
    more: dict[str, Any] = {}
    if isinstance(split, BoxedSplit):
        more["boxes"] = split.boxes[index]
    if isinstance(split, TargetSplit):
        more["targets"] = split.targets[index]
    return replace(
        split, pixels=split.pixels.subset(index.numpy()), labels=split.labels[index], **more
    )


@torch.no_grad()
def _found(network: nn.Module, dataset: Dataset, split: Split, recipe: Recipe) -> list[Tensor]:
    """For each image a predicted mask (H, W), boxes (M, 5) or numbers (K,), in the format of its
    labels, as an exported file finds it.
    """
    trainer = Trainer(recipe.training, dataset, device="cpu", arithmetic=PLAIN)
    network.eval()
    answers: list[Tensor] = []
    # one by one: a detector's answers may take much memory
    for x, _ in split.batches(1):
        answer: Any = trainer.output(network, x)
        if dataset.task.labels == "masks":
            logits: Any = answer_of(answer)
            answers.append(logits.argmax(1)[0])
        elif isinstance(trainer.learnt, NumbersOfImage):
            answers.append(trainer.learnt.in_units(answer)[0])
        else:
            sure = answer[0]["scores"] >= SHOWN_SCORE
            answers.append(
                torch.cat(
                    [answer[0]["labels"][sure, None].float(), answer[0]["boxes"][sure].float()], 1
                )
            )
    return answers


def _over(stored: Tensor, y: Tensor, kind: str) -> Image.Image:
    image = shown_image(stored).convert("RGB")
    if kind == "masks":
        return _masked(image, y.numpy())
    return _boxed(image, y.tolist())


def _masked(image: Image.Image, mask: NDArray[Any]) -> Image.Image:
    """Draws a mask; class 0, mostly the background, is left as it is."""
    pixels = np.asarray(image, float)
    colours = np.array(OUTLINES, float)
    over = (mask > 0) & (mask != NOT_COUNTED)
    pixels = np.where(
        over[..., None], 0.45 * pixels + 0.55 * colours[(mask - 1) % len(colours)], pixels
    )
    return Image.fromarray(pixels.astype(np.uint8))


def _boxed(image: Image.Image, boxes: Iterable[Sequence[float]]) -> Image.Image:
    pen = ImageDraw.Draw(image)
    width = max(1, max(image.size) // 100)
    for label, left, top, right, bottom in boxes:
        if label > 0 and right > left and bottom > top:
            pen.rectangle(
                (left, top, right, bottom),
                outline=OUTLINES[int(label - 1) % len(OUTLINES)],
                width=width,
            )
    return image


def shown_image(stored: Tensor) -> Image.Image:
    """An image for display; if it does not have three channels, its first one."""
    shown = stored.permute(1, 2, 0) if len(stored) == 3 else stored[0]
    if shown.dtype != torch.uint8:
        # from the darkest value to the brightest
        shown = shown - shown.min()
        shown = (shown * (255 / shown.max().clamp(min=1e-12))).to(torch.uint8)
    return Image.fromarray(shown.numpy())


def png(image: Image.Image, side: int) -> bytes:
    """An image as a file; its longer side has at most `side` pixels."""
    image.thumbnail((side, side))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
