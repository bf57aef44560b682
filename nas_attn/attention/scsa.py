"""Spatial and channel synergistic attention: strip gates of four reaches, then channels that attend to each other.

Si, Xu, Zhu, Zhang, Dong, Chen, Li: SCSA, Neurocomputing 2025, https://arxiv.org/abs/2407.05128
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas_attn.attention.gates import gate, zero_
from nas_attn.attention.norms import GroupNorm
from nas_attn.attention.row import Init

REACHES = (3, 5, 7, 9)
"""Lengths of the convolutions, one for each group of channels."""


class SynergisticAttention(nn.Module):
    """`u = x·s(GN(f(mean_W x)))·s(GN'(f(mean_H x)))`, then `y = u·s(mean(softmax(QKᵀ/√d)V))`.

    f: depth-wise convolutions along a strip, of length 3, 5, 7, 9 for the four quarters of the channels; both
    directions share them. Q, K, V are u in means over windows, normalised over all of C, H and W and scaled by channel;
    in each head of d = C / heads channels, channels attend to channels. The windows do not overlap, and are never
    larger than the map; what is left over at the border takes no part.

    Start: `identity` zeroes both strips' normalisations and V, and uses 2s in all three gates.
    Cost: tC / groups + 10C parameters, t the sum of the lengths (24), tC / groups·(H + W) + (d + 3)C a window + Cd
    MACs. Any map size.
    """

    def __init__(
        self, channels: int, *, heads: int = 8, window_size: int = 7, groups: int = 4, init: Init = "paper"
    ) -> None:
        super().__init__()
        self.identity = init == "identity"
        self.heads = heads
        self.window_size = window_size
        self.width = channels // groups
        self.scale = (channels // heads) ** -0.5
        self.strips = nn.ModuleList(
            nn.Conv1d(self.width, self.width, length, padding=length // 2, groups=self.width)
            for length in REACHES[:groups]
        )
        self.norm_h = GroupNorm(groups, channels)
        self.norm_w = GroupNorm(groups, channels)
        self.norm = GroupNorm(1, channels)
        self.query, self.key, self.value = (
            nn.Conv2d(channels, channels, 1, bias=False, groups=channels) for _ in range(3)
        )
        if self.identity:
            zero_(self.norm_h, self.norm_w, self.value)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        a_NCH = gate(self.norm_h(self._along(x_NCHW.mean(3))), x_NCHW, identity=self.identity)
        a_NCW = gate(self.norm_w(self._along(x_NCHW.mean(2))), x_NCHW, identity=self.identity)
        u_NCHW = x_NCHW * a_NCH[..., None] * a_NCW[:, :, None]
        return u_NCHW * gate(self._channels(u_NCHW), x_NCHW, identity=self.identity)[:, :, None, None]

    def _along(self, m_NCL: Tensor) -> Tensor:
        parts = torch.split(m_NCL, self.width, 1)
        return torch.cat([strip(parts[i]) for i, strip in enumerate(self.strips)], 1)

    def _channels(self, u_NCHW: Tensor) -> Tensor:
        """`(N, C)`: what the heads give, before the sigmoid. The mean over windows is taken before the product with V's
        weights, which is the same and less."""
        p_NChw = self.norm(window_means(u_NCHW, self.window_size))
        q, k, v = (
            torch.unflatten(layer(p_NChw).flatten(2), 1, (self.heads, -1))
            for layer in (self.query, self.key, self.value)
        )
        weight_NADD = torch.softmax(q @ k.transpose(2, 3) * self.scale, 3)
        z_NAD1 = weight_NADD.to(v.dtype) @ v.mean(3, keepdim=True)
        return z_NAD1.flatten(1)


@torch.fx.wrap
def window_means(x_NCHW: Tensor, side: int) -> Tensor:
    """Means over windows of this side, at most the map's own."""
    return functional.avg_pool2d(x_NCHW, [min(side, size) for size in x_NCHW.shape[2:]])
