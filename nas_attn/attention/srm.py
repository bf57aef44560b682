"""Style-based recalibration: mean and standard deviation of each channel gate it.

Lee, Kim, Nam: SRM, ICCV 2019, https://arxiv.org/abs/1903.10829
"""

import torch
from torch import Tensor, nn

from nas_attn.attention.gates import free_values, gate, sum_of_squares, zero_
from nas_attn.attention.norms import BatchNorm1d
from nas_attn.attention.row import Init

EPS = 1e-5
"""Added to the variance, as in the authors' code."""


class StyleRecalibration(nn.Module):
    """`y = x·s(BN(w_c·[mean(x), std(x)]))`, over H and W; a map of one pixel has variance 0.

    Start: `paper` starts w at zero; `identity` draws it, zeroes the normalisation's affine and uses 2s.
    Cost: 4C parameters, no MACs. Any map size; the normalisation learns from the batch, so train with N > 1.
    """

    def __init__(self, channels: int, *, init: Init = "paper") -> None:
        super().__init__()
        self.identity = init == "identity"
        self.style = nn.Parameter(torch.zeros(channels, 2))
        self.norm = BatchNorm1d(channels)
        if self.identity:
            # With both at zero neither would ever have a gradient.
            nn.init.uniform_(self.style, -(0.5**0.5), 0.5**0.5)
            zero_(self.norm)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        height, width = x_NCHW.shape[2:]
        mean_NC11 = x_NCHW.mean((2, 3), keepdim=True)
        # Not torch.var, which takes ten times as long on a CPU.
        square_NC = sum_of_squares(x_NCHW - mean_NC11)[:, :, 0, 0]
        std_NC = (square_NC / free_values(height * width) + EPS).sqrt()
        z_NC = self.norm(mean_NC11[:, :, 0, 0] * self.style[:, 0] + std_NC * self.style[:, 1])
        return x_NCHW * gate(z_NC, x_NCHW, identity=self.identity)[:, :, None, None]
