"""Segmentation: from `init` to files that stand alone, on masks of one's own, with a network of one's own."""

from __future__ import annotations

import json
import shutil

import pytest
from answers import QUICK, finished, settings
from materials import masks
from shell import ROOT, Shell


def test_from_init_to_a_network_taken_home(shell: Shell) -> None:
    masks(shell.folder / "roads")
    shutil.copy(ROOT / "tests" / "segmenter.py", shell.folder / "segmenter.py")
    shell.types(
        "init study.toml --task segmentation --data folder:roads --backbone segmenter:build --space channel --yes"
    )
    quick = settings(
        QUICK,
        data__size="16",
        search__trials="3",
        search__baselines="bare",
        search__pruner="none",
        training__start="scratch",
    )
    ended = shell.types(f"search study.toml --workers 1 --threads 1 {quick}")
    assert "accuracy" not in ended.out + ended.err
    assert "mean_iou" in ended.out
    answer = finished(shell, "study", trials=3)
    assert answer["objectives"] == ["mean_iou", "latency"]
    assert all(0 <= s["metrics"]["mean_iou"] <= 1 for c in answer["candidates"] for s in c["scores"])
    shell.types("report study")
    page = (shell.folder / "study.html").read_text()
    assert "mean IoU" in page
    assert "new images" not in page
    for name, options in {"study.pt": "", "study.py": "--format python"}.items():
        said = shell.types(f"export study --trial 1 {options}").out
        assert "in float32: mean IoU" in said
        card = json.loads((shell.folder / f"{name}.json").read_text())
        assert card["output"] == {"shape": ["N", 2, 16, 16], "what": "logits", "classes": ["ground", "road"]}
        found = shell.types(f"check-export {name} --json").json
        assert found["agrees"]
        assert found["right"] is None
        assert found["mean_iou"] == pytest.approx(card["here"]["value"], abs=1e-4)


@pytest.mark.slow
def test_it_is_validated_retrained_and_exported_as_a_graph(shell: Shell) -> None:
    for package in ("onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="the onnx extra is not installed")
    masks(shell.folder / "roads")
    shutil.copy(ROOT / "tests" / "segmenter.py", shell.folder / "segmenter.py")
    shell.types(
        "init study.toml --task segmentation --data folder:roads --backbone segmenter:build --space channel --yes"
    )
    quick = settings(QUICK, data__size="16", search__trials="3", training__rungs="[1]")
    forecast = shell.types(f"search study.toml --dry-run {quick}").out
    assert "accuracy" not in forecast
    shell.types(f"search study.toml --workers 1 --threads 1 {quick}")
    said = shell.types("validate study --seeds 2 --workers 1 --threads 1 --front 1").out
    assert "mean IoU" in " ".join(said.split())
    assert "new images" not in said
    shell.types(
        "retrain study --trial 1 --epochs 3 --workers 1 --threads 1"
    )  # no runs of the validation: these have no curve
    shell.types("report study")
    assert "mean IoU, validation split" in (shell.folder / "study.html").read_text()
    for options in ("--normalize", ""):
        shell.types(f"export study --trial 1 --format onnx {options}")
        assert shell.types("check-export study.onnx --json").json["agrees"]
