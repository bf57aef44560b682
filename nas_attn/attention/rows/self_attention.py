"""Modules in which every pixel looks at every other."""

from __future__ import annotations

from nas_attn.attention.row import Row

ROWS: tuple[Row, ...] = ()
