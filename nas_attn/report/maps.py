"""Where the recommended network's attention is strong on a few validation images, beside the class
activation maps of this network and of the bare one.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from heapq import nlargest
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate

from nas_attn.answer.snapshot import CandidateView, Snapshot
from nas_attn.attachment.containers import CHILD
from nas_attn.attachment.gate_readings import Gates, gates
from nas_attn.data.dataset import Dataset, Split, TargetSplit
from nas_attn.errors import BackboneError, NasAttnError, first_line
from nas_attn.export.kept_weights import searched_run, trained_model
from nas_attn.recipe import tasks
from nas_attn.recipe.purposes import SEARCH
from nas_attn.report.html import Maps, ShownImage
from nas_attn.space.placement import Point, ResolvedPlacement, Site
from nas_attn.storage.artifacts import kept_runs, weights_run
from nas_attn.storage.opening import OpenStudy
from nas_attn.storage.rows import Run
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
SIDE = 112
HEAT_COLOUR = (213, 94, 0)
# share of the colour where a map is largest
MOST_COLOUR = 0.75
# of the largest change: what differs less between pixels is shown as even
EVEN = 0.01


def maps(opened: OpenStudy, now: Snapshot, taken: CandidateView) -> Maps:
    """Draws one validation image of each of a few classes, or a few of different labels or numbers.

    Args:
        opened: the study.
        now: as of now.
        taken: the recommended network.

    Returns:
        The pictures, or why a reader has none.
    """
    trainings = _trainings(opened, [view for view in (now.bare, taken) if view is not None])
    if not trainings or trainings[-1][0] is not taken:
        return Maps(
            missing=f"Its weights are not here: after `nas-attn retrain {now.study}` the next"
            " report shows where its attention is strong."
        )
    try:
        return Maps(list(_drawn(opened, trainings)))
    except NasAttnError as error:
        return Maps(missing=f"No maps of attention could be drawn here: {error}.")


def _trainings(
    opened: OpenStudy, views: Sequence[CandidateView]
) -> list[tuple[CandidateView, Run | None]]:
    """The networks whose weights are here, with the trainings that gave them (None: the search's):
    of equal trainings where all have one, else of the last network alone.
    """
    there = set()
    # each artifact store has its own exceptions; a database may have come without files
    with suppress(Exception):
        there = {artifact.name for artifact in opened.artifacts.stored()}
    rows = opened.store.all_checkpoints().items()
    weights = {name for name, kept in rows if kept[0].artifact in there}
    found: list[dict[tuple[str, int], Run | None]] = []
    for view in views:
        of_view: dict[tuple[str, int], Run | None] = {
            (run.protocol, run.seed): run
            for run in kept_runs(opened.store, view.key)
            if weights_run(run.files) in weights
        }
        if weights_run(view.key) in weights:
            of_view[SEARCH, 0] = None
        found.append(of_view)
    *_, last = found
    common = next((how for how in last if all(how in of_view for of_view in found)), None)
    if common is not None:
        return [(view, of_view[common]) for view, of_view in zip(views, found, strict=True)]
    return [(views[-1], run) for run in list(last.values())[:1]]


def _drawn(
    opened: OpenStudy, trainings: Sequence[tuple[CandidateView, Run | None]]
) -> Iterator[list[ShownImage]]:
    """For each image: the image, each network's class activation map, and where attention of the
    last network is strong.
    """
    recipe = opened.recipe
    dataset = data_of(tasks.of(recipe)).load(recipe, device="cpu")
    compare(opened.store, recipe, dataset)
    if dataset is None:
        return
    plan = study_plan(opened.store)
    taken, run = trainings[-1]
    run = run or searched_run(opened.store, taken)
    split = (dataset if run is None else dataset.of_seed(run.seed)).validation
    shown = some_of(split, _few(split))
    count = len(shown.labels)
    stored, truth = next(shown.stored(count))
    x_NCHW, _ = next(shown.batches(count))
    trainer = Trainer(recipe.training, dataset, device="cpu", arithmetic=PLAIN)
    heats: list[tuple[str, Tensor]] = []
    for view, of_view in trainings:
        model = trained_model(opened, plan, view, of_view)
        resolved = plan.resolved(view.placement)
        sites = plan.sites if resolved.other is None else plan.sites_of(resolved.other)
        point = last_map(sites)
        if point is not None:
            name = "bare" if view.is_bare else "recommended"
            labels_N = truth if dataset.task.labels == "classes" else None
            heats.append((name, class_activation(model, trainer, point, x_NCHW, labels_N)))
    # of the last network, which is the recommended one
    heats += _changes(gates(model, x_NCHW), resolved)
    for at, (one, y) in enumerate(zip(stored, truth, strict=True)):
        pictures = [ShownImage(picture(one), [label_of(dataset, y)])]
        pictures += [ShownImage(picture(one, heat[at]), said.splitlines()) for said, heat in heats]
        yield pictures


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
    return sorted(list(first.values())[:MAPPED_IMAGES])


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

    Raises:
        BackboneError: the network has no such map.
    """
    seen: list[Tensor] = []
    hook = model.get_submodule(point.path).register_forward_hook(
        lambda _module, _args, result: seen.append(result)
    )
    try:
        with hook:
            logits_NK = answer_of(trainer.output(model, x_NCHW.clone().requires_grad_()))
        assert isinstance(logits_NK, Tensor)
        if labels_N is None:
            labels_N = logits_NK.argmax(1)
        score = logits_NK.gather(1, labels_N[:, None]).sum()
        (slope,) = torch.autograd.grad(score, seen[-1])
    except Exception as error:
        # whatever a user's own model may raise
        raise BackboneError(
            f"{type(model).__name__} has no class activation map at {point.path}"
            f" ({type(error).__name__}: {first_line(error)})"
        ) from error
    pixels = (1, 2) if slope.shape[3] == point.channels != slope.shape[1] else (2, 3)
    (channels,) = {1, 2, 3}.difference(pixels)
    weighted = seen[-1].detach() * slope.mean(pixels, keepdim=True)
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
        label = f"{site}: {types[host][int(number)].type}\nchanges {low:.2f} to {high:.2f}"
        unevenness = float((high - low) / high)
        if unevenness > EVEN:
            found.append((unevenness, label, (heat_NHW - low) / (high - low)))
    most = nlargest(MAPPED_PLACES, range(len(found)), key=lambda index: found[index][0])
    return [found[index][1:] for index in sorted(most)]


# -------------------------------------------------------------------------------------------
# pictures


def some_of(split: Split, numbers: Sequence[int]) -> Split:
    """A split of a few of its images."""
    index = torch.tensor(numbers)
    more: dict[str, Any] = {}
    if isinstance(split, TargetSplit):
        more["targets"] = split.targets[index]
    pixels = split.pixels.subset(index.numpy())
    return replace(split, pixels=pixels, labels=split.labels[index], **more)


def label_of(dataset: Dataset, y: Tensor) -> str:
    """An image's class, labels or numbers, to stand under it."""
    if dataset.task.labels == "classes":
        return dataset.classes[int(y)]
    values = zip(dataset.classes, y.tolist(), strict=True)
    if dataset.task.labels == "numbers":
        return ", ".join(f"{name} {value:.4g}" for name, value in values)
    return ", ".join(name for name, value in values if value) or "no label"


def picture(stored_CHW: Tensor, heat_HW: Tensor | None = None) -> str:
    """An image as the address of an `img`; with `heat_HW`, 0 to 1, in grey with more colour where
    it is larger. If it does not have three channels, its first one.
    """
    shown = stored_CHW.permute(1, 2, 0) if len(stored_CHW) == 3 else stored_CHW[0]
    if shown.dtype != torch.uint8:
        # from the darkest value to the brightest
        shown = shown - shown.min()
        shown = (shown * (255 / shown.max().clamp(min=1e-12))).to(torch.uint8)
    image = Image.fromarray(shown.numpy())
    scale = SIDE / max(image.size)
    how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    image = image.resize((round(image.width * scale), round(image.height * scale)), how)
    if heat_HW is not None:
        size = image.height, image.width
        colour_HW = interpolate(heat_HW[None, None], size, mode="bilinear")[0, 0]
        share_HW1 = MOST_COLOUR * colour_HW.numpy()[:, :, None]
        grey_HW1 = np.asarray(image.convert("L"), float)[:, :, None]
        pixels = grey_HW1 * (1 - share_HW1) + np.array(HEAT_COLOUR, float) * share_HW1
        image = Image.fromarray(pixels.astype(np.uint8))
    file = io.BytesIO()
    image.convert("RGB").quantize(96).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
