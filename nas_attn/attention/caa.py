"""Context anchor attention: a gate from local means that depth-wise strips carry along rows and columns.

Cai, Lai, Wang, Wang, Sun, Liao: Poly Kernel Inception Network (PKINet), CVPR 2024, https://arxiv.org/abs/2403.06258
"""

from torch import Tensor, nn
from torch.nn import functional

from nas_attn.attention.gates import gate, zero_
from nas_attn.attention.norms import BatchNorm2d
from nas_attn.attention.row import Init


class ContextAnchor(nn.Module):
    """`y = x·s(f2(column_k(row_k(f1(mean_p(x))))))`: local means, 1x1, a depth-wise row, a depth-wise column, 1x1.

    The means are over p x p pixels, zeros beyond the border among them. f1, f2 are a 1x1 convolution, batch
    normalisation and SiLU in the authors' code; the paper's equations have the convolution alone.

    Start: `identity` zeroes the last layer and uses 2s.
    Cost: 2C² + (2k + 6)C parameters, (2C² + 2kC)HW MACs; without `norm` 2C less. Any map size.
    """

    def __init__(
        self, channels: int, *, kernel_size: int = 11, pool_size: int = 7, norm: bool = True, init: Init = "paper"
    ) -> None:
        super().__init__()
        self.identity = init == "identity"
        self.pool_size = pool_size
        reach = kernel_size // 2
        self.first = self._mix(channels, norm)
        self.rows = nn.Conv2d(channels, channels, (1, kernel_size), padding=(0, reach), groups=channels)
        self.columns = nn.Conv2d(channels, channels, (kernel_size, 1), padding=(reach, 0), groups=channels)
        self.last = self._mix(channels, norm)
        if self.identity:
            zero_(self.last[1] if norm else self.last[0])

    @staticmethod
    def _mix(channels: int, norm: bool) -> nn.Sequential:
        if not norm:
            return nn.Sequential(nn.Conv2d(channels, channels, 1))
        conv = nn.Conv2d(channels, channels, 1, bias=False)
        return nn.Sequential(conv, BatchNorm2d(channels, eps=1e-3, momentum=0.03), nn.SiLU())

    def forward(self, x_NCHW: Tensor) -> Tensor:
        p_NCHW = functional.avg_pool2d(x_NCHW, self.pool_size, 1, self.pool_size // 2)
        z_NCHW = self.last(self.columns(self.rows(self.first(p_NCHW))))
        return x_NCHW * gate(z_NCHW, x_NCHW, identity=self.identity)
