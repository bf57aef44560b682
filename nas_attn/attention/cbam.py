"""Channel gates and spatial gates, in turn or together.

- Woo, Park, Lee, Kweon: CBAM, ECCV 2018, https://arxiv.org/abs/1807.06521
- Park, Woo, Lee, Kweon: BAM, BMVC 2018, https://arxiv.org/abs/1807.06514
- Misra, Nalamada, Arasanipalai, Hou: Rotate to Attend, WACV 2021, https://arxiv.org/abs/2010.03045
"""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from nas_attn.attention.gates import gate, max_mean, zero_
from nas_attn.attention.norms import BatchNorm1d, BatchNorm2d
from nas_attn.attention.row import Init


class BottleneckAttention(nn.Module):
    """`y = x·(1 + s(M_c + M_s))`: M_c an MLP on the channel means, M_s 1x1, two dilated 3x3, 1x1 convolutions.

    Each branch ends in a batch normalisation (`sum`); the authors' code has none and multiplies the two (`product`).

    Start: `identity` zeroes the last layers (`product`: of the spatial branch) and uses `y = x·2s(…)`.
    Cost, h = C / reduction: 3Ch + 18h² + 13h + C + 1 parameters, `sum` 2C + 2 more; 2Ch + (Ch + 18h² + h)HW MACs. Any
    map size.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        dilation: int = 4,
        combine: Literal["sum", "product"] = "sum",
        init: Init = "paper",
    ) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.identity = init == "identity"
        self.combine = combine
        self.channel = nn.Sequential(
            nn.Linear(channels, hidden), BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, channels)
        )
        dilated: list[nn.Module] = []
        for _ in range(2):
            conv = nn.Conv2d(hidden, hidden, 3, padding=dilation, dilation=dilation)
            dilated += [conv, BatchNorm2d(hidden), nn.ReLU()]
        self.spatial = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), BatchNorm2d(hidden), nn.ReLU(), *dilated, nn.Conv2d(hidden, 1, 1)
        )
        if combine == "sum":
            self.channel.append(BatchNorm1d(channels))
            self.spatial.append(BatchNorm2d(1))
        if self.identity:
            zero_(self.spatial[-1])
            if combine == "sum":  # of a product, one factor at zero is enough, and two would stay there
                zero_(self.channel[-1])

    def forward(self, x_NCHW: Tensor) -> Tensor:
        c_NC11 = self.channel(x_NCHW.mean((2, 3)))[:, :, None, None]
        s_N1HW = self.spatial(x_NCHW)
        z_NCHW = c_NC11 + s_N1HW if self.combine == "sum" else c_NC11 * s_N1HW
        a_NCHW = gate(z_NCHW, x_NCHW, identity=self.identity)
        return x_NCHW * a_NCHW if self.identity else x_NCHW + x_NCHW * a_NCHW


class PlaneGate(nn.Module):
    """`s(BN(conv_k([max; mean])))`, pooled over one dimension, in which the gate has size 1. Ties of the maximum share the
    gradient."""

    def __init__(self, kernel_size: int, *, norm: bool = True, identity: bool) -> None:
        super().__init__()
        self.identity = identity
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = BatchNorm2d(1, momentum=0.01) if norm else nn.Identity()
        if identity:
            zero_(self.norm if norm else self.conv)

    def forward(self, x_NCHW: Tensor, dim: int) -> Tensor:
        pooled_N2AB = max_mean(x_NCHW, dim).transpose(1, dim)  # for W over (H, C), as the authors have it
        a_N1AB = gate(self.norm(self.conv(pooled_N2AB)), x_NCHW, identity=self.identity)
        return a_N1AB.transpose(1, dim)


class TripletAttention(nn.Module):
    """`y = x·(a_cw + a_ch + a_hw) / 3`, each gate `s(BN(conv_k([max; mean])))` with the pooling over the third dimension.

    Ties of a maximum share the gradient.

    Start: `identity` zeroes each normalisation's affine and uses 2s.
    Cost: 2k² + 2 parameters a gate, 2k²(CH + CW + HW) MACs. Any map size.
    """

    def __init__(self, channels: int, *, kernel_size: int = 7, spatial: bool = True, init: Init = "paper") -> None:
        super().__init__()
        self.channels = channels
        identity = init == "identity"
        self.gate_cw = PlaneGate(kernel_size, identity=identity)
        self.gate_ch = PlaneGate(kernel_size, identity=identity)
        self.gate_hw = PlaneGate(kernel_size, identity=identity) if spatial else None

    def forward(self, x_NCHW: Tensor) -> Tensor:
        a_NC1W: Tensor = self.gate_cw(x_NCHW, 2)
        a_NCH1: Tensor = self.gate_ch(x_NCHW, 3)
        if self.gate_hw is None:
            return x_NCHW * ((a_NC1W + a_NCH1) / 2)
        a_N1HW: Tensor = self.gate_hw(x_NCHW, 1)
        return x_NCHW * ((a_NC1W + a_NCH1 + a_N1HW) / 3)


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
