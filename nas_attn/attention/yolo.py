"""The attention of YOLO11 and YOLO12: self-attention with a convolution of the values as position.

Letters: A heads, D channels of a head, P pixels, B channels of a head's queries, keys and values.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas_attn.attention.choice import Init
from nas_attn.attention.gates import BatchNorm2d, is_free, typed_like, zero_
from nas_attn.attention.knobs import Heads, Positive, Reduction


class Projection(nn.Sequential):
    """A convolution without bias and its batch normalisation, as ultralytics has them."""

    def __init__(self, channels: int, out: int, kernel_size: int = 1, *, groups: int = 1) -> None:
        reach = kernel_size // 2
        super().__init__(
            nn.Conv2d(channels, out, kernel_size, padding=reach, groups=groups, bias=False),
            BatchNorm2d(out, eps=1e-3, momentum=0.03),
        )


class PositionSensitive(nn.Module):
    """Position-sensitive attention of YOLO11 (in C2PSA)

    Paper: Khanam and Hussain 2024, arXiv:2410.17725.

    `y = x + W_o(concat_h softmax(Q_hᵀ K_h/√d)V_h + P V)`, P a depth-wise 3x3 convolution.

    The attention inside C2PSA (YOLO11, YOLO26), which sends half of the channels through it, with a
    feed-forward part behind. Every convolution ends in a batch normalisation. Queries and keys are
    narrower than the values by `reduction`.

    Start: `identity` zeroes the last normalisation's affine.

    Args:
        heads: number of heads; auto: one for 64 channels
        reduction: a head's width divided by that of its keys
    """

    def __init__(
        self, channels: int, *, heads: Heads, reduction: Reduction = 2, init: Init = "paper"
    ) -> None:
        super().__init__()
        self.heads = heads
        width = channels // heads
        key_width = max(1, width // reduction)
        self.parts = [key_width, key_width, width]
        self.scale = key_width**-0.5
        self.qkv = Projection(channels, channels + 2 * key_width * heads)
        self.position = Projection(channels, channels, 3, groups=channels)
        self.out = Projection(channels, channels)
        if init == "identity":
            zero_(self.out[1])

    def forward(self, x_NCHW: Tensor) -> Tensor:
        qkv_NABP = torch.unflatten(self.qkv(x_NCHW).flatten(2), 1, (self.heads, -1))
        q_NABP, k_NABP, v_NADP = torch.split(qkv_NABP, self.parts, 2)
        q_NAPB, k_NAPB, v_NAPD = (t.transpose(2, 3) for t in (q_NABP, k_NABP, v_NADP))
        a_NAPD = functional.scaled_dot_product_attention(q_NAPB, k_NAPB, v_NAPD, scale=self.scale)
        a_NCHW, v_NCHW = (
            torch.unflatten(t.flatten(1, 2), 2, x_NCHW.shape[2:])
            for t in (a_NAPD.transpose(2, 3), v_NADP)
        )
        y_NCHW: Tensor = self.out(a_NCHW + self.position(v_NCHW))
        return x_NCHW + typed_like(y_NCHW, x_NCHW)


class AreaAttention(nn.Module):
    """Area attention of YOLO12

    Paper: Tian et al. 2025, arXiv:2502.12524.

    `y = x + W_o(concat_h softmax(Q_hᵀ K_h/√d)V_h + P V)`, the softmax within areas of the map.

    Areas are runs of `ceil(HW / areas)` pixels, row by row; P is a depth-wise 7x7 convolution. The
    attention of YOLO12, which has a feed-forward part behind. Every convolution ends in a batch
    normalisation.

    Start: `identity` zeroes the last normalisation's affine.

    Args:
        heads: number of heads; auto: one for 32 channels
        areas: runs of pixels that see each other
    """

    def __init__(
        self, channels: int, *, heads: Heads, areas: Positive = 4, init: Init = "paper"
    ) -> None:
        super().__init__()
        self.heads = heads
        self.areas = areas
        self.qkv = Projection(channels, 3 * channels)
        self.position = Projection(channels, channels, 7, groups=channels)
        self.out = Projection(channels, channels)
        if init == "identity":
            zero_(self.out[1])

    def forward(self, x_NCHW: Tensor) -> Tensor:
        qkv_NABP = torch.unflatten(self.qkv(x_NCHW).flatten(2), 1, (self.heads, -1))
        q_NADP, k_NADP, v_NADP = qkv_NABP.chunk(3, 2)
        q_NAPD, k_NAPD, v_NAPD = (t.transpose(2, 3) for t in (q_NADP, k_NADP, v_NADP))
        # From the map itself: behind `unflatten`, ONNX's older exporter takes a size for fixed.
        pixels = x_NCHW.shape[2] * x_NCHW.shape[3]
        a_NAPD = by_area(q_NAPD, k_NAPD, v_NAPD, pixels, self.areas)
        a_NCHW, v_NCHW = (
            torch.unflatten(t.flatten(1, 2), 2, x_NCHW.shape[2:])
            for t in (a_NAPD.transpose(2, 3), v_NADP)
        )
        y_NCHW: Tensor = self.out(a_NCHW + self.position(v_NCHW))
        return x_NCHW + typed_like(y_NCHW, x_NCHW)


def by_area(q_NAPD: Tensor, k_NAPD: Tensor, v_NAPD: Tensor, pixels: int, areas: int) -> Tensor:
    """Attends within runs of pixels.

    Args:
        q_NAPD: queries.
        k_NAPD: keys.
        v_NAPD: values.
        pixels: P.
        areas: the number of runs.
    """
    length = (pixels + areas - 1) // areas
    scale = q_NAPD.shape[3] ** -0.5
    if is_free(pixels):
        # How many runs there are depends on the map, so the pixels of others are masked.
        area_P = torch.arange(pixels, device=q_NAPD.device) // length
        penalty = q_NAPD.new_full((), -UNSEEN_PENALTY)
        unseen_PP = torch.where(area_P[:, None] == area_P, q_NAPD.new_zeros(()), penalty)
        return functional.scaled_dot_product_attention(
            q_NAPD, k_NAPD, v_NAPD, attn_mask=unseen_PP, scale=scale
        )
    runs = zip(*(torch.split(t, length, 2) for t in (q_NAPD, k_NAPD, v_NAPD)), strict=True)
    return torch.cat(
        [functional.scaled_dot_product_attention(q, k, v, scale=scale) for q, k, v in runs], 2
    )


UNSEEN_PENALTY = 1e4
"""Subtracted from the likeness of pixels that do not see each other: their weight is 0, also in
float16.
"""
