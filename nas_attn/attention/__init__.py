"""Attention modules for feature maps: `(N, C, H, W)` in, the same shape out.

    from nas_attn import attention
    module = attention.create("coord", 256, reduction=32)
    rows = attention.catalogue.ROWS

Importing this package loads no torch; building a module does.
"""

from nas_attn.attention import catalogue
from nas_attn.attention.catalogue import create
from nas_attn.attention.fitting import Count
from nas_attn.attention.knobs import KnobSpec
from nas_attn.attention.row import Row

__all__ = ["Count", "KnobSpec", "Row", "catalogue", "create"]
