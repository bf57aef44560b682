"""Products and pools whose plain form keeps or makes more maps than it needs, with gradients of their own.

Measured on a CPU: comparisons of whole maps (the gradient of `amax`) take ten times as long as a product, and a fresh
map of some MiB costs more than the arithmetic on it. So: what is kept for the gradient is x and the small gates, maps
are reused in place, and equality is found by a difference. `tests/attention/test_attention_fused.py` holds each
function against the plain expression in its docstring, which small maps take. First derivatives only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from nas_attn.attention.gates import is_small, recorded
from nas_attn.attention.strips import is_plain_map, spread_sum, strip_sums


def _planes(x_NCHW: Tensor, a_NC1W: Tensor, a_NCH1: Tensor, a_N1HW: Tensor) -> Tensor:
    if is_plain_map(x_NCHW):
        return spread_sum(a_NCH1[..., 0], a_NC1W[:, :, 0]).add_(a_N1HW).mul_(x_NCHW)
    # x first: the result takes its memory format.
    return (x_NCHW * a_N1HW).addcmul_(x_NCHW, a_NC1W).addcmul_(x_NCHW, a_NCH1)


class _ScalePlanes(Function):
    @staticmethod
    def forward(ctx: Any, x_NCHW: Tensor, a_NC1W: Tensor, a_NCH1: Tensor, a_N1HW: Tensor) -> Tensor:
        ctx.save_for_backward(x_NCHW, a_NC1W, a_NCH1, a_N1HW)
        return _planes(x_NCHW, a_NC1W, a_NCH1, a_N1HW)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x_NCHW, a_NC1W, a_NCH1, a_N1HW = ctx.saved_tensors
        (g_NCHW,) = grads
        p_NCHW = g_NCHW * x_NCHW
        ga_NCH, ga_NCW = strip_sums(p_NCHW)
        gates = ga_NCW[:, :, None], ga_NCH[..., None], p_NCHW.sum(1, keepdim=True)
        return _planes(g_NCHW, a_NC1W, a_NCH1, a_N1HW), *gates


def scale_planes(x_NCHW: Tensor, a_NC1W: Tensor, a_NCH1: Tensor, a_N1HW: Tensor) -> Tensor:
    """`x * (a_cw + a_ch + a_hw)`, keeping x and the gates only."""
    if is_small(x_NCHW):
        return x_NCHW * (a_NC1W + a_NCH1 + a_N1HW)
    if not recorded(x_NCHW, a_NC1W, a_NCH1, a_N1HW):
        return _planes(x_NCHW, a_NC1W, a_NCH1, a_N1HW)
    y: Tensor = _ScalePlanes.apply(x_NCHW, a_NC1W, a_NCH1, a_N1HW)
    return y


class _MaxMean(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dims: tuple[int, ...], along: int) -> Tensor:
        pooled = _max_mean(x, dims, along)
        ctx.save_for_backward(x, pooled)
        ctx.dims, ctx.along = dims, along
        return pooled

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        x, pooled = ctx.saved_tensors
        half = pooled.shape[ctx.along] // 2  # not chunk, which fixes a traced batch
        largest = pooled.narrow(ctx.along, 0, half)
        g_max, g_mean = (grads[0].narrow(ctx.along, start, half) for start in (0, half))
        # 1 where x is the maximum, else 0: only a difference of 0 lies above the negative number nearest to it.
        one = torch.ones((), dtype=x.dtype, device=x.device)
        nearest = torch.finfo(x.dtype).smallest_normal * torch.finfo(x.dtype).eps
        is_largest = torch.ops.aten.threshold_backward(one.expand_as(x), x - largest, -nearest)
        ties = is_largest.sum(ctx.dims, keepdim=True)
        return is_largest.mul_(g_max / ties).add_(g_mean / (x.numel() // largest.numel())), None, None


def max_mean(x: Tensor, dims: tuple[int, ...], along: int) -> Tensor:
    """`torch.cat((x.amax(dims, keepdim=True), x.mean(dims, keepdim=True)), along)`, of which x and it are kept.

    Ties of the maximum share its gradient.
    """
    if is_small(x) or not recorded(x):
        return _max_mean(x, dims, along)
    pooled: Tensor = _MaxMean.apply(x, dims, along)
    return pooled


def _max_mean(x: Tensor, dims: tuple[int, ...], along: int) -> Tensor:
    return torch.cat((x.amax(dims, keepdim=True), x.mean(dims, keepdim=True)), along)


def _simam(x_NCHW: Tensor, e_lambda: float, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """y, the mean and `1 / (4(v + λ))`."""
    mean_NC11 = x_NCHW.mean((2, 3), keepdim=True)
    d_NCHW = x_NCHW - mean_NC11
    v_NC11 = torch.linalg.vector_norm(d_NCHW, dim=(2, 3), keepdim=True).square() / count
    scale_NC11 = 0.25 / (v_NC11 + e_lambda)
    return d_NCHW.square_().mul_(scale_NC11).add_(0.5).sigmoid_().mul_(x_NCHW), mean_NC11, scale_NC11


class _SimAM(Function):
    @staticmethod
    def forward(ctx: Any, x_NCHW: Tensor, e_lambda: float, count: int) -> Tensor:
        y_NCHW, mean_NC11, scale_NC11 = _simam(x_NCHW, e_lambda, count)
        ctx.save_for_backward(x_NCHW, mean_NC11, scale_NC11)
        ctx.count = count
        return y_NCHW

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        x_NCHW, mean_NC11, scale_NC11 = ctx.saved_tensors
        (g_NCHW,) = grads
        d_NCHW = x_NCHW - mean_NC11
        s_NCHW = d_NCHW.square().mul_(scale_NC11).add_(0.5).sigmoid_()
        # e = dL/du of u = scale·d² + ½, times d; s(1 - s) = s - s².
        e_NCHW = torch.addcmul(s_NCHW, s_NCHW, s_NCHW, value=-1).mul_(g_NCHW).mul_(x_NCHW).mul_(d_NCHW)
        mean_e_NC11 = e_NCHW.mean((2, 3), keepdim=True)
        # v's part: dscale/dv = -4 scale², dv/dx = 2 d / count.
        spread_NC11 = (e_NCHW * d_NCHW).sum((2, 3), keepdim=True) * scale_NC11.square() * (8 / ctx.count)
        gx_NCHW = s_NCHW.mul_(g_NCHW).addcmul_(e_NCHW.sub_(mean_e_NC11), 2 * scale_NC11)
        return gx_NCHW.addcmul_(d_NCHW, spread_NC11, value=-1), None, None


def simam(x_NCHW: Tensor, e_lambda: float, count: int) -> Tensor:
    """`x * sigmoid(d / (4(d.sum / count + e_lambda)) + ½)`, `d = (x - x.mean)²`, keeping x and two values a channel."""
    if not recorded(x_NCHW):
        return _simam(x_NCHW, e_lambda, count)[0]
    y: Tensor = _SimAM.apply(x_NCHW, e_lambda, count)
    return y
