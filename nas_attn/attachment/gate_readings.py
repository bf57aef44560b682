"""What attached attention does to the maps of given images: by what it multiplies them, and how
much it changes them.

One rule reads every module, whoever wrote it: its result beside its map.
"""

from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from nas_attn.attachment.attaching import attached_modules, floating
from nas_attn.attachment.containers import CHILD
from nas_attn.attachment.participation import unwrapped
from nas_attn.attachment.survey import find_sites
from nas_attn.attachment.twins import twin_of
from nas_attn.attention.gates import LEAST_DIVISOR, in_float32
from nas_attn.backbones.torchvision_detectors import undecided
from nas_attn.errors import BackboneError, first_line


@dataclass(frozen=True, slots=True, eq=False)
class Gates:
    """What one attached module does to the maps of a batch of images.

    A module that multiplies its map has gates, `factor`, `channel` and `spatial`: 1 changes
    nothing. For one that adds to its map, as self-attention does, or replaces it, as a convolution
    does, `change` says more: 0 changes nothing.
    """

    path: str
    """`layer3.0.bn2.nas_attn.0`, as in `named_modules()`."""
    module: str
    """Its class, `SqueezeExcitation`."""
    factor: Tensor
    """`(N, C, H, W)`: result / map."""
    channel: Tensor
    """`(N, C)`: the mean of the factor over the pixels."""
    spatial: Tensor
    """`(N, H, W)`: the mean of the factor over the channels."""
    change: Tensor
    """`(N, H, W)`: the length of `result - map` over the channels, at each pixel; 1 is the map's
    own, as the root of its mean square over the pixels.
    """


def gates(model: nn.Module, images: Tensor) -> dict[str, Gates]:
    """Reads what each attached module does to these images: by what it multiplies its map, and how
    much it changes it. The network runs in evaluation mode, on a copy; the model does not change.

        for site, gates in na.gates(model, images).items():
            print(site, gates.channel.mean(), gates.change.mean())

    Args:
        model: a network with attention; it may be wrapped by DistributedDataParallel or
            torch.compile.
        images: `(N, C, H, W)` in floating point, normalised as in training. They are taken to the
            network's device and dtype.

    Returns:
        Name of each place -> the gates there, in the order in which the modules run. The name is
        that of the block in a placement, `stage3.block1`, or `stage3.block1@block` if it is not the
        block's usual position; of a site of one's own, the module's path. Further modules at one
        place, or further runs of one module, have `#2`, `#3` behind it.

    Raises:
        BackboneError: the model has no attention, `images` is no such batch, or the model cannot
            process it.
    """
    model = unwrapped(model)
    name = type(model).__name__
    if not attached_modules(model):
        raise BackboneError(
            f"{name} has no attention whose gates could be read: attach it first, and give the"
            " network itself, not a traced or exported copy"
        )
    if not isinstance(images, Tensor):
        raise BackboneError(f"images must be a tensor (N, C, H, W), not a {type(images).__name__}")
    if images.dim() != 4 or len(images) == 0 or not images.is_floating_point():
        raise BackboneError(
            f"images must be (N, C, H, W) in floating point, normalised as in training, not"
            f" {tuple(images.shape)} in {images.dtype}"
        )
    sites = _sites(model, images)
    read: dict[str, Gates] = {}
    try:
        with torch.inference_mode(False), torch.no_grad(), twin_of(model) as twin:
            undecided(twin.eval())
            for path, module in attached_modules(twin).items():
                place = path.partition(f".{CHILD}.")[0]
                hook = partial(_read, read, sites.get(place, place), path)
                module.register_forward_pre_hook(hook)
            twin(images.to(floating(twin)))
    except Exception as error:
        # whatever a user's own model may raise
        raise BackboneError(
            f"{name} cannot process images of shape {tuple(images.shape)}"
            f" ({type(error).__name__}: {first_line(error)}): give those it was made for"
        ) from error
    return read


def _sites(model: nn.Module, images: Tensor) -> dict[str, str]:
    """Path of each place for attention -> its name in a placement, that of its block if it has one;
    those at sites of one's own are not known.
    """
    names: dict[str, str] = {}
    _, channels, height, width = images.shape
    with suppress(BackboneError):
        for site in find_sites(model, (channels, height, width), granularity="both", heads=True):
            usual = site.default_position
            for position in sorted(site.positions, key=lambda p: p == usual):
                at = "" if position == usual else f"@{position}"
                names |= {point.path: f"{site.name}{at}" for point in site.at(position)}
    return names


def _read(
    read: dict[str, Gates], site: str, path: str, module: nn.Module, args: tuple[Tensor, ...]
) -> None:
    """Before a module runs: reads what it does to its map."""
    number = 1
    name = site
    while name in read:
        number += 1
        name = f"{site}#{number}"
    x_NCHW = _without_zeros(args[0])
    y_NCHW = in_float32(module.forward(x_NCHW.clone()))
    x_NCHW = in_float32(x_NCHW)
    factor_NCHW = y_NCHW / x_NCHW
    length_N11 = x_NCHW.square().sum(1).mean((1, 2)).sqrt()[:, None, None]
    change_NHW = (y_NCHW - x_NCHW).norm(dim=1) / length_N11.clamp_min(LEAST_DIVISOR)
    read[name] = Gates(
        path,
        type(module).__name__,
        factor_NCHW,
        factor_NCHW.mean((2, 3)),
        factor_NCHW.mean(1),
        change_NHW,
    )


def _without_zeros(x_NCHW: Tensor) -> Tensor:
    """The map with numbers for its zeros that rounding hides, and by which one can divide."""
    size = in_float32(x_NCHW).square().mean().sqrt()
    least = torch.where(size > 0, size, 1) * torch.finfo(x_NCHW.dtype).eps
    return torch.where(x_NCHW == 0, least.to(x_NCHW.dtype), x_NCHW)
