"""Segmentation: from `init` to files that stand alone, on masks of one's own, with a network of
one's own.
"""

from __future__ import annotations

import json
import shutil

import pytest
from answers import QUICK, finished, settings
from materials import masks
from shell import ROOT, Ended, Shell


def searched(shell: Shell, **more: str) -> Ended:
    masks(shell.folder / "roads")
    shutil.copy(ROOT / "tests" / "segmenter.py", shell.folder / "segmenter.py")
    init = (
        "init study.toml --task segmentation --data folder:roads --backbone segmenter:build --space"
        " channel"
    )
    shell.types(init)
    quick = settings(QUICK, data__size="16", search__trials="3", **more)
    return shell.types(f"search study.toml --workers 1 --threads 1 {quick}")


@pytest.mark.slow
def test_from_init_to_a_network_taken_home(shell: Shell) -> None:
    ended = searched(
        shell, search__baselines="bare", search__pruner="none", training__start="scratch"
    )
    assert "accuracy" not in ended.out + ended.err
    assert "mean_iou" in ended.err
    answer = finished(shell, "study", trials=3)
    assert answer["objectives"] == ["mean_iou", "latency"]
    assert all(
        0 <= s["metrics"]["mean_iou"] <= 1 for c in answer["candidates"] for s in c["scores"]
    )
    page = (shell.folder / "study.html").read_text()
    assert "mean IoU" in page
    assert "new images" not in page
    assert "in float32: mean IoU" in shell.types("export study --placement 1").out
    card = json.loads((shell.folder / "study.pt.json").read_text())
    assert card["output"] == {
        "shape": ["N", 2, 16, 16],
        "what": "logits",
        "classes": ["ground", "road"],
    }


@pytest.mark.slow
def test_it_is_validated_retrained_and_exported_as_a_graph(shell: Shell) -> None:
    for package in ("onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="the onnx extra is not installed")
    searched(shell, training__rungs="[1]")
    said = shell.types("validate study --seeds 2 --workers 1 --threads 1 --front 1").out
    assert "mean IoU" in " ".join(said.split())
    assert "new images" not in said
    shell.types(
        "retrain study --placement 1 --epochs 3 --workers 1 --threads 1"
    )  # a validation's runs have no curve
    shell.types("report study")
    assert "Trainings for use" in (shell.folder / "study.html").read_text()
    for options in ("--normalize", ""):
        shell.types(f"export study --placement 1 --format onnx {options}")
        card = json.loads((shell.folder / "study.onnx.json").read_text())
        found = shell.types("validate-export study.onnx --json").json
        assert (found["agrees"], found["right"]) == (True, None)
        assert found["mean_iou"] == pytest.approx(card["here"]["value"], abs=1e-4)
