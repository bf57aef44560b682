"""Efficient channel attention and its kin: each channel's gate comes from the means of its neighbours.

- Wang, Wu, Zhu, Li, Zuo, Hu: ECA-Net, CVPR 2020, https://arxiv.org/abs/1910.03151
- Wan, Lu, Shen, Feng, Tang, Wei: Mixed local channel attention for object detection, EAAI 2023,
  https://doi.org/10.1016/j.engappai.2023.106442
"""

from typing import Literal

import torch
from torch import Tensor, nn

from nas_attn.attention.gates import gate, zero_
from nas_attn.attention.pooling import adaptive_mean
from nas_attn.attention.row import Init


class EfficientChannel(nn.Module):
    """`y = x·s(conv_k(mean(x)))`, the mean over H and W, the convolution over the channels.

    Start: `identity` zeroes the convolution and uses 2s.
    Cost: k parameters, Ck MACs. Any map size.
    """

    def __init__(
        self, channels: int, *, kernel_size: int, padding: Literal["zeros", "circular"] = "zeros", init: Init = "paper"
    ) -> None:
        super().__init__()
        self.identity = init == "identity"
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, padding_mode=padding, bias=False)
        if self.identity:
            zero_(self.conv)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        z_NC1 = self.conv(x_NCHW.mean((2, 3))[:, None]).transpose(1, 2)
        return x_NCHW * gate(z_NC1, x_NCHW, identity=self.identity)[..., None]


class MixedLocalChannel(nn.Module):
    """`y = x·U((1 - w)·s(conv_k(mean(p))) + w·s(conv_k'(p)))`, p the means of l x l cells of the map.

    Both convolutions run along the channels, the second along those of all cells, one cell behind the other. Means over
    cells and their spreading over the map, U, are adaptive average pooling, down and up again. The mean of a map is
    that of its cells.

    Start: `identity` zeroes both convolutions and uses 2s.
    Cost: 2k parameters, Ck(1 + l²) + 2ClH(W + l) MACs, l = local_size. Any map size.
    """

    def __init__(
        self, channels: int, *, kernel_size: int, local_size: int = 5, local_weight: float = 0.5, init: Init = "paper"
    ) -> None:
        super().__init__()
        self.channels = channels
        self.identity = init == "identity"
        self.local_size = local_size
        self.local_weight = local_weight
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.conv_local = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)
        if self.identity:
            zero_(self.conv, self.conv_local)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        local, (height, width) = self.local_size, x_NCHW.shape[2:]
        p_NCLL = adaptive_mean(x_NCHW, local, local)
        p_NLC = p_NCLL.flatten(2).transpose(1, 2)
        z_NLC = self.conv_local(p_NLC.reshape(-1, 1, local**2 * self.channels)).view(-1, local**2, self.channels)
        z_NC1 = self.conv(p_NLC.mean(1)[:, None]).view(-1, self.channels, 1)
        a_NC1, a_NCL = self._gate(z_NC1, x_NCHW), self._gate(z_NLC, x_NCHW).transpose(1, 2)
        a_NCL = a_NC1 + self.local_weight * (a_NCL - a_NC1)
        a_NCHW = adaptive_mean(torch.unflatten(a_NCL, 2, (local, local)), height, width, growing=True).to(x_NCHW.dtype)
        return x_NCHW + x_NCHW * a_NCHW if self.identity else x_NCHW * a_NCHW

    def _gate(self, z: Tensor, x: Tensor) -> Tensor:
        """`s(z)`; in the identity form `2s(z) - 1`, to which 1 is added at last, where no rounding of a mean can change it."""
        s = torch.sigmoid(z).to(x.dtype)
        return s + s - 1 if self.identity else s
