"""Relatives of a backbone: larger and smaller networks of its family, which may be what a user
needs in place of attention.

A CIFAR ResNet has others in width and depth. In a library, a relative has the same name with
another word for the size: `resnet18` and `resnet34`, `mobilenet_v3_small` and `_large`,
`yolo11n.yaml` and `yolo11s.yaml`. The library says which names there are; which network is larger
is counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from nas_attn.attention.choice import Choice
from nas_attn.backbones.building import Shape, build
from nas_attn.backbones.weights_input import torchvision_weights
from nas_attn.errors import BackboneError, few
from nas_attn.recipe.reading import other_backbone
from nas_attn.recipe.recipe import BackboneSection
from nas_attn.recipe.tables import BACKBONE_SOURCES
from nas_attn.space.notation import parse_choice

if TYPE_CHECKING:
    from torch import nn

WIDER = (1.125, 1.25, 1.375, 1.5, 2.0)
NARROWER = (0.875, 0.75, 0.625, 0.5)
"""Times the width of a CIFAR ResNet."""
SIZE_WORDS = (
    *("zepto", "atto", "femto", "pico", "nano", "tiny", "small", "medium", "base", "large"),
    *("xlarge", "xxlarge", "huge", "giant", "xxs", "xs", "xl", "xxl"),
    *("n", "t", "s", "m", "b", "l", "x", "h", "g"),
)
"""Words for sizes in names, without an order: an `x` is no size beside a `y` (RegNet)."""
MULTIPLIER = "width_mult"
MULTIPLIERS = (0.75, 0.5, 1.4)
"""The option of torchvision's MobileNets for their width, and values of the papers. There are no
weights for them.
"""
NEAREST = 3
"""Relatives on each side that are given, at most."""
OTHER_SIZE = 1.1
"""From this ratio on, two networks differ in size: those for other images do not."""
FARTHEST = 10.0
"""Up to this ratio of sizes, which is from YOLO's scale n to m (7.7 to 9.5 times the parameters);
beyond it, no user's limit on latency is met.
"""


@dataclass(frozen=True, slots=True)
class Relatives:
    """The networks of a backbone's family, each as a placement names it, the nearest first."""

    larger: tuple[Choice, ...] = ()
    smaller: tuple[Choice, ...] = ()
    # a sentence for networks that are left out, each with why
    notes: tuple[str, ...] = ()


def relatives(
    section: BackboneSection,
    *,
    input_shape: Shape,
    classes: int,
    weights: str | None = None,
    listed: Sequence[str] = (),
) -> Relatives:
    """Finds larger and smaller networks that can start as the backbone does.

    Args:
        section: the backbone.
        input_shape: (channels, height, width) of an image.
        classes: their number.
        weights: what the backbone starts from: None for random weights, or for those of a training
            of each network's own; `default`, the published ones, in which case each relative starts
            from those of the same recipe; a file, which fits no other network.
        listed: names of the relatives, `resnet8(width=22)` or `my_package.models:wide`; empty:
            those of the family.

    Returns:
        The relatives. A listed network that is neither larger nor smaller is left out, with a note.

    Raises:
        BackboneError: a listed network cannot be built.
        PlacementError: a listed name cannot be read.
    """
    if weights not in (None, "default"):
        note = f"the backbone starts from '{weights}', and no other network can: none is compared"
        return Relatives(notes=(note,))
    if listed:
        choices = [parse_choice(text, "search.controls") for text in listed]
        ratios = {choice: _ratio(section, choice, input_shape, classes) for choice in choices}
    elif ":" in section.name:
        runs = _siblings(section)
        if weights is None:
            runs.append([Choice(section.name, ((MULTIPLIER, times),)) for times in MULTIPLIERS])
        ratios = _of_library(section, runs, input_shape, classes)
    else:
        return _of_cifar(section)
    ascending = sorted(ratios, key=ratios.__getitem__)
    most = len(listed) or NEAREST
    larger = [choice for choice in ascending if ratios[choice] > 1][:most]
    smaller = [choice for choice in ascending[::-1] if ratios[choice] < 1][:most]
    notes = []
    if same := [str(choice) for choice, ratio in ratios.items() if ratio == 1]:
        notes.append(f"as large as the backbone, and not compared with it: {few(same)}")
    if weights is None:
        return Relatives(tuple(larger), tuple(smaller), tuple(notes))
    recipe = next(iter(_recipes(section.name)), section.name)
    alike = {choice: _from_recipe(choice, recipe) for choice in (*larger, *smaller)}
    missing = [str(choice) for choice, told in alike.items() if told is None]
    if missing:
        notes.append(
            f"no weights of the backbone's recipe '{recipe}' are published for {few(missing)}: not"
            " compared with it"
        )
    return Relatives(
        tuple(told for choice in larger if (told := alike[choice])),
        tuple(told for choice in smaller if (told := alike[choice])),
        tuple(notes),
    )


def _of_cifar(section: BackboneSection) -> Relatives:
    from nas_attn.backbones.cifar import MODELS

    if section.name not in MODELS:
        return Relatives()
    family = section.name.rstrip("0123456789")
    width = section.width or 16
    wider = sorted({max(width + 1, round(factor * width)) for factor in WIDER})
    narrower = {min(width - 1, round(factor * width)) for factor in NARROWER}
    depths = [name for name in MODELS if name.rstrip("0123456789") == family]
    at = depths.index(section.name)
    larger = [Choice(section.name, (("width", channels),)) for channels in wider]
    larger += [Choice(name, (("width", width),)) for name in depths[at + 1 :][:1]]
    smaller = [
        Choice(section.name, (("width", channels),))
        for channels in sorted(narrower, reverse=True)
        if channels >= 1
    ]
    smaller += [Choice(name, (("width", width),)) for name in depths[:at][-1:]]
    return Relatives(tuple(larger), tuple(smaller))


def _siblings(section: BackboneSection) -> list[list[Choice]]:
    """The networks of a library whose names differ from the backbone's in the word for the size
    only, in runs: each begins with the nearest, where there is an order.
    """
    source, _, name = section.name.partition(":")
    row = BACKBONE_SOURCES.get(source)
    if row is None:
        return []
    if not name.endswith((".yaml", ".pt")):
        # what follows the point is timm's tag of the weights
        name = name.partition(".")[0]
    steps = [(step, other) for other in row.names()(name) if (step := _step(name, other))]
    above = sorted((step, other) for step, other in steps if step > 1)
    below = sorted((step, other) for step, other in steps if step < 1)[::-1]
    words = [[(step, other)] for step, other in steps if step == 1]
    return [[Choice(f"{source}:{other}") for _, other in run] for run in (above, below, *words)]


def _of_library(
    section: BackboneSection, runs: Iterable[Iterable[Choice]], shape: Shape, classes: int
) -> dict[Choice, float]:
    """Network -> how many times as large it is, for those of another size that is not far away."""
    ratios = {}
    for run in runs:
        for choice in run:
            try:
                ratio = _ratio(section, choice, shape, classes)
            except BackboneError:
                # it takes no such option, or not the backbone's: nor do the others
                break
            factor = max(ratio, 1 / ratio)
            if factor > FARTHEST:
                break
            if factor >= OTHER_SIZE:
                ratios[choice] = ratio
    return ratios


def _step(name: str, other: str) -> float | None:
    """How many times the number in one name is that in another; 1 between words for sizes. None:
    the names differ in more, or in something else.
    """
    mine = _TOKENS.findall(name)
    theirs = _TOKENS.findall(other)
    shared = _shared(mine, theirs)
    before = "".join(mine[:shared])
    ending = _shared(mine[: shared - 1 : -1], theirs[: shared - 1 : -1])
    one = "".join(mine[shared : len(mine) - ending])
    two = "".join(theirs[shared : len(theirs) - ending])
    if not before or not one or not two:
        return None
    if one in SIZE_WORDS and two in SIZE_WORDS:
        return 1.0
    mine_number = _NUMBER.fullmatch(one)
    their_number = _NUMBER.fullmatch(two)
    # a number after a v is a version
    if mine_number is None or their_number is None or before.lower().endswith("v"):
        return None
    return _value(their_number) / _value(mine_number)


def _shared(one: Sequence[str], two: Sequence[str]) -> int:
    """How many elements two sequences have in common at their beginning."""
    for count, (mine, theirs) in enumerate(zip(one, two, strict=False)):
        if mine != theirs:
            return count
    return min(len(one), len(two))


_TOKENS = re.compile(r"\d+|[A-Za-z]+|.")
# `34`, `1_6gf` (giga), `64x4`
_NUMBER = re.compile(r"(?P<number>\d+(?:_\d+)?)(?:x(?P<times>\d+))?(?P<unit>[mg]f)?")


def _value(found: re.Match[str]) -> float:
    value = float(found["number"].replace("_", ".")) * float(found["times"] or 1)
    return max(value, 0.1) * (1000 if found["unit"] == "gf" else 1)


def _recipes(name: str) -> Sequence[str]:
    """The recipes of a network's published weights, that of those it starts from first."""
    source, colon, inner = name.partition(":")
    row = BACKBONE_SOURCES.get(source) if colon else None
    if row is None:
        return ()
    recipes: Sequence[str] = row.published()(inner)
    return recipes


def _from_recipe(choice: Choice, recipe: str) -> Choice | None:
    """A network as it starts from weights of a recipe; None: there are none, or it names others."""
    recipes = _recipes(choice.type)
    if recipe not in recipes:
        return None
    if recipe == recipes[0]:
        return choice
    return Choice(f"{choice.type}.{recipe}", choice.knobs)


# (multiply-adds for an image, parameters)
Size = tuple[float | None, float]


@lru_cache(maxsize=128)
def _size(section: str, shape: Shape, classes: int) -> Size:
    """Counts a backbone, given by its section as JSON. Without values where it can be built so."""
    import torch

    given = BackboneSection.model_validate_json(section)
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                model = build(given, input_shape=shape, classes=classes)
        except BackboneError as error:
            if isinstance(error.__cause__, TypeError):
                raise
            # RegNet computes its widths by tensors
            model = build(given, input_shape=shape, classes=classes).to("meta")
    return _multiply_adds(model, shape), sum(p.numel() for p in model.parameters())


def _multiply_adds(model: nn.Module, shape: Shape) -> float | None:
    """Counts a network on the device `meta`; None: it does not take an image of this shape."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    try:
        with counter, torch.no_grad():
            model.eval()(torch.empty(1, *shape, device="meta"))
    except Exception:
        # a detector takes lists, and any network may need values
        return None
    return counter.get_total_flops() / 2


def _ratio(section: BackboneSection, choice: Choice, shape: Shape, classes: int) -> float:
    """How many times as large as the backbone another network is, by what is known of both."""
    other = other_backbone(section, choice).model_dump_json()
    other_adds, other_parameters = _size(other, shape, classes)
    own_adds, own_parameters = _size(section.model_dump_json(), shape, classes)
    if other_adds and own_adds:
        return other_adds / own_adds
    return other_parameters / max(own_parameters, 1)


def torchvision_names(_near: str) -> Iterable[str]:
    """Lists torchvision's networks."""
    import torchvision

    names: list[str] = torchvision.models.list_models()
    return names


def torchvision_published(name: str) -> list[str]:
    """Lists the weights that torchvision publishes of a network, those it starts from first."""
    first = torchvision_weights(name)
    if "." in name:
        return [first.name]
    return [first.name, *(one.name for one in type(first) if one is not first)]


def timm_names(_near: str) -> Iterable[str]:
    """Lists timm's networks."""
    try:
        import timm
    except ImportError:
        return []
    names: list[str] = timm.list_models()
    return names


def timm_published(name: str) -> list[str]:
    """Lists the tags of a network's weights that timm knows, those it starts from first."""
    import timm

    network, _, tag = name.removeprefix("hf-hub:timm/").partition(".")
    tags = [each.partition(".")[2] for each in timm.list_pretrained(f"{network}.*")]
    if tag or not tags:
        return [tag] if tag in tags else []
    first = str(timm.get_pretrained_cfg_value(network, "tag"))
    return [first, *(each for each in tags if each != first)]


def smp_names(near: str) -> Iterable[str]:
    """Lists a network's architecture with each encoder of segmentation_models_pytorch."""
    try:
        import segmentation_models_pytorch as smp
    except ImportError:
        return []
    architecture = near.partition("/")[0]
    return [f"{architecture}/{encoder}" for encoder in smp.encoders.get_encoder_names()]


def smp_published(_name: str) -> list[str]:
    """No weights are published of whole networks of segmentation_models_pytorch."""
    return []
