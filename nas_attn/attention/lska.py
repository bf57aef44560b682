"""Large separable kernel attention: depth-wise strips, dense then dilated, gate the map without a sigmoid.

Lau, Po, Rehman: LSKA, Expert Systems with Applications 2023, https://arxiv.org/abs/2309.01439
"""

from typing import Any

from torch import Tensor, nn

from nas_attn.attention.gates import unity_
from nas_attn.attention.row import Init
from nas_attn.attention.rows.kernel import lska_sizes


class LargeSeparableKernel(nn.Module):
    """`y = x·conv1x1(dilated strips(strips(x)))`: rows and columns, depth-wise, once dense and once dilated.

    Start: `identity` starts the 1x1 convolution at weight 0 and bias 1.
    Cost: 2C(a + b + 2) + C² + C parameters, (2a + 2b + C)CHW MACs, strips of a and b taps (11: 3 and 5). Any map size.
    """

    def __init__(self, channels: int, *, kernel_size: int = 11, init: Init = "paper") -> None:
        super().__init__()
        dense, dilated, dilation = lska_sizes(kernel_size)
        reach = dilated // 2 * dilation
        self.rows = nn.Conv2d(channels, channels, (1, dense), padding=(0, dense // 2), groups=channels)
        self.columns = nn.Conv2d(channels, channels, (dense, 1), padding=(dense // 2, 0), groups=channels)
        far: dict[str, Any] = {"dilation": dilation, "groups": channels}
        self.far_rows = nn.Conv2d(channels, channels, (1, dilated), padding=(0, reach), **far)
        self.far_columns = nn.Conv2d(channels, channels, (dilated, 1), padding=(reach, 0), **far)
        self.mix = nn.Conv2d(channels, channels, 1)
        if init == "identity":
            unity_(self.mix)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        a_NCHW: Tensor = self.mix(self.far_columns(self.far_rows(self.columns(self.rows(x_NCHW)))))
        return x_NCHW * a_NCHW.to(x_NCHW.dtype)
