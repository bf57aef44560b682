"""Convolutional block attention module: a channel gate from mean and maximum, then a spatial gate.

Woo, Park, Lee, Kweon: CBAM, ECCV 2018, https://arxiv.org/abs/1807.06521
"""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from nas_attn.attention.gates import gate, zero_
from nas_attn.attention.row import Init
from nas_attn.attention.triplet import PlaneGate


class ChannelGate(nn.Module):
    """`x·s(MLP(mean(x)) + MLP(max(x)))` over H and W. Ties of the maximum share the gradient."""

    def __init__(self, channels: int, hidden: int, *, bias: bool, identity: bool) -> None:
        super().__init__()
        self.identity = identity
        self.reduce = nn.Linear(channels, hidden, bias=bias)
        self.expand = nn.Linear(hidden, channels, bias=bias)
        if identity:
            zero_(self.expand)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        z_NC = self._mlp(x_NCHW.amax((2, 3))) + self._mlp(x_NCHW.mean((2, 3)))
        return x_NCHW * gate(z_NC, x_NCHW, identity=self.identity)[:, :, None, None]

    def _mlp(self, pooled_NC: Tensor) -> Tensor:
        z_NC: Tensor = self.expand(functional.relu(self.reduce(pooled_NC)))
        return z_NC


class ConvolutionalBlockAttention(nn.Module):
    """`u = x·s(MLP(mean x) + MLP(max x))`, then `y = u·s(BN(conv_k([max_C u; mean_C u])))`.

    Start: `identity` zeroes the last layer of each gate and uses 2s.
    Cost, h = C / reduction: 2Ch + h + C + 2k² + 2 parameters, 4Ch + 2k²HW MACs.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        spatial_kernel_size: int = 7,
        gates: Literal["both", "channel", "spatial"] = "both",
        bias: bool = True,
        spatial_norm: bool = True,
        init: Init = "paper",
    ) -> None:
        super().__init__()
        identity, hidden = init == "identity", max(1, channels // reduction)
        self.channel: nn.Module = nn.Identity()
        self.spatial: nn.Module | None = None
        if gates != "spatial":
            self.channel = ChannelGate(channels, hidden, bias=bias, identity=identity)
        if gates != "channel":
            self.spatial = PlaneGate(spatial_kernel_size, norm=spatial_norm, identity=identity)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        u_NCHW: Tensor = self.channel(x_NCHW)
        return u_NCHW if self.spatial is None else u_NCHW * self.spatial(u_NCHW, 1)
