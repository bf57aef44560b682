"""Files that Ultralytics reads, and which of them could run code: nothing is loaded here.

Ultralytics evaluates `activation:` of a model's YAML, calls whatever its layers name, and executes
what a data set's YAML says under `download:`. A `.pt` is a pickle. So a YAML counts as harmless
only if all that it says is on the lists below.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MODEL_KEYS = frozenset(
    [
        "nc",
        "scales",
        "scale",
        "activation",
        "backbone",
        "head",
        "depth_multiple",
        "width_multiple",
        "kpt_shape",
        "end2end",
        "reg_max",
        "ch",
        "channels",
        "names",
        "task",
        "max_channels",
        "text_model",
        "yaml_file",
    ]
)
"""Keys of a model's YAML. Unknown ones may mean something in a version to come."""
YOLO_LAYERS = frozenset(
    [
        "A2C2f",
        "AConv",
        "ADown",
        "AIFI",
        "Bottleneck",
        "BottleneckCSP",
        "C1",
        "C2",
        "C2PSA",
        "C2f",
        "C2fAttn",
        "C2fCIB",
        "C2fPSA",
        "C3",
        "C3Ghost",
        "C3TR",
        "C3k2",
        "C3x",
        "CBFuse",
        "CBLinear",
        "Classify",
        "Concat",
        "Conv",
        "Conv2",
        "ConvTranspose",
        "DWConv",
        "DWConvTranspose2d",
        "Detect",
        "ELAN1",
        "Focus",
        "GhostBottleneck",
        "GhostConv",
        "HGBlock",
        "HGStem",
        "ImagePoolingAttn",
        "Index",
        "OBB",
        "OBB26",
        "PSA",
        "Pose",
        "Pose26",
        "RTDETRDecoder",
        "RepC3",
        "RepConv",
        "RepNCSPELAN4",
        "RepVGGDW",
        "ResNetLayer",
        "SCDown",
        "SPP",
        "SPPELAN",
        "SPPF",
        "Segment",
        "Segment26",
        "SemanticSegment",
        "WorldDetect",
        "YOLOEDetect",
        "YOLOESegment",
        "YOLOESegment26",
        "v10Detect",
    ]
)
"""Ultralytics' layers. Other names in the module that builds networks read files."""
_OF_TORCH = re.compile(r"nn\.[A-Z][A-Za-z0-9]*|torchvision\.ops\.[A-Z][A-Za-z0-9]*")
_ACTIVATION = re.compile(r"(torch\.)?nn\.[A-Z][A-Za-z0-9]*")
_ARCHIVE = re.compile(r"https?://[^\s'\"();]+\.zip")


def is_plain_model(path: Path) -> bool:
    """Whether a model's YAML names only layers and numbers."""
    table = _read(path)
    if table is None or not table.keys() <= MODEL_KEYS:
        return False
    layers = [table.get("backbone"), table.get("head")]
    if not all(isinstance(part, list) for part in layers):
        return False
    for part in layers:
        if not all(_is_plain_layer(layer) for layer in part or ()):
            return False
    activation = table.get("activation")
    return not activation or _is_plain_activation(activation)


def is_plain_data(path: Path) -> bool:
    """Whether a data set's YAML downloads nothing but a ZIP file."""
    table = _read(path)
    if table is None:
        return False
    download = table.get("download")
    return not download or (isinstance(download, str) and bool(_ARCHIVE.fullmatch(download)))


def _is_plain_layer(layer: Any) -> bool:
    """Whether it is [from, number, module, arguments] with a known module and plain arguments."""
    if not isinstance(layer, list) or len(layer) != 4:
        return False
    module = layer[2]
    if not isinstance(module, str):
        return False
    return module in YOLO_LAYERS or bool(_OF_TORCH.fullmatch(module))


def _is_plain_activation(text: Any) -> bool:
    """Whether it is a class of torch.nn with literal arguments, like `nn.LeakyReLU(0.1)`."""
    if not isinstance(text, str):
        return False
    try:
        call = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    if not isinstance(call, ast.Call) or not _ACTIVATION.fullmatch(ast.unparse(call.func)):
        return False
    return all(isinstance(value, ast.Constant) for value in _arguments(call))


def _arguments(call: ast.Call) -> Iterator[ast.expr]:
    yield from call.args
    yield from (keyword.value for keyword in call.keywords)


def _read(path: Path) -> dict[Any, Any] | None:
    """The table in a YAML file; None if it cannot be read as Ultralytics would read it."""
    try:
        import yaml
    except ImportError:
        # Ultralytics is not installed either, which brings it
        return None
    # Ultralytics' own choice
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        table = yaml.load(path.read_text("utf-8"), Loader=loader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return None
    return table if isinstance(table, dict) else None
