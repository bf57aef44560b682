"""Notation, resolving and search spaces: what may go where, as text, as choices and as networks."""

from nas_attn.space.notation import parse
from nas_attn.space.resolving import resolve
from nas_attn.space.search_space import SearchSpace

__all__ = ["SearchSpace", "parse", "resolve"]
