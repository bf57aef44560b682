"""Latency on a device without torch: a folder goes there, and its sessions come back to the
study.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from made_study import MadeStudy

DEVICE = """
import importlib.util, runpy, sys

packages, program, *sys.argv[1:] = sys.argv[1:]
sys.path.insert(0, packages)
print("torch" if importlib.util.find_spec("torch") or importlib.util.find_spec("nas_attn") else "no torch")
runpy.run_path(program, run_name="__main__")
"""  # Of the installed packages, it has those in one folder only


@pytest.mark.parametrize("mode", ["onnxruntime", pytest.param("openvino", marks=pytest.mark.slow)])
def test_a_device_without_torch_measures_for_a_study(nas, tmp_path: Path, mode: str) -> None:
    if (runtime := find_spec(mode)) is None or runtime.origin is None:
        pytest.skip(f"{mode} is not installed")
    made, folder = MadeStudy(tmp_path), tmp_path / "to-the-device"
    study = ("made", "--storage", f"sqlite:///{tmp_path}/made.db")
    settings = ("--set", f"mode={mode}", "--set", "session_seconds=0.1")
    sent = nas(
        "measure", study[0], "stage2=se(reduction=8)", *study[1:], *settings, "--to", str(folder)
    )
    assert sent.status == 0, sent.err
    installed, packages = Path(runtime.origin).parents[1], tmp_path / "packages"
    packages.mkdir()
    for name in {"numpy", "numpy.libs", mode} & {path.name for path in installed.iterdir()}:
        (packages / name).symlink_to(installed / name)
    command = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        DEVICE,
        str(packages),
        str(folder / "measure.py"),
        "--sessions",
        "2",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "no torch" in done.stdout
    back = nas("measure", *study, "--from", str(folder), "--json").json
    assert (back["sessions"], back["conditions"]["mode"]) == (2, mode)
    assert {row["placement"].partition("=")[0] for row in back["candidates"]} == {"stage2"}
    assert all(row["low"] <= row["ratio"] <= row["high"] for row in back["candidates"])
    assert len(made.store.sessions()) == 2
    assert "stage2=se" in nas("measure", *study, "--from", str(folder)).out
    assert len(made.store.sessions()) == 2, "the same sessions are kept once"
    results = json.loads((folder / "results.json").read_text())
    for session in results:
        session["fingerprint"]["name"] = "another board"
    (folder / "results.json").write_text(json.dumps(results))
    assert "nas-attn show" in nas("measure", *study, "--from", str(folder)).out
    assert (len(made.store.sessions()), len(made.store.sessions(elsewhere=True))) == (2, 2)
    (device,) = nas("pareto", *study, "--json").json["elsewhere"]
    assert device["machine"] == "another board"
    assert nas("measure", "--from", str(folder)).status == 0
    bare, other = sorted(folder.glob("*.onnx"), key=lambda path: path.stem != "bare")
    if mode == "openvino":  # seconds, and alike in all modes
        compared = nas("measure", str(bare), str(other), "--set", f"mode={mode}").out
        assert 0.5 < float(compared.split(": ")[1].split()[0]) < 20
        assert nas("measure", str(folder)).status == 0, "the folder is measured here"
    other.write_bytes(b"no network")
    assert f"'{other}' is no" in nas("measure", str(bare), str(other)).error


def test_what_cannot_go_to_a_device_is_said(nas, tmp_path: Path) -> None:
    wanted = (
        "measure",
        "stage2=se(reduction=8)",
        "--backbone",
        "resnet8",
        "--to",
        str(tmp_path / "there"),
    )
    assert "openvino" in nas(*wanted, "--set", "mode=eager").error
    assert "measure.py" in nas("measure", "--from", str(tmp_path)).error
