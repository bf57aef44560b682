"""Efficient channel attention: each channel's gate comes from the means of its neighbours.

Wang, Wu, Zhu, Li, Zuo, Hu: ECA-Net, CVPR 2020, https://arxiv.org/abs/1910.03151
"""

from typing import Literal

from torch import Tensor, nn

from nas_attn.attention.gates import gate, zero_
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
