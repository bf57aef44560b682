"""The road over a GPU, without one: CUDA tensors that have no values. A tensor on the wrong device
raises.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from nas_attn import (
    attachment,
    attention,
    backbones,
    data,
    notation,
    recipe,
    space,
    tasks,
    training,
)
from nas_attn.data.boxes import BoxedSplit
from nas_attn.data.dataset import MaskedSplit
from nas_attn.data.parts import InMemory
from nas_attn.latency.nets import deployed, eager, example_input, placed
from nas_attn.training.parameters import make_optimizer

AUGMENT = [recipe.Augment(name="flip"), recipe.Augment(name="crop", padding=2)]


def network(placement: str) -> nn.Module:
    model = backbones.create("resnet8", input_shape=(3, 32, 32), classes=4, width=8)
    return attachment.attach(
        model,
        space.resolve(
            notation.parse(placement), attachment.survey(model, (3, 32, 32)).sites, init="identity"
        ),
    )


def backward(loss: torch.Tensor) -> None:
    """What autograd does, whose threads need a device: from node to node of the graph, the last
    first.
    """
    order: dict[object, None] = {}

    def visit(node: object) -> None:
        if node is not None and node not in order:
            any(visit(before) for before, _ in node.next_functions)
            order[node] = None

    visit(loss.grad_fn)
    known = {(loss.grad_fn, 0): torch.ones_like(loss)}
    for node in reversed(order):
        wanted = ((known.pop((node, i), None), m) for i, m in enumerate(node._input_metadata))
        found = [
            gradient if gradient is None else gradient.sum_to_size(m.shape).to(m.dtype)
            for gradient, m in wanted
        ]
        if hasattr(node, "variable"):
            node.variable.grad = (
                found[0] if node.variable.grad is None else node.variable.grad + found[0]
            )
            continue
        made = node(*found)
        for key, of in zip(
            node.next_functions, made if isinstance(made, tuple) else (made,), strict=True
        ):
            if key[0] is not None and of is not None:
                known[key] = known[key] + of if key in known else of


def on_cuda(kind: type[data.Split], task: str) -> data.Dataset:
    """12 images with what the task knows of them."""
    pixels = InMemory(
        torch.zeros(12, 4 if kind is MaskedSplit else 3, 32, 32, dtype=torch.uint8, device="cuda")
    )
    more = [torch.zeros(12, 2, 5, device="cuda")] if kind is BoxedSplit else []
    split = kind(
        pixels, torch.zeros(12, dtype=torch.int64, device="cuda"), 4, (0.5,) * 3, (0.2,) * 3, *more
    )
    return data.Dataset(
        "none", split, split, tuple("abcd"), (3, 32, 32), "", lambda: split, task=tasks.TASKS[task]
    )


def test_every_module_answers_there_and_a_tensor_elsewhere_raises() -> None:
    modules = {
        name: attention.catalogue.create(name, 32, height=8, width=8, init="identity")
        for name in attention.catalogue.ROWS
    }
    with FakeTensorMode(allow_non_fake_inputs=True):
        x = torch.zeros(2, 32, 8, 8, device="cuda", requires_grad=True)
        for name, module in modules.items():
            y = module.to("cuda", memory_format=torch.channels_last)(x)
            assert (y.device.type, tuple(y.shape)) == ("cuda", (2, 32, 8, 8)), name
            backward(y.sum())
            assert {p.grad.device.type for p in (x, *module.parameters())} == {"cuda"}, name
        with pytest.raises(RuntimeError, match="device"):
            x + torch.zeros(8)


@pytest.mark.parametrize(
    ("kind", "task", "precision"),
    [(data.Split, "classification", "bfloat16"), (MaskedSplit, "segmentation", "float32")],
)
def test_a_step_and_a_score(
    kind: type[data.Split], task: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.autograd, "backward", backward)
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    model, outputs = (
        (network("stage2=se stage3=cbam") if kind is data.Split else nn.Conv2d(3, 4, 1)),
        [],
    )
    mixup = [recipe.Augment(name="mixup", alpha=0.2)] if kind is data.Split else []
    settings = {
        "batch_size": 3,
        "accumulate": 2,
        "augment": [*AUGMENT, *mixup],
        "precision": precision,
    }
    loss = recipe.Named(name="CrossEntropyLoss", label_smoothing=0.1)
    section = recipe.TrainingSection(**settings, optimizer="AdamW", loss=loss, clip_norm=1.0)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to("cuda", memory_format=torch.channels_last)
        model.register_forward_hook(lambda module, given, answer: outputs.append(answer))
        trainer = training.Trainer(section, on_cuda(kind, task), device="cuda")
        summed = torch.zeros((), dtype=torch.float64, device="cuda")
        run = SimpleNamespace(
            model=model, optimizer=make_optimizer(model, section, (), 1.0), epoch_loss=summed
        )
        step, found = trainer.stepper(run, 4), [summed]
        for x, y in trainer.dataset.train.epoch(6, seed=0, epoch=0, augment=section.augmentation):
            step(x, y, 0.1, section.accumulate)
            assert kind is data.Split or x.is_contiguous(memory_format=torch.channels_last)
            found += [x, y, *(parameter.grad for parameter in model.parameters())]
        found.append(trainer._evaluate(model, trainer.dataset.validation)[0])
        assert {t.device.type for t in (*found, *outputs, *model.state_dict().values())} == {"cuda"}
    assert {answer.dtype for answer in outputs} == {getattr(torch, precision)}
    scoring = 1 if kind is data.Split else 4  # a batch of outputs as large as images is small
    assert len(outputs) == 4 + scoring


def test_boxes_are_mirrored_and_cropped_there() -> None:
    with FakeTensorMode():
        x, y = next(
            on_cuda(BoxedSplit, "detection").train.epoch(6, seed=0, epoch=0, augment=AUGMENT)
        )
        assert (x.device.type, y.device.type, x.shape, y.shape) == (
            "cuda",
            "cuda",
            (6, 3, 32, 32),
            (6, 2, 5),
        )


@pytest.mark.parametrize("settings", [{}, {"dtype": "float16"}])
def test_a_turn_of_a_latency_session(
    settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    events = {
        "Event": lambda **options: SimpleNamespace(record=int, elapsed_time=lambda other: 2.0)
    }  # none is made here
    properties = {"get_device_properties": lambda index: SimpleNamespace(L2_cache_size=2**20)}
    for name, stand_in in {
        "current_device": int,
        "synchronize": int,
        **events,
        **properties,
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    section, answers = recipe.LatencySection(device="cuda", batch_size=2, **settings), []
    model = deployed(network("stage1=eca stage3=gc").eval(), recipe.LatencySection(), (3, 32, 32))
    with FakeTensorMode(allow_non_fake_inputs=True):
        x = example_input(section, (3, 32, 32), seed=0)
        placed(model, section).register_forward_hook(
            lambda module, given, answer: answers.append(answer)
        )
        assert eager(model, section, x).turn(3)[0] == 2.0
    assert [(y.device.type, y.dtype, tuple(y.shape)) for y in answers] == [
        ("cuda", x.dtype, (2, 4))
    ] * 4
