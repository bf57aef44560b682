"""Gather-excite: a gate for each channel from what lies around.

Hu et al. 2018, arXiv:1810.12348.
"""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from nas_attn.attention.choice import Init
from nas_attn.attention.gates import (
    BatchNorm2d,
    Blending,
    adaptive_mean,
    gate,
    is_free,
    zero_,
)
from nas_attn.attention.knobs import Reduction


class GlobalDepthwise(nn.Conv2d):
    """A depth-wise convolution whose kernel is as large as the map: one value per channel.

    Made for one map size, to which a map of another is brought by adaptive average pooling.
    """

    def __init__(self, channels: int, height: int, width: int) -> None:
        super().__init__(channels, channels, (height, width), groups=channels, bias=False)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        height, width = self.kernel_size
        return super().forward(brought_to(x_NCHW, height, width))


def brought_to(x_NCHW: Tensor, height: int, width: int) -> Tensor:
    """The map in this size, by adaptive average pooling where it is another."""
    free = any(map(is_free, x_NCHW.shape[2:]))
    if not free and x_NCHW.shape[2:] == (height, width):
        return x_NCHW
    return adaptive_mean(x_NCHW, height, width)


class GatherExcite(Blending):
    """Gather-excite

    Paper: Hu et al. 2018, arXiv:1810.12348.

    `y = x·s(up(g(x)))`: g gathers each channel over neighbourhoods, up repeats the nearest for
    every pixel.

    The neighbourhoods are 2e - 1 wide and e apart, e the extent; 0 stands for the whole map. GE-θ⁻
    gathers means, at the border over what lies inside. GE-θ gathers by log2 e depth-wise 3x3
    convolutions of stride 2 (for the whole map by one as large as it), each followed by a batch
    normalisation, with ReLU between. GE-θ⁺ has `conv1x1(relu(conv1x1(relu(g))))` behind these
    (`mlp`; of means without the first ReLU). `height` and `width` are those of the map for which a
    convolution over the whole of it is made.

    Start: `identity` zeroes the last layer and uses 2s; of bare means it blends, `x + a·(y - x)`
    with one learned scalar a, at first 0.

    Args:
        extent: of the neighbourhoods, 0 for the whole map
        gather: means (GE-θ⁻) or convolutions (GE-θ)
        mlp: a small network over the channels behind it (with conv: GE-θ⁺)
        reduction: channels divided by that network's hidden width
    """

    def __init__(  # noqa: PLR0913 - its knobs
        self,
        channels: int,
        *,
        extent: Literal[0, 2, 4, 8] = 0,
        gather: Literal["mean", "conv"] = "mean",
        mlp: bool = False,
        reduction: Reduction = 16,
        height: int = 14,
        width: int = 14,
        init: Init = "paper",
    ) -> None:
        super().__init__()
        self.extent = extent
        self.identity = init == "identity" and (mlp or gather == "conv")
        self.start_blend(init == "identity" and not self.identity)
        self.gather = None
        if gather == "conv":
            self.gather = nn.Sequential(*_steps(channels, extent, height, width))
        self.mlp: nn.Sequential | None = None
        if mlp:
            hidden = max(1, channels // reduction)
            self.mlp = nn.Sequential(
                nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1)
            )
            if self.gather is not None:
                self.gather.append(nn.ReLU())
        if self.identity:
            last = self.mlp if self.mlp is not None else self.gather
            assert last is not None
            zero_(last[-1])

    def forward(self, x_NCHW: Tensor) -> Tensor:
        if self.gather is not None:
            z_NChw = self.gather(x_NCHW)
        elif self.extent == 0:
            z_NChw = x_NCHW.mean((2, 3), keepdim=True)
        else:
            size = 2 * self.extent - 1
            z_NChw = functional.avg_pool2d(
                x_NCHW, size, self.extent, self.extent - 1, count_include_pad=False
            )
        if self.mlp is not None:
            z_NChw = self.mlp(z_NChw)
        a_NChw = gate(z_NChw, x_NCHW, identity=self.identity)
        # of the whole map there is one, which spreads by itself
        if self.extent > 0:
            a_NChw = functional.interpolate(a_NChw, size=x_NCHW.shape[2:], mode="nearest")
        y_NCHW = x_NCHW * a_NChw
        return self.blended(x_NCHW, y_NCHW)


def _steps(channels: int, extent: int, height: int, width: int) -> list[nn.Module]:
    """The convolutions that gather, the last without the ReLU behind it."""
    if extent == 0:
        convolutions: list[nn.Conv2d] = [GlobalDepthwise(channels, height, width)]
    else:
        convolutions = [
            nn.Conv2d(channels, channels, 3, stride=2, padding=1, groups=channels, bias=False)
            for _ in range(extent.bit_length() - 1)
        ]
    steps: list[nn.Module] = []
    for convolution in convolutions:
        nn.init.kaiming_normal_(convolution.weight)
        steps += [convolution, BatchNorm2d(channels), nn.ReLU()]
    return steps[:-1]
