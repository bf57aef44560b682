"""Networks as a file that holds a graph has them: images in, one tensor out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from nas_attn.errors import OperationError, UserError
from nas_attn.export.python_file import Described
from nas_attn.training.learning import answer_of

BOX = 6
"""Numbers of a box that a detector has chosen: left, top, right, bottom, score, class."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a format's writer has to write."""

    model: nn.Module
    path: Path
    """In a folder of its own; files beside it are moved along with it."""
    x: Tensor
    """Two images for tracing."""
    notes: Mapping[str, str]
    described: Described | None
    images: Tensor | None = None
    """With which an int8 format is calibrated; None: noise."""


class Graph(nn.Module):
    """A network that gives one tensor; of a dictionary (torchvision's segmentation networks) it takes `out`."""

    metadata_prefix = ""
    """Of the notes' names in an ONNX file."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        logits = answer_of(self.network(image))
        assert isinstance(logits, Tensor)
        return logits

    def differences(self, found: Tensor, expected: Tensor, x: Tensor) -> Tensor:
        """How far a file's output is from the network's for images x, as shares of the largest output."""
        return apart(found, expected)

    def worst(self, differences: Tensor) -> float | None:
        """The number that decides whether two outputs are the same; None where there was nothing to compare."""
        return float(differences.max()) if len(differences) else None

    def write_onnx(self, order: Order) -> None:
        """Writes ONNX with a free batch size."""
        torch.onnx.export(
            self,
            (order.x,),
            str(order.path),
            input_names=["image"],
            output_names=["output"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=65536)},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )

    def write_program(self, order: Order) -> None:
        """Writes a `torch.export` program with a free batch size."""
        batch = torch.export.Dim("batch", min=1, max=65536)
        program = torch.export.export(self, (order.x,), dynamic_shapes=({0: batch},))
        torch.export.save(program, order.path, extra_files={"notes.json": json.dumps(dict(order.notes))})


class Normalising(Graph):
    """A network that takes images as they come: uint8 (N, C, H, W)."""

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        """Args:
        mean: per channel, on the scale 0 to 1; so is `std`.
        """
        super().__init__(network)
        scale, shift = [1 / (255 * s) for s in std], [m / s for m, s in zip(mean, std, strict=True)]
        self.register_buffer("scale", torch.tensor(scale).view(-1, 1, 1))
        self.register_buffer("shift", torch.tensor(shift).view(-1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image.float() * self.scale - self.shift)


class Chosen(Graph):
    """A detector of torchvision for one image (1, 3, H, W), 0 to 1, which answers with one tensor: (K, 6), of each box that it
    chooses left, top, right, bottom in pixels, score and class from 1."""

    def forward(self, image: Tensor) -> Tensor:
        found = self.network([image[0]])[0]
        return torch.cat([found["boxes"], found["scores"][:, None], found["labels"].to(image.dtype)[:, None]], 1)

    def differences(self, found: Tensor, expected: Tensor, x: Tensor) -> Tensor:
        return boxes_apart(found, expected, x)

    def worst(self, differences: Tensor) -> float | None:
        """Of half of the boxes: where scores are nearly equal, other arithmetic suppresses another box. `check-export` compares
        the mAP with the card."""
        return float(differences.median()) if len(differences) else None

    def write_onnx(self, order: Order) -> None:
        """The whole detector, the choice among its boxes included.

        By torch's tracing exporter: the newer one cannot hold how many boxes are left, which depends on the image.
        """
        torch.onnx.export(
            self,
            (order.x[:1].abs().clamp(max=1),),
            str(order.path),
            input_names=["image"],
            output_names=["boxes"],
            dynamic_axes={"boxes": {0: "found"}},
            opset_version=17,
            dynamo=False,
            verbose=False,
        )

    def write_program(self, order: Order) -> None:
        raise UserError(
            "the format 'torch' cannot hold a detector's choice among its boxes: take onnx, python or weights"
        )


def single_output(model: nn.Module, input_shape: tuple[int, int, int]) -> Graph:
    """The network with one tensor as its output, by what it answers for an image.

    Raises:
        OperationError: it answers with something that is no tensor, no dictionary with `out` and no boxes.
    """
    with torch.no_grad():
        output = model.eval()(torch.zeros(1, *input_shape))
    if isinstance(output, list) and output and isinstance(output[0], Mapping):
        return Chosen(model).eval()
    if not isinstance(answer_of(output), Tensor):
        raise OperationError(f"the network answers with a {type(output).__name__}, which a graph file cannot contain")
    return Graph(model).eval()


def apart(found: Tensor, expected: Tensor) -> Tensor:
    """(1,) Largest difference, as a share of the largest output."""
    return ((found - expected).abs().max() / expected.abs().max().clamp(min=1e-12)).view(1)


def boxes_apart(found: Tensor, expected: Tensor, x: Tensor) -> Tensor:
    """(boxes,) How far each box of either, (…, K, 6), is from the nearest of its class in the other; infinite where there is none.

    By sides as shares of the image's, and by scores.
    """
    found, expected = found.view(found.shape[-2:]), expected.view(expected.shape[-2:])
    width, height = x.shape[-1], x.shape[-2]
    scale = found.new_tensor([width, height, width, height, 1.0])
    between = torch.cdist(found[:, :5] / scale, expected[:, :5] / scale, p=float("inf"))
    between[found[:, 5, None] != expected[None, :, 5]] = float("inf")
    far = between.new_full((1,), float("inf"))
    rows = torch.cat([between, far.expand(len(found), 1)], 1).amin(1)
    columns = torch.cat([between, far.expand(1, len(expected))], 0).amin(0)
    return torch.cat([rows, columns])
