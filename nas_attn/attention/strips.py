"""Sums over the rows and columns of maps, and values per row and per column spread back over them, quick on a CPU.

torch's loops run along the innermost dimension, which in a small contiguous map is 7 or 14 values long: most of the
time goes into starting them, and in bfloat16 into values that are broadcast one by one. So, for contiguous maps:

- sums over short rows are a product with ones, 2 to 3 times as quick as a reduction;
- values of both directions are joined first, `(a_h·a_w)·x`: one short-looped pass and one long one, not two short ones;
- in bfloat16, where the CPU multiplies matrices of it, both are products with matrices of zeros and ones, whose sums
  are kept in float32: 3 to 7 times as quick on maps up to 28x28; beyond, batched products of each map's own vectors.

Anything else (another device or layout, few values, a traced module) takes the plain expressions, which
`tests/attention/test_attention_strips.py` holds these against. First derivatives only. In a product with zeros an
infinite value spoils the sums of its whole map, not of its row and column alone.

Letters: R maps (N·C of them), H rows, W columns, P = H·W pixels.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from nas_attn.attention.gates import is_small, is_traced, mean, recorded

SMALL = 1024
"""Pixels up to which values are spread by one matrix for all maps, which takes H + W multiplications a pixel."""

SHORT = 32
"""Width up to which a row's sum is a product with ones."""


def strip_means(x_NCHW: Tensor) -> tuple[Tensor, Tensor]:
    """`(x.mean(3), x.mean(2))`: per row and per column."""
    if not is_plain_map(x_NCHW):
        return mean(x_NCHW, 3), mean(x_NCHW, 2)
    h_NCH, w_NCW = _Sums.apply(x_NCHW) if recorded(x_NCHW) else strip_sums(x_NCHW)
    return h_NCH / x_NCHW.shape[3], w_NCW / x_NCHW.shape[2]


def scale_strips(x_NCHW: Tensor, a_NCH: Tensor, a_NCW: Tensor) -> Tensor:
    """`x * a_h[..., None] * a_w[..., None, :]`, keeping x and the gates only, unless the map is small."""
    if not recorded(x_NCHW, a_NCH, a_NCW):
        return _scaled(x_NCHW, a_NCH, a_NCW)
    if is_small(x_NCHW):
        return x_NCHW * a_NCH[..., None] * a_NCW[..., None, :]
    y: Tensor = _Scale.apply(x_NCHW, a_NCH, a_NCW)
    return y


def add_strips(h_NCH: Tensor, w_NCW: Tensor) -> Tensor:
    """`h[..., None] + w[..., None, :]`: `(N, C, H, W)`."""
    if not recorded(h_NCH, w_NCW):
        return spread_sum(h_NCH, w_NCW)
    y: Tensor = _Spread.apply(h_NCH, w_NCW)
    return y


class _Sums(Function):
    @staticmethod
    def forward(ctx: Any, x_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        return strip_sums(x_NCHW)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return spread_sum(*grads)


class _Spread(Function):
    @staticmethod
    def forward(ctx: Any, h_NCH: Tensor, w_NCW: Tensor) -> Tensor:
        return spread_sum(h_NCH, w_NCW)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        return strip_sums(*grads)


class _Scale(Function):
    @staticmethod
    def forward(ctx: Any, x_NCHW: Tensor, a_NCH: Tensor, a_NCW: Tensor) -> Tensor:
        ctx.save_for_backward(x_NCHW, a_NCH, a_NCW)
        return _scaled(x_NCHW, a_NCH, a_NCW)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x_NCHW, a_NCH, a_NCW = ctx.saved_tensors
        (g_NCHW,) = grads
        ga_NCH, ga_NCW = _strip_products(g_NCHW * x_NCHW, a_NCH, a_NCW)
        return _scaled(g_NCHW, a_NCH, a_NCW), ga_NCH, ga_NCW


def _scaled(x_NCHW: Tensor, a_NCH: Tensor, a_NCW: Tensor) -> Tensor:
    if not is_plain_map(x_NCHW):
        return (x_NCHW * a_NCH[..., None]).mul_(a_NCW[..., None, :])
    if not _has_matrices(x_NCHW):
        # Contiguous, since y takes their layout.
        return (a_NCH.contiguous()[..., None] * a_NCW.contiguous()[..., None, :]).mul_(x_NCHW)
    h_RH, w_RW, height, width = _flat(a_NCH, a_NCW)
    if height * width > SMALL:
        a_RHW = torch.bmm(h_RH[..., None], w_RW[:, None])
        return _shaped(a_RHW, *x_NCHW.shape).mul_(x_NCHW)
    rows_HP, columns_WP, _ = _ones(height, width)
    return _shaped(torch.mm(h_RH, rows_HP).mul_(torch.mm(w_RW, columns_WP)), *x_NCHW.shape).mul_(x_NCHW)


def spread_sum(h_NCH: Tensor, w_NCW: Tensor) -> Tensor:
    """`h[..., None] + w[..., None, :]`, of which autograd knows nothing."""
    if is_small(h_NCH) or not _has_matrices(h_NCH):
        return h_NCH.contiguous()[..., None] + w_NCW.contiguous()[..., None, :]
    h_RH, w_RW, height, width = _flat(h_NCH, w_NCW)
    if height * width > SMALL:
        left_RH2 = torch.stack((h_RH, torch.ones_like(h_RH)), 2)
        right_R2W = torch.stack((torch.ones_like(w_RW), w_RW), 1)
        return _shaped(torch.bmm(left_RH2, right_R2W), *h_NCH.shape, width)
    spread = torch.mm(torch.cat((h_RH, w_RW), 1), _ones(height, width)[2])
    return _shaped(spread, *h_NCH.shape, width)


def _shaped(fresh: Tensor, *shape: int) -> Tensor:
    """A fresh tensor in another shape, not marked as a view: what a Function returns, an in-place layer may write over."""
    shaped: Tensor = torch.ops.aten._unsafe_view(fresh, shape)
    return shaped


def strip_sums(x_NCHW: Tensor) -> tuple[Tensor, Tensor]:
    """`(x.sum(-1), x.sum(-2))`, of which autograd knows nothing."""
    height, width = x_NCHW.shape[-2:]
    if not is_plain_map(x_NCHW):
        return x_NCHW.sum(-1), x_NCHW.sum(-2)
    if not _has_matrices(x_NCHW) or height * width > SMALL:
        return _row_sums(x_NCHW), x_NCHW.sum(-2)
    sums = torch.mm(x_NCHW.view(-1, height * width), _ones(height, width)[2].T)
    by_row, by_column = sums[:, :height].contiguous(), sums[:, height:].contiguous()
    return _shaped(by_row, *x_NCHW.shape[:-1]), _shaped(by_column, *x_NCHW.shape[:-2], width)


def _row_sums(x_NCHW: Tensor) -> Tensor:
    """`x.sum(-1)`, of short rows as a product with ones."""
    width = x_NCHW.shape[-1]
    if width > SHORT:
        return x_NCHW.sum(-1)
    return _shaped(x_NCHW.view(-1, width).mv(x_NCHW.new_ones(width)), *x_NCHW.shape[:-1])


def _strip_products(p_NCHW: Tensor, h_NCH: Tensor, w_NCW: Tensor) -> tuple[Tensor, Tensor]:
    """`((p * w[..., None, :]).sum(-1), (p * h[..., None]).sum(-2))`; p is used up."""
    if not is_plain_map(p_NCHW):
        by_row = (p_NCHW * w_NCW[..., None, :]).sum(-1)
        return by_row, p_NCHW.mul_(h_NCH[..., None]).sum(-2)
    height, width = p_NCHW.shape[-2:]
    if not _has_matrices(p_NCHW):
        by_row = _row_sums(p_NCHW * w_NCW[..., None, :])
        return by_row, p_NCHW.mul_(h_NCH[..., None]).sum(-2)
    h_RH, w_RW, _, _ = _flat(h_NCH, w_NCW)
    if height * width > SMALL:
        p_RHW = p_NCHW.view(-1, height, width)
        return torch.bmm(p_RHW, w_RW[..., None]).view_as(h_NCH), torch.bmm(h_RH[:, None], p_RHW).view_as(w_NCW)
    rows_HP, columns_WP, _ = _ones(height, width)
    p_RP = p_NCHW.view(-1, height * width)
    by_row = torch.mm(torch.mm(w_RW, columns_WP).mul_(p_RP), rows_HP.T)
    return by_row.view_as(h_NCH), torch.mm(torch.mm(h_RH, rows_HP).mul_(p_RP), columns_WP.T).view_as(w_NCW)


def is_plain_map(x: Tensor) -> bool:
    """Whether rows lie one behind the other in a CPU's memory, in a dtype whose sums do not overflow."""
    if is_traced(x) or is_small(x):
        return False
    return x.device.type == "cpu" and x.dtype is not torch.float16 and x.is_contiguous()


def _has_matrices(x: Tensor) -> bool:
    """Whether products of matrices of x's dtype are quick here; not for a fake tensor, of which none may be kept."""
    if is_traced(x) or type(x) is not Tensor:
        return False
    return x.dtype is torch.bfloat16 and x.device.type == "cpu" and _cpu_multiplies_bfloat16()


@functools.cache
def _cpu_multiplies_bfloat16() -> bool:
    return bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def _flat(h_NCH: Tensor, w_NCW: Tensor) -> tuple[Tensor, Tensor, int, int]:
    height, width = h_NCH.shape[-1], w_NCW.shape[-1]
    return h_NCH.reshape(-1, height), w_NCW.reshape(-1, width), height, width


@functools.lru_cache(maxsize=64)
def _ones(height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """One where a pixel is in the row: `(H, P)`; in the column: `(W, P)`; both one below the other: `(H + W, P)`."""
    with torch.inference_mode(False):
        both = torch.cat((torch.eye(height).repeat_interleave(width, 1), torch.eye(width).repeat(1, height)))
        both = both.bfloat16()
        return both[:height], both[height:], both
