"""Global attention mechanism: an MLP over the channels at every pixel, then two 7x7 convolutions.

Liu, Shao, Hoffmann: GAM, 2021, https://arxiv.org/abs/2112.05561
"""

from typing import Literal

import torch
from torch import Tensor, nn

from nas_attn.attention.gates import gate, zero_
from nas_attn.attention.norms import BatchNorm2d
from nas_attn.attention.row import Init


class GlobalAttention(nn.Module):
    """`u = x·s(W2 relu(W1 x))` at every pixel, then `y = u·s(BN(conv7(relu(BN(conv7(u))))))`.

    Start: `identity` zeroes the last layer of each gate and uses 2s (a channel gate without sigmoid starts at 1).
    Cost, h = C / reduction: 2Ch + 98Ch/groups + 4h + 4C parameters, (2Ch + 98Ch/groups)HW MACs. Any map size.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 4,
        groups: int = 1,
        shuffle: bool = True,
        channel_sigmoid: bool = True,
        padding: Literal["zeros", "replicate"] = "zeros",
        init: Init = "paper",
    ) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.identity = init == "identity"
        self.channel_sigmoid = channel_sigmoid
        self.shuffle = nn.ChannelShuffle(groups) if shuffle and groups > 1 else nn.Identity()
        expand = nn.Conv2d(hidden, channels, 1)
        self.channel = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), expand)
        self.spatial = nn.Sequential(
            nn.Conv2d(channels, hidden, 7, padding=3, groups=groups, padding_mode=padding),
            BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, 7, padding=3, groups=groups, padding_mode=padding),
            BatchNorm2d(channels),
        )
        if self.identity:
            zero_(expand, self.spatial[-1])
            if not channel_sigmoid:
                expand.bias = nn.Parameter(torch.ones(channels))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        z_NCHW: Tensor = self.channel(x_NCHW)
        if self.channel_sigmoid:
            z_NCHW = gate(z_NCHW, x_NCHW, identity=self.identity)
        u_NCHW = x_NCHW * z_NCHW.to(x_NCHW.dtype)
        a_NCHW: Tensor = self.shuffle(gate(self.spatial(u_NCHW), x_NCHW, identity=self.identity))
        return u_NCHW * a_NCHW
