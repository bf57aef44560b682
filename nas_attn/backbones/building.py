"""A backbone by name: `resnet20`, `torchvision:resnet50`, `timm:convnext_tiny`, `package.module:function`."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from nas_attn.backbones import weights as trained
from nas_attn.errors import BackboneError, did_you_mean
from nas_attn.importing import load_object
from nas_attn.recipe import BackboneSection

if TYPE_CHECKING:
    from torch import nn

_AUXILIARY_OFF = {"aux_logits": False, "init_weights": True}
TORCHVISION_OPTIONS: dict[str, dict[str, Any]] = {"googlenet": _AUXILIARY_OFF, "inception_v3": _AUXILIARY_OFF}
"""Arguments without which a torchvision model returns more than logits while training."""

_USER_ARGUMENTS = {"classes": ("classes", "num_classes"), "channels": ("in_channels", "in_chans")}


def names() -> list[str]:
    """Names that `build` knows by itself: the CIFAR ResNets and torchvision's classification models."""
    from nas_attn.backbones.cifar import MODELS

    return [*MODELS, *(f"torchvision:{name}" for name in _torchvision_names())]


def build(
    section: BackboneSection, *, input_shape: tuple[int, int, int], classes: int, pretrained: bool | str = False
) -> nn.Module:
    """A backbone for images of this shape, initialised from torch's global generator.

    Args:
        input_shape: channels, height, width of one image.
        pretrained: True or `default` for the weights that torchvision or timm publish, or the path of a state_dict
            file. A head for another number of classes stays random, a first layer for other channels is adapted.

    Raises:
        BackboneError: the name or an option is unknown, a package is missing, the weights do not fit.
    """
    source, colon, name = section.name.partition(":")
    published = pretrained is True or pretrained == "default"
    if not colon:
        model = _cifar(section, input_shape[0], classes, published)
    else:
        if section.width is not None:
            raise BackboneError(
                f"backbone.width is a setting of the CIFAR ResNets, '{section.name}' has none: leave it out"
            )
        if source == "torchvision":
            model = _torchvision(section, name, input_shape[0], classes, published)
        elif source == "timm":
            model = _timm(section, name, input_shape[0], classes, published)
        else:
            model = _users(section, input_shape[0], classes, published)
    if isinstance(pretrained, str) and not published:
        trained.load_weights(model, pretrained)
    return model


def _cifar(section: BackboneSection, channels: int, classes: int, published: bool) -> nn.Module:
    from nas_attn.backbones.cifar import MODELS

    if section.name not in MODELS:
        close = did_you_mean(section.name, [*MODELS, *_torchvision_names()])
        for name in _torchvision_names():
            close = close.replace(f"'{name}'", f"'torchvision:{name}'")
        raise BackboneError(
            f"unknown backbone '{section.name}': {close} "
            "Others are written torchvision:NAME, timm:NAME or package.module:function."
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


def _torchvision_names() -> list[str]:
    import torchvision

    found: list[str] = torchvision.models.list_models(module=torchvision.models)
    return found


def _torchvision(section: BackboneSection, name: str, channels: int, classes: int, published: bool) -> nn.Module:
    import torchvision

    known = _torchvision_names()
    if name not in known:
        raise BackboneError(f"unknown torchvision model '{name}': {did_you_mean(name, known)}")
    options = {**TORCHVISION_OPTIONS.get(name, {}), "num_classes": classes, **section.options}
    model: nn.Module = _call(torchvision.models.get_model, section, name, **options)
    if channels != 3:
        _change_input(model, channels, section.name)
    if published:
        try:
            state = torchvision.models.get_model_weights(name).DEFAULT.get_state_dict(progress=False)
        except Exception as error:
            raise BackboneError(
                f"the weights of '{section.name}' could not be downloaded: {_first_line(error)}"
            ) from error
        trained.fit(model, state, where=f"weights of '{section.name}'")
    return model


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


def _timm(section: BackboneSection, name: str, channels: int, classes: int, published: bool) -> nn.Module:
    try:
        import timm
    except ImportError:
        raise BackboneError(f"'{section.name}' needs timm: pip install 'nas-attn[timm]'") from None
    if not timm.is_model(name.partition(".")[0]):
        raise BackboneError(f"unknown timm model '{name}': {did_you_mean(name, timm.list_models())}")
    arguments = {"num_classes": classes, "in_chans": channels, "pretrained": published, **section.options}
    model: nn.Module = _call(timm.create_model, section, name, **arguments)
    return model


def _users(section: BackboneSection, channels: int, classes: int, published: bool) -> nn.Module:
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
    try:
        accepted = inspect.signature(function).parameters
    except ValueError:
        accepted = {}  # type: ignore[assignment]
    values = {"classes": classes, "channels": channels}
    given = {name: values[what] for what, known in _USER_ARGUMENTS.items() for name in known if name in accepted}
    model = _call(function, section, **{**given, **section.options})
    if not isinstance(model, nn.Module):
        raise BackboneError(f"backbone '{section.name}' returned a {type(model).__name__}, not a torch.nn.Module")
    return model


def _call(function: Any, section: BackboneSection, *args: Any, **options: Any) -> Any:
    try:
        return function(*args, **options)
    except Exception as error:
        raise BackboneError(
            f"backbone '{section.name}' could not be built with {_options(options)}: {type(error).__name__}: {_first_line(error)}"
        ) from error


def _options(options: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in options.items()) or "no options"


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
