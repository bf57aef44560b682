"""Detection with ultralytics: from `init` over a search that is stopped to a `.pt` and an ONNX file of the whole detector."""

from __future__ import annotations

import json

import pytest
from answers import QUICK, finished, settings
from shell import Shell

pytestmark = pytest.mark.slow


@pytest.mark.timeout(3600)
def test_from_init_to_a_detector_taken_home(shell: Shell) -> None:
    for package in ("ultralytics", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    shell.variables |= {
        "YOLO_CONFIG_DIR": str(shell.logs),
        "YOLO_AUTOINSTALL": "false",
        "XDG_CACHE_HOME": str(shell.logs / "cache"),
    }
    shell.types("init boxes.toml --task detection --data digits --space channel --yes")
    options = "{size=32, train=20, validation=20, test=20, fragments=1}"
    quick = settings(
        {key: value for key, value in QUICK.items() if not key.startswith("training.")},
        data__options=options,
        data__size="32",
        training__rungs="[1, 2]",
        training__batch_size="10",
        search__trials="2",
        search__baselines="bare",
        search__pruner="none",
        search__confirm_seeds="0",
    )
    searching = shell.begins(f"search boxes.toml --workers 1 --threads 1 {quick}").until("trial 0 ")
    searching.ctrl_c().ends(130)
    ended = shell.types("resume boxes --workers 1 --threads 1")
    assert "trial 0 (" not in ended.err, "what is done is not done again"
    answer = finished(shell, "boxes", trials=2)
    assert answer["objectives"] == ["map50_95", "latency"]
    shell.types("report boxes")
    page = (shell.folder / "boxes.html").read_text()
    assert "mAP50-95" in page
    assert "new images" not in page
    shell.types("export boxes --trial 1 --format ultralytics")
    card = json.loads((shell.folder / "boxes-best.pt.json").read_text())
    assert card["output"]["what"] == "boxes"
    assert card["output"]["classes"] == [str(digit) for digit in range(10)]
    shell.types("export boxes --trial 1 --format onnx")
    card = json.loads((shell.folder / "boxes.onnx.json").read_text())
    assert card["check"]["difference"] < 1e-3
    assert "cannot be checked here" in shell.types("check-export boxes.onnx", status=2).error
