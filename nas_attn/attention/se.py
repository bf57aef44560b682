"""Squeeze-and-excitation: the mean of each channel, through a bottleneck, gates the channels.

Hu, Shen, Albanie, Sun, Wu: Squeeze-and-Excitation Networks, CVPR 2018, https://arxiv.org/abs/1709.01507
"""

from torch import Tensor, nn
from torch.nn import functional

from nas_attn.attention.gates import gate, zero_
from nas_attn.attention.row import Init, hidden_width


class SqueezeExcitation(nn.Module):
    """`y = x·s(W2 relu(W1 mean(x)))`, the mean over H and W, h = max(1, C // reduction).

    Start: `identity` zeroes W2 and uses 2s.
    Cost: 2Ch parameters (and h + C biases), 2Ch MACs. Any map size.
    """

    def __init__(
        self, channels: int, *, reduction: int = 16, bias: bool = True, divisor: int = 1, init: Init = "paper"
    ) -> None:
        super().__init__()
        hidden = hidden_width(channels, reduction, divisor)
        self.identity = init == "identity"
        self.reduce = nn.Linear(channels, hidden, bias=bias)
        self.expand = nn.Linear(hidden, channels, bias=bias)
        if self.identity:
            zero_(self.expand)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        z_NC = self.expand(functional.relu(self.reduce(x_NCHW.mean((2, 3)))))
        return x_NCHW * gate(z_NC, x_NCHW, identity=self.identity)[:, :, None, None]
