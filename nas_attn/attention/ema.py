"""Efficient multi-scale attention: in groups of channels, strip gates and a 3x3 branch weigh each other's pixels.

Ouyang, He, Zhang, Luo, Guo, Zhan, Huang: EMA, ICASSP 2023, https://arxiv.org/abs/2305.13563
"""

import torch
from torch import Tensor, nn

from nas_attn.attention.gates import blend
from nas_attn.attention.norms import GroupNorm
from nas_attn.attention.row import Init


class EfficientMultiScale(nn.Module):
    """Per group `y = x·s(softmax(mean u)·v + softmax(mean v)·u)`, `u = GN(x·s(strip_h)·s(strip_w))`, `v = conv3(x)`.

    The strips are a shared 1x1 convolution of the means along W and along H; GN has one group per channel, so `mean u`
    is its bias and the first softmax does not depend on x.

    Start: `identity` blends: `x + a·(y - x)` with one learned scalar a, at first 0.
    Cost: 10g² + 4g parameters, g = C / groups (1 more with the blend); (g(H + W) + (9g + 2)HW)C MACs. Any map size.
    """

    def __init__(self, channels: int, *, groups: int = 32, init: Init = "paper") -> None:
        super().__init__()
        self.shape = (groups, width := channels // groups)
        self.strips = nn.Conv1d(width, width, 1)
        self.norm = GroupNorm(width, width)
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.blend = nn.Parameter(torch.zeros(())) if init == "identity" else None

    def forward(self, x_NCHW: Tensor) -> Tensor:
        height, width = x_NCHW.shape[2:]
        x_NGCHW = torch.unflatten(x_NCHW, 1, self.shape)
        x_BCHW = x_NGCHW.flatten(0, 1)  # B = N·G: the groups are images of their own
        strips_BCL: Tensor = self.strips(torch.cat((x_BCHW.mean(3), x_BCHW.mean(2)), 2)).sigmoid()
        a_BCH, a_BCW = torch.split(strips_BCL, [height, width], 2)
        u_BCHW: Tensor = self.norm(x_BCHW * a_BCH[..., None] * a_BCW[:, :, None])
        v_BCHW: Tensor = self.conv(x_BCHW)
        z_B1P = self._weigh(u_BCHW, v_BCHW) + self._weigh(v_BCHW, u_BCHW)
        s_NG1HW = torch.sigmoid(z_B1P).to(x_NCHW.dtype).view(-1, self.shape[0], 1, height, width)
        return blend(x_NGCHW, x_NGCHW * s_NG1HW, self.blend).flatten(1, 2)

    @staticmethod
    def _weigh(by_BCHW: Tensor, of_BCHW: Tensor) -> Tensor:
        """`softmax(mean(by))·of`: `(B, 1, HW)`."""
        weight_B1C = torch.softmax(by_BCHW.mean((2, 3)), 1)[:, None]
        return weight_B1C.to(of_BCHW.dtype) @ of_BCHW.flatten(2)
