"""Validation images in the report: where the recommended network's attention is strong, beside its
class activation maps; and those on which its numbers are off most.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Sequence

import torch
from PIL import Image
from PIL.ImageOps import contain
from torch import Tensor, nn

from nas_attn.answer.answer import Answer
from nas_attn.answer.per_image import Mistakes
from nas_attn.answer.snapshot import CandidateView
from nas_attn.attachment.containers import CHILD
from nas_attn.attachment.gate_readings import gates
from nas_attn.data.dataset import Dataset
from nas_attn.errors import DataError, first_line
from nas_attn.export.kept_weights import searched_run, trained_model
from nas_attn.report.columns import named
from nas_attn.report.html import Maps, ShownImage
from nas_attn.space.placement import Point, ResolvedPlacement, Site
from nas_attn.storage.artifacts import kept_runs, weights_run
from nas_attn.storage.opening import OpenStudy
from nas_attn.storage.rows import Run
from nas_attn.training.images import compare
from nas_attn.training.learnt import answer_of
from nas_attn.training.plan import study_plan
from nas_attn.training.tasks.data import reading_of

MAPPED_IMAGES = 4
# places of attention that are shown, the first ones
MAPPED_PLACES = 4
# pixels of a picture's longer side
SIDE = 112
HEAT_COLOUR = (213, 94, 0)
# share of the colour where a map is largest
MOST_COLOUR = 0.75


def maps(opened: OpenStudy, taken: CandidateView) -> Maps:
    """Draws a few validation images: each, its class activation map, and where attention is strong.

    Args:
        opened: the study.
        taken: the recommended network.

    Returns:
        The pictures, or why a reader has none.
    """
    run = next(iter(kept_runs(opened.store, taken.key)), None)
    if run is None and not opened.store.checkpoints(weights_run(taken.key)):
        return Maps(
            missing=f"Its weights are not here: after `nas-attn retrain {opened.store.name}` the"
            " next report shows where its attention is strong."
        )
    try:
        return Maps(_drawn(opened, taken, run))
    except Exception as error:
        # whatever a user's own model may raise
        return Maps(missing=f"No maps of attention could be drawn here: {first_line(error)}.")


def _drawn(opened: OpenStudy, taken: CandidateView, run: Run | None) -> list[list[ShownImage]]:
    """The pictures of each image. `run`: that gave the weights; None: the search's."""
    plan = study_plan(opened.store)
    model = trained_model(opened, plan, taken, run)
    trained = run or searched_run(opened.store, taken)
    dataset = _dataset(opened)
    if trained is not None:
        dataset = dataset.of_seed(trained.seed)
    # from the first class to the last
    numbers = torch.linspace(0, len(dataset.validation) - 1, MAPPED_IMAGES).int().tolist()
    shown = dataset.validation.of_images(numbers)
    stored, truth = next(shown.stored(MAPPED_IMAGES))
    x_NCHW, _ = next(shown.batches(MAPPED_IMAGES))
    resolved = plan.resolved(taken.placement)
    heats = _changes(model, resolved, x_NCHW)
    point = last_map(plan.sites if resolved.other is None else plan.like(resolved.other).found)
    if point is not None:
        labels_N = truth if dataset.task.labels == "classes" else None
        heats.insert(0, ("class", class_activation(model, point, x_NCHW, labels_N)))
    return [
        [
            ShownImage(picture(one), [label_of(dataset, y)]),
            *(ShownImage(picture(one, heat[at]), said.splitlines()) for said, heat in heats),
        ]
        for at, (one, y) in enumerate(zip(stored, truth, strict=True))
    ]


def _dataset(opened: OpenStudy) -> Dataset:
    """The study's images. NasAttnError: they are not here, or others."""
    dataset = reading_of(opened.recipe).load(opened.recipe, device="cpu")
    compare(opened.store, opened.recipe, dataset)
    if dataset is None:
        raise DataError("nas_attn does not load them")
    return dataset


def last_map(sites: Sequence[Site]) -> Point | None:
    """The backbone's last map; None if no site has it."""
    wholes = [site for site in sites if site.role == "backbone" and "stage" in site.positions]
    return wholes[-1].at("stage")[-1] if wholes else None


def class_activation(
    model: nn.Module, point: Point, x_NCHW: Tensor, labels_N: Tensor | None
) -> Tensor:
    """Finds where a map speaks for each image's class, strongest label or number: Grad-CAM
    (Selvaraju et al. 2017), which is the class activation map where pooling and a linear classifier
    follow the map.

    Args:
        model: in evaluation mode.
        point: of the map.
        x_NCHW: images, normalised.
        labels_N: int64, their classes; None: the largest output counts.

    Returns:
        `(N, H, W)`, of the map's size, 0 to 1 for each image.
    """
    seen: list[Tensor] = []
    map_ = model.get_submodule(point.path)
    with map_.register_forward_hook(lambda _module, _args, result: seen.append(result)):
        logits_NK = answer_of(model(x_NCHW.clone().requires_grad_()))
    assert isinstance(logits_NK, Tensor)
    if labels_N is None:
        labels_N = logits_NK.argmax(1)
    score = logits_NK.gather(1, labels_N[:, None]).sum()
    (slope,) = torch.autograd.grad(score, seen[-1])
    channels = 3 if slope.shape[3] == point.channels != slope.shape[1] else 1
    pixels = [axis for axis in (1, 2, 3) if axis != channels]
    heat_NHW = (seen[-1].detach() * slope.mean(pixels, keepdim=True)).sum(channels).relu()
    return heat_NHW / heat_NHW.amax((1, 2), keepdim=True).clamp_min(torch.finfo().tiny)


def _changes(
    model: nn.Module, resolved: ResolvedPlacement, x_NCHW: Tensor
) -> list[tuple[str, Tensor]]:
    """What stands under the pictures of a place, and how much it changes its map, `(N, H, W)`, 0 to
    1 over all images.
    """
    choices = {point.path: of_point for point, of_point in resolved.modules}
    found = []
    for site, read in list(gates(model, x_NCHW).items())[:MAPPED_PLACES]:
        low, high = read.change.aminmax()
        host, _, number = read.path.partition(f".{CHILD}.")
        label = f"{site}: {choices[host][int(number)].type}\nchanges {low:.2f} to {high:.2f}"
        found.append((label, (read.change - low) / (high - low).clamp_min(torch.finfo().tiny)))
    return found


def largest_errors(opened: OpenStudy, answer: Answer, mistakes: Mistakes) -> Iterator[ShownImage]:
    """Draws the images on which numbers are off most, each with its true number and by how much
    each network is off.

    Args:
        opened: the study.
        answer: as of now.
        mistakes: of its networks.

    Yields:
        The images, the worst first.

    Raises:
        NasAttnError: the images are not here, or others.
    """
    dataset = _dataset(opened)
    numbered = dataset.validation if dataset.whole is None else dataset.whole()
    shown = numbered.of_images([error.image for error in mistakes.worst])
    stored, truth = next(shown.stored(len(mistakes.worst)))
    names = [named(answer, key) for key in mistakes.keys]
    for error, one, y in zip(mistakes.worst, stored, truth, strict=True):
        off = [f"{name}: off by {by:.3g}" for name, by in zip(names, error.off, strict=True)]
        yield ShownImage(picture(one), [label_of(dataset, y), *off])


def label_of(dataset: Dataset, y: Tensor) -> str:
    """An image's class, labels or numbers, to stand under it."""
    if dataset.task.labels == "classes":
        return dataset.classes[int(y)]
    values = zip(dataset.classes, y.tolist(), strict=True)
    if dataset.task.labels == "numbers":
        known = (f"{name} {value:.4g}" for name, value in values if not math.isnan(value))
        return ", ".join(known) or "unknown"
    return ", ".join(name for name, value in values if value == 1) or "no label"


def picture(stored_CHW: Tensor, heat_HW: Tensor | None = None) -> str:
    """An image as the address of an `img`; with `heat_HW`, 0 to 1, in grey with more colour where
    it is larger. If it does not have three channels, its first one.
    """
    pixels = stored_CHW.permute(1, 2, 0) if len(stored_CHW) == 3 else stored_CHW[0]
    if pixels.dtype != torch.uint8:
        # from the darkest value to the brightest
        pixels = pixels - pixels.min()
        pixels = (pixels * (255 / pixels.max().clamp(min=1e-12))).to(torch.uint8)
    image = contain(Image.fromarray(pixels.numpy()), (SIDE, SIDE))
    if heat_HW is not None:
        share = (255 * MOST_COLOUR * heat_HW).to(torch.uint8).numpy()
        mask = Image.fromarray(share).resize(image.size, Image.Resampling.BILINEAR)
        colour = Image.new("RGB", image.size, HEAT_COLOUR)
        image = Image.composite(colour, image.convert("L").convert("RGB"), mask)
    file = io.BytesIO()
    image.convert("RGB").quantize(96).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
