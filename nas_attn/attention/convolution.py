"""Plain residual convolutions: controls, not attention."""

from torch import Tensor, nn
from torch.nn import functional

from nas_attn.attention.choice import Init
from nas_attn.attention.gates import (
    BatchNorm2d,
    convolved,
    typed_like,
    zero_,
)
from nas_attn.attention.knobs import Odd


class ResidualConvolution(nn.Module):
    """`y = x + BN(conv(relu(x)))`. `identity` zeroes the normalisation's affine."""

    def __init__(self, conv: nn.Conv2d, init: Init) -> None:
        super().__init__()
        self.conv = conv
        self.norm = BatchNorm2d(conv.out_channels)
        if init == "identity":
            zero_(self.norm)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        z_NCHW: Tensor = self.norm(convolved(self.conv, functional.relu(x_NCHW)))
        return x_NCHW + typed_like(z_NCHW, x_NCHW)


class PointwiseConvolution(ResidualConvolution):
    """Residual 1×1 convolution (a control, not attention)

    Paper: He et al. 2016, arXiv:1603.05027.

    `y = x + BN(conv1x1(relu(x)))`: one more layer, which mixes the channels of each pixel.

    Start: `identity` zeroes the normalisation's affine.
    """

    def __init__(self, channels: int, *, init: Init = "paper") -> None:
        super().__init__(nn.Conv2d(channels, channels, 1, bias=False), init)


class DepthwiseConvolution(ResidualConvolution):
    """Residual depth-wise convolution (a control, not attention)

    Paper: He et al. 2016, arXiv:1603.05027.

    `y = x + BN(conv_k(relu(x)))`: one more layer, which mixes the k x k pixels of each channel.

    Start: `identity` zeroes the normalisation's affine.

    Args:
        kernel_size: odd side of the convolution
    """

    def __init__(self, channels: int, *, kernel_size: Odd = 3, init: Init = "paper") -> None:
        reach = kernel_size // 2
        super().__init__(
            nn.Conv2d(channels, channels, kernel_size, padding=reach, groups=channels, bias=False),
            init,
        )
