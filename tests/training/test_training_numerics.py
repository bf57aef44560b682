"""What a training computes in: decided the same beside other work, kept in the checkpoint, and
checked when a run goes on.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from nas_attn import backbones
from nas_attn.data import loading
from nas_attn.data.dataset import Dataset
from nas_attn.errors import CheckpointError
from nas_attn.recipe import tasks
from nas_attn.recipe.recipe import DataSection, TrainingSection
from nas_attn.storage.records import Arithmetic, Score
from nas_attn.system.waiting import Interrupted
from nas_attn.training import numerics
from nas_attn.training.numerics import PLAIN, differs, new_arithmetic, threads_for
from nas_attn.training.parameters import LearningRates
from nas_attn.training.run import Callbacks
from nas_attn.training.trainer import Trainer

CPU = torch.device("cpu")
CLASSES = tasks.find("classification", "resnet8")
SECTION = TrainingSection(batch_size=32, augment=[{"name": "crop", "padding": 1}])
LOW = replace(PLAIN, precision="bfloat16", fused=True)
FULL = replace(PLAIN, fused=True)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    options = {"train": 100, "validation": 40, "test": 20}
    return loading.load(DataSection(name="digits", options=options), device="cpu")


class FileSlot:
    """Keeps a checkpoint in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> bytes | None:
        return self.path.read_bytes() if self.path.exists() else None

    def save(self, blob: bytes, epochs: int) -> None:
        self.path.write_bytes(blob)


def network() -> nn.Module:
    torch.manual_seed(0)
    return backbones.create("resnet8", input_shape=(1, 8, 8), classes=10, width=4)


@contextmanager
def busy_processes(number: int) -> Iterator[None]:
    """Inside, other processes keep the cores busy."""
    command = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(command) for _ in range(number)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def on_processor(monkeypatch: pytest.MonkeyPatch, name: str, *instructions: str) -> None:
    able = dict.fromkeys(instructions, True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    monkeypatch.setattr(numerics, "cpu_name", lambda: name)


@pytest.mark.parametrize(
    ("name", "instructions", "expected"),
    [
        ("AMD EPYC 9R14", ["avx512_bf16"], LOW),
        ("AMD EPYC 7763", [], FULL),
        # its matrix units are hidden by the virtual machine
        ("Intel(R) Xeon(R) Processor", ["avx512_bf16"], FULL),
        ("Intel(R) Xeon(R) Platinum 8480+", ["avx512_bf16", "amx_bf16"], LOW),
        ("Neoverse-V2", [], FULL),
    ],
)
def test_the_kind_of_processor_decides_the_precision(
    name: str, instructions: list[str], expected: Arithmetic, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_processor(monkeypatch, name, *instructions)
    assert new_arithmetic(SECTION, CLASSES, CPU) == expected
    depthwise = nn.Conv2d(4, 4, 3, groups=4)
    assert new_arithmetic(SECTION, CLASSES, CPU, bare=depthwise) == FULL


def test_what_a_recipe_names_is_what_is_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    on_processor(monkeypatch, "AMD EPYC 7763")
    named = SECTION.model_copy(update={"precision": "bfloat16", "execution": "compile"})
    assert new_arithmetic(named, CLASSES, CPU) == replace(LOW, execution="compile")
    boxes = tasks.find("detection", "torchvision:ssd300_vgg16")
    assert new_arithmetic(named, boxes, CPU).execution == "eager"
    usual = SECTION.model_copy(update={"memory_format": "contiguous"})
    assert new_arithmetic(usual, CLASSES, CPU) == replace(FULL, memory_format="contiguous")
    apart = SECTION.model_copy(update={"optimizer_arguments": {"foreach": True}})
    assert not new_arithmetic(apart, CLASSES, CPU).fused


def test_one_seed_gives_the_same_bits_beside_other_work(digits: Dataset) -> None:
    """All that `auto` stands for is decided anew in either training."""

    def train() -> tuple[list[bytes], tuple[Score, ...]]:
        model = network()
        arithmetic = new_arithmetic(SECTION, CLASSES, CPU, bare=model)
        threads = threads_for(SECTION)
        trainer = Trainer(SECTION, digits, device=CPU, threads=threads, arithmetic=arithmetic)
        scores = trainer.fit(model, seed=0, rungs=[1, 2], rates=LearningRates(0.05))
        bits = [tensor.numpy().tobytes() for tensor in model.state_dict().values()]
        return bits, scores

    bits, scores = train()
    with busy_processes(3):
        again, beside = train()
    assert again == bits
    assert values(beside) == values(scores)


def test_a_machine_without_bfloat16_is_known_unless_the_recipe_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False})
    assert differs(LOW, SECTION, CPU) == "bfloat16"
    assert differs(replace(FULL, tf32="convolutions"), SECTION, CPU) == "TF32"
    assert not differs(LOW, SECTION.model_copy(update={"precision": "bfloat16"}), CPU)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert not differs(LOW, SECTION, CPU)
    assert not differs(FULL, SECTION, CPU)


def fit(
    digits: Dataset,
    slot: FileSlot | None = None,
    *,
    stop_after: int | None = None,
    computes: Arithmetic = FULL,
) -> tuple[Score, ...]:
    """Two epochs of four batches."""
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked == stop_after

    trainer = Trainer(SECTION, digits, device="cpu", arithmetic=computes)
    return trainer.fit(
        network(),
        seed=0,
        rungs=[1, 2],
        rates=LearningRates(0.05),
        slot=slot,
        callbacks=Callbacks(stop=stop),
    )


def values(scores: tuple[Score, ...]) -> list[tuple[float, str | None]]:
    return [(score.metrics["loss"], score.arithmetic) for score in scores]


def test_each_score_says_how_it_was_computed(digits: Dataset) -> None:
    low, full = (fit(digits, computes=one) for one in (LOW, FULL))
    assert [score.arithmetic for score in low] == [LOW.text] * 2
    assert [score.arithmetic for score in full] == [FULL.text] * 2
    assert low[0].metrics["loss"] != full[0].metrics["loss"]


@pytest.mark.parametrize(("began", "here"), [(LOW, FULL), (FULL, LOW)])
def test_a_run_goes_on_only_in_the_arithmetic_that_it_began_with(
    digits: Dataset, tmp_path: Path, began: Arithmetic, here: Arithmetic
) -> None:
    slot = FileSlot(tmp_path / "slot")
    with pytest.raises(Interrupted):
        fit(digits, slot, stop_after=6, computes=began)
    with pytest.raises(CheckpointError, match=rf"{began.precision} .* another kind"):
        fit(digits, slot, computes=here)
    assert values(fit(digits, slot, computes=began)) == values(fit(digits, computes=began))


def test_an_arithmetic_that_cannot_be_read_is_named(digits: Dataset, tmp_path: Path) -> None:
    slot = FileSlot(tmp_path / "slot")
    with pytest.raises(Interrupted):
        fit(digits, slot, stop_after=6)
    payload = torch.load(slot.path, weights_only=True)
    torch.save({**payload, "arithmetic": '{"precision": "float32"}'}, slot.path)
    with pytest.raises(CheckpointError, match=r"does not fit here .*Arithmetic"):
        fit(digits, slot)


def test_in_the_usual_order_of_memory_a_training_learns_the_same(digits: Dataset) -> None:
    usual = fit(digits, computes=replace(FULL, memory_format="contiguous"))
    assert usual[-1].metrics["loss"] == pytest.approx(fit(digits)[-1].metrics["loss"], rel=0.05)


def test_the_loss_is_the_mean_over_the_images_of_filled_batches(digits: Dataset) -> None:
    """100 images are four batches of 32."""
    scores = fit(digits, computes=FULL)
    assert 1.5 < scores[0].metrics["train_loss_sum"] < 3.5, "near the logarithm of ten classes"
