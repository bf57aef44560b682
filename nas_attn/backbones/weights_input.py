"""The input that a network's weights are made for: its size, crop, scaling and normalisation, as
their library scores them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from nas_attn.errors import BackboneError, did_you_mean, first_line, shorten

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""ImageNet's, per channel."""
_CONVERTING = ("googlenet", "inception_v3")
"""torchvision's networks whose weights expect mean and deviation 0.5. With weights, torchvision's
own network converts ImageNet's normalisation to this one; ours is built without, so it is fed so.
"""
ONE_SIZE = ("vit_", "maxvit_")
"""torchvision's classifiers, by the beginnings of their names, that are built for images of one
size.
"""
SIDE_WITHOUT_WEIGHTS = 224
"""Of the images that they are built for without weights, in pixels."""


class WeightsInput(NamedTuple):
    """How the images of trained weights become a network's input."""

    mean: tuple[float, ...]
    """Per channel, of values from 0 to 1."""
    std: tuple[float, ...]
    size: int | None = None
    """Side of the square in pixels; None: unknown, or no square."""
    resize: int | None = None
    """The shorter side, before the middle square of `size` is cut out."""
    interpolation: str | None = None
    """torchvision's name of it."""

    def resize_for(self, side: int) -> int | None:
        """The shorter side in pixels before a square of another side is cut out, in proportion."""
        if self.resize is None or self.size is None:
            return None
        return round(side * self.resize / self.size)


@lru_cache(maxsize=16)
def weights_input(
    backbone: str, weights: str | None, *, converts: bool = False
) -> WeightsInput | None:
    """The input that a backbone's weights are made for. Nothing is downloaded, but for a network of
    the Hugging Face Hub.

    Args:
        backbone: its name, `timm:resnet18.a1_in1k`.
        weights: `default` for the published ones, or a file: of a network of torchvision or timm, a
            file was nearly always trained on images as the published weights were. None: random
            weights, to which any input is as good.
        converts: the network itself converts ImageNet's normalisation to that of its weights
            (`transform_input` of two torchvision networks).

    Returns:
        What the library says; ImageNet's usual normalisation, without a size, if it says nothing of
        a network of its own. None: the weights are random, or of a network of no such library.

    Raises:
        BackboneError: there are no weights of the name after the point.
    """
    source, _, name = backbone.partition(":")
    if weights is None:
        return None
    if source == "timm" and importlib.util.find_spec("timm"):
        return _timm_input(name)
    if source == "torchvision":
        return _torchvision_input(name, converts=converts)
    return None


def only_side(backbone: str, weights: str | None = None) -> int | None:
    """The side in pixels of the images that a classifier is built for, if it is built for one size.

    Args:
        backbone: its name.
        weights: what it starts from, as in `weights_input`; None: random weights.
    """
    source, _, name = backbone.partition(":")
    if source == "torchvision" and name.startswith(ONE_SIZE):
        own = weights_input(backbone, weights)
        return SIDE_WITHOUT_WEIGHTS if own is None else own.size
    if source == "timm" and importlib.util.find_spec("timm") and not is_on_hub(name):
        described = _described_by_timm(name)
        if described.get("fixed_input_size"):
            return _timm_input(name).size
    return None


def torchvision_weights(name: str) -> Any:
    """The member of torchvision's enum that a network starts from: the weights that its name has
    after a point, else torchvision's default. Raises BackboneError: there are none of this name.
    """
    import torchvision

    network, _, asked = name.partition(".")
    every = torchvision.models.get_model_weights(network)
    if asked and asked not in every.__members__:
        meant = did_you_mean(asked, [weights.name for weights in every])
        raise BackboneError(f"unknown weights '{asked}' of 'torchvision:{network}': {meant}")
    return every[asked or "DEFAULT"]


def torchvision_names(package: str = "") -> list[str]:
    """Names of torchvision's models: classifiers, or those of a package."""
    from torchvision import models

    found: list[str] = models.list_models(module=getattr(models, package) if package else models)
    return found


def is_on_hub(name: str) -> bool:
    """Whether a timm name is of the Hugging Face Hub, or of a folder in its form."""
    return name.startswith(("hf-hub:", "hf_hub:", "local-dir:"))


def _torchvision_input(name: str, *, converts: bool) -> WeightsInput:
    network = name.partition(".")[0]
    if network not in torchvision_names() + torchvision_names("segmentation"):
        return WeightsInput(IMAGENET_MEAN, IMAGENET_STD)
    transforms = torchvision_weights(name).transforms()
    mean = tuple(transforms.mean)
    std = tuple(transforms.std)
    if network in _CONVERTING and not converts:
        mean = std = (0.5, 0.5, 0.5)
    # a segmenter's images are scaled, and nothing of them is cut out
    resize = transforms.resize_size[0]
    crop = getattr(transforms, "crop_size", [resize])[0]
    return WeightsInput(mean, std, crop, resize, transforms.interpolation.value)


def _timm_input(name: str) -> WeightsInput:
    import timm

    described = _described_by_timm(name)
    if not described:
        return WeightsInput(IMAGENET_MEAN, IMAGENET_STD)
    data: Any = timm.data
    found = data.resolve_data_config(pretrained_cfg=described, use_test_size=True)
    _, height, width = found["input_size"]
    size = height if height == width else None
    resize = None
    if size is not None:
        # VOLO's says to cut more than there is
        resize = max(size, int(size / found["crop_pct"]))
    mean = tuple(found["mean"])
    std = tuple(found["std"])
    return WeightsInput(mean, std, size, resize, found["interpolation"])


def _described_by_timm(name: str) -> Mapping[str, Any]:
    """What timm knows of a network's published weights; empty if it knows none."""
    import timm

    if is_on_hub(name):
        # the hub's file says it
        try:
            model: Any = timm.create_model(name)
        except Exception as error:
            # of the network, or of the file
            raise BackboneError(
                f"the input of 'timm:{name}' is not known: {shorten(first_line(error))}"
            ) from error
        return dict(model.pretrained_cfg)
    known: Any = timm.get_pretrained_cfg(name)
    return {} if known is None else known.to_dict()
