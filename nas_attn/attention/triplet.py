"""Triplet attention: three gates, each a map over two of the dimensions C, H, W, pooled over the third.

Misra, Nalamada, Arasanipalai, Hou: Rotate to Attend, WACV 2021, https://arxiv.org/abs/2010.03045
"""

from torch import Tensor, nn

from nas_attn.attention.gates import gate, max_mean, zero_
from nas_attn.attention.norms import BatchNorm2d
from nas_attn.attention.row import Init


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
