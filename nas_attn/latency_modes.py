"""The table of latency modes: how a network is executed while it is timed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Row:
    """One mode."""

    name: str
    """As `latency.mode`."""
    title: str
    prepare: str
    """`package.module:function` that makes a network ready: called with a copy of the model (in eval mode, on the device, in the
    dtype), the `LatencySection` and an input (N, C, H, W), it returns a `nas_attn.latency.nets.Net`, mostly by `timed`."""
    package: str = ""
    """A package that it needs. A study's latencies belong to one version of it."""
    extra: str = ""
    """The extra of nas-attn that installs the package."""
    costly: bool = False
    """Making a network ready takes longer than timing it, so what is ready is kept."""
    cuda_only: bool = False
    takes_bfloat16: bool = True
    own_stream: bool = False
    """On a GPU it works on a CUDA stream of its own, which torch's events do not see: the wall clock is taken."""


_NETS = "nas_attn.latency.nets"
ROWS: Mapping[str, Row] = MappingProxyType(
    {
        row.name: row
        for row in (
            Row("eager", "as it is", f"{_NETS}:eager"),
            Row("compile", "through torch.compile", f"{_NETS}:compiled", costly=True),
            Row("cuda-graph", "replayed as a CUDA graph", f"{_NETS}:cuda_graph", cuda_only=True),
            Row(
                "onnxruntime",
                "by ONNX Runtime",
                f"{_NETS}:by_onnxruntime",
                package="onnxruntime",
                extra="onnx",
                costly=True,
                takes_bfloat16=False,
                own_stream=True,
            ),
            Row("command", "by a program of one's own", f"{_NETS}:by_command", costly=True, takes_bfloat16=False),
        )
    }
)
"""Name -> mode."""
