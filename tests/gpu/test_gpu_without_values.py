"""Modules, steps, augmentation, scoring and checkpoints on CUDA tensors that have no values: nothing
mixes devices, waits for the device within an epoch, or copies to or from the host.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from slots import MemorySlot
from stubbed_cuda import plain_name
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from typing_extensions import override
from valueless import Watch, backward, devices_in, tensors_in, tensors_without_values, with_values

from nas_attn import attachment, attention, backbones
from nas_attn.attention.choice import Init
from nas_attn.data.dataset import Dataset, Split
from nas_attn.data.pixels import Images
from nas_attn.latency.nets import deployed, eager, example_input, placed
from nas_attn.recipe import recipe, tasks
from nas_attn.space import notation, search_space
from nas_attn.training.checkpoints import Checkpoints
from nas_attn.training.parameters import FUSED, LearningRates
from nas_attn.training.run import Training
from nas_attn.training.trainer import Trainer

FLIP = recipe.Augment(name="flip")
CROP = recipe.Augment(name="crop", padding=2)
MIXUP = recipe.Augment(name="mixup", alpha=0.2)
REPEAT = recipe.Augment(name="repeat", times=2)
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
IMAGES = 12
CLASSES = 4
# All modules, three to a network
ROWS = list(attention.catalogue.ROWS)
THREES = [tuple(ROWS[start : start + 3]) for start in range(0, len(ROWS), 3)]


def network(placement: str) -> nn.Module:
    with with_values():
        model = backbones.create("resnet8", input_shape=(3, 32, 32), classes=CLASSES, width=8)
        sites = attachment.survey(model, (3, 32, 32)).sites
        choices = search_space.resolve(notation.parse(placement), sites, init="identity")
        return attachment.attach(model, choices)


def on_cuda(task: str = "classification") -> Dataset:
    """A data set on the GPU, with what the task knows of each image."""
    masked = task == "segmentation"
    channels = 3 + masked
    images = torch.zeros(IMAGES, channels, 32, 32, dtype=torch.uint8, device="cuda")
    labels = torch.zeros(IMAGES, dtype=torch.int64, device="cuda")
    boxes = torch.zeros(IMAGES, 2, 5, device="cuda") if task == "detection" else None
    scale = ((0.5,) * 3, (0.2,) * 3)
    split = Split(Images.of(images), labels, CLASSES, *scale, boxes=boxes, masked=masked)
    classes = tuple("abcdefgh"[:CLASSES])
    return Dataset(
        "none", split, split, classes, (3, 32, 32), "", lambda: split, task=tasks.TASKS[task]
    )


def settings(**changes: Any) -> recipe.TrainingSection:
    return recipe.TrainingSection.model_validate(
        {"batch_size": 6, "precision": "float32", **changes}
    )


@dataclass(frozen=True)
class Kept(Checkpoints):
    """Keeps payloads as they are."""

    saved: dict[str, Any]

    @override
    def write(self, payload: Mapping[str, Any], epochs: int) -> None:
        self.saved.update(payload)

    @override
    def read(self) -> dict[str, Any]:
        return self.saved


class Subject:
    """A training on the GPU, epoch by epoch."""

    def __init__(self, section: recipe.TrainingSection, model: nn.Module | None = None) -> None:
        self.model = network("stage2=se stage3=cbam") if model is None else model
        self.model.to("cuda", memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.trainer = Trainer(section, on_cuda(), device="cuda")
        self.saved: dict[str, Any] = {}
        self.run = self.new_run()

    def new_run(self) -> Training:
        run = Training(
            self.trainer,
            self.model,
            LearningRates(0.1),
            checkpoints=Kept(MemorySlot(), "", self.saved),
        )
        run.progress.end = 2
        run.step = run.stepper(4)
        return run

    def places(self) -> list[tuple[tuple[int, ...], str]]:
        """Shape and device of each tensor that a checkpoint holds."""
        run = self.run
        assert run.optimizer is not None
        state = run.optimizer.state_dict()["state"]
        held = (self.model.state_dict(), run.average.state(), state, run.epoch_loss)
        return [(tuple(tensor.shape), tensor.device.type) for tensor in tensors_in(held)]

    def epoch(self, watch: Watch) -> None:
        """One epoch of the trainer's own loop, watched from its second batch on: the plan of an
        epoch is drawn, and copied to the device, with the first one.
        """
        with ExitStack() as watching:
            split: Any = LateWatch(self.trainer.dataset.train, watch, watching)
            self.run.train = split
            self.run.epoch()


class LateWatch:
    """A split whose second batch of an epoch begins the watch."""

    def __init__(self, split: Split, watch: Watch, watching: ExitStack) -> None:
        self.split = split
        self.watch = watch
        self.watching = watching

    def __len__(self) -> int:
        return len(self.split)

    def trained(self, batch_size: int) -> int:
        return self.split.trained(batch_size)

    def epoch(self, *args: Any, **kwargs: Any) -> Iterator[tuple[Tensor, Tensor]]:
        batches = iter(self.split.epoch(*args, **kwargs))
        yield next(batches)
        self.watching.enter_context(self.watch)
        yield from batches


# autocast adds to what float32 does
@pytest.mark.parametrize(
    ("init", "precision"),
    [
        pytest.param("paper", "float32", marks=pytest.mark.slow),
        ("identity", "bfloat16"),
    ],
)
@pytest.mark.parametrize("name", attention.catalogue.ROWS)
@tensors_without_values()
def test_a_module_computes_on_the_device_alone(name: str, init: Init, precision: str) -> None:
    with with_values():
        module = attention.catalogue.create(name, 32, height=8, width=8, init=init)
    module.to("cuda", memory_format=torch.channels_last)  # type: ignore[call-overload]
    module.train()
    dtype = PRECISIONS[precision]
    x = torch.zeros(4, 32, 8, 8, device="cuda", dtype=dtype)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    with Watch() as watch:
        with torch.autocast("cuda", torch.bfloat16, enabled=dtype is torch.bfloat16):
            y = module(x)
        backward(y.float().sum())
    assert not watch.offences
    assert (y.device.type, y.shape, y.dtype) == ("cuda", x.shape, dtype)
    gradients = [tensor.grad for tensor in (x, *module.parameters())]
    assert all(gradient is not None for gradient in gradients)
    assert devices_in(gradients) == {"cuda"}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("optimizer", FUSED)
@tensors_without_values()
def test_an_epoch_reads_one_value_at_its_end(optimizer: str, precision: str) -> None:
    loss = {"name": "CrossEntropyLoss", "label_smoothing": 0.1}
    section = settings(
        optimizer=optimizer,
        precision=precision,
        augment=[FLIP, CROP, MIXUP],
        clip_norm=1.0,
        loss=loss,
    )
    outputs: list[Tensor] = []
    subject = Subject(section)
    subject.model.register_forward_hook(lambda module, given, answer: outputs.append(answer))
    watch = Watch(reading=1)
    subject.epoch(watch)
    assert watch.operations["convolution"] > 0
    assert watch.reads == 1
    assert not watch.offences
    assert {answer.dtype for answer in outputs} == {PRECISIONS[precision]}
    assert devices_in(outputs) == {"cuda"}
    assert {device for shape, device in subject.places() if shape} == {"cuda"}


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_size": 3, "accumulate": 2},
        {"augment": [FLIP, CROP, REPEAT]},
        {"optimizer": "RMSprop"},
        {"optimizer": "SGD", "optimizer_arguments": {"momentum": 0.9, "foreach": True}},
    ],
    ids=["accumulate", "repeat", "not fused", "foreach"],
)
@tensors_without_values()
def test_other_ways_to_train_wait_no_more(changes: dict[str, Any]) -> None:
    watch = Watch(reading=1)
    Subject(settings(**changes)).epoch(watch)
    assert watch.operations["convolution"] > 0
    assert not watch.offences


@pytest.mark.parametrize("names", THREES, ids="-".join)
@tensors_without_values()
def test_networks_with_the_modules_are_trained_there(names: tuple[str, ...]) -> None:
    watch = Watch(reading=1)
    section = settings(precision="bfloat16", augment=[FLIP, CROP])
    stages = [f"stage{number}={name}" for number, name in enumerate(names, 1)]
    Subject(section, network(" ".join(stages))).epoch(watch)
    assert watch.operations["convolution"] > 0
    assert not watch.offences


class CastWatch(Watch):
    """Counts how often each of some weights is cast to bfloat16."""

    def __init__(self, weights: Sequence[Tensor]) -> None:
        super().__init__(reading=1)
        self.casts = {id(weight): 0 for weight in weights}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if plain_name(func) == "_to_copy" and id(args[0]) in self.casts:
            self.casts[id(args[0])] += 1
        return super().__torch_dispatch__(func, types, args, kwargs)


@pytest.mark.parametrize("parts", [1, 2])
@tensors_without_values()
def test_each_weight_is_cast_once_in_each_part_of_a_step(parts: int) -> None:
    subject = Subject(settings(precision="bfloat16", batch_size=6 // parts, accumulate=parts))
    layers = [
        m for m in subject.model.modules() if isinstance(m, nn.Conv2d | nn.Conv1d | nn.Linear)
    ]
    weights = [weight for layer in layers for weight in layer.parameters(recurse=False)]
    assert len(weights) > 10
    watch = CastWatch(weights)
    subject.epoch(watch)
    # of an epoch's two steps, the second is watched
    assert set(watch.casts.values()) == {parts}


@pytest.mark.parametrize("task", ["classification", "segmentation"])
@tensors_without_values()
def test_scoring_waits_for_no_batch(task: str) -> None:
    with with_values():
        segmenter = nn.Conv2d(3, CLASSES, 1)
    model = network("stage2=se") if task == "classification" else segmenter
    model.to("cuda", memory_format=torch.channels_last)  # type: ignore[call-overload]
    trainer = Trainer(settings(precision="bfloat16"), on_cuda(task), device="cuda")
    # With the first batch, mean and deviation of the images are put on the device.
    next(trainer.dataset.validation.batches(6))
    with Watch() as watch:
        loss = trainer._evaluate(model, trainer.dataset.validation)
    assert not watch.offences
    assert loss.device.type == "cuda"


@tensors_without_values()
def test_masks_are_trained_there() -> None:
    trainer = Trainer(settings(augment=[FLIP, CROP]), on_cuda("segmentation"), device="cuda")
    batches = trainer.dataset.train.epoch(6, seed=0, epoch=0, augment=[FLIP, CROP])
    next(batches)
    with Watch() as watch:
        x, y = next(batches)
    assert not watch.offences
    assert devices_in((x, y)) == {"cuda"}
    assert (x.shape, y.shape) == ((6, 3, 32, 32), (6, 32, 32))


@tensors_without_values()
def test_boxes_are_mirrored_and_cropped_there() -> None:
    batches = on_cuda("detection").train.epoch(6, seed=0, epoch=0, augment=[FLIP, CROP])
    next(batches)
    with Watch() as watch:
        x, y = next(batches)
    assert not watch.offences
    assert devices_in((x, y)) == {"cuda"}
    assert (x.shape, y.shape) == ((6, 3, 32, 32), (6, 2, 5))


@pytest.mark.parametrize("optimizer", FUSED)
@tensors_without_values()
def test_a_checkpoint_comes_back_to_the_device(
    optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = Subject(settings(optimizer=optimizer))
    subject.epoch(Watch(reading=1))
    subject.run.save()
    before = subject.places()
    assert len(before) > 10

    def on_the_host(value: Any) -> Any:
        return value.cpu() if isinstance(value, Tensor) and value.is_cuda else value

    monkeypatch.setattr(torch, "set_rng_state", lambda state: None)
    subject.saved.update(tree_map(on_the_host, subject.saved))
    subject.run = subject.new_run()
    subject.run.resume([2])
    assert subject.run.progress.epoch == 1
    assert subject.places() == before
    watch = Watch(reading=1)
    subject.epoch(watch)
    assert not watch.offences


@pytest.mark.parametrize("changes", [{}, {"dtype": "float16"}, {"channels_last": True}])
@tensors_without_values()
def test_a_turn_of_a_latency_session(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    section = recipe.LatencySection.model_validate({"device": "cuda", "batch_size": 2, **changes})
    answers: list[Tensor] = []
    with with_values():
        on_the_host = recipe.LatencySection()
        model = deployed(network("stage1=eca stage3=gc").eval(), on_the_host, (3, 32, 32))
    x = example_input(section, (3, 32, 32), seed=0)
    placed(model, section).register_forward_hook(
        lambda module, given, answer: answers.append(answer)
    )
    turn = eager(model, section, x).turn
    with Watch() as watch:
        turn(3)
    assert not watch.offences
    assert [(y.device.type, y.dtype, tuple(y.shape)) for y in answers] == [
        ("cuda", x.dtype, (2, CLASSES))
    ] * 4


class Reading(nn.Module):
    """Reads a value in each forward pass."""

    def forward(self, x: Tensor) -> Tensor:
        return x * x.mean().item()


class Choosing(nn.Module):
    """Takes a mask as an index."""

    def forward(self, x: Tensor) -> Tensor:
        return x * x[x > 0].mean()


class Copying(nn.Module):
    """Has a constant on the host."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.ones(10).to(x.device).mean()


class Forgetting(nn.Module):
    """Has a tensor that is left on the host."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.ones(32)


@pytest.mark.parametrize("defect", [Reading, Choosing, Copying, Forgetting])
@tensors_without_values()
def test_the_watch_sees_such_defects(defect: type[nn.Module]) -> None:
    with with_values():
        model = nn.Sequential(network(""), defect(), nn.Linear(CLASSES, CLASSES))
    watch = Watch(reading=1)
    raised = None
    try:
        Subject(settings(), model).epoch(watch)
    except (RuntimeError, AssertionError) as error:
        raised = error
    assert raised or watch.offences
