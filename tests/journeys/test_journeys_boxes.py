"""Detection with a network like torchvision's and COCO's annotations: from `init` over a search that is stopped to files taken home."""

from __future__ import annotations

import json
import shutil

import pytest
from answers import QUICK, finished, settings
from materials import coco
from shell import ROOT, Shell

CHANGES = {
    **{key: value for key, value in QUICK.items() if not key.startswith("training.")},
    "data.size": "32",
    "backbone.options": "{size=32}",
    "training.start": "scratch",
    "training.rungs": "[1, 2]",
    "training.batch_size": "8",
    "search.trials": "3",
    "search.baselines": "bare",
    "search.pruner": "none",
    "search.confirm_seeds": "0",
}


@pytest.fixture
def things(shell: Shell) -> Shell:
    pytest.importorskip("pycocotools", reason="the detection extra is not installed")
    coco(shell.folder / "things")
    shutil.copy(ROOT / "tests" / "detector.py", shell.folder / "detector.py")
    shell.types("init boxes.toml --task detection --data coco:things --backbone detector:build --space channel --yes")
    return shell


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_from_init_to_a_detector_taken_home(things: Shell) -> None:
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package, reason="the onnx extra is not installed")
    quick = settings(CHANGES)
    lost = settings({**CHANGES, "data.coco": '{train="gone.json"}'})
    assert "data.coco.train = 'gone.json'" in things.types(f"search boxes.toml --dry-run {lost}", status=2).error
    assert "accuracy" not in things.types(f"search boxes.toml --dry-run {quick}").out
    searching = things.begins(f"search boxes.toml --workers 1 --threads 1 {quick}").until("trial 0 ")
    searching.ctrl_c().ends(130)
    ended = things.types("resume boxes --workers 1 --threads 1")
    assert "trial 0 (" not in ended.err, "what is done is not done again"
    answer = finished(things, "boxes", trials=3)
    assert answer["objectives"] == ["map50_95", "latency"]
    assert "nms" in answer["latency"]["conditions"]
    things.types("report boxes")
    page = (things.folder / "boxes.html").read_text()
    assert "mAP50-95" in page
    assert "new images" not in page
    assert "(NMS)" in page
    for name, options in {"boxes.pt": "", "boxes.py": "--format python", "boxes.onnx": "--format onnx"}.items():
        things.types(f"export boxes --trial 1 {options}")
        card = json.loads((things.folder / f"{name}.json").read_text())
        assert card["output"] == {"shape": ["N", 100, 6], "what": "boxes", "classes": ["blue", "red"]}
        found = things.types(f"check-export {name} --json").json
        assert found["agrees"], name
        assert found["map50_95"] == pytest.approx(card["here"]["value"], abs=2e-3)
    assert "the format 'torch'" in things.types("export boxes --trial 1 --format torch", status=2).error
