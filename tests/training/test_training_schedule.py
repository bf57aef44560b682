"""Optimizers and schedules by torch's names, and the published ways to train."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

from nas_attn import backbones
from nas_attn.data import loading
from nas_attn.data.dataset import Dataset, Split
from nas_attn.data.pixels import Images
from nas_attn.errors import NasAttnWarning, RecipeError
from nas_attn.recipe.reading import load_recipe
from nas_attn.recipe.recipe import BackboneSection, DataSection, TrainingSection
from nas_attn.recipe.tables import PRESETS
from nas_attn.recipe.tasks import TASKS
from nas_attn.space.notation import parse
from nas_attn.training.learning_rates import candidate_rates
from nas_attn.training.learnt import learnt_of
from nas_attn.training.parameters import (
    LearningRates,
    check_training,
    frozen,
    make_optimizer,
    schedule_factors,
)
from nas_attn.training.plan import Build, make_plan
from nas_attn.training.tasks.data import data_of
from nas_attn.training.trainer import Trainer, check_trainings


def factors(epochs: int, steps: int, *parts: dict[str, object], peak: float = 1.0) -> list[float]:
    return schedule_factors(TrainingSection(schedule=list(parts)).schedule, epochs, steps, peak)


def test_a_schedule_is_torchs_own() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    warm = lr_scheduler.LinearLR(optimizer, start_factor=0.01, total_iters=2)
    falling = lr_scheduler.CosineAnnealingLR(optimizer, T_max=4, eta_min=0.2)
    chained = lr_scheduler.SequentialLR(optimizer, [warm, falling], [2])
    expected = []
    for _ in range(6):
        expected += 3 * [optimizer.param_groups[0]["lr"]]
        optimizer.step()
        chained.step()
    parts = (
        {"name": "LinearLR", "start_factor": 0.01, "epochs": 2},
        {
            "name": "CosineAnnealingLR",
            "eta_min": 0.2,
        },
    )
    assert factors(6, 3, *parts, peak=0.5) == pytest.approx([rate / 0.5 for rate in expected])


def test_one_cycle_goes_by_steps_and_milestones_by_epochs() -> None:
    cycle = factors(4, 5, {"name": "OneCycleLR", "pct_start": 0.25})
    assert (len(cycle), max(cycle)) == (20, pytest.approx(1.0))
    assert factors(4, 5, {"name": "OneCycleLR", "pct_start": 0.25}, peak=3.0) == pytest.approx(
        cycle
    )
    assert cycle.index(max(cycle)) == 4
    assert factors(3, 2, {"name": "MultiStepLR", "milestones": [1, 2]}) == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01]
    )
    assert factors(4, 1, {"name": "MultiStepLR", "milestones": [0.5, 0.75]}) == pytest.approx(
        [1, 1, 0.1, 0.01]
    )
    assert factors(3, 2) == []
    assert factors(
        10,
        1,
        {"name": "ConstantLR", "factor": 0.5, "epochs": 0.2},
        {"name": "ConstantLR", "factor": 1.0},
    ) == ([0.5] * 2 + [1.0] * 8)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"schedule": [{"name": "CosineLR"}]}, "CosineLR"),
        ({"schedule": [{"name": "StepLR"}]}, "step_size"),
        ({"schedule": [{"name": "StepLR", "step_size": 30}]}, "step_size = 30"),
        ({"schedule": [{"name": "MultiStepLR", "milestones": [2, 8]}]}, "milestones = 8"),
        (
            {"schedule": [{"name": "LinearLR", "epochs": 5}, {"name": "CosineAnnealingLR"}]},
            "5 epochs.* 3",
        ),
        ({"schedule": [{"name": "LinearLR"}, {"name": "CosineAnnealingLR"}]}, "LinearLR.*epochs"),
        ({"schedule": [{"name": "LinearLR", "epochs": 1}]}, "1 epoch, .* 3"),
        ({"optimizer": "AdamX"}, "AdamX"),
        ({"optimizer": "SGD", "optimizer_arguments": {"beta": 1}}, "beta"),
        ({"optimizer": "SGD", "optimizer_arguments": {"nesterov": True}}, "SGD.*omentum"),
        ({"optimizer": "no_such:Thing"}, "no_such"),
        ({"loss": "CrossEntropy"}, "did you mean 'CrossEntropyLoss'"),
        ({"loss": {"name": "CrossEntropyLoss", "smoothing": 0.1}}, "smoothing"),
        ({"loss": {"name": "BCEWithLogitsLoss", "reduction": "none"}}, "reduction"),
        ({"loss": "CTCLoss"}, "CTCLoss"),
        (
            {"loss": "MultiMarginLoss", "augment": ["flip", {"name": "mixup", "alpha": 0.2}]},
            "MixUp",
        ),
        (
            {
                "loss": "MultiMarginLoss",
                "augment": [{"name": "RandomChoice", "transforms": ["MixUp"]}],
            },
            "MixUp",
        ),
    ],
)
def test_what_is_wrong_is_one_sentence_before_any_training(
    settings: dict[str, object], words: str
) -> None:
    recipe = load_recipe(
        "digits", overrides={"training": {"rungs": [3], **settings}, "data.name": "digits-8x8"}
    )
    task = TASKS["classification"]
    with pytest.raises(RecipeError, match=words) as caught:
        check_trainings(recipe, data_of(task).load(recipe, device="cpu"))
    assert "\n" not in str(caught.value)
    with pytest.warns(NasAttnWarning, match=r"ema = 0.9996 .*67 %"):
        check_training(TrainingSection(start="scratch", ema=0.9996))


def test_an_optimizer_gets_its_arguments() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    section = TrainingSection(
        optimizer="RMSprop", optimizer_arguments={"alpha": 0.5}, weight_decay=0.1
    )
    optimizer = make_optimizer(model, section, LearningRates(0.1))
    assert isinstance(optimizer, torch.optim.RMSprop)
    assert [(group["alpha"], group["weight_decay"]) for group in optimizer.param_groups] == [
        (0.5, 0.1),
        (0.5, 0.0),
    ]


def test_the_head_has_a_rate_of_its_own_beside_the_backbone() -> None:
    changes = {
        "training.start": "backbone",
        "training.backbone_learning_rate": 0.1,
        "training.head_learning_rate": 5.0,
        "training.attention_learning_rate": 2.0,
    }
    plan = make_plan(load_recipe("cifar10-resnet20", overrides=changes), (3, 32, 32), 10)
    model = plan.network(plan.resolved(parse("stage2=se")), 0)
    rates = candidate_rates(plan, model)
    optimizer = make_optimizer(model, plan.recipe.training, rates)
    assert optimizer is not None
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = {names[p]: group["factor"] for group in optimizer.param_groups for p in group["params"]}
    assert (found["linear.weight"], found["linear.bias"], found["conv1.weight"]) == (5.0, 5.0, 0.1)
    assert {found[name] for name in rates.attention} == {2.0}


@pytest.mark.parametrize(
    ("backbone", "factor"),
    [
        ({"name": "torchvision:squeezenet1_1"}, 8000 / 512),
        ({"name": "resnet20"}, 125),
        ({"name": "resnet20", "width": 4}, 125),
    ],
)
def test_a_head_of_fewer_inputs_learns_with_a_higher_rate(
    backbone: dict[str, Any], factor: float
) -> None:
    changes = {
        "backbone": backbone,
        "training.start": "backbone",
        "training.head_learning_rate": "auto",
    }
    plan = make_plan(load_recipe("cifar10-resnet20", overrides=changes), (3, 64, 64), 10)
    found = candidate_rates(plan, plan.bare(0)).backbone
    assert isinstance(found, dict)
    assert list(found.values()) == [factor, factor]


CLASSIFIERS = {
    "resnet8": ["linear"],
    "torchvision:squeezenet1_1": ["classifier.1"],
    "torchvision:lraspp_mobilenet_v3_large": [
        "classifier.low_classifier",
        "classifier.high_classifier",
    ],
    "torchvision:retinanet_resnet50_fpn": ["head.classification_head.cls_logits"],
    "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn": [
        "roi_heads.box_predictor.cls_score",
        "roi_heads.box_predictor.bbox_pred",
    ],
}


def trained_factors(backbone: str, build: Build | None = None) -> dict[str, float]:
    """Parameter -> the factor on its learning rate, of a bare backbone with a frozen backbone."""
    recipe = load_recipe(
        "digits",
        overrides={
            "backbone.name": backbone,
            "training.start": "backbone",
            "training.backbone_learning_rate": 0.0,
            "training.attention_learning_rate": 5.0,
            "objectives": ["accuracy"],
        },
    )
    plan = make_plan(recipe, (3, 64, 64), 10, build=build)
    model = plan.bare(0)
    rates = candidate_rates(plan, model)
    with frozen(model, rates.held(model)):
        optimizer = make_optimizer(model, recipe.training, rates)
    assert optimizer is not None
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {
        names[parameter]: group["factor"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


@pytest.mark.parametrize("backbone", CLASSIFIERS)
def test_a_frozen_backbone_leaves_its_classifier_at_the_plain_rate(backbone: str) -> None:
    layers = CLASSIFIERS[backbone]
    expected = {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    assert trained_factors(backbone) == dict.fromkeys(expected, 1.0)


def test_the_last_layer_of_ones_own_network_is_its_classifier() -> None:
    def build() -> torch.nn.Module:
        return backbones.create("torchvision:squeezenet1_1", input_shape=(3, 64, 64), classes=10)

    assert set(trained_factors("resnet8", build)) == {"classifier.1.weight", "classifier.1.bias"}


def frozen_target(**changes: Any) -> Any:
    return load_recipe(
        "digits",
        overrides={
            "backbone.name": "resnet8",
            "target.start": "pretrained",
            "target.weights": "mine.pt",
            "target.epochs": 1,
            "target.freeze": "backbone",
            **changes,
        },
    )


def test_a_target_that_freezes_its_backbone_trains_attention_and_head() -> None:
    recipe = frozen_target()
    # the search trains as the target does
    assert recipe.training.backbone_learning_rate == 0
    plan = make_plan(recipe, (1, 32, 32), 10)
    section = recipe.target_training
    assert section.backbone_learning_rate == 0
    model = plan.network(plan.resolved(parse("stage2=coord(reduction=8)")), 0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    dataset = loading.load(
        DataSection(name="digits", options={"train": 64, "validation": 64, "test": 64}),
        device="cpu",
    )
    Trainer(section, dataset, device="cpu").fit(
        model, seed=0, rungs=[1], rates=candidate_rates(plan, model)
    )
    changed = {n for n, tensor in model.state_dict().items() if not torch.equal(before[n], tensor)}
    assert changed >= {"linear.weight", "linear.bias"}
    inside = changed - {"linear.weight", "linear.bias"}
    assert all("nas_attn" in name for name in inside)
    # its own norm learns its statistics
    assert any(name.endswith("running_mean") for name in inside)


def test_a_search_may_train_what_its_target_freezes() -> None:
    recipe = frozen_target(**{"training.backbone_learning_rate": 0.1})
    assert recipe.training.backbone_learning_rate == 0.1
    assert recipe.target_training.backbone_learning_rate == 0
    other = frozen_target(**{"training.start": "backbone"})
    assert other.training.backbone_learning_rate == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"target.start": "scratch", "target.weights": None},
            "target.freeze = 'backbone' needs trained weights, .* or remove freeze",
        ),
        ({"training.evaluator": "mine:train"}, "an evaluator, which trains by itself"),
    ],
)
def test_what_cannot_be_frozen_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        frozen_target(**changes)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_gives_way_to_the_recipe(name: str) -> None:
    if name.startswith("timm"):
        pytest.importorskip("timm")
    changes: dict[str, Any] = {
        "training.preset": name,
        "training.rungs": [1, 2],
        "training.start": "scratch",
        "target.epochs": 30,
    }
    recipe = load_recipe("cifar10-resnet20", overrides=changes)
    assert recipe.training.batch_size == 512, "the recipe's own"
    if "augment" in PRESETS[name]:
        changes["training.augment"] = PRESETS[name]["augment"]
    made = load_recipe("cifar10-resnet20", overrides=changes)
    images = Images.of(torch.randint(256, (8, 3, 24, 24), dtype=torch.uint8))
    split = Split(images, torch.arange(8), 8, (0.5,) * 3, (0.2,) * 3)
    dataset = Dataset("noise", split, split, tuple("abcdefgh"), (3, 24, 24), "", lambda: split)
    check_trainings(made, dataset)
    for training in (made.training, made.target_training):
        x, y = next(split.epoch(8, seed=0, epoch=0, augment=training.augmentation))
        learnt = learnt_of(TASKS["classification"], 8, training.loss)
        assert x.shape == (8, 3, 24, 24)
        assert 0 < learnt.training_loss(torch.zeros(8, 8), y).item() / 8 < 3
    with pytest.raises(RecipeError, match="cifar"):
        load_recipe("cifar10-resnet20", overrides={"training.preset": "cifr"})


SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


@pytest.mark.slow
def test_resnet20_reaches_its_published_accuracy_on_cifar10(tmp_path: Path) -> None:
    unpack, weights = SHARED / "cifar10" / "unpack.py", SHARED / "resnet20_cifar10.npz"
    if not unpack.exists() or not weights.exists():
        pytest.skip(f"{SHARED} is absent")
    subprocess.run([sys.executable, str(unpack), str(tmp_path)], check=True, capture_output=True)
    section = DataSection(
        name="cifar10", root=str(tmp_path), mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]
    )
    dataset = loading.load(section, device="cpu")
    model = backbones.build(
        BackboneSection(name="resnet20"), input_shape=dataset.input_shape, classes=10
    )
    with np.load(weights) as arrays:
        state = {name: torch.from_numpy(arrays[name]) for name in arrays}
    torch.save(state, tmp_path / "resnet20.pt")
    backbones.load_weights(model, str(tmp_path / "resnet20.pt"))
    test = dataset.read_test("comparison with the published accuracy")
    score = Trainer(TrainingSection(), dataset, device="cpu").score(model, test)
    assert score.metrics["accuracy"] == pytest.approx(0.9173, abs=2e-4)
