"""Writes a network as a file: weights, torch.export, ONNX, Python code and others."""

from nas_attn.export.formats import FORMATS, write

__all__ = ["FORMATS", "write"]
