"""Latency on a device without torch: a folder goes there, and its sessions come back to the study."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from made_study import MadeStudy

WITHOUT_TORCH = """
import runpy, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "nas_attn", "pydantic", "optuna"):
            raise ModuleNotFoundError(f"No module named '{name}'")

sys.meta_path.insert(0, Absent())
program, *sys.argv[1:] = sys.argv[1:]
runpy.run_path(program, run_name="__main__")
"""


def test_a_device_without_torch_measures_for_a_study(nas, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    mode = "openvino"
    made, folder = MadeStudy(tmp_path), tmp_path / "to-the-device"
    study = ("--study", "made", "--storage", f"sqlite:///{tmp_path}/made.db")
    wanted = ("stage2=se(reduction=8)",)
    settings = ("--set", f"mode={mode}", "--set", "session_seconds=0.1")
    sent = nas("latency", *wanted, *study, *settings, "--to", str(folder))
    assert sent.status == 0, sent.err
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(folder / "measure.py"), "--sessions", "2"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    back = nas("latency", *study, "--from", str(folder), "--json").json
    assert back["sessions"] == 2
    assert back["conditions"]["mode"] == mode
    assert {row["placement"].partition("=")[0] for row in back["candidates"]} == {"stage2"}
    assert all(row["low"] <= row["ratio"] <= row["high"] for row in back["candidates"])
    assert len(made.store.sessions()) == 2
    again = nas("latency", *study, "--from", str(folder))
    assert len(made.store.sessions()) == 2, "the same sessions are kept once"
    assert "stage2=se" in again.out
    results = json.loads((folder / "results.json").read_text())
    for session in results:
        session["fingerprint"]["name"] = "another board"
    (folder / "results.json").write_text(json.dumps(results))
    assert "another board" in nas("latency", *study, "--from", str(folder)).error
    assert nas("latency", "--from", str(folder)).status == 0


def test_what_cannot_go_to_a_device_is_said(nas, tmp_path: Path) -> None:
    wanted = ("latency", "stage2=se(reduction=8)", "--backbone", "resnet8", "--to", str(tmp_path / "there"))
    assert "openvino" in nas(*wanted, "--set", "mode=eager").error
    assert "measure.py" in nas("latency", "--from", str(tmp_path)).error
