"""Self-attention on maps: every pixel is a mean of all others, weighted by likeness.

Letters: A heads, M heads of all images, D channels of a head, P pixels, K cells of the
(down-sampled) keys, S rows and T columns of these.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas_attn.attention.choice import Init
from nas_attn.attention.gates import (
    EPS,
    LEAST_DIVISOR_OF_HALVES,
    BatchNorm2d,
    free_values,
    is_free,
    is_traced,
    typed_like,
    zero_,
)
from nas_attn.attention.knobs import Heads, MapSide, Reduction


class ScaledDotProduct(nn.Module):
    """Scaled dot-product attention, one head

    Paper: Vaswani et al. 2017, arXiv:1706.03762; on maps Wang et al. 2018, arXiv:1711.07971.

    `y = x + W_o·softmax(QKᵀ/√h)V` with one head of width h, Q, K, V 1x1 convolutions of x.

    Start: `identity` zeroes W_o.

    Args:
        reduction: channels divided by the head's width
        downsample: side of the cells whose means are keys and values
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: Reduction = 2,
        downsample: MapSide = 1,
        init: Init = "paper",
    ) -> None:
        super().__init__()
        self.width = max(1, channels // reduction)
        self.downsample = downsample
        self.qkv = _projection(channels, self.width, downsample)
        self.out = nn.Conv2d(self.width, channels, 1)
        if init == "identity":
            zero_(self.out)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        q, k, v = self.qkv(x_NCHW) if self.downsample > 1 else self.qkv(x_NCHW).chunk(3, 1)
        q_N1PD, k_N1KD, v_N1KD = (t.flatten(2).transpose(1, 2)[:, None] for t in (q, k, v))
        a_N1PD = functional.scaled_dot_product_attention(
            q_N1PD, k_N1KD, v_N1KD, scale=self.width**-0.5
        )
        a_NDHW = torch.unflatten(a_N1PD[:, 0].transpose(1, 2), 2, x_NCHW.shape[2:])
        out_NCHW: Tensor = self.out(a_NDHW)
        return x_NCHW + typed_like(out_NCHW, x_NCHW)


class MultiQuery(nn.Module):
    """Multi-query attention of MobileNetV4

    Paper: Qin et al. 2024, arXiv:2404.10518.

    `y = x + W_o·concat_h softmax(Q_h Kᵀ/√d)V`: heads have own queries, and share key and value.

    Q, K, V are 1x1 convolutions without bias; with a stride, of keys and values each a depth-wise
    3x3 convolution and a batch normalisation come before. As in MobileNetV4, whose block has a
    batch normalisation before and a layer scale behind.

    Start: `identity` zeroes W_o.

    Args:
        heads: heads of queries, with one key and value
        kv_stride: stride of a convolution before keys and values
    """

    def __init__(
        self, channels: int, *, heads: Heads = 8, kv_stride: MapSide = 1, init: Init = "paper"
    ) -> None:
        super().__init__()
        self.heads = heads
        width = channels // heads
        self.scale = width**-0.5
        self.query = nn.Conv2d(channels, channels, 1, bias=False)
        self.key = _strided(channels, width, kv_stride)
        self.value = _strided(channels, width, kv_stride)
        self.out = nn.Conv2d(channels, channels, 1, bias=False)
        for layer in (self.query, self.key[-1], self.value[-1], self.out):
            nn.init.xavier_uniform_(layer.get_parameter("weight"))
        if init == "identity":
            zero_(self.out)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        q_NAPD = torch.unflatten(self.query(x_NCHW).flatten(2), 1, (self.heads, -1)).transpose(2, 3)
        k_N1KD, v_N1KD = (
            layer(x_NCHW).flatten(2).transpose(1, 2)[:, None] for layer in (self.key, self.value)
        )
        # The heads' pixels are one long map for the one key.
        q_N1MD = q_NAPD.flatten(1, 2)[:, None]
        a_N1MD = functional.scaled_dot_product_attention(q_N1MD, k_N1KD, v_N1KD, scale=self.scale)
        a_NAPD = torch.unflatten(a_N1MD[:, 0], 1, (self.heads, -1))
        a_NCP = a_NAPD.transpose(2, 3).flatten(1, 2)
        out_NCHW: Tensor = self.out(torch.unflatten(a_NCP, 2, x_NCHW.shape[2:]))
        return x_NCHW + typed_like(out_NCHW, x_NCHW)


def _strided(channels: int, width: int, stride: int) -> nn.Sequential:
    """Down to the keys' (or values') cells, then to the head's width."""
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 1, bias=False)]
    if stride > 1:
        down = nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False)
        layers = [down, BatchNorm2d(channels), *layers]
    return nn.Sequential(*layers)


class ReluLinear(nn.Module):
    """Multi-scale linear attention of EfficientViT

    Paper: Cai et al. 2023, arXiv:2205.14756.

    `y = x + BN(W_o·concat a)`, `a_h = V_h relu(K_h)ᵀ relu(Q_h) / (Σ relu(K_h)ᵀ relu(Q_h) + ε)`.

    Linear in the pixels: values and keys meet first. Q, K, V are 1x1 convolutions of x in heads of
    `head_width`; `multi_scale` adds as many heads, whose Q, K, V are those after a depth-wise 5x5
    and a 1x1 convolution within each head's. As in EfficientViT.

    Start: `identity` zeroes the normalisation's affine.

    Args:
        head_width: channels of a head
        multi_scale: as many heads again, on a 5×5 neighbourhood
    """

    def __init__(
        self,
        channels: int,
        *,
        head_width: Heads = 16,
        multi_scale: bool = True,
        init: Init = "paper",
    ) -> None:
        super().__init__()
        self.head_width = head_width
        total = 3 * channels
        self.qkv = nn.Conv2d(channels, total, 1, bias=False)
        self.aggregate: nn.Sequential | None = None
        if multi_scale:
            self.aggregate = nn.Sequential(
                nn.Conv2d(total, total, 5, padding=2, groups=total, bias=False),
                nn.Conv2d(total, total, 1, groups=total // head_width, bias=False),
            )
        self.out = nn.Conv2d(channels * (2 if multi_scale else 1), channels, 1, bias=False)
        self.norm = BatchNorm2d(channels)
        if init == "identity":
            zero_(self.norm)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        qkv_NCHW = self.qkv(x_NCHW)
        if self.aggregate is not None:
            qkv_NCHW = torch.cat((qkv_NCHW, self.aggregate(qkv_NCHW)), 1)
        # A heads of three times D channels.
        qkv_NAEP = torch.unflatten(qkv_NCHW.flatten(2), 1, (-1, 3 * self.head_width))
        q_NADP, k_NADP, v_NADP = torch.split(qkv_NAEP, self.head_width, 2)
        q_NADP = functional.relu(q_NADP)
        k_NADP = functional.relu(k_NADP)
        # From the map itself: behind `unflatten`, ONNX's older exporter takes a size for fixed.
        pixels = x_NCHW.shape[2] * x_NCHW.shape[3]
        a_NADP = _linear(q_NADP, k_NADP, v_NADP, pixels)
        a_NCHW = torch.unflatten(a_NADP.flatten(1, 2), 2, x_NCHW.shape[2:])
        y_NCHW: Tensor = self.norm(self.out(typed_like(a_NCHW, x_NCHW)))
        return x_NCHW + typed_like(y_NCHW, x_NCHW)


def _linear(q_NADP: Tensor, k_NADP: Tensor, v_NADP: Tensor, pixels: int) -> Tensor:
    """`V Kᵀ Q / (Σ Kᵀ Q + ε)`, over the pixels.

    Means over the pixels take the place of sums, which leave the range of float16; ε shrinks with
    them.
    """
    root: float = pixels**0.5
    if is_traced() or k_NADP.element_size() < 4:
        return _scaled_linear(q_NADP, k_NADP, v_NADP, root)
    kv_NADD = (v_NADP / root) @ (k_NADP / root).transpose(2, 3)
    sum_NA1P = (q_NADP * k_NADP.mean(3, keepdim=True)).sum(2, keepdim=True)
    return (kv_NADD @ q_NADP) / (sum_NA1P + EPS / pixels)


def _scaled_linear(q_NADP: Tensor, k_NADP: Tensor, v_NADP: Tensor, root: float) -> Tensor:
    """The same, `root` squared the pixels, with K and Q first divided by numbers that cancel out, ε
    shrinking with them: a product of three maps, and ε, would leave the range of float16.
    """
    # in this form, since a traced number has no reciprocal
    e: float = (root / root) / root * EPS**0.5
    # What cancels out needs no gradient.
    k_scale_NA11 = k_NADP.mean(3, keepdim=True).amax(2, keepdim=True).detach() + e
    q_scale_NA1P = q_NADP.amax(2, keepdim=True).detach() + e
    k_NADP = k_NADP / k_scale_NA11
    q_NADP = q_NADP / q_scale_NA1P
    kv_NADD = (v_NADP / root) @ (k_NADP / root).transpose(2, 3)
    sum_NA1P = (q_NADP * k_NADP.mean(3, keepdim=True)).sum(2, keepdim=True)
    e_NA1P = (e / k_scale_NA11) * (e / q_scale_NA1P) + LEAST_DIVISOR_OF_HALVES
    a_NADP: Tensor = (kv_NADD @ q_NADP) / (sum_NA1P + e_NA1P)
    return a_NADP


class MultiHead(nn.Module):
    """Multi-head self-attention

    Paper: Srinivas et al. 2021, arXiv:2101.11605.

    `y = x + W_o·concat softmax(QKᵀ/√d + position)V`, Q, K, V 1x1 convolutions of x without bias.

    Position is `q·(r_row + r_column)` by the distance in rows and in columns (in cells of the
    keys). Its tables are made for maps of `height` x `width` and interpolated to others. BoTNet's
    attention stands in a convolution's place, so there is neither W_o nor the sum in it.

    Start: `identity` zeroes W_o.

    Args:
        heads: number of heads
        downsample: side of the cells whose means are keys and values
    """

    def __init__(
        self,
        channels: int,
        *,
        heads: Heads = 4,
        downsample: MapSide = 1,
        height: int = 14,
        width: int = 14,
        init: Init = "paper",
    ) -> None:
        super().__init__()
        self.heads = heads
        self.downsample = downsample
        self.scale = (channels // heads) ** -0.5
        self.qkv = _projection(channels, channels, downsample)
        nn.init.trunc_normal_(self.qkv.weight, std=channels**-0.5)
        self.out = nn.Conv2d(channels, channels, 1, bias=False)
        cells = (-(-side // downsample) for side in (height, width))
        self.row_table, self.column_table = (
            nn.Parameter(
                nn.init.trunc_normal_(torch.empty(2 * n - 1, channels // heads), std=self.scale)
            )
            for n in cells
        )
        if init == "identity":
            zero_(self.out)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        q, k, v = self.qkv(x_NCHW) if self.downsample > 1 else self.qkv(x_NCHW).chunk(3, 1)
        grid = (k.shape[2], k.shape[3])
        q_NAPD, k_NAKD, v_NAKD = (
            torch.unflatten(t.flatten(2), 1, (self.heads, -1)).transpose(2, 3) for t in (q, k, v)
        )
        bias_NAPK = self._relative(q, grid)
        a_NAPD = _attended(q_NAPD, k_NAKD, v_NAKD, bias_NAPK, self.scale)
        a_NCHW = torch.unflatten(a_NAPD.transpose(2, 3).flatten(1, 2), 2, x_NCHW.shape[2:])
        out_NCHW: Tensor = self.out(a_NCHW)
        return x_NCHW + typed_like(out_NCHW, x_NCHW)

    def _relative(self, q_NCHW: Tensor, grid: tuple[int, int]) -> Tensor:
        """`q·(r_row + r_column)` for every pixel and cell: `(N, A, P, K)`."""
        height, width = q_NCHW.shape[2:]
        r_HDS = typed_like(self._distances(self.row_table, height, grid[0]), q_NCHW)
        r_WDT = typed_like(self._distances(self.column_table, width, grid[1]), q_NCHW)
        # no more than four dimensions, and images stay images: some runtimes need that
        rows_NHWE = _by_row(q_NCHW, r_HDS)
        columns_NHWE = _by_row(q_NCHW.transpose(2, 3), r_WDT).transpose(1, 2)
        # M is A x P
        rows_NMS, columns_NMT = (
            torch.unflatten(t.flatten(1, 2), 2, (self.heads, -1)).transpose(1, 2).flatten(1, 2)
            for t in (rows_NHWE, columns_NHWE)
        )
        bias_NMK = (rows_NMS[..., None] + columns_NMT[:, :, None]).flatten(2)
        return torch.unflatten(bias_NMK, 1, (self.heads, -1))

    def _distances(self, table: Tensor, side: int, cells: int) -> Tensor:
        """`(side, D, cells)`: the table's row for the distance from each row (or column) to each
        cell.
        """
        if is_free(side) or is_free(cells):
            return _distances_on_any_map(table, side, cells, self.downsample)
        from_last_cell = _resized(table, 2 * cells - 1).unfold(0, cells, 1)
        by_cell = from_last_cell.flip(0)
        if self.downsample == 1:
            return by_cell
        return by_cell.repeat_interleave(self.downsample, 0)[:side]


def _by_row(q_NCHW: Tensor, r_HDS: Tensor) -> Tensor:
    """Each row's queries times its own matrix: `(N, H, W, A·S)`."""
    q_NHQD = torch.unflatten(q_NCHW.permute(0, 2, 3, 1).flatten(2), 2, (-1, r_HDS.shape[1]))
    return torch.unflatten((q_NHQD @ r_HDS).flatten(2), 2, (q_NCHW.shape[3], -1))


def _attended(
    q_NAPD: Tensor, k_NAKD: Tensor, v_NAKD: Tensor, bias_NAPK: Tensor, scale: float
) -> Tensor:
    """`softmax(scale·QKᵀ + bias)V`.

    On a CPU torch has no fused kernel for a learned bias, and its plain form keeps bfloat16 in
    float32. Written out, a training step of ResNet-20 with this module takes 0.5 of the time in
    bfloat16, the same in float32.
    """
    if is_traced() or q_NAPD.device.type != "cpu":
        return functional.scaled_dot_product_attention(
            q_NAPD, k_NAKD, v_NAKD, attn_mask=bias_NAPK, scale=scale
        )
    q_MPD, k_MKD, v_MKD, bias_MPK = (t.flatten(0, 1) for t in (q_NAPD, k_NAKD, v_NAKD, bias_NAPK))
    weights_MPK = torch.baddbmm(bias_MPK, q_MPD, k_MKD.transpose(1, 2), alpha=scale).softmax(2)
    return torch.unflatten(weights_MPK @ v_MKD, 0, q_NAPD.shape[:2])


def _projection(channels: int, width: int, downsample: int) -> nn.Conv2d:
    """Queries, keys and values as one 1x1 convolution."""
    if downsample == 1:
        return nn.Conv2d(channels, 3 * width, 1, bias=False)
    return DownsampledKeys(channels, width, downsample)


class DownsampledKeys(nn.Conv2d):
    """Queries on the map, keys and values on its cells' means (the mean and a 1x1 convolution
    commute).
    """

    def __init__(self, channels: int, width: int, downsample: int) -> None:
        super().__init__(channels, 3 * width, 1, bias=False)
        self.width = width
        self.downsample = downsample

    def forward(self, x_NCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        cells = functional.avg_pool2d(
            x_NCHW, self.downsample, ceil_mode=True, count_include_pad=False
        )
        k, v = functional.conv2d(cells, self.weight[self.width :]).chunk(2, 1)
        return functional.conv2d(x_NCHW, self.weight[: self.width]), k, v


def _distances_on_any_map(table_LD: Tensor, side: int, cells: int, downsample: int) -> Tensor:
    """The same as `_distances`, without operators that take the sizes of the map for fixed."""
    cell_S = torch.arange(cells, device=table_LD.device)
    own_cell_H = torch.arange(side, device=table_LD.device) // downsample
    distance_HS = cells - 1 - own_cell_H[:, None] + cell_S
    return _resized(table_LD, 2 * cells - 1)[distance_HS].transpose(1, 2)


def _resized(table_LD: Tensor, length: int) -> Tensor:
    """A position table for another map size, by linear interpolation."""
    if is_free(length):
        return _resized_to_any(table_LD, length)
    if table_LD.shape[0] == length:
        return table_LD
    resized = functional.interpolate(
        table_LD.T[None], size=length, mode="linear", align_corners=True
    )
    return resized[0].T


def _resized_to_any(table_LD: Tensor, length: int) -> Tensor:
    """The same as `_resized`, as a product with a matrix."""
    count = table_LD.shape[0]
    like: dict[str, Any] = {"dtype": table_LD.dtype, "device": table_LD.device}
    place_K = torch.arange(length, **like) * (count - 1) / free_values(length)
    away_KL = (place_K[:, None] - torch.arange(count, **like)).abs()
    return torch.relu(1 - away_KL) @ table_LD
