"""Detectors of ultralytics, trained by its own trainer from rung to rung: the attention takes part,
a stop changes nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from materials import digits_with_boxes, discs
from torch import nn

import nas_attn as na
from nas_attn.data import yolo_files
from nas_attn.errors import BackboneError, DataError, RecipeError
from nas_attn.recipe import tasks
from nas_attn.recipe.reading import recipe_from
from nas_attn.recipe.recipe import DataSection
from nas_attn.training.tasks.data import data_of
from nas_attn.ultralytics.rung_trainer import _trainer_class

OPTIONS = {"size": 32, "train": 20, "validation": 20, "test": 20, "fragments": 2}
TABLE: dict[str, Any] = {
    "name": "boxes",
    "task": {"name": "detection"},
    "space": {"name": "one", "choices": {"eca": {}}},
    "backbone": {"name": "ultralytics:yolo11n.yaml"},
    "data": {"name": "yolo:digits/data.yaml", "size": 32},
    "training": {
        "start": "scratch",
        "rungs": [1, 2],
        "batch_size": 10,
        "learning_rate": 0.01,
        "precision": "float32",
    },
}


def changed(**sections: dict[str, Any]) -> dict[str, Any]:
    return {**TABLE, **{name: {**TABLE.get(name, {}), **more} for name, more in sections.items()}}


def made(folder: Path) -> dict[str, str]:
    """Of the recipe, the data: digits that are written there."""
    return {"name": f"yolo:{digits_with_boxes(folder / 'digits', **OPTIONS)}"}


def test_the_task_says_what_is_sought() -> None:
    recipe = recipe_from(TABLE, where="it")
    assert recipe.objectives == ["map50_95", "latency"]
    assert not tasks.of(recipe).own_trainer


@pytest.mark.extras("ultralytics")
@pytest.mark.filterwarnings("ignore")
def test_init_proposes_the_side_that_a_pt_was_trained_at(tmp_path: Path) -> None:
    from ultralytics.nn.tasks import DetectionModel

    from nas_attn.ultralytics.yolo_export import write_pt

    discs(tmp_path / "d", count=4)
    network = DetectionModel("yolo11n.yaml", verbose=False)
    write_pt(network, tmp_path / "best.pt", [str(number) for number in range(80)], 96)
    sides = {}
    for file in (str(tmp_path / "best.pt"), "yolo11n.pt"):
        name = f"ultralytics:{file}"
        reading = data_of(tasks.find("detection", name))
        inventory = reading.inventory(DataSection(name=f"yolo:{tmp_path / 'd/data.yaml'}"))
        assert inventory is not None
        sides[Path(file).name] = reading.proposed(inventory, name, "default").size
    assert sides == {"best.pt": 96, "yolo11n.pt": 640}


class Resumable:
    """What a rung takes up of ultralytics' trainer."""

    def __init__(self, epochs: int, close_mosaic: int) -> None:
        self.epochs = epochs
        self.args = SimpleNamespace(close_mosaic=close_mosaic)
        self.model = nn.Conv2d(1, 1, 1)
        self.ema = SimpleNamespace(ema=nn.Conv2d(1, 1, 1), updates=0)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.train_loader = SimpleNamespace(mosaic=True, reset=self._reset)
        self.mosaic = True

    def _close_dataloader_mosaic(self) -> None:
        self.mosaic = False

    def _reset(self) -> None:
        self.train_loader.mosaic = self.mosaic


@pytest.mark.parametrize(("begun", "mosaic"), [(8, True), (16, True), (17, False), (19, False)])
def test_a_rung_that_begins_at_the_end_sees_whole_images(begun: int, mosaic: bool) -> None:
    """Epoch 16 of 20 closes the mosaic itself."""
    trainer = _trainer_class(Resumable)(20, close_mosaic=4)
    trainer.before = {
        "model": trainer.model.state_dict(),
        "average": trainer.ema.ema.state_dict(),
        "updates": 3,
        "optimizer": trainer.optimizer.state_dict(),
        "epochs": begun,
    }
    trainer.resume_training(None)
    assert trainer.start_epoch == begun
    assert trainer.train_loader.mosaic is mosaic


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        (
            {"training": {"start": "backbone"}},
            "training.start = 'scratch', or 'pretrained' with weights = 'default'",
        ),
        ({"training": {"loss": "CrossEntropyLoss"}}, "training.loss is not supported"),
        ({"training": {"augment": [{"name": "flip"}]}}, "training.augment is not supported"),
    ],
)
def test_what_ultralytics_does_its_own_way_is_not_asked_for(
    sections: dict[str, Any], said: str
) -> None:
    with pytest.raises(RecipeError, match=said):
        recipe_from(changed(**sections), where="it")


OURS: dict[str, Any] = {
    **TABLE,
    "backbone": {"name": "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn"},
    "data": {"name": "coco:drones", "coco": {"train": "a.json"}},
}


def test_torchvisions_detectors_are_trained_here_from_any_start() -> None:
    for start in ("scratch", "backbone"):
        recipe = recipe_from(
            {**OURS, "training": {"start": start, "augment": [{"name": "flip"}]}}, where="it"
        )
        assert tasks.of(recipe).own_trainer
        assert recipe.objectives == ["map50_95", "latency"]
    assert data_of(tasks.of(recipe)).section(recipe).size == 320
    other = recipe_from({**OURS, "backbone": {"name": "torchvision:ssd300_vgg16"}}, where="it")
    assert data_of(tasks.of(other)).section(other).size == 300


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        (
            {"backbone": {"name": "resnet8"}},
            "'resnet8'.*torchvision:fasterrcnn_mobilenet_v3_large_320_fpn",
        ),
        ({"backbone": {"name": "timm:resnet18"}}, "backbone.name = 'timm:resnet18'"),
        (
            {"data": {"name": "yolo:a.yaml"}},
            "'yolo:a.yaml' has no boxes for 'torchvision:.*': give digits or coco:FOLDER",
        ),
        ({"data": {"name": "digits", "coco": {}}}, "data: coco .*'digits'"),
        (
            {"training": {"augment": [{"name": "mixup", "alpha": 0.2}]}},
            "mixup in training.augment is not supported",
        ),
        ({"training": {"execution": "compile"}}, r"training\.execution is not supported"),
        (
            {"data": {"name": "coco:drones", "mean": [0.5] * 3, "std": [0.5] * 3}},
            r"data\.mean is not supported",
        ),
    ],
)
def test_what_no_detector_of_ours_can_be_is_said(sections: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        recipe_from({**OURS, **sections}, where="it")


def test_what_is_wrong_with_the_data_is_said(tmp_path: Path) -> None:
    pytest.importorskip("yaml", reason="ultralytics, which brings it, is not installed")
    with pytest.raises(DataError, match="does not exist"):
        yolo_files.data_file(DataSection(name="yolo:none.yaml"))
    (tmp_path / "data.yaml").write_text("train: images\n")
    with pytest.raises(DataError, match="names: "):
        yolo_files.class_names(DataSection(name=f"yolo:{tmp_path / 'data.yaml'}"))
    with pytest.raises(DataError, match=r"data\.size = 50 .*32"):
        yolo_files.side(DataSection(name="yolo:none.yaml", size=50))
    with pytest.raises(DataError, match=r"'mnist' .*yolo:PATH\.yaml"):
        yolo_files.data_file(DataSection(name="mnist"))


def attended(recipe: Any, side: int = 32, classes: int = 10) -> nn.Module:
    from nas_attn import backbones

    torch.manual_seed(0)
    model = backbones.build(recipe.backbone, input_shape=(3, side, side), classes=classes)
    placement = "stage2@stage=eca neck1@stage=se(reduction=4)"
    return na.attach(model, placement, input_shape=(3, side, side), init="paper")


@pytest.mark.extras("ultralytics")
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore")
def test_rung_by_rung_with_the_attention_in_what_is_scored(tmp_path: Path) -> None:
    from nas_attn.training.evaluators import EvaluatorRun
    from nas_attn.ultralytics.rung_trainer import detector_evaluator

    recipe = recipe_from(changed(data=made(tmp_path)), where="it")
    evaluate = detector_evaluator(recipe)

    def reached(
        model: nn.Module, folder: str, rung: int, split: str = "validation"
    ) -> dict[str, float]:
        (tmp_path / folder).mkdir(exist_ok=True)
        run = EvaluatorRun("it", rung, rung + 1, 1, 3, tmp_path / folder, "cpu", split)
        return dict(evaluate(model, run))  # type: ignore[arg-type]

    threads = torch.get_num_threads()
    model = attended(recipe)
    first = reached(model, "a", 0)
    assert set(first) == {"map50_95", "map50"}
    assert all(0 <= value <= 1 for value in first.values())
    found = na.check(model, (3, 32, 32))
    assert [one.module for one in found] == ["EfficientChannel", "SqueezeExcitation"]
    assert all(one.takes_part for one in found)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "last.pt").write_bytes((tmp_path / "a" / "last.pt").read_bytes())
    second = reached(model, "a", 1)
    fresh = attended(recipe)  # a process after a stop: another object, whatever weights
    again = reached(fresh, "b", 1)
    assert again == second
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.state_dict().values(), fresh.state_dict().values(), strict=True)
    )
    state = torch.load(tmp_path / "a" / "last.pt", weights_only=True)
    assert state["epochs"] == 2
    assert reached(model, "a", 1, "test").keys() == first.keys()
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == (
        threads,
        False,
    )


def trained(folder: Path, epochs: int, stop_at: int = 0) -> tuple[Any, int, nn.Module]:
    """The scores (None: it left), how often it asked whether to stop, the network. It is told to
    stop when it asks this often.
    """
    from nas_attn.system.waiting import Interrupted
    from nas_attn.training.evaluators import EvaluatorRun
    from nas_attn.ultralytics.rung_trainer import detector_evaluator

    asked = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) == stop_at

    table = changed(data=made(folder), training={"rungs": [epochs]})
    recipe = recipe_from(table, where="it")
    model = attended(recipe)
    run = EvaluatorRun("it", 0, epochs, epochs, 3, folder, "cpu", asked=stop)
    try:
        return detector_evaluator(recipe)(model, run), len(asked), model
    except Interrupted:
        return None, len(asked), model


def epochs_kept(folder: Path) -> int:
    """A killed process leaves the file of its last epoch, too."""
    return int(torch.load(folder / "last.pt", weights_only=True)["epochs"])


@pytest.mark.extras("ultralytics")
@pytest.mark.filterwarnings("ignore")
def test_a_stop_keeps_the_epoch_and_a_resume_trains_only_the_rest(tmp_path: Path) -> None:
    """The evaluator asks once after each epoch whether to stop."""
    assert trained(tmp_path, 2, stop_at=1)[:2] == (None, 1)
    assert epochs_kept(tmp_path) == 1
    scores, asked, _ = trained(tmp_path, 2)
    assert set(scores) == {"map50_95", "map50"}
    assert (asked, epochs_kept(tmp_path)) == (1, 2)


@pytest.mark.extras("ultralytics")
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore")
def test_a_training_that_is_stopped_twice_goes_on_from_its_last_epoch(tmp_path: Path) -> None:
    assert trained(tmp_path, 4, stop_at=1)[:2] == (None, 1)
    assert epochs_kept(tmp_path) == 1
    assert trained(tmp_path, 4, stop_at=2)[:2] == (None, 2)
    scores, asked, model = trained(tmp_path, 4)
    assert asked == 1
    assert set(scores) == {"map50_95", "map50"}
    # stopped before the score was stored: nothing is trained again
    again, asked, same = trained(tmp_path, 4)
    assert (again, asked) == (scores, 0)
    pairs = zip(model.state_dict().values(), same.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.extras("ultralytics")
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("yolo11n-seg", "segment"),
        ("yolo11n-pose", "pose"),
        ("yolo11n-obb", "obb"),
        ("rtdetr-resnet50", "detect"),
    ],
)
def test_other_heads_are_trained_and_scored_by_what_ultralytics_has_for_them(
    name: str, task: str, tmp_path: Path
) -> None:
    from nas_attn.training.evaluators import EvaluatorRun
    from nas_attn.ultralytics.rung_trainer import detector_evaluator

    data = {"name": f"yolo:{discs(tmp_path / 'discs', task)}", "size": 64}
    recipe = recipe_from(
        {**TABLE, "backbone": {"name": f"ultralytics:{name}.yaml"}, "data": data}, where="it"
    )
    model, evaluate = attended(recipe, 64, 1), detector_evaluator(recipe)
    for split in ("validation", "test"):
        run = EvaluatorRun("it", 0, 1, 1, 3, tmp_path, "cpu", split)
        assert set(evaluate(model, run)) == {"map50_95", "map50"}
    assert all(one.takes_part for one in na.check(model, (3, 64, 64)))


def changes(before: dict[str, torch.Tensor], model: nn.Module) -> dict[str, set[str]]:
    """What a training has changed: attention's entries, those of the head (layer 23), others."""
    changed: dict[str, set[str]] = {"attention": set(), "head": set(), "others": set()}
    for name, tensor in model.state_dict().items():
        kind = "head" if name.startswith("model.23.") else "others"
        if "nas_attn" in name:
            kind = "attention"
        if not torch.equal(before[name], tensor.cpu()):
            changed[kind].add(name)
    return changed


FROZEN = "stage2@stage=coord(reduction=8)"


@pytest.mark.extras("ultralytics")
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore")
def test_a_frozen_backbone_trains_attention_and_head(tmp_path: Path) -> None:
    from ultralytics import YOLO

    from nas_attn import backbones
    from nas_attn.training.evaluators import EvaluatorRun
    from nas_attn.ultralytics.rung_trainer import detector_evaluator

    file = tmp_path / "mine.pt"
    YOLO("yolo11n.yaml").save(file)
    table = changed(
        backbone={"name": f"ultralytics:{file}"},
        data=made(tmp_path),
        target={"start": "pretrained", "weights": "default", "freeze": "backbone"},
        training={"start": "pretrained", "rungs": [1]},
    )
    recipe = recipe_from(table, where="it")
    assert recipe.training.backbone_learning_rate == 0
    model = backbones.build(recipe.backbone, input_shape=(3, 32, 32), classes=10, pretrained=True)
    na.attach(model, FROZEN, input_shape=(3, 32, 32), init="paper")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    run = EvaluatorRun("it", 0, 1, 1, 3, tmp_path, "cpu", "validation")
    detector_evaluator(recipe)(model, run)
    changed_by_us = changes(before, model)
    assert not changed_by_us["others"]
    assert changed_by_us["head"]
    assert any(name.endswith("running_mean") for name in changed_by_us["attention"])
    assert any(
        name.endswith("conv.weight") or "weight" in name for name in changed_by_us["attention"]
    )


@pytest.mark.extras("ultralytics")
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore")
def test_attention_learns_in_layers_that_yolo_freezes(tmp_path: Path) -> None:
    from ultralytics import YOLO

    from nas_attn.ultralytics import keep_attention, train_attention

    keep_attention()
    data = digits_with_boxes(tmp_path / "digits", **OPTIONS)
    for thawed in (False, True):
        yolo = YOLO("yolo11n.yaml")
        na.attach(yolo.model, FROZEN, input_shape=(3, 32, 32), init="paper")
        if thawed:
            train_attention(yolo)
        before = {name: tensor.clone() for name, tensor in yolo.model.state_dict().items()}
        yolo.train(
            data=str(data), imgsz=32, epochs=1, batch=10, freeze=10, workers=0, plots=False,
            project=str(tmp_path), val=False,
        )  # fmt: skip
        names = changes(before, yolo.trainer.model)
        assert not any(
            name.startswith(f"model.{layer}.") for name in names["others"] for layer in range(10)
        )
        assert bool(names["attention"]) == thawed


@pytest.mark.extras("ultralytics", "mlflow")
@pytest.mark.slow
def test_a_candidate_leaves_no_run_in_the_trackers_of_ultralytics(tmp_path: Path) -> None:
    data = digits_with_boxes(tmp_path / "digits", **OPTIONS)
    begin = (
        "import sys\n"
        "from ultralytics.models.yolo.detect import DetectionTrainer\n"
        "from nas_attn.ultralytics.rung_trainer import _trainer_class\n"
        "kind = _trainer_class(DetectionTrainer) if sys.argv[1] == 'ours' else DetectionTrainer\n"
        f"given = {{'model': 'yolo11n.yaml', 'data': {str(data)!r}, 'project': sys.argv[2]}}\n"
        "kind(overrides=given).run_callbacks('on_pretrain_routine_end')\n"
    )
    variables = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    variables["YOLO_CONFIG_DIR"] = str(tmp_path / "settings")
    for whose, logged in (("theirs", True), ("ours", False)):
        folder = tmp_path / whose
        folder.mkdir()
        command = [sys.executable, "-c", begin, whose, str(folder / "runs")]
        subprocess.run(command, cwd=folder, env=variables, check=True, timeout=240)
        assert any("mlflow" in path.name for path in folder.iterdir()) is logged


@pytest.mark.extras("ultralytics")
def test_what_finds_no_boxes_is_no_detector() -> None:
    with pytest.raises(BackboneError, match="task '"):
        attended(
            recipe_from(changed(backbone={"name": "ultralytics:yolo11n-cls.yaml"}), where="it")
        )
