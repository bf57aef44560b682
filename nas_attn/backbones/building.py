"""A backbone by name: `resnet20`, `torchvision:resnet50`, `timm:convnext_tiny`, `smp:unet/resnet18`, `package.module:function`."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nas_attn.backbones import detectors
from nas_attn.backbones import weights as trained
from nas_attn.errors import BackboneError, NasAttnWarning, did_you_mean, shorten
from nas_attn.importing import load_object
from nas_attn.recipe import BackboneSection
from nas_attn.recipe_reading import backbone_section

if TYPE_CHECKING:
    from torch import nn

_AUXILIARY_OFF = {"aux_logits": False, "init_weights": True}
TORCHVISION_OPTIONS: dict[str, dict[str, Any]] = {"googlenet": _AUXILIARY_OFF, "inception_v3": _AUXILIARY_OFF}
"""Arguments without which a torchvision model returns more than logits while training."""
_SEGMENTATION: dict[str, Any] = {"weights_backbone": None, "aux_loss": False}
"""Arguments of torchvision's segmentation networks: no weights are fetched unless asked for, no second head."""

Shape = tuple[int, int, int]
"""(channels, height, width) of one image."""
_USER_ARGUMENTS = {"classes": ("classes", "num_classes"), "channels": ("in_channels", "in_chans")}


def names() -> list[str]:
    """Names that `build` knows by itself: the CIFAR ResNets and torchvision's classification models."""
    from nas_attn.backbones.cifar import MODELS

    return [*MODELS, *(f"torchvision:{name}" for name in _torchvision_names())]


def create(
    name: str,
    *,
    input_shape: tuple[int, int, int] = (3, 224, 224),
    classes: int = 1000,
    width: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """A backbone as a study builds it, with random weights from torch's global generator.

    Args:
        name: `resnet20`, `torchvision:NAME`, `timm:NAME`, `smp:ARCHITECTURE/ENCODER`, `package.module:function`.
        input_shape: channels, height, width of one image.
        width: channels of a CIFAR ResNet's first stage; None: 16.
        options: keyword arguments for the function that builds a torchvision, timm, smp or user's model.

    Raises:
        RecipeError: the name or the width cannot be one.
        BackboneError: the name or an option is unknown, or a package is missing.
    """
    section = backbone_section(name, width=width, options=dict(options or {}))
    return build(section, input_shape=input_shape, classes=classes)


def build(
    section: BackboneSection, *, input_shape: tuple[int, int, int], classes: int, pretrained: bool | str = False
) -> nn.Module:
    """A backbone for images of (channels, height, width), initialised from torch's global generator.

    Args:
        pretrained: True or `default` for published weights, or the path of a state_dict file. A head for another number of
            classes stays random, a first layer for other channels is adapted.

    Raises:
        BackboneError: the name or an option is unknown, a package is missing, the weights do not fit.
    """
    source, colon, name = section.name.partition(":")
    published = pretrained is True or pretrained == "default"
    if not colon:
        model = _cifar(section, input_shape[0], classes, published)
    else:
        if section.width is not None:
            raise BackboneError(f"backbone.width is only for CIFAR ResNets, not for '{section.name}': remove it")
        make = {"torchvision": _torchvision, "timm": _timm, "smp": _smp, "ultralytics": _ultralytics}.get(
            source, _users
        )
        model = make(section, name, input_shape, classes, published)
    if isinstance(pretrained, str) and not published:
        for note in trained.load_weights(model, pretrained):
            warnings.warn(note, NasAttnWarning, stacklevel=2)
    return model


def _cifar(section: BackboneSection, channels: int, classes: int, published: bool) -> nn.Module:
    from nas_attn.backbones.cifar import MODELS

    if section.name not in MODELS:
        known = names()
        same = f"torchvision:{section.name}"
        close = f"did you mean '{same}'?" if same in known else did_you_mean(section.name, known)
        raise BackboneError(
            f"unknown backbone '{section.name}': {close} "
            "Others are written torchvision:NAME, timm:NAME, smp:ARCHITECTURE/ENCODER or package.module:function."
        )
    if published:
        raise BackboneError(
            f"no published weights come with '{section.name}': name a state_dict file in training.weights"
        )
    if section.options:
        raise BackboneError(
            f"'{section.name}' takes no backbone.options ({', '.join(section.options)}); it has backbone.width"
        )
    family, depth = MODELS[section.name]
    return family(depth, classes=classes, in_channels=channels, width=section.width or 16)


def _torchvision_names(package: str = "") -> list[str]:
    import torchvision

    module = getattr(torchvision.models, package) if package else torchvision.models
    found: list[str] = torchvision.models.list_models(module=module)
    return found


def torchvision_options(name: str, input_shape: tuple[int, int, int], classes: int) -> dict[str, Any]:
    """Arguments with which a torchvision model is built, unless a recipe says otherwise.

    Raises:
        BackboneError: a detector is made for other images.
    """
    if name in detectors.names():
        return detectors.arguments(name, input_shape[1:], classes)
    usual = _SEGMENTATION if name in _torchvision_names("segmentation") else TORCHVISION_OPTIONS.get(name, {})
    return {**usual, "num_classes": classes}


def _torchvision(section: BackboneSection, name: str, input_shape: Shape, classes: int, published: bool) -> nn.Module:
    import torchvision

    known = [*_torchvision_names(), *_torchvision_names("segmentation"), *detectors.names()]
    if name not in known:
        detectors.refuse_other_labels(name)
        raise BackboneError(f"unknown torchvision model '{name}': {did_you_mean(name, known)}")
    options = {**torchvision_options(name, input_shape, classes), **section.options}
    model: nn.Module = call(torchvision.models.get_model, section, name, **options)
    if input_shape[0] != 3:
        _change_input(model, input_shape[0], section.name)
    if published:
        trained.fit(model, _torchvision_weights(section, name), where=f"weights of '{section.name}'")
    return model


def _torchvision_weights(section: BackboneSection, name: str) -> Mapping[str, Any]:
    """The published state_dict as torchvision itself loads it, who knows what was renamed since."""
    import torchvision
    from torch import hub

    auxiliary = {key: value for key, value in TORCHVISION_OPTIONS.get(name, {}).items() if key == "aux_logits"}
    try:
        source = torchvision.models.get_model(name, weights="DEFAULT", progress=False, **auxiliary, **section.options)
    except OSError as error:
        raise BackboneError(
            f"the weights of '{section.name}' could not be downloaded ({_said(error)}): put them into {hub.get_dir()}, or give a "
            "file of your own as training.weights"
        ) from error
    except Exception as error:
        raise BackboneError(f"the weights of '{section.name}' could not be loaded: {_said(error)}") from error
    state: Mapping[str, Any] = source.state_dict()
    return state


def _change_input(model: nn.Module, channels: int, name: str) -> None:
    """Replaces the first convolution by one for other channels; its random weights keep the family's distribution."""
    import torch
    from torch import nn

    path, old = next(((p, m) for p, m in model.named_modules() if isinstance(m, nn.Conv2d)), ("", None))
    if old is None or old.groups != 1:
        raise BackboneError(
            f"'{name}' cannot be adapted to images of {channels} channels: no first convolution was found"
        )
    new = nn.Conv2d(
        channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        stride=old.stride,  # type: ignore[arg-type]
        padding=old.padding,  # type: ignore[arg-type]
        dilation=old.dilation,  # type: ignore[arg-type]
        bias=old.bias is not None,
        padding_mode=old.padding_mode,
    )
    with torch.no_grad():
        new.weight.copy_(old.weight[:, torch.arange(channels) % old.in_channels])
        if old.bias is not None and new.bias is not None:
            new.bias.copy_(old.bias)
    model.set_submodule(path, new)


def _ultralytics(section: BackboneSection, name: str, shape: Shape, classes: int, published: bool) -> nn.Module:
    from nas_attn.backbones import ultralytics

    return ultralytics.build(section, name, shape[0], classes, published)


def _timm(section: BackboneSection, name: str, shape: Shape, classes: int, published: bool) -> nn.Module:
    try:
        import timm
    except ImportError:
        raise BackboneError(f"'{section.name}' needs timm: pip install 'nas-attn[timm]'") from None
    if not timm.is_model(name.partition(".")[0]):
        raise BackboneError(f"unknown timm model '{name}': {did_you_mean(name, timm.list_models())}")
    arguments = {"num_classes": classes, "in_chans": shape[0], "pretrained": published, **section.options}
    model: nn.Module = call(timm.create_model, section, name, **arguments)
    return model


def _smp(section: BackboneSection, name: str, shape: Shape, classes: int, published: bool) -> nn.Module:
    """A network of segmentation_models_pytorch, `unet/resnet18`: architecture and encoder."""
    try:
        import segmentation_models_pytorch as smp
    except ImportError:
        raise BackboneError(
            f"'{section.name}' needs segmentation_models_pytorch: pip install segmentation-models-pytorch"
        ) from None
    if published:
        raise BackboneError(
            f"no weights are published for all of '{section.name}': remove training.weights, and for a trained encoder set "
            'backbone.options = { encoder_weights = "imagenet" }'
        )
    architecture, slash, encoder = name.partition("/")
    if not slash:
        raise BackboneError(
            f"'{section.name}' names no encoder: networks of segmentation_models_pytorch are written "
            "smp:ARCHITECTURE/ENCODER, like smp:unet/resnet18"
        )
    arguments = {"encoder_weights": None, "in_channels": shape[0], "classes": classes, **section.options}
    model: nn.Module = call(smp.create_model, section, architecture, encoder_name=encoder, **arguments)
    return model


def _users(section: BackboneSection, name: str, shape: Shape, classes: int, published: bool) -> nn.Module:
    from torch import nn

    if published:
        raise BackboneError(
            f"no published weights are known for '{section.name}': name a state_dict file in training.weights"
        )
    function = load_object(section.name, what="backbone", error=BackboneError)
    if not callable(function):
        raise BackboneError(
            f"backbone '{section.name}' is a {type(function).__name__}, not a function that builds a model"
        )
    model = call(function, section, **{**users_arguments(function, shape[0], classes), **section.options})
    if not isinstance(model, nn.Module):
        raise BackboneError(f"backbone '{section.name}' returned a {type(model).__name__}, not a torch.nn.Module")
    return model


def users_arguments(function: Any, channels: int, classes: int) -> dict[str, int]:
    """What a user's function is told of channels and classes, by the names under which it wants to know."""
    try:
        accepted = inspect.signature(function).parameters
    except ValueError:
        return {}
    values = {"classes": classes, "channels": channels}
    return {name: values[what] for what, known in _USER_ARGUMENTS.items() for name in known if name in accepted}


def call(function: Any, section: BackboneSection, *args: Any, **options: Any) -> Any:
    """What a package's function builds.

    Raises:
        BackboneError: the function raised something.
    """
    try:
        return function(*args, **options)
    except Exception as error:
        shown = ", ".join(f"{name}={value!r}" for name, value in options.items()) or "no options"
        raise BackboneError(
            f"backbone '{section.name}' could not be built with {shown}: {type(error).__name__}: {_said(error)}"
        ) from error


def _said(error: BaseException) -> str:
    return shorten(str(error)) or type(error).__name__
