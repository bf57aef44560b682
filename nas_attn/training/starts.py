"""The start of a training: its device and its weights."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor

from nas_attn import backbones
from nas_attn.backbones.weight_files import said_channels
from nas_attn.backbones.weights_input import only_side
from nas_attn.data.dataset import Dataset
from nas_attn.errors import BackboneError, RecipeError
from nas_attn.latency.runtime_files import CALIBRATION
from nas_attn.recipe.reading import backbone_section
from nas_attn.recipe.recipe import Recipe
from nas_attn.training.plan import Plan

# of the images that published weights are trained on
PHOTOGRAPH_CHANNELS = 3
# seconds to wait for a host with weights
CONNECT_S = 20.0
# names of a network's weights on the Hugging Face Hub
HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def pick_device(name: str) -> torch.device:
    """The training device of this name; `auto`: a GPU if there is one. Raises RecipeError: it does
    not exist.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise RecipeError(f"unknown device '{name}': give auto, cpu, cuda or cuda:1")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise RecipeError(
            f"device '{name}' does not exist: this machine has {torch.cuda.device_count()} CUDA"
            " devices"
        )
    return device


def calibration(recipe: Recipe, dataset: Dataset | None) -> Tensor | None:
    """Validation images, float32 (M, C, H, W), for a latency mode that quantizes; None for others
    and for an evaluator's data.
    """
    if dataset is None or not recipe.latency.row.quantized:
        return None
    x, _ = next(iter(dataset.validation.batches(CALIBRATION)))
    return x.float().cpu()


def given_weights(plan: Plan, weights: str | None = None) -> tuple[Mapping[str, Any], list[str]]:
    """Gives the bare backbone's state_dict from `weights` (None: `training.weights`), and a
    sentence for each thing that a user should know of what is used. Raises BackboneError.
    """
    weights = weights or plan.recipe.training.weights
    # the recipe's schema sees to it
    assert weights is not None
    if weights == "default":
        section = plan.recipe.network
        shape = plan.input_shape
        model = backbones.build(section, input_shape=shape, classes=plan.classes, pretrained=True)
        widened = said_channels(PHOTOGRAPH_CHANNELS, shape[0])
        note = f"published weights of '{section.name}': {widened}"
        return model.state_dict(), [note] if shape[0] != PHOTOGRAPH_CHANNELS else []
    model = plan.bare(plan.recipe.first_seed)
    notes = backbones.load_weights(model, weights)
    return model.state_dict(), notes


def read_weights(plan: Plan) -> Iterator[str]:
    """Reads the weights that a recipe names; yields what a user should know of what is used. Raises
    BackboneError: they do not fit.
    """
    for weights in wanted_weights(plan.recipe):
        yield from given_weights(plan, weights)[1]


def no_weights(backbone: str, *, side: int = 64) -> str:
    """Tells why a target does not start from a backbone's published weights by default; empty if it
    does.

    Weights of torchvision and timm are downloaded, once; others are used only on request.

    Args:
        backbone: its name.
        side: of the images in pixels, where it takes several.
    """
    if backbone.endswith(".pt"):
        return ""
    source, _, name = backbone.partition(":")
    if source not in ("torchvision", "timm"):
        asked = "published weights are used only if you ask for them"
        return asked if name else f"{backbone} has no published weights"
    if source == "timm" and not _at_hand(name):
        return f"the weights of '{backbone}' could not be downloaded: give a file as target.weights"
    side = only_side(backbone, "default") or side
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(CONNECT_S)
    try:
        backbones.build(
            backbone_section(backbone), input_shape=(3, side, side), classes=10, pretrained=True
        )
    except BackboneError as error:
        return str(error)
    finally:
        socket.setdefaulttimeout(before)
    return ""


def _at_hand(name: str) -> bool:
    """Whether timm's weights of a network are in the cache, or their host answers: without it, timm
    itself tries for a minute.
    """
    if find_spec("timm") is None:
        # building the network says so
        return True
    import timm
    from huggingface_hub import constants, try_to_load_from_cache

    hub = getattr(timm.get_pretrained_cfg(name), "hf_hub_id", None)
    if hub and any(isinstance(try_to_load_from_cache(hub, file), str) for file in HUB_FILES):
        return True
    try:
        socket.create_connection((urlsplit(constants.ENDPOINT).hostname, 443), CONNECT_S).close()
    except OSError:
        return False
    return True


def wanted_weights(recipe: Recipe) -> list[str]:
    """The weights that a recipe's search and its target start from, each once."""
    trainings = (recipe.training, recipe.target_training)
    named = [t.weights for t in trainings if t.start == "pretrained" and t.weights]
    return list(dict.fromkeys(named))
