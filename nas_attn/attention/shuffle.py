"""Shuffle attention: in groups of channels one half gets channel gates, the other spatial ones; then channels are mixed.

Zhang, Yang: SA-Net, ICASSP 2021, https://arxiv.org/abs/2102.00240
"""

import torch
from torch import Tensor, nn

from nas_attn.attention.gates import gate, laid_out_like
from nas_attn.attention.norms import GroupNorm
from nas_attn.attention.row import Init


class ShuffleAttention(nn.Module):
    """Per group `u·s(w·mean(u) + b)` and `v·s(w·IN(v) + b)`, u and v its halves; then the two halves of C are interleaved.

    IN normalises each channel over the map, with scale and shift of its own before w and b. The groups share all of it.
    The halves of an odd group are unequal, v has one channel more; an odd C is interleaved from its larger half.

    Start: `paper` starts at w = 0, b = 1; `identity` at w = b = 0 with 2s, and deals the channels out beforehand, so
    that the mixing brings each back to its place.
    Cost: 3C/groups parameters, no MACs. Any map size.
    """

    def __init__(self, channels: int, *, groups: int = 64, init: Init = "paper") -> None:
        super().__init__()
        self.identity = init == "identity"
        width = channels // groups
        self.shape = (groups, width)
        half = (width // 2, width - width // 2)
        start = torch.zeros if self.identity else torch.ones
        self.channel_weight = nn.Parameter(torch.zeros(half[0]))
        self.channel_bias = nn.Parameter(start(half[0]))
        self.spatial_weight = nn.Parameter(torch.zeros(half[1]))
        self.spatial_bias = nn.Parameter(start(half[1]))
        self.norm = GroupNorm(half[1], half[1])

    def forward(self, x_NCHW: Tensor) -> Tensor:
        dealt_NCHW = torch.cat((x_NCHW[:, ::2], x_NCHW[:, 1::2]), 1) if self.identity else x_NCHW
        x_BCHW = torch.unflatten(dealt_NCHW, 1, self.shape).flatten(0, 1)  # B = N·G: the groups are images of their own
        half = self.shape[1] // 2
        u_BCHW, v_BCHW = x_BCHW[:, :half], x_BCHW[:, half:]
        z_BC = u_BCHW.mean((2, 3)) * self.channel_weight + self.channel_bias
        z_BCHW = self.norm(v_BCHW) * self.spatial_weight[:, None, None] + self.spatial_bias[:, None, None]
        y_BCHW = torch.cat(
            (
                u_BCHW * gate(z_BC, x_NCHW, identity=self.identity)[:, :, None, None],
                v_BCHW * gate(z_BCHW, x_NCHW, identity=self.identity),
            ),
            1,
        )
        y_NCHW = torch.unflatten(y_BCHW, 0, (-1, self.shape[0])).flatten(1, 2)
        return laid_out_like(x_NCHW, interleaved(y_NCHW, self.shape[0] * self.shape[1]))


def interleaved(x_NCHW: Tensor, channels: int) -> Tensor:
    """The channels of the first half (of an odd number, the larger) in turn with those of the second."""
    half = channels // 2
    first, last = x_NCHW[:, :half], x_NCHW[:, channels - half :]
    mixed = torch.stack((first, last), 2).flatten(1, 2)
    return mixed if channels % 2 == 0 else torch.cat((mixed, x_NCHW[:, half : half + 1]), 1)
