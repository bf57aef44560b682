"""Adaptive average pooling as products with matrices.

torch's own has no deterministic gradient on a GPU, and no export where the sizes do not divide. Here both are given.
"""

from __future__ import annotations

import torch
from torch import Tensor


def adaptive_mean(x_NCHW: Tensor, rows: int, columns: int, *, growing: bool = False) -> Tensor:
    """What `adaptive_avg_pool2d(x, (rows, columns))` gives: `(N, C, rows, columns)`.

    Args:
        growing: along H first, then along W: fewer multiplications where the map grows, more where it shrinks.
    """
    height, width = x_NCHW.shape[2:]
    by_row = shares(rows, height, x_NCHW).T
    by_column = shares(columns, width, x_NCHW).T
    if growing:
        return (x_NCHW.transpose(2, 3) @ by_row).transpose(2, 3) @ by_column
    return ((x_NCHW @ by_column).transpose(2, 3) @ by_row).transpose(2, 3)


def shares(count: int, side: int, like: Tensor) -> Tensor:
    """`(count, side)`: what each of `count` means takes of `side` values, in like's dtype.

    Where there are more means than values, each is of the one or two values that it touches.
    """
    i = torch.arange(count, device=like.device)[:, None]
    place = torch.arange(side, device=like.device)
    start, end = i * side // count, ((i + 1) * side + count - 1) // count
    return ((place >= start) & (place < end)).to(like.dtype) / (end - start)
