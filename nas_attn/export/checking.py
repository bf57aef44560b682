"""Whether an exported file computes what the network did: asked of the file, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from nas_attn.errors import OperationError, shorten
from nas_attn.export import scoring
from nas_attn.export.graphs import Graph

CLOSE = 1e-3
"""Largest difference of outputs, as a share of the largest output, that is put down to other arithmetic."""


class Isolated:
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
            scoring.send(target, x)
            answer = scoring.receive(source)
        except (OSError, ValueError):
            answer = None
        if answer is None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
            said = self._complaint.read_text("utf-8", errors="replace").strip().splitlines()
            reason = shorten(said[-1]) if said else "it ended without output"
            raise OperationError(f"the exported file does not run in a process of its own: {reason}")
        return answer


@contextmanager
def run_elsewhere(path: Path, format_: str) -> Iterator[Isolated]:
    """A process that has loaded an exported file (`onnx`, `torch` or `python`) and takes batches."""
    with tempfile.TemporaryDirectory(prefix="nas_attn-") as folder:
        complaint = Path(folder) / "stderr"
        with complaint.open("wb") as errors:
            # As text, so that the folder of this package is not on the path, but the working folder is.
            command = [
                sys.executable,
                "-c",
                Path(scoring.__file__).read_text("utf-8"),
                "--stream",
                format_,
                str(path.resolve()),
            ]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        try:
            yield Isolated(process, complaint)
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
    version: str
    """Of ONNX Runtime."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def check_onnx(path: Path, graph: Graph, images: Iterable[torch.Tensor]) -> OnnxCheck | None:
    """Compares an ONNX file with its network; None where ONNX Runtime is not installed.

    Args:
        images: batches of different sizes, as the file takes them; of a detector, of one image each.

    Raises:
        OperationError: they differ by more than other arithmetic can explain.
    """
    try:
        import onnxruntime
    except ImportError:
        return None
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    with torch.no_grad():
        differences = [
            graph.differences(torch.from_numpy(session.run(None, {name: x.numpy()})[0]), graph(x), x) for x in images
        ]
    worst = graph.worst(torch.cat(differences))
    if worst is not None and not worst <= CLOSE:
        raise OperationError(
            f"'{path.name}' does not compute the same as the network: outputs differ by {100 * worst:.2g} % of the largest"
        )
    return OnnxCheck(worst, onnxruntime.__version__)
