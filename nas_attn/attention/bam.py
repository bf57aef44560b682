"""Bottleneck attention module: a channel branch and a dilated spatial branch make one gate.

Park, Woo, Lee, Kweon: BAM, BMVC 2018, https://arxiv.org/abs/1807.06514
"""

from typing import Literal

from torch import Tensor, nn

from nas_attn.attention.gates import gate, zero_
from nas_attn.attention.norms import BatchNorm1d, BatchNorm2d
from nas_attn.attention.row import Init


class BottleneckAttention(nn.Module):
    """`y = x·(1 + s(M_c + M_s))`: M_c an MLP on the channel means, M_s 1x1, two dilated 3x3, 1x1 convolutions.

    Each branch ends in a batch normalisation (`sum`); the authors' code has none and multiplies the two (`product`).

    Start: `identity` zeroes the last layers (`product`: of the spatial branch) and uses `y = x·2s(…)`.
    Cost, h = C / reduction: 3Ch + 18h² + 13h + C + 1 parameters, `sum` 2C + 2 more; 2Ch + (Ch + 18h² + h)HW MACs. Any
    map size.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        dilation: int = 4,
        combine: Literal["sum", "product"] = "sum",
        init: Init = "paper",
    ) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.identity = init == "identity"
        self.combine = combine
        self.channel = nn.Sequential(
            nn.Linear(channels, hidden), BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, channels)
        )
        dilated: list[nn.Module] = []
        for _ in range(2):
            conv = nn.Conv2d(hidden, hidden, 3, padding=dilation, dilation=dilation)
            dilated += [conv, BatchNorm2d(hidden), nn.ReLU()]
        self.spatial = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), BatchNorm2d(hidden), nn.ReLU(), *dilated, nn.Conv2d(hidden, 1, 1)
        )
        if combine == "sum":
            self.channel.append(BatchNorm1d(channels))
            self.spatial.append(BatchNorm2d(1))
        if self.identity:
            zero_(self.spatial[-1])
            if combine == "sum":  # of a product, one factor at zero is enough, and two would stay there
                zero_(self.channel[-1])

    def forward(self, x_NCHW: Tensor) -> Tensor:
        c_NC11 = self.channel(x_NCHW.mean((2, 3)))[:, :, None, None]
        s_N1HW = self.spatial(x_NCHW)
        z_NCHW = c_NC11 + s_N1HW if self.combine == "sum" else c_NC11 * s_N1HW
        a_NCHW = gate(z_NCHW, x_NCHW, identity=self.identity)
        return x_NCHW * a_NCHW if self.identity else x_NCHW + x_NCHW * a_NCHW
