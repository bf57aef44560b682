"""Gates from depth-wise convolutions over large kernels.

- Li, Hou, Zheng, Cheng, Yang, Li: LSKNet, ICCV 2023, https://arxiv.org/abs/2303.09030
- Lau, Po, Rehman: LSKA, Expert Systems with Applications 2023, https://arxiv.org/abs/2309.01439
"""

from typing import Any

import torch
from torch import Tensor, nn

from nas_attn.attention.gates import gate, unity_
from nas_attn.attention.row import Init
from nas_attn.attention.rows.kernel import lska_sizes


class LargeSelectiveKernel(nn.Module):
    """`y = x·W(a_1·u_1 + a_2·u_2)`, `[a_1; a_2] = s(conv7([mean_C u; max_C u]))`, `u = [u_1; u_2]` both 1x1 C to h.

    u_1 is of a depth-wise 5x5 convolution of x, u_2 of a 7x7 one with dilation 3 behind that. This is the selection
    alone; the block that LSKNet puts around it (1x1, GELU, this, 1x1, shortcut) is the network's. Ties of the maximum
    share the gradient.

    Start: `identity` starts W at weight 0 and bias 1.
    Cost, h = C / reduction: 77C + 3Ch + 2h + 4k² + 2 parameters, (74C + 3Ch + 4k²)HW MACs. Any map size.
    """

    def __init__(self, channels: int, *, reduction: int = 2, kernel_size: int = 7, init: Init = "paper") -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.near = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.far = nn.Conv2d(channels, channels, 7, padding=9, dilation=3, groups=channels)
        self.reduce_near = nn.Conv2d(channels, hidden, 1)
        self.reduce_far = nn.Conv2d(channels, hidden, 1)
        self.select = nn.Conv2d(2, 2, kernel_size, padding=kernel_size // 2)
        self.expand = nn.Conv2d(hidden, channels, 1)
        if init == "identity":
            unity_(self.expand)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        near_NCHW = self.near(x_NCHW)
        u_NMHW, v_NMHW = self.reduce_near(near_NCHW), self.reduce_far(self.far(near_NCHW))
        both_NBHW = torch.cat((u_NMHW, v_NMHW), 1)
        pooled_N2HW = torch.cat((both_NBHW.mean(1, keepdim=True), both_NBHW.amax(1, keepdim=True)), 1)
        a_N2HW = gate(self.select(pooled_N2HW), u_NMHW, identity=False)
        z_NCHW: Tensor = self.expand(u_NMHW * a_N2HW[:, :1] + v_NMHW * a_N2HW[:, 1:])
        return x_NCHW * z_NCHW.to(x_NCHW.dtype)


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
