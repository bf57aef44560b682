"""Draws over validation images where a class's score comes from, and where attention is strong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import nlargest

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate

from nas_attn.answer.per_image import Picture
from nas_attn.attachment.containers import CHILD
from nas_attn.attachment.gate_readings import Gates, gates
from nas_attn.data.dataset import Split, TargetSplit
from nas_attn.errors import BackboneError, first_line
from nas_attn.export.kept_weights import searched_run, trained_model
from nas_attn.recipe import tasks
from nas_attn.report.album import Album, PicturedNetwork
from nas_attn.report.pictures import label_of, png, shown_image, some_of
from nas_attn.space.placement import Point, ResolvedPlacement, Site
from nas_attn.storage.opening import OpenStudy
from nas_attn.training.images import compare
from nas_attn.training.learnt import answer_of
from nas_attn.training.numerics import PLAIN
from nas_attn.training.plan import study_plan
from nas_attn.training.tasks.data import data_of
from nas_attn.training.trainer import Trainer

MAPPED_IMAGES = 4
# places of attention that are shown, the most uneven ones
MAPPED_PLACES = 4
# pixels of a picture's longer side
HEAT_SIDE = 112
HEAT_COLOUR = (213, 94, 0)
# share of the colour where a map is largest
MOST_COLOUR = 0.75
# colours of a picture's file
PALETTE = 96
# of the largest change: what differs less between pixels is shown as even
EVEN = 0.01


def drawn_maps(opened: OpenStudy, networks: Sequence[PicturedNetwork]) -> Album:
    """Draws one validation image of each of a few classes, or a few of different labels or numbers.

    Args:
        opened: the study.
        networks: the recommended one last.

    Returns:
        An image's number -> the image, each network's class activation map, and where attention of
        the last network is strong; empty if nas_attn does not load the data.

    Raises:
        NasAttnError: the images or the weights are not here, or the network cannot process them.
    """
    recipe = opened.recipe
    dataset = data_of(tasks.of(recipe)).load(recipe, device="cpu")
    compare(opened.store, recipe, dataset)
    if dataset is None:
        return {}
    plan = study_plan(opened.store)
    *_, taken = networks
    run = taken.run or searched_run(opened.store, taken.view)
    split = dataset if run is None else dataset.of_seed(run.seed)
    numbers = _few(split.validation)
    shown = some_of(split.validation, numbers)
    stored, truth = next(shown.stored(len(numbers)))
    x_NCHW, _ = next(shown.batches(len(numbers)))
    trainer = Trainer(recipe.training, dataset, device="cpu", arithmetic=PLAIN)
    rows = [
        [Picture(_over(one), label_of(dataset, y))] for one, y in zip(stored, truth, strict=True)
    ]
    labels_N = truth if dataset.task.labels == "classes" else None

    def add(label: str, heat_NHW: Tensor) -> None:
        for row, one, heat_HW in zip(rows, stored, heat_NHW, strict=True):
            row.append(Picture(_over(one, heat_HW), label))

    for network in networks:
        model = trained_model(opened, plan, network.view, network.run)
        resolved = plan.resolved(network.view.placement)
        sites = plan.sites if resolved.other is None else plan.sites_of(resolved.other)
        point = last_map(sites)
        if point is not None:
            add(network.name, class_activation(model, trainer, point, x_NCHW, labels_N))
    # of the last network, which is the recommended one
    for label, heat_NHW in _changes(gates(model, x_NCHW), resolved):
        add(label, heat_NHW)
    return dict(zip(numbers, map(tuple, rows), strict=True))


def _few(split: Split) -> list[int]:
    """Numbers of the first images of the first classes; or of a few from the one with the least
    labels, or the smallest number, to the one with the most.
    """
    if isinstance(split, TargetSplit):
        order = split.targets.sum(1).argsort(stable=True)
        places = np.linspace(0, len(order) - 1, MAPPED_IMAGES).round()
        return sorted({int(order[int(place)]) for place in places})
    first: dict[int, int] = {}
    for number, label in enumerate(split.labels.tolist()):
        first.setdefault(label, number)
        if len(first) == MAPPED_IMAGES:
            break
    return sorted(first.values())


def last_map(sites: Sequence[Site]) -> Point | None:
    """The backbone's last map; None if no site has it."""
    wholes = [site for site in sites if site.role == "backbone" and "stage" in site.positions]
    return wholes[-1].at("stage")[-1] if wholes else None


def class_activation(
    model: nn.Module, trainer: Trainer, point: Point, x_NCHW: Tensor, labels_N: Tensor | None
) -> Tensor:
    """Finds where a map speaks for each image's class, strongest label or number: Grad-CAM
    (Selvaraju et al. 2017), which is the class activation map where pooling and a linear classifier
    follow the map.

    Args:
        model: in evaluation mode.
        trainer: which asks the network as a training does.
        point: of the map.
        x_NCHW: images, normalised.
        labels_N: int64, their classes; None: the largest output counts.

    Returns:
        `(N, H, W)`, of the map's size, 0 to 1 for each image.
    """
    maps: list[Tensor] = []
    hook = model.get_submodule(point.path).register_forward_hook(
        lambda _module, _args, result: maps.append(result)
    )
    try:
        with hook:
            logits_NK = answer_of(trainer.output(model, x_NCHW.clone().requires_grad_()))
        assert isinstance(logits_NK, Tensor)
        if labels_N is None:
            labels_N = logits_NK.argmax(1)
        score = logits_NK.gather(1, labels_N[:, None]).sum()
        (slope,) = torch.autograd.grad(score, maps[-1])
    except Exception as error:
        # whatever a user's own model may raise
        raise BackboneError(
            f"{type(model).__name__} has no class activation map at {point.path}"
            f" ({type(error).__name__}: {first_line(error)})"
        ) from error
    pixels = (1, 2) if slope.shape[3] == point.channels != slope.shape[1] else (2, 3)
    (channels,) = {1, 2, 3}.difference(pixels)
    weighted = maps[-1].detach() * slope.mean(pixels, keepdim=True)
    heat_NHW = weighted.sum(channels).relu()
    return heat_NHW / heat_NHW.amax((1, 2), keepdim=True).clamp_min(torch.finfo().tiny)


def _changes(read: Mapping[str, Gates], resolved: ResolvedPlacement) -> list[tuple[str, Tensor]]:
    """What stands under the pictures of a place, and how much it changes its map, `(N, H, W)`, 0 to
    1 over all images: of the places where that is most uneven, in their order.
    """
    types = {point.path: choices for point, choices in resolved.modules}
    found: list[tuple[float, str, Tensor]] = []
    for site, of_site in read.items():
        heat_NHW = of_site.change
        low = heat_NHW.min()
        high = heat_NHW.max()
        host, _, number = of_site.path.partition(f".{CHILD}.")
        type_ = types[host][int(number)].type
        label = f"{site}: {type_}\nchanges {low:.2f} to {high:.2f}"
        unevenness = float((high - low) / high)
        if unevenness > EVEN:
            found.append((unevenness, label, (heat_NHW - low) / (high - low)))
    most = nlargest(MAPPED_PLACES, range(len(found)), key=lambda index: found[index][0])
    return [found[index][1:] for index in sorted(most)]


def _over(stored_CHW: Tensor, heat_HW: Tensor | None = None) -> bytes:
    """An image as PNG; with `heat_HW`, 0 to 1, in grey with more colour where it is larger."""
    image = shown_image(stored_CHW)
    scale = HEAT_SIDE / max(image.size)
    how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    image = image.resize((round(image.width * scale), round(image.height * scale)), how)
    if heat_HW is not None:
        size = image.height, image.width
        colour_HW = interpolate(heat_HW[None, None], size, mode="bilinear")[0, 0]
        share_HW1 = MOST_COLOUR * colour_HW.numpy()[:, :, None]
        grey_HW1 = np.asarray(image.convert("L"), float)[:, :, None]
        pixels = grey_HW1 * (1 - share_HW1) + np.array(HEAT_COLOUR, float) * share_HW1
        image = Image.fromarray(pixels.astype(np.uint8))
    return png(image.convert("RGB").quantize(PALETTE), HEAT_SIDE)
