"""The table of latency modes: how a network is executed while it is timed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any


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
    quantized: bool = False
    """It runs in int8: `prepare` is also given `images`, (M, C, H, W), and the accuracy in it is scored."""
    devices: tuple[str, ...] = ("cpu", "cuda")
    dtypes: tuple[str, ...] = ("float32", "bfloat16", "float16")
    own_stream: bool = False
    """On a GPU it works on a CUDA stream of its own, which torch's events do not see: the wall clock is taken."""


IN_INT8 = "_int8"
"""At the end of the names of metrics that are scored in the runtime of a quantized mode: `accuracy_int8`."""
_NETS = "nas_attn.latency.nets"


def _runtime(name: str, title: str, package: str, extra: str, **more: Any) -> Row:
    facts: dict[str, Any] = {"costly": True, "devices": ("cpu",), "dtypes": ("float32",), **more}
    return Row(name, title, f"{_NETS}:by_runtime", package=package, extra=extra, **facts)


_WIDE: dict[str, Any] = {"devices": ("cpu", "cuda"), "dtypes": ("float32", "float16"), "own_stream": True}
ROWS: Mapping[str, Row] = MappingProxyType(
    {
        row.name: row
        for row in (
            Row("eager", "as it is", f"{_NETS}:eager"),
            Row("compile", "through torch.compile", f"{_NETS}:compiled", costly=True),
            Row("cuda-graph", "replayed as a CUDA graph", f"{_NETS}:cuda_graph", devices=("cuda",)),
            _runtime("onnxruntime", "by ONNX Runtime", "onnxruntime", "onnx", **_WIDE),
            _runtime("onnxruntime-int8", "by ONNX Runtime in int8", "onnxruntime", "onnx", quantized=True),
            _runtime("openvino", "by OpenVINO", "openvino", "openvino"),
            _runtime("ncnn", "by ncnn", "ncnn", "ncnn"),
            _runtime("openvino-int8", "by OpenVINO in int8", "openvino", "openvino", quantized=True),
            Row(
                "command",
                "by a program of one's own",
                f"{_NETS}:by_command",
                costly=True,
                dtypes=("float32", "float16"),
            ),
        )
    }
)
"""Name -> mode."""
