"""Detection, from `init` over a search that is stopped to files taken home: our trainer and COCO's
files, and ultralytics.
"""

from __future__ import annotations

import contextlib
import json
import shutil

import numpy as np
import pytest
from answers import QUICK, finished, settings
from materials import coco, digits_with_boxes
from shell import ROOT, Shell

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
CHANGES = {
    **{key: value for key, value in QUICK.items() if not key.startswith("training.")},
    "data.size": "32",
    "training.rungs": "[1, 2]",
    "search.trials": "3",
    "search.baselines": "bare",
    "search.pruner": "none",
    "search.confirm_seeds": "0",
}
OURS = {
    **CHANGES,
    "backbone.options": "{size=32}",
    "training.start": "scratch",
    "training.batch_size": "8",
}
MADE = {
    **CHANGES,
    "training.batch_size": "10",
}


def searched(shell: Shell, tiny: str) -> str:
    """The report of a search that was stopped once."""
    searching = shell.begins(f"search boxes.toml --workers 1 --threads 1 {tiny}").until("trial 0 ")
    searching.ctrl_c().ends(130)
    ended = shell.types("resume boxes --workers 1 --threads 1")
    assert "trial 0 (" not in ended.err, "what is done is not done again"
    answer = finished(shell, "boxes", trials=3)
    assert answer["objectives"] == ["map50_95", "latency"]
    assert "nms" in answer["latency"]["conditions"]
    shell.types("report boxes")
    page = (shell.folder / "boxes.html").read_text()
    assert "mAP50-95" in page
    assert "new images" not in page
    return page


def test_with_a_detector_and_photographs_of_ones_own(shell: Shell) -> None:
    for package in ("pycocotools", "onnx", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    coco(shell.folder / "things")
    shutil.copy(ROOT / "tests" / "detector.py", shell.folder / "detector.py")
    shell.types(
        "init boxes.toml --task detection --data coco:things --backbone detector:build --space"
        " channel"
    )
    quick, lost = settings(OURS), settings({**OURS, "data.coco": '{train="gone.json"}'})
    assert (
        "data.coco.train = 'gone.json'"
        in shell.types(f"search boxes.toml --dry-run {lost}", status=2).error
    )
    assert "accuracy" not in shell.types(f"search boxes.toml --dry-run {quick}").out
    assert "(NMS)" in searched(shell, quick)
    for name, options in {
        "boxes.pt": "",
        "boxes.onnx": "--format onnx",
    }.items():
        shell.types(f"export boxes --placement 1 {options}")
        card = json.loads((shell.folder / f"{name}.json").read_text())
        assert card["output"] == {
            "shape": ["N", 100, 6],
            "what": "boxes",
            "classes": ["blue", "red"],
        }
        found = shell.types(f"validate-export {name} --json").json
        assert found["agrees"], name
        assert found["map50_95"] == pytest.approx(card["here"]["value"], abs=2e-3)
    assert "'torch'" in shell.types("export boxes --placement 1 --format torch", status=2).error


def test_with_ultralytics(shell: Shell) -> None:
    for package in ("ultralytics", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    shell.variables |= {
        "YOLO_CONFIG_DIR": str(shell.logs),
        "YOLO_AUTOINSTALL": "false",
        "XDG_CACHE_HOME": str(shell.logs / "cache"),
    }
    digits_with_boxes(shell.folder / "made", size=32, train=20, validation=20, test=20, fragments=1)
    shell.types(
        "init boxes.toml --task detection --data yolo:made/data.yaml --backbone"
        " ultralytics:yolo11n.yaml --space channel"
    )
    searched(shell, settings(MADE))
    shell.types("export boxes --placement 1 --format ultralytics")
    card = json.loads((shell.folder / "boxes-best.pt.json").read_text())
    assert card["output"]["what"] == "boxes"
    assert card["output"]["classes"] == [str(digit) for digit in range(10)]
    shell.types("export boxes --placement 1 --format onnx")
    card = json.loads((shell.folder / "boxes.onnx.json").read_text())
    assert card["check"]["difference"] < 1e-3
    lines = (shell.folder / "boxes.onnx.md").read_text().partition("```python\n")[2]
    given = {"images": np.zeros((1, *card["input"]["shape"][1:]), np.float32)}
    with contextlib.chdir(shell.folder):
        exec(lines.partition("```")[0], given)
    assert given["boxes"].shape == (1, *card["output"]["shape"][1:])
    assert "cannot be checked here" in shell.types("validate-export boxes.onnx", status=2).error
