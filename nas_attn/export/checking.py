"""Whether an exported file computes what the network did, and how fast: asked of the file, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nas_attn.errors import OperationError, shorten
from nas_attn.export import stranger
from nas_attn.export.detectors import BOX, Answer, Chosen

CLOSE = 1e-3
"""Largest difference of outputs, as a share of the largest output, that is put down to other arithmetic."""
ROUNDS = 30
"""Timed calls, after as many that are not."""


class Stranger:
    """An exported file in a process in which nas_attn cannot be imported."""

    def __init__(self, process: subprocess.Popen[bytes], complaint: Path) -> None:
        self._process, self._complaint = process, complaint

    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        """Its output for a batch.

        Raises:
            OperationError: it ends instead; says with what.
        """
        source, target = self._process.stdout, self._process.stdin
        assert source is not None
        assert target is not None
        try:
            stranger.send(target, x)
            answer = stranger.receive(source)
        except (OSError, ValueError):
            answer = None
        if answer is None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
            said = self._complaint.read_text("utf-8", errors="replace").strip().splitlines()
            reason = shorten(said[-1]) if said else "it ended without a word"
            raise OperationError(f"the exported file does not run in a process of its own: {reason}")
        return answer


@contextmanager
def run_elsewhere(path: Path, format_: str) -> Iterator[Stranger]:
    """A process that has loaded an exported file (`onnx`, `torch` or `python`) and takes batches."""
    with tempfile.TemporaryDirectory(prefix="nas_attn-") as folder:
        complaint = Path(folder) / "stderr"
        with complaint.open("wb") as errors:
            # As text, so that the folder of this package is not on the path, but the working folder is.
            command = [sys.executable, "-c", Path(stranger.__file__).read_text("utf-8"), format_, str(path.resolve())]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        try:
            yield Stranger(process, complaint)
        finally:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
            process.kill()
            process.wait()


@dataclass(frozen=True, slots=True)
class OnnxCheck:
    """An ONNX file beside the network that it was made from."""

    difference: float | None
    """Largest difference of two outputs, as a share of the largest output. Of a detector before NMS: of the image's side or of the
    surest score. Of boxes that are chosen: that of half of them, as a share of the image's side or of a sure score; None where no
    image had a box."""
    torch_ms: float
    """Median time for one image, one thread each."""
    onnxruntime_ms: float
    threads: int
    version: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def check_onnx(path: Path, model: nn.Module, images: Iterable[torch.Tensor]) -> OnnxCheck | None:
    """Compares an ONNX file with its network, and times both; None where ONNX Runtime is not installed.

    Args:
        images: batches of other sizes, as the file takes them; of a detector that chooses its boxes, of one image each.

    Raises:
        OperationError: they differ by more than other arithmetic can explain.
    """
    try:
        import onnxruntime
    except ImportError:
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name, apart = session.get_inputs()[0].name, list[torch.Tensor]()
    one, chosen = None, isinstance(model, Chosen)
    with torch.no_grad():
        for x in images:
            expected = model(x)
            found = torch.from_numpy(session.run(None, {name: x.numpy()})[0])
            chosen = chosen or (isinstance(model, Answer) and expected.shape[-1] == BOX)
            if chosen:
                apart.append(_boxes_apart(found.view(found.shape[-2:]), expected.view(expected.shape[-2:]), x))
            else:
                apart.append(
                    _predictions_apart(found, expected, x) if isinstance(model, Answer) else _apart(found, expected)
                )
            one = x[:1]
        every = torch.cat(apart)
        worst = float(every.median() if chosen else every.max()) if len(every) else None
        if worst is not None and not worst <= CLOSE:
            raise OperationError(
                f"'{path.name}' does not compute what the network does: outputs differ by {100 * worst:.2g} % of the largest"
            )
        assert one is not None
        in_torch, in_onnxruntime = medians(lambda: model(one), lambda: session.run(None, {name: one.numpy()}))
    return OnnxCheck(worst, in_torch, in_onnxruntime, threads=1, version=onnxruntime.__version__)


def _apart(found: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """(1,) Largest difference, as a share of the largest output."""
    return ((found - expected).abs().max() / expected.abs().max().clamp(min=1e-12)).view(1)


def _predictions_apart(found: torch.Tensor, expected: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """(2,) Largest difference of boxes, as a share of the image's side, and of scores, of the surest: (N, 4 + classes, places).

    Apart, as sides in pixels are so much larger that another network's scores would pass for the same.
    """
    sides = (found - expected)[:, :4].abs().max() / max(x.shape[-2:])
    return torch.cat([sides.view(1), _apart(found[:, 4:], expected[:, 4:])])


def _boxes_apart(found: torch.Tensor, expected: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """(boxes,) How far each box (K, 6) of either is from the nearest of its class in the other: infinite where there is none.

    By sides as shares of the image's, and by scores. Some may be far off: where scores are nearly equal, other arithmetic
    suppresses another box. `check-export` holds their mAP against the card.
    """
    width, height = x.shape[-1], x.shape[-2]
    scale = found.new_tensor([width, height, width, height, 1.0])
    between = torch.cdist(found[:, :5] / scale, expected[:, :5] / scale, p=float("inf"))
    between[found[:, 5, None] != expected[None, :, 5]] = float("inf")
    far = between.new_full((1,), float("inf"))
    rows = torch.cat([between, far.expand(len(found), 1)], 1).amin(1)
    columns = torch.cat([between, far.expand(1, len(expected))], 0).amin(0)
    return torch.cat([rows, columns])


def medians(*calls: Callable[[], object]) -> list[float]:
    """Median milliseconds of each call, all taken in turn, on one thread of torch's."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found: list[list[float]] = [[] for _ in calls]
        for number in range(2 * ROUNDS):
            for call, times in zip(calls, found, strict=True):
                start = time.perf_counter()
                call()
                if number >= ROUNDS:
                    times.append(1e3 * (time.perf_counter() - start))
    finally:
        torch.set_num_threads(before)
    return [float(np.median(times)) for times in found]
