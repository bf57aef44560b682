"""Detectors taken home. Of ultralytics: a `.pt` that ultralytics loads, and ONNX by ultralytics' own exporter; of torchvision: ONNX.

The `.pt` is a pickle of ultralytics' making, which holds the network whole: written when it is asked for, read by nothing here.
Where it is loaded, nas_attn has to be installed for its attention.
"""

from __future__ import annotations

import copy
import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas_attn.errors import OperationError

BOX = 6
"""Numbers of a box that a detector has chosen: left, top, right, bottom, score, class."""


class Answer(nn.Module):
    """What a detector answers for images, decoded boxes and scores, without what it returns beside them for training."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        output = self.network(image)
        boxes = output[0] if isinstance(output, tuple | list) else output
        if not isinstance(boxes, Tensor):
            raise OperationError(f"the detector answers with a {type(boxes).__name__}, not with boxes as a tensor")
        return boxes


class Chosen(nn.Module):
    """A detector of torchvision for one image (1, 3, H, W), 0 to 1, which answers with one tensor: (K, 6), of each box that it
    chooses left, top, right, bottom in pixels, score and class from 1."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        found = self.network([image[0]])[0]
        return torch.cat([found["boxes"], found["scores"][:, None], found["labels"].to(image.dtype)[:, None]], 1)


def write_chosen(model: Chosen, path: Path, image: Tensor) -> None:
    """Writes the whole detector as ONNX, the choice among its boxes included.

    By torch's tracing exporter: the newer one cannot hold how many boxes are left, which depends on the image.
    """
    torch.onnx.export(
        model,
        (image,),
        str(path),
        input_names=["image"],
        output_names=["boxes"],
        dynamic_axes={"boxes": {0: "found"}},
        opset_version=17,
        dynamo=False,
        verbose=False,
    )


def write_pt(model: nn.Module, path: Path, classes: Sequence[str], side: int) -> None:
    """Writes what `ultralytics.YOLO(path)` loads, in float32."""
    network: Any = copy.deepcopy(model).float().eval()
    network.names, network.nc = dict(enumerate(classes)), len(classes)
    network.criterion = None
    arguments = {"task": "detect", "imgsz": side}
    torch.save({"epoch": -1, "model": network, "ema": None, "train_args": arguments, **_origin()}, path)


def write_onnx(model: nn.Module, path: Path, classes: Sequence[str], side: int) -> None:
    """Writes the whole detector, for one image of this side at a time.

    Raises:
        OperationError: ultralytics has written none.
    """
    from ultralytics import YOLO

    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".nas_attn-") as folder, _quiet():
        source = Path(folder) / "detector.pt"
        write_pt(model, source, classes, side)
        written = YOLO(str(source)).export(format="onnx", imgsz=side, device="cpu", simplify=False, verbose=False)
        if not written or not Path(written).is_file():
            raise OperationError("ultralytics has written no ONNX file")
        Path(written).replace(path)


def _origin() -> dict[str, str]:
    import ultralytics

    from nas_attn._version import __version__

    return {"version": ultralytics.__version__, "license": "AGPL-3.0 (ultralytics)", "docs": f"nas_attn {__version__}"}


@contextmanager
def _quiet() -> Iterator[None]:
    from ultralytics.utils import LOGGER

    level = LOGGER.level
    LOGGER.setLevel(logging.WARNING)
    try:
        yield
    finally:
        LOGGER.setLevel(level)
