"""The winner as a file: weights, an exported program, ONNX."""

from nas_attn.export.formats import FORMATS, write

__all__ = ["FORMATS", "write"]
