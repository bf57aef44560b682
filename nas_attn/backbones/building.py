"""A backbone by name: `resnet20`, `torchvision:resnet50`, `timm:convnext_tiny`,
`smp:unet/resnet18`, `package.module:function`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from nas_attn.backbones import torchvision_detectors as detectors
from nas_attn.backbones.weights_input import is_on_hub, torchvision_names, torchvision_weights
from nas_attn.errors import BackboneError, did_you_mean, first_line, shorten
from nas_attn.recipe.reading import backbone_section
from nas_attn.recipe.recipe import BackboneSection
from nas_attn.recipe.tables import BACKBONE_SOURCES, FROZEN_NORMS, LAYER_NORM_PRESET
from nas_attn.system.importing import installing, load_object

if TYPE_CHECKING:
    from torch import nn


_AUXILIARY_OFF = {"aux_logits": False, "init_weights": True}
"""Arguments for torchvision models that would otherwise return more than logits in training."""
_SEGMENTATION: dict[str, Any] = {"weights_backbone": None, "aux_loss": False}
"""Arguments of torchvision's segmentation networks: no weights are fetched unless asked for, no
second head.
"""
SAFE_TIMM = (1, 0, 22)
"""From here on, timm reads tensors only, and no pickle that runs code."""
Shape = tuple[int, int, int]
"""(channels, height, width) of one image."""


class Builder(Protocol):
    """Builds networks of a package; a row of `nas_attn.wiring` names one. For example:

    def zoo_network(section, name, shape, classes, published):
        if published:
            raise BackboneError(f"no published weights are known for '{section.name}'")
        return call(zoo.create, section, name, channels=shape[0], classes=classes)
    """

    def __call__(
        self, section: BackboneSection, name: str, shape: Shape, classes: int, published: bool
    ) -> nn.Module:
        """`name`: what stands after the colon; `published`: with the published weights. Random
        weights come from torch's global generator. Raises BackboneError: it cannot be built.
        """


def names() -> list[str]:
    """Names of the CIFAR ResNets and of torchvision's classification models."""
    from nas_attn.backbones.cifar import MODELS

    return [*MODELS, *(f"torchvision:{name}" for name in torchvision_names())]


def create(
    name: str,
    *,
    input_shape: tuple[int, int, int] = (3, 224, 224),
    classes: int = 1000,
    width: int | None = None,
    options: Mapping[str, Any] | None = None,
    norms: str = "auto",
) -> nn.Module:
    """A backbone as a study builds it, with random weights from torch's global generator.

    Args:
        name: `resnet20`, `torchvision:NAME`, `timm:NAME`, `smp:ARCHITECTURE/ENCODER`,
            `package.module:function`.
        input_shape: channels, height, width of one image.
        width: channels of a CIFAR ResNet's first stage; None: 16.
        options: keyword arguments for the function that builds a torchvision, timm, smp or user's
            model.
        norms: `frozen` for a BatchNorm that never changes, as torchvision's Faster R-CNN, RetinaNet
            and FCOS have it with trained weights; `auto`, `as_built`: as without weights.

    Raises:
        RecipeError: the name, the width or the norms are invalid.
        BackboneError: the name or an option is unknown, or a package is missing.
    """
    section = backbone_section(name, width=width, options=dict(options or {}), norms=norms)
    return build(section, input_shape=input_shape, classes=classes)


def build(
    section: BackboneSection,
    *,
    input_shape: tuple[int, int, int],
    classes: int,
    pretrained: bool = False,
) -> nn.Module:
    """A backbone for images of (channels, height, width), initialised from torch's global
    generator.

    Args:
        pretrained: with the published weights. A head for another number of classes begins at
            zero, a first layer for other channels is adapted.

    Raises:
        BackboneError: the name or an option is unknown, a package is missing, the weights do not
            fit.
    """
    source, colon, name = section.name.partition(":")
    if not colon:
        return _cifar(section, input_shape[0], classes, pretrained)
    if section.width is not None:
        raise BackboneError(
            f"backbone.width is only for CIFAR ResNets, not for '{section.name}': remove it"
        )
    row = BACKBONE_SOURCES.get(source)
    if row is None:
        return _users(section, input_shape, classes, pretrained)
    build_network: Builder = row.build()
    return build_network(section, name, input_shape, classes, pretrained)


def load_weights(model: nn.Module, path: str) -> list[str]:
    """Loads a state_dict file into a bare model; a head for other classes begins at zero, a
    first layer is adapted.

    It unwraps the weights: from a dictionary with other entries, and from a prefix of all names.
    Returns a sentence for each thing that a user should know of what is used, mostly none.

    Args:
        path: `.pt`, `.pth` (tensors only: nothing in the file is executed) or `.safetensors`.

    Raises:
        BackboneError: the file cannot be read, or does not hold this model's weights.
    """
    from nas_attn.backbones.weight_files import fit, read_state

    state, notes = read_state(path)
    return [*notes, *fit(model, state, where=f"weights '{shorten(path)}'")]


def _cifar(section: BackboneSection, channels: int, classes: int, published: bool) -> nn.Module:
    from nas_attn.backbones.cifar import MODELS, ResNet

    if section.name not in MODELS:
        every = names()
        same = f"torchvision:{section.name}"
        close = did_you_mean(same if same in every else section.name, every)
        raise BackboneError(
            f"unknown backbone '{section.name}': {close} Others are written torchvision:NAME,"
            " timm:NAME, smp:ARCHITECTURE/ENCODER or package.module:function."
        )
    if published:
        raise BackboneError(
            f"no published weights come with '{section.name}': name a file in target.weights"
        )
    if section.options:
        raise BackboneError(
            f"'{section.name}' takes no backbone.options: remove them, or set backbone.width"
        )
    width = section.width or 16
    return ResNet(MODELS[section.name], classes=classes, in_channels=channels, width=width)


def torchvision_options(
    name: str, input_shape: tuple[int, int, int], classes: int
) -> dict[str, Any]:
    """Arguments of a torchvision model; BackboneError: a detector is made for images of another
    size.
    """
    if name in detectors.names():
        return detectors.arguments(name, input_shape[1:], classes)
    usual: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        usual = _AUXILIARY_OFF
    elif name in torchvision_names("segmentation"):
        usual = _SEGMENTATION
    # else these would be built for images of 224, whatever their weights are for
    elif name.startswith("vit_"):
        usual = {"image_size": input_shape[1]}
    elif name.startswith("maxvit_"):
        usual = {"input_size": input_shape[1:]}
    return {**usual, "num_classes": classes}


def torchvision_network(
    section: BackboneSection, name: str, input_shape: Shape, classes: int, published: bool
) -> nn.Module:
    """Builds a network of torchvision, for classes, masks or boxes.

    Args:
        section: the recipe's `[backbone]`.
        name: the network's name in that library; a classifier's may name its weights, too,
            `resnet50.IMAGENET1K_V1`.
        input_shape: (channels, height, width) of an image.
        classes: their number.
        published: whether it starts from the published weights.

    Raises:
        BackboneError: the name is unknown, the network cannot be built, or the weights are not
            there.
    """
    import torchvision

    network, point, _ = name.partition(".")
    every = torchvision_names()
    if not point:
        every += [*torchvision_names("segmentation"), *detectors.names()]
    if network not in every:
        raise BackboneError(f"unknown torchvision model '{name}': {did_you_mean(name, every)}")
    if point:
        # refuses others than there are
        torchvision_weights(name)
    options = torchvision_options(network, input_shape, classes) | section.options
    model: nn.Module = call(torchvision.models.get_model, section, network, **options)
    if input_shape[0] != 3:
        _change_input(model, input_shape[0], section.name)
    if section.norms == "frozen":
        detectors.freeze_norms(model.get_submodule("backbone"), FROZEN_NORMS[section.name])
    if published:
        from nas_attn.backbones.weight_files import fit

        fit(model, _torchvision_weights(section, name), where=f"weights of '{section.name}'")
    return model


def _torchvision_weights(section: BackboneSection, name: str) -> Mapping[str, Any]:
    """The published state_dict, loaded by torchvision itself, which maps renamed entries."""
    import torchvision
    from torch import hub

    # torchvision refuses other values of these beside weights
    options = {key: value for key, value in section.options.items() if key not in _AUXILIARY_OFF}
    try:
        source = torchvision.models.get_model(
            name.partition(".")[0], weights=torchvision_weights(name), progress=False, **options
        )
    except OSError as error:
        raise BackboneError(
            f"the weights of '{section.name}' could not be downloaded"
            f" ({shorten(first_line(error))}): put them into {hub.get_dir()}, or give a file as"
            " target.weights"
        ) from error
    except Exception as error:
        raise BackboneError(
            f"the weights of '{section.name}' could not be loaded: {shorten(first_line(error))}"
        ) from error
    state: Mapping[str, Any] = source.state_dict()
    return state


def _change_input(model: nn.Module, channels: int, name: str) -> None:
    """Gives the first convolution other channels; its random weights keep the family's
    distribution.
    """
    import torch
    from torch import nn

    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    if first is None or first.groups != 1:
        raise BackboneError(
            f"'{name}' cannot take images of {channels} channels: no first convolution was found"
        )
    turn = torch.arange(channels) % first.in_channels
    first.weight = nn.Parameter(first.weight.detach()[:, turn])
    first.in_channels = channels


def timm_network(
    section: BackboneSection, name: str, shape: Shape, classes: int, published: bool
) -> nn.Module:
    """Builds a network of timm, or of the Hugging Face Hub by timm.

    Args:
        section: the recipe's `[backbone]`.
        name: the network's name in that library.
        shape: (channels, height, width) of an image.
        classes: their number.
        published: whether it starts from the published weights.

    Raises:
        BackboneError: the name is unknown, the network cannot be built, or the weights are not
            there.
    """
    try:
        import timm
    except ImportError:
        raise BackboneError(f"'{section.name}' needs timm: {installing('timm')}") from None
    if tuple(map(int, timm.__version__.split(".")[:3])) < SAFE_TIMM:
        raise BackboneError(
            f"timm {timm.__version__} runs code that a file of weights may hold: pip install"
            " 'timm>=1.0.22'"
        )
    if not is_on_hub(name) and not timm.is_model(name.partition(".")[0]):
        raise BackboneError(
            f"unknown timm model '{name}': {did_you_mean(name, timm.list_models())}"
        )
    arguments = {"num_classes": classes, "in_chans": shape[0], "pretrained": published}
    try:
        model: nn.Module = call(timm.create_model, section, name, **arguments | section.options)
    except BackboneError as error:
        if not published:
            raise
        raise BackboneError(
            f"the weights of '{section.name}' could not be loaded"
            f" ({first_line(error.__cause__ or error)}): give a file as target.weights, or download"
            " them with `hf download` on a machine with a network"
        ) from None
    weights: Any = getattr(model, "pretrained_cfg", {})
    if published and weights.get("num_classes") != model.num_classes:
        from nas_attn.backbones.weight_files import begin_at_zero

        layers = weights.get("classifier") or ()
        begin_at_zero(model, [layers] if isinstance(layers, str) else layers)
    return model


def smp_network(
    section: BackboneSection, name: str, shape: Shape, classes: int, published: bool
) -> nn.Module:
    """Builds a network of segmentation_models_pytorch, which has no weights of whole networks.

    Args:
        section: the recipe's `[backbone]`.
        name: `unet/resnet18`: architecture and encoder.
        shape: (channels, height, width) of an image.
        classes: their number.
        published: refused.

    Raises:
        BackboneError: the name is unknown, the network cannot be built, or the weights are not
            there.
    """
    try:
        import segmentation_models_pytorch as smp
    except ImportError:
        raise BackboneError(
            f"'{section.name}' needs segmentation_models_pytorch: pip install"
            " segmentation-models-pytorch"
        ) from None
    if published:
        raise BackboneError(
            f"no weights are published for all of '{section.name}': remove target.weights; for a"
            ' trained encoder set backbone.options = { encoder_weights = "imagenet" }'
        )
    architecture, slash, encoder = name.partition("/")
    if not slash:
        raise BackboneError(
            f"'{section.name}' names no encoder: write smp:ARCHITECTURE/ENCODER, like"
            " smp:unet/resnet18"
        )
    arguments = {
        "encoder_name": encoder,
        "encoder_weights": None,
        "in_channels": shape[0],
        "classes": classes,
    }
    model: nn.Module = call(smp.create_model, section, architecture, **arguments | section.options)
    return model


def _users(section: BackboneSection, shape: Shape, classes: int, published: bool) -> nn.Module:
    if published:
        raise BackboneError(
            f"no published weights are known for '{section.name}': name a file in target.weights"
        )
    function = load_object(section.name, what="backbone", error=BackboneError)
    given = users_arguments(function, shape[0], classes) | section.options
    return users_network(section, function, **given)


def users_network(section: BackboneSection, function: Any, **options: Any) -> nn.Module:
    """A network that a user's function makes. Raises BackboneError: it raises, or makes none."""
    from torch import nn

    model = call(function, section, **options)
    if not isinstance(model, nn.Module):
        raise BackboneError(
            f"backbone '{section.name}' returned a {type(model).__name__}, not a torch.nn.Module"
        )
    return model


def users_arguments(function: Any, channels: int, classes: int) -> dict[str, int]:
    """Channels and classes as arguments of a user's function, by the names of its parameters."""
    try:
        accepted = inspect.signature(function).parameters
    except ValueError:
        return {}
    values = dict.fromkeys(("classes", "num_classes"), classes)
    values |= dict.fromkeys(("in_channels", "in_chans"), channels)
    return {name: value for name, value in values.items() if name in accepted}


def call(function: Any, section: BackboneSection, *args: Any, **options: Any) -> Any:
    """Calls a package's function; BackboneError if it raises an exception."""
    try:
        return function(*args, **options)
    except Exception as error:
        shown = ", ".join(f"{name}={value!r}" for name, value in options.items()) or "no options"
        why = f"{type(error).__name__}: {shorten(first_line(error))}"
        raise BackboneError(
            f"backbone '{section.name}' could not be built with {shown}: {why}"
        ) from error


def usual_preset(model: nn.Module) -> str | None:
    """Gives the preset of `[training]` that a network needs; None: the usual training does.

    With layer norms and no batch norm (ConvNeXt, transformers), SGD at its usual rate often teaches
    it nothing from random weights: ConvNeXt-Atto guessed after 40 epochs on 3,200 photographs
    (research/notes/published.md).
    """
    from torch import nn
    from torch.nn.modules.batchnorm import _BatchNorm

    kinds = [type(module) for module in model.modules()]
    has_batch_norms = any(issubclass(kind, _BatchNorm) for kind in kinds)
    has_layer_norms = any(issubclass(kind, nn.LayerNorm) for kind in kinds)
    return LAYER_NORM_PRESET if has_layer_norms and not has_batch_norms else None
