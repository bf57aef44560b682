"""Export of ultralytics' detectors: a `.pt` that ultralytics loads, and ONNX by ultralytics' own
exporter.

The `.pt` is ultralytics' pickle of the whole network; nas_attn never reads it. Loading it needs an
installed nas_attn for the attention; otherwise it ends with an error that says so.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from typing_extensions import override

from nas_attn._version import __version__
from nas_attn.attachment.twins import copied
from nas_attn.data import yolo_files
from nas_attn.data.dataset import Dataset
from nas_attn.errors import OperationError
from nas_attn.export.formats import (
    BOX_VALUES,
    COMPARED,
    UNCHANGED,
    ExportOrder,
    Format,
    Graph,
    Interface,
    apart,
    boxes_apart,
)
from nas_attn.export.task_exports import DetectorExport
from nas_attn.training.plan import Plan
from nas_attn.ultralytics.networks import parts_of, quiet


class BoxesGraph(Graph):
    """A detector that returns only decoded boxes and scores, without further outputs for
    training.
    """

    metadata_prefix = "nas_attn."
    # as ultralytics' exporter calls it
    input_name = "images"

    def forward(self, image: Tensor) -> Tensor:
        output = self.network(image)
        # Masks and others follow.
        boxes = next((leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)), None)
        if boxes is None:
            raise OperationError(
                f"the detector's output is a {type(output).__name__}, not boxes as a tensor"
            )
        return boxes

    def differences(self, outputs: Tensor, expected: Tensor, x: Tensor) -> Tensor:
        """(2,) Largest difference of boxes, as a share of the image's side, and of scores: (N, 4 +
        classes, places).

        Two numbers, since sides in pixels are much larger. For boxes that the network selects
        itself: as `boxes_apart`.
        """
        if type(getattr(self.network, "model", [None])[-1]).__name__ == "RTDETRDecoder":
            outputs = _of_queries(outputs, x)
            expected = _of_queries(expected, x)
        if expected.shape[-1] == BOX_VALUES:
            return boxes_apart(outputs, expected, x)
        sides = (outputs - expected)[:, :4].abs().max() / max(x.shape[-2:])
        return torch.cat([sides.view(1), apart(outputs[:, 4:], expected[:, 4:])])

    def write_onnx(self, order: ExportOrder) -> None:
        """Writes the whole detector, for one image of this side at a time; OperationError if
        ultralytics cannot.
        """
        from ultralytics import YOLO

        with (
            tempfile.TemporaryDirectory(dir=order.path.parent, prefix=".nas_attn-") as folder,
            quiet(),
        ):
            source = Path(folder) / "detector.pt"
            side = order.x.shape[-1]
            write_pt(self.network, source, _classes(order), side)
            written = YOLO(str(source)).export(
                format="onnx", imgsz=side, device="cpu", simplify=False, verbose=False
            )
            if not written or not Path(written).is_file():
                raise OperationError("ultralytics has written no ONNX file")
            Path(written).replace(order.path)


def _of_queries(answer: Tensor, x: Tensor) -> Tensor:
    """RT-DETR's output, (N, queries, 4 + classes), as boxes in pixels with the best score and its
    class: (N, queries, 6).
    """
    scores, labels = answer[..., 4:].max(-1, keepdim=True)
    return torch.cat([answer[..., :4] * x.shape[-1], scores, labels + 1.0], -1)


def write_pt(model: nn.Module, path: Path, classes: Sequence[str], side: int) -> None:
    """Writes a file in float32 that `ultralytics.YOLO(path)` loads if nas_attn is installed.

    Args:
        model: the network, attention included; it stays as it is.
        path: of the file.
        classes: names, by number.
        side: of its images, in pixels.
    """
    import ultralytics

    network: Any = copied(model).float().eval()
    network.names = dict(enumerate(classes))
    network.nc = len(classes)
    network.criterion = None
    content = {
        "epoch": -1,
        "model": network,
        "ema": None,
        "train_args": {"task": parts_of(model, path.name)["task"], "imgsz": side},
        "version": ultralytics.__version__,
        "license": "AGPL-3.0 (ultralytics)",
        "docs": f"nas_attn {__version__}",
    }
    torch.save(content, path)


def _write_pt(order: ExportOrder) -> None:
    write_pt(order.model, order.path, _classes(order), order.x.shape[-1])


def _classes(order: ExportOrder) -> Sequence[str]:
    return order.interface.classes if order.interface else ()


class UltralyticsExport(DetectorExport):
    """Boxes and scores as ultralytics decodes them."""

    formats: ClassVar[Mapping[str, Format]] = {
        "ultralytics": Format("ultralytics", "-best.pt", (b"pk",), _write_pt),
    }

    @override
    def interface(self, plan: Plan, dataset: Dataset | None) -> Interface:
        with torch.no_grad():
            answer = BoxesGraph(plan.bare(0).eval())(torch.zeros(1, *plan.input_shape))
        return Interface(
            yolo_files.class_names(plan.recipe.data), *UNCHANGED, tuple(answer.shape[1:])
        )

    @override
    def graph(self, model: nn.Module, input_shape: tuple[int, int, int]) -> Graph:
        return BoxesGraph(model).eval()

    @override
    def compared(self, plan: Plan, dataset: Dataset | None, *, stored: bool) -> Iterator[Tensor]:
        inputs = [
            torch.from_numpy(x)
            for x in islice(yolo_files.validation_images(plan.recipe.data), COMPARED)
        ]
        yield from inputs or [torch.rand(1, *plan.input_shape)]

    @override
    def said(self, shape: tuple[int, ...], format_: str) -> str:
        own = shape[-1] == BOX_VALUES
        chosen = "after the network's own choice among boxes" if own else "before NMS"
        sizes = ", ".join(map(str, shape))
        return f"(N, {sizes}) boxes and scores as ultralytics decodes them, {chosen}"
