"""Writes a network as a file: weights, torch.export or ONNX."""

from nas_attn.export.formats import FORMATS, write

__all__ = ["FORMATS", "write"]
