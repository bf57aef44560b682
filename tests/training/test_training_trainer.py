"""What a training does: learning, scores, averaged weights, groups, frozen backbones, failures that
are named.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from nas_attn import attachment, backbones, errors, training
from nas_attn.answer.per_image import Answers
from nas_attn.data import loading
from nas_attn.data.dataset import Dataset
from nas_attn.recipe import recipe
from nas_attn.space import notation
from nas_attn.space.search_space import resolve
from nas_attn.storage.records import Score
from nas_attn.training.numerics import computes_bfloat16
from nas_attn.training.parameters import LearningRates
from nas_attn.training.run import Callbacks, rate_factor
from nas_attn.training.trainer import Trainer


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return loading.load(recipe.DataSection(name="digits-8x8"), device="cpu")


def exact(**options) -> recipe.TrainingSection:
    """Settings under which results can be compared with formulas on any CPU."""
    return recipe.TrainingSection(**{"precision": "float32", **options})


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, stride=2, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


def fit(
    digits: Dataset, model: nn.Module, section: recipe.TrainingSection | None = None, **options
) -> tuple[Score, ...]:
    section = section or exact(batch_size=64)
    arguments = {"seed": 0, "rungs": [1], "rates": LearningRates(0.1), **options}
    return Trainer(section, digits, device="cpu").fit(model, **arguments)


def test_it_learns_and_leaves_the_scored_weights(digits: Dataset) -> None:
    model = network()
    scores = fit(digits, model, rungs=[1, 4])
    assert [(s.seed, s.rung, s.epochs) for s in scores] == [(0, 0, 1), (0, 1, 4)]
    assert scores[1].metrics["accuracy"] > 0.95
    again = Trainer(exact(), digits, device="cpu").score(model, digits.validation)
    assert again.metrics["accuracy"] == scores[1].metrics["accuracy"]
    assert again.metrics["loss"] == pytest.approx(scores[1].metrics["loss"])
    assert 0 < scores[0].metrics["train_loss_sum"] < scores[1].metrics["train_loss_sum"]
    assert min(s.wall_s for s in scores) > 0
    assert min(s.device_s for s in scores) > 0
    assert all(0 < s.kept.metrics["loading_share"] == s.waited_s / s.wall_s < 1 for s in scores)


def test_slow_statistics_of_norms_follow_a_brief_training(digits: Dataset) -> None:
    """MnasNet's BatchNorm takes thousands of steps to know its data: it would be scored by its
    first values.
    """
    usual, slow = network(), network()
    for norm in (slow[1], slow[4]):
        norm.momentum = 0.0003  # type: ignore[assignment]
    scores = [fit(digits, model, rungs=[2])[0].metrics for model in (usual, slow)]
    assert scores[0] == scores[1]
    assert [norm.momentum for norm in (slow[1], slow[4])] == [
        0.0003,
        0.0003,
    ], "afterwards the network is the user's"


def test_a_score_is_what_a_plain_loop_computes(digits: Dataset) -> None:
    model = network()
    model(torch.randn(64, 1, 8, 8))  # statistics other than the initial ones
    score = Trainer(exact(batch_size=50), digits, device="cpu").score(model, digits.validation)
    x = (digits.validation.first(449).float() / 255 - digits.train.mean[0]) / digits.train.std[0]
    with torch.no_grad():
        logits = model.eval()(x)
    right = (logits.argmax(1) == digits.validation.labels).numpy()
    assert score.metrics["accuracy"] == pytest.approx(right.mean())
    assert score.metrics["loss"] == pytest.approx(
        cross_entropy(logits, digits.validation.labels).item(), rel=1e-5
    )
    sure = torch.nn.functional.one_hot(digits.validation.labels, 10)
    distance = (logits.softmax(1) - sure).square().sum(1)
    assert score.metrics["brier"] == pytest.approx(distance.mean().item(), rel=1e-5)
    assert score.examples == 449
    unpacked = np.unpackbits(np.frombuffer(score.correct, np.uint8), count=449).astype(bool)
    assert np.array_equal(unpacked, right)
    assert Answers.of(score).wrong == tuple(logits.argmax(1)[~right].tolist())


def test_the_caller_decides_at_each_rung_and_hears_between_batches(digits: Dataset) -> None:
    told, calls = [], []
    trainer = Trainer(
        exact(batch_size=64), digits, device="cpu", batch_hook=lambda: calls.append(1)
    )
    scores = trainer.fit(
        network(),
        seed=0,
        rungs=[1, 2, 3],
        rates=LearningRates(0.1),
        callbacks=Callbacks(lambda s: told.append(s.epochs) or len(told) < 2),
    )
    assert told == [s.epochs for s in scores] == [1, 2]
    assert len(calls) >= 2 * digits.train.steps(64)


def test_a_frozen_backbone_keeps_its_weights_and_statistics_and_the_caller_his_random_numbers(
    digits: Dataset,
) -> None:
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    attention = {"3.weight", "4.weight", "4.bias"}
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    fit(digits, model, rates=LearningRates(0.1, frozenset(attention), 0.0))
    assert torch.equal(torch.rand(3), expected)
    changed = {
        name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])
    }
    assert changed == attention | {"4.running_mean", "4.running_var", "4.num_batches_tracked"}
    assert all(p.requires_grad for p in model.parameters())


def test_attention_behind_a_frozen_layer_trains_with_its_statistics(
    digits: Dataset,
) -> None:
    model = backbones.create("resnet8", input_shape=digits.input_shape, classes=10)
    placement = notation.parse("stage3.block1=bam")
    sites = attachment.survey(model, digits.input_shape).sites
    attachment.attach(model, resolve(placement, sites))
    attention = frozenset(name for name, _ in model.named_parameters() if "nas_attn" in name)
    fit(digits, model, rates=LearningRates(0.1, attention, 0.0))
    batches = {
        name: int(seen) for name, seen in model.named_buffers() if name.endswith("batches_tracked")
    }
    ours = {name: seen for name, seen in batches.items() if "nas_attn" in name}
    assert ours
    assert set(ours.values()) == {digits.train.steps(64)}
    assert {seen for name, seen in batches.items() if name not in ours} == {0}


def test_frozen_parameters_of_the_network_itself_leave_its_layers_in_training_mode() -> None:
    class Embedded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.position = nn.Parameter(torch.zeros(4))
            self.stem = nn.BatchNorm1d(4)
            self.body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))

    model = Embedded()
    with training.parameters.frozen(model, {"position", "stem.weight", "stem.bias"}):
        training.parameters.set_training_mode(model)
    evaluated = [name for name, module in model.named_modules() if not module.training]
    assert evaluated == ["stem"]


def test_groups_carry_their_rates_and_decays() -> None:
    model = network()
    section = exact(optimizer="AdamW", attention_learning_rate=3.0, weight_decay=0.01)
    names = {id(p): name for name, p in model.named_parameters()}
    groups = training.parameters.make_optimizer(
        model, section, LearningRates(0.1, frozenset({"3.weight", "4.bias"}), 0.5)
    ).param_groups
    found = {names[id(p)]: (g["factor"], g["weight_decay"]) for g in groups for p in g["params"]}
    spared = dict.fromkeys(("1.weight", "1.bias", "4.weight", "7.bias"), (0.5, 0.0)) | {
        "4.bias": (3.0, 0.0)
    }
    assert found == spared | {
        "0.weight": (0.5, 0.01),
        "3.weight": (3.0, 0.01),
        "7.weight": (0.5, 0.01),
    }


def test_the_first_step_is_plain_nesterov_sgd(digits: Dataset) -> None:
    model, reference = network(), network()
    count = len(digits.train)
    section = exact(
        batch_size=count,
        weight_decay=0.0,
        ema=0.0,
        optimizer_arguments={"momentum": 0.9, "nesterov": True},
    )
    fit(digits, model, section, rates=LearningRates(0.01))
    x, y = next(digits.train.epoch(count, seed=0, epoch=0, augment=[]))
    cross_entropy(reference.train()(x), y).backward()
    rate = 0.01 * rate_factor(0, 1)
    for parameter, own in zip(reference.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(own, parameter - rate * 1.9 * parameter.grad)


def test_clipping_bounds_the_step(digits: Dataset) -> None:
    count = len(digits.train)
    section = exact(
        batch_size=count, weight_decay=0.0, ema=0.0, optimizer_arguments={}, clip_norm=1e-3
    )
    model = network()
    before = torch.cat([p.detach().flatten() for p in model.parameters()]).clone()
    fit(digits, model, section, rates=LearningRates(1.0))
    moved = torch.cat([p.detach().flatten() for p in model.parameters()]) - before
    assert moved.norm().item() == pytest.approx(1e-3 * rate_factor(0, 1), rel=1e-3)


def test_the_average_is_the_formulas() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = training.parameters.WeightAverage(model)
    expected = {name: t.clone() for name, t in model.state_dict().items() if t.is_floating_point()}
    for step in range(3):
        with torch.no_grad():
            for tensor in model.state_dict().values():
                tensor.add_(step + 1)
        average.update(0.75)
        live = model.state_dict()
        expected = {name: 0.75 * tensor + 0.25 * live[name] for name, tensor in expected.items()}
    live = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with average.installed():
        for name, tensor in expected.items():
            torch.testing.assert_close(model.state_dict()[name], tensor)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in live.items())


@pytest.mark.parametrize("steps", [1, 24, 60, 103])
def test_an_epoch_keeps_the_same_share_in_however_many_steps(steps: int) -> None:
    model = nn.Linear(1, 1, bias=False)
    average = training.parameters.WeightAverage(model)
    with torch.no_grad():
        start = model.weight.clone()
        model.weight.add_(
            1.0
        )  # and stays: the average comes nearer by the same share in each epoch
    for batch in range(1, steps + 1):
        average.follow(batch, steps, 0.98)
    torch.testing.assert_close(average.state()["weight"], start + 1 - 0.98**100)


@given(st.integers(1, 400))
@settings(max_examples=30, deadline=None)
def test_a_cycle_rises_and_falls_between_zero_and_one(steps: int) -> None:
    factors = [rate_factor(step, steps) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    top = factors.index(max(factors))
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)
    assert steps < 10 or (top < steps * 0.3 and factors[-1] < 0.1)


def test_a_diverging_loss_is_named_with_the_way_out(digits: Dataset) -> None:
    with pytest.raises(
        errors.TrainingError, match=r"became (nan|inf) in epoch 1 .*lower training\.learning_rate"
    ):
        fit(
            digits,
            network(),
            exact(batch_size=64, optimizer_arguments={}),
            rates=LearningRates(1e30),
        )
    model = network()
    with torch.no_grad():
        model.get_parameter("7.bias").fill_(math.nan)
    with pytest.raises(errors.TrainingError, match="is nan"):
        Trainer(exact(), digits, device="cpu").score(model, digits.validation)


@pytest.mark.parametrize("wrong", ["classes", "type"])
def test_an_output_of_another_shape_is_named(digits: Dataset, wrong: str) -> None:
    class Wrong(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(64, 12)

        def forward(self, x: torch.Tensor) -> torch.Tensor | dict[str, torch.Tensor]:
            y = self.inner(x.flatten(1))
            return y if wrong == "classes" else {"features": y}

    with pytest.raises(
        errors.TrainingError, match=r"returns (\(64, 12\)|dict) for 64 images, .*\(64, 10\)"
    ):
        fit(digits, Wrong())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda y: {"logits": y, "loss": None},
        lambda y: (y, y.flatten(1)),
        lambda y: SimpleNamespace(logits=y),
    ],
)
def test_logits_are_found_in_what_a_network_returns(
    digits: Dataset, wrap: Callable[[torch.Tensor], object]
) -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, x: torch.Tensor) -> object:
            return wrap(self.inner(x))

    (plain,) = fit(digits, network())
    (score,) = fit(digits, Wrapped())
    assert {**score.metrics} == {**plain.metrics}


def test_batches_in_parts_add_up_to_the_same_gradient(digits: Dataset) -> None:
    """Without batch statistics the parts are the whole, label smoothing and mixup included: halves
    where memory is short, `accumulate`.
    """

    class Hungry(nn.Module):
        def __init__(self, most: int) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.inner = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
            self.most = most

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.training and len(x) > self.most:
                raise torch.OutOfMemoryError(f"tried to allocate memory for {len(x)} images")
            return self.inner(x)

    smooth = {"name": "CrossEntropyLoss", "label_smoothing": 0.1}
    section = exact(batch_size=60, loss=smooth, augment=[recipe.Augment(name="mixup", alpha=0.4)])
    parts = section.model_copy(update={"batch_size": 20, "accumulate": 3})
    whole, halved, added = Hungry(60), Hungry(31), Hungry(20)
    scores = [
        fit(digits, model, how)[0]
        for model, how in ((whole, section), (halved, section), (added, parts))
    ]
    for score, model in zip(scores[1:], (halved, added), strict=True):
        assert scores[0].metrics == pytest.approx(score.metrics, rel=1e-5)
        torch.testing.assert_close(whole.inner[1].weight, model.inner[1].weight)
    with pytest.raises(errors.TrainingError, match=r"60.* 30"):
        fit(digits, Hungry(20), section)


def test_a_network_learns_by_any_loss(digits: Dataset) -> None:
    plain, same, binary = (
        fit(
            digits, network(), exact(batch_size=64, loss=loss), rungs=[2], rates=LearningRates(rate)
        )[0].metrics
        for loss, rate in (
            (None, 0.1),
            ("CrossEntropyLoss", 0.1),
            ({"name": "BCEWithLogitsLoss"}, 0.5),
        )
    )
    assert same == pytest.approx(plain, rel=1e-4)
    assert binary["accuracy"] > 0.9
    assert binary["train_loss_sum"] < plain["train_loss_sum"] / 2, "a mean over classes"
    weighted = exact(loss={"name": "CrossEntropyLoss", "weight": [1.0] * 9 + [0.0]})
    logits, y = torch.randn(4, 10), torch.tensor([1, 2, 3, 9])
    found = Trainer(weighted, digits, device="cpu").learnt.training_loss(logits, y)
    assert found.item() == pytest.approx(4 * cross_entropy(logits[:3], y[:3]).item(), rel=1e-5)


@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_strided_convolutions_of_few_channels_are_trained(digits: Dataset, precision: str) -> None:
    """oneDNN's gradient of such a convolution, in channels-last order, ends the process (its issue
    6035).
    """
    torch.manual_seed(0)
    narrow = nn.Conv2d(3, 48, 1, stride=2)
    wide = nn.Sequential(nn.Upsample(128), nn.Conv2d(1, 3, 3, padding=1))
    model = nn.Sequential(
        wide, narrow, nn.ReLU(), nn.MaxPool2d(16), nn.Flatten(), nn.Linear(48 * 16, 10)
    )
    score = fit(digits, model, exact(batch_size=8, precision=precision), rates=LearningRates(0.02))[
        0
    ]
    assert score.metrics["accuracy"] > 0.5


def test_bfloat16_learns_too(digits: Dataset) -> None:
    scores = fit(digits, network(), exact(batch_size=64, precision="bfloat16"), rungs=[3])
    assert scores[0].metrics["accuracy"] > 0.9
    auto = fit(digits, network(), exact(batch_size=64, precision="auto"), rungs=[3])
    low = computes_bfloat16(torch.device("cpu"))
    assert (auto[0].metrics == scores[0].metrics) == low


def test_bfloat16_is_judged_by_the_kind_of_convolutions() -> None:
    """An AMD EPYC with fast bfloat16 computes small depthwise convolutions in it at a third of the
    speed.
    """
    mobile = {
        "torchvision:mobilenet_v3_small": True,
        "torchvision:convnext_tiny": False,
        "resnet8": False,
    }
    for name, expected in mobile.items():
        assert (
            training.numerics.has_depthwise(
                backbones.create(name, input_shape=(3, 32, 32), classes=10)
            )
            is expected
        )
