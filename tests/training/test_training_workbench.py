"""Real training on 8x8 digits: damaged backbones, limits, objectives."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

import nas_attn as na
from nas_attn import backbones
from nas_attn.answer.snapshot import CandidateView
from nas_attn.errors import MeasurementError, StudyError
from nas_attn.recipe.purposes import BACKBONE, SEARCH, TARGET_PROTOCOL
from nas_attn.recipe.reading import load_recipe, recipe_from
from nas_attn.recipe.recipe import BackboneSection
from nas_attn.searching.prepare import beginning
from nas_attn.searching.run import taking_part
from nas_attn.searching.worker.ending import Ending
from nas_attn.searching.worker.worker import Worker
from nas_attn.space.notation import parse
from nas_attn.space.placement import BARE
from nas_attn.storage.artifacts import answer_artifact
from nas_attn.storage.opening import OpenStudy, open_study
from nas_attn.storage.rows import Run
from nas_attn.training.plan import study_plan
from nas_attn.training.workbench import Benches, Workplace

RECIPE = """
name = "tiny"
objectives = ["accuracy", "params"]
space = { name = "tiny", choices = { se = { reduction = [4] }, simam = {} } }
backbone = { name = "resnet8", width = 4 }
data = { name = "digits-8x8" }
[training]
start = "backbone"
backbone_epochs = 2
backbones = 2
rungs = [1, 2]
batch_size = 128
[search]
trials = 3
baselines = "all"
pruner = "none"
confirm_seeds = 0
"""


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tiny.toml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def search(**changes: Any) -> na.Study:
    return na.search(
        "tiny.toml",
        overrides=changes.pop("overrides", None),
        say=lambda line: None,
        device="cpu",
        threads=1,
        **changes,
    )


def scored(study: na.Study) -> dict[str, CandidateView]:
    return {str(view.placement): view for view in study.candidates() if view.state == "scored"}


def opened_there(folder: Path) -> OpenStudy:
    return open_study("tiny", f"sqlite:///{folder}/nas_attn.db")


def test_a_damaged_backbone_is_trained_again(tiny: Path) -> None:
    search(trials=1)
    opened = opened_there(tiny)
    kept = {
        row.artifact
        for view in opened.store.candidates()
        for row in opened.store.checkpoints(f"weights:{view.key}")
    }
    kept.add(answer_artifact(opened.store))
    backbones = [
        path for path in opened.folder.iterdir() if path.is_file() and path.name not in kept
    ]
    assert len(backbones) == 2
    for backbone in backbones:
        blob = bytearray(backbone.read_bytes())
        blob[len(blob) // 2] ^= 1
        backbone.write_bytes(blob)
    before = opened.store.scores(BACKBONE)
    said: list[str] = []
    opened.store.set(trials=2)
    taking_part.work(opened, taking_part.Options(device="cpu", threads=1, say=said.append))
    output = "\n".join(said)
    assert "is lost (checkpoint" in output
    assert "it is trained again" in output
    assert [row.state for row in opened.store.candidates()].count("scored") == 2
    metrics = [score.score.metrics for score in opened.store.scores(BACKBONE)]
    assert metrics[: len(before)] == [score.score.metrics for score in before], (
        "the same training, the same backbone"
    )


# a search with latencies; test_prepare_limits.py asks of limits, test_run_worker.py of what is above one
@pytest.mark.slow
def test_limits_on_latency_keep_candidates_from_training(tiny: Path) -> None:
    # A space that may remove attention might be faster than the backbone.
    space = {
        "name": "own",
        "sites": {"originals": "search"},
        "choices": {"se": {"reduction": [4]}, "simam": {}},
    }
    changes = {
        "limits.max_latency_ratio": 0.5,
        "space": space,
        "latency.session_seconds": 0.3,
        "training.start": "scratch",
    }
    try:
        study = search(objectives=["accuracy"], overrides=changes)
    except MeasurementError as error:
        pytest.skip(f"this machine is too busy to measure on: {error}")
    views = study.candidates()
    assert [view.state for view in views] == ["infeasible"] * 3
    assert all(
        "is above limits.max_latency_ratio = 0.5" in view.reason and not view.scores
        for view in views
    )
    with pytest.raises(StudyError, match="Nothing is recommended"):
        study.best()
    assert study.report().is_file()


# a search each
@pytest.mark.parametrize(
    "objectives", [["loss"], pytest.param(["params", "memory"], marks=pytest.mark.slow)]
)
def test_objectives_in_other_combinations(tiny: Path, objectives: list[str]) -> None:
    study = search(
        objectives=objectives, overrides={"training.start": "scratch", "training.rungs": [1]}
    )
    views = scored(study)
    assert len(views) == 3
    assert all(
        len(view.values) == len(objectives) and None not in view.values for view in views.values()
    )
    front = study.front()
    assert front
    if len(objectives) == 1:
        assert front[0].values[0] == min(view.values[0] for view in views.values())
    if objectives == ["params", "memory"]:
        assert [str(view.placement) for view in front] == ["none"]
    assert na.open_study().recipe.objectives == objectives


# a Faster R-CNN three times; tests/backbones asks when norms are frozen
@pytest.mark.slow
def test_runs_from_weights_alone_have_their_frozen_norms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search from scratch for a target that starts from weights."""
    pytest.importorskip("pycocotools", reason="the detection extra is not installed")
    monkeypatch.chdir(tmp_path)
    detector = "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn"
    published = backbones.create(detector, input_shape=(3, 64, 64), classes=10, norms="frozen")
    torch.save(published.state_dict(), "mine.pt")
    few = {"size": 32, "train": 20, "validation": 20, "test": 20}
    recipe = recipe_from(
        {
            "name": "boxes",
            "task": {"name": "detection"},
            "objectives": ["map50_95", "params"],
            "space": {"name": "one", "choices": {"se": {}}},
            "backbone": {"name": detector},
            "data": {"name": "digits", "options": few, "size": 64},
            "target": {"weights": "mine.pt", "epochs": 1},
            "training": {"start": "scratch", "rungs": [1], "batch_size": 4},
        },
        where="a test",
    )
    kinds = []

    def look(worker: Worker) -> Ending:
        for protocol in (SEARCH, TARGET_PROTOCOL):
            bench = worker.benches.of(protocol)
            network = bench.start(bench.plan.resolved(BARE), seed=0, backbone=0)
            kinds.append({type(m) for m in network.modules()} & {nn.BatchNorm2d, FrozenBatchNorm2d})
        return Ending.COMPLETE

    opened = beginning.begin(recipe, "sqlite:///nas_attn.db")
    options = taking_part.Options(device="cpu", threads=1, say=lambda line: None)
    taking_part.with_worker(opened, options, look)
    assert kinds == [{nn.BatchNorm2d}, {FrozenBatchNorm2d}]


def test_given_weights_are_read_once_for_all_runs_of_a_backbone(tiny: Path) -> None:
    section = BackboneSection(name="resnet8", width=4)
    bare = backbones.build(section, input_shape=(1, 8, 8), classes=10)
    torch.save(bare.state_dict(), tiny / "mine.pt")
    given = {"start": "pretrained", "weights": "mine.pt"}
    recipe = load_recipe("tiny.toml", overrides={"training": given, "target": given})
    opened = beginning.begin(recipe, f"sqlite:///{tiny}/nas_attn.db")
    workplace = Workplace(opened.store, opened.artifacts, "test", opened.folder, "cpu")
    benches = Benches(workplace, study_plan(opened.store))
    for placement in (BARE, parse("backbone=resnet8(width=4)")):
        bench = benches.of_run(Run("key", placement, 0, 0, SEARCH, SEARCH))
        first = bench.start_weights(0)
        assert first is not None
        assert torch.equal(first["conv1.weight"], bare.state_dict()["conv1.weight"])
        assert bench.start_weights(1) is first
