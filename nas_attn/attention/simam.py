"""SimAM: a gate per value from how far it lies from its channel's mean; no parameters.

Yang, Zhang, Li, Xie: SimAM, ICML 2021, https://proceedings.mlr.press/v139/yang21o.html
"""

import torch
from torch import Tensor, nn

from nas_attn.attention.gates import blend, free_values
from nas_attn.attention.row import Init


class SimAM(nn.Module):
    """`y = x·s(d / (4(v + λ)) + ½)`, `d = (x - mean(x))²`, `v = sum(d) / (HW - 1)`, over H and W.

    A map of one pixel has d = v = 0, so its gate is s(½).

    Start: `identity` blends: `x + a·(y - x)` with one learned scalar a, at first 0.
    Cost: no parameters (1 with the blend), no MACs. Any map size.
    """

    def __init__(self, channels: int, *, e_lambda: float = 1e-4, unbiased: bool = True, init: Init = "paper") -> None:
        super().__init__()
        self.channels = channels
        self.e_lambda = e_lambda
        self.unbiased = unbiased
        self.blend = nn.Parameter(torch.zeros(())) if init == "identity" else None

    def forward(self, x_NCHW: Tensor) -> Tensor:
        height, width = x_NCHW.shape[2:]
        count = free_values(height * width) if self.unbiased else height * width
        d_NCHW = (x_NCHW - x_NCHW.mean((2, 3), keepdim=True)).square()
        v_NC11 = d_NCHW.sum((2, 3), keepdim=True) / count
        y_NCHW = x_NCHW * torch.sigmoid(d_NCHW / (4 * (v_NC11 + self.e_lambda)) + 0.5)
        return blend(x_NCHW, y_NCHW, self.blend)
