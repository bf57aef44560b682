"""The programs that measure on devices, against stand-ins of the vendors' tools that print what
those print.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from nas_attn.errors import MeasurementError
from nas_attn.latency.nets import command_words, run_command
from nas_attn.latency.runtime_files import write_onnx
from nas_attn.latency.session import run_session
from nas_attn.recipe.recipe import LatencySection

DEVICES = Path(__file__).parents[2] / "runners" / "devices"
STAND_INS = {
    "trtexec": (
        """
case "$*" in *--onnx=*model.onnx*--fp16*) ;; *) echo "asked for: $*" >&2; exit 1;; esac
echo "[I] Latency: min = 0.5 ms, max = 0.9 ms, mean = 0.6 ms, median = 0.55 ms, percentile(99%) = 0.9 ms"
echo "[I] GPU Compute Time: min = 0.41 ms, max = 0.52 ms, mean = 0.44 ms, median = 0.4375 ms, percentile(99%) = 0.5 ms"
echo "[I] Total GPU Compute Time: 2.96536 s"
"""
    ),
    "adb": (
        """
case "$1" in
  push) test -s "$2" && echo "1 file pushed" ;;
  shell) case "$2" in *"-r 50 -x 4 nas_attn.onnx"*) ;; *) exit 1;; esac
    printf 'Average inference time cost total: 4.1 ms\\nMin Latency: 0.0035 s\\nP50 Latency: 0.004 s\\nP99 Latency: 0.006 s\\n' ;;
esac
"""
    ),
    "scp": 'mkdir -p "$DEVICE"; cp "$2" "$DEVICE/$(basename "${3#*:}")"',
    "ssh": (
        'test "$1" = pi@raspberry && eval "$(echo "$2" | sed "s#/tmp/#$DEVICE/#g;'
        ' s#python3#$PYTHON#")"'
    ),
}
RKNN = """
class RKNN:
    def __init__(self, verbose): print("I rknn-toolkit2 version: stand-in")
    def config(self, target_platform): assert target_platform == "rk3588"
    def load_onnx(self, model): return 0 if open(model, "rb").read(1) else -1
    def build(self, do_quantization): return 0
    def init_runtime(self, target, perf_debug): return 0
    def eval_perf(self, is_print): return "\\nTotal Operator Elapsed Per Frame Time(us): 1200\\nTotal Memory Read/Write: 1"
    def release(self): pass
"""


@pytest.fixture
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in STAND_INS.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    (tmp_path / "rknn").mkdir()
    (tmp_path / "rknn" / "__init__.py").write_text("")
    (tmp_path / "rknn" / "api.py").write_text(RKNN)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("DEVICE", str(tmp_path / "device"))
    monkeypatch.setenv("PYTHON", sys.executable)
    return tmp_path


@pytest.mark.skipif(os.name != "posix", reason="shell scripts")
@pytest.mark.parametrize(
    ("command", "milliseconds"),
    [
        (f"sh {DEVICES}/trtexec.sh --fp16 {{onnx}}", 0.4375),
        (f"sh {DEVICES}/adb.sh -x 4 {{onnx}}", 4.0),
        (f"{sys.executable} {DEVICES}/rockchip.py rk3588 {{onnx}}", 1.2),
    ],
)
def test_the_vendors_tools_are_asked_and_understood(
    stand_ins: Path, command: str, milliseconds: float
) -> None:
    onnx = stand_ins / "model.onnx"
    onnx.write_bytes(b"network")
    assert run_command(command_words(command, onnx)) == [pytest.approx(milliseconds)]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="shell scripts")
@pytest.mark.usefixtures("stand_ins")
def test_a_session_measures_over_ssh() -> None:
    pytest.importorskip("onnxruntime")
    command = f"sh {DEVICES}/ssh.sh pi@raspberry onnxruntime 1 {{onnx}}"
    section = LatencySection(mode="command", command=command, session_seconds=0.1)
    network = nn.Conv2d(3, 4, 3)
    found = run_session(
        section, reference=network, candidates={"same": network}, input_shape=(3, 8, 8), seed=0
    )
    assert found.reference_ms > 0
    assert found.samples[0].calls == 3


def test_ncnn_measures_what_pnnx_converts(tmp_path: Path) -> None:
    for package in ("ncnn", "pnnx", "onnxscript"):
        pytest.importorskip(package)
    path = tmp_path / "model.onnx"
    command = command_words(f"{sys.executable} {DEVICES}/ncnn.py {{onnx}}", path)
    write_onnx(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), torch.zeros(1, 3, 8, 8), path)
    assert len(run_command(command)) == 20
    write_onnx(nn.ReLU(), torch.zeros(2, 3, 8, 8), path)
    with pytest.raises(MeasurementError, match="one image at a time"):
        run_command(command)
