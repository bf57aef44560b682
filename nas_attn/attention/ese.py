"""Effective squeeze-and-excitation: one full linear layer on the channel means, and a hard sigmoid.

Lee, Park: CenterMask, CVPR 2020, https://arxiv.org/abs/1911.06667
"""

from torch import Tensor, nn
from torch.nn import functional

from nas_attn.attention.gates import zero_
from nas_attn.attention.row import Init


class EffectiveSqueezeExcitation(nn.Module):
    """`y = x·hardsigmoid(W mean(x))`, the mean over H and W, `hardsigmoid(z) = clip(z + 3, 0, 6) / 6`.

    Start: `identity` zeroes W and doubles the gate.
    Cost: C² + C parameters, C² MACs. Any map size.
    """

    def __init__(self, channels: int, *, init: Init = "paper") -> None:
        super().__init__()
        self.scale = 2.0 if init == "identity" else 1.0
        self.fc = nn.Linear(channels, channels)
        if init == "identity":
            zero_(self.fc)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        a_NC = functional.hardsigmoid(self.fc(x_NCHW.mean((2, 3)))) * self.scale
        return x_NCHW * a_NC.to(x_NCHW.dtype)[:, :, None, None]
