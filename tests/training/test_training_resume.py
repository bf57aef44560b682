"""A training that was interrupted, killed or resumed ends like one that was not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from slots import MemorySlot
from torch import nn

from nas_attn.data import loading
from nas_attn.errors import CheckpointError
from nas_attn.recipe.recipe import Augment, DataSection, Named, TrainingSection
from nas_attn.system.waiting import Interrupted
from nas_attn.training.numerics import cores_for, threads_for
from nas_attn.training.parameters import LearningRates
from nas_attn.training.run import NO_CALLBACKS, Callbacks
from nas_attn.training.trainer import Trainer

SECTION = TrainingSection(
    batch_size=32,
    learning_rate=0.05,
    augment=[
        Augment(name="flip"),
        Augment(name="crop", padding=1),
        Augment(name="mixup", alpha=0.2),
    ],
    accumulate=2,
    loss=Named(name="CrossEntropyLoss", label_smoothing=0.1),
    clip_norm=1.0,
)


class FileSlot(MemorySlot):
    """A slot as the study has it, in one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.saves: list[int] = []
        self.blob = path.read_bytes() if path.exists() else None

    def save(self, blob: bytes, epochs: int) -> None:
        super().save(blob, epochs)
        self.path.write_bytes(blob)
        self.saves.append(epochs)


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


def fit(path: Path, section: TrainingSection = SECTION, **options):
    dataset = loading.load(DataSection(name="digits-8x8"), device="cpu")
    model = network()
    arguments = {"seed": 5, "rungs": [1, 3], "rates": LearningRates(0.05), **options}
    scores = Trainer(section, dataset, device="cpu").fit(model, slot=FileSlot(path), **arguments)
    return model, scores


def assert_same(one, other) -> None:
    (model, scores), (model_2, scores_2) = one, other
    assert [(s.epochs, s.metrics, s.correct) for s in scores] == [
        (s.epochs, s.metrics, s.correct) for s in scores_2
    ]
    for (name, tensor), other_tensor in zip(
        model.state_dict().items(), model_2.state_dict().values(), strict=True
    ):
        assert torch.equal(tensor, other_tensor), name


@pytest.mark.parametrize("optimizer", [pytest.param("SGD", marks=pytest.mark.slow), "AdamW"])
def test_stopping_at_every_third_batch_changes_nothing(tmp_path: Path, optimizer: str) -> None:
    section = SECTION.model_copy(update={"optimizer": optimizer})
    whole = fit(tmp_path / "whole", section)
    interruptions = 0
    while True:
        asked = iter([False, False, True])
        try:
            torch.rand(17)  # the caller's random numbers are none of the training's business
            pieces = fit(
                tmp_path / "pieces",
                section,
                callbacks=Callbacks(stop=partial(next, asked)),
            )
            break
        except Interrupted:
            interruptions += 1
    assert interruptions == 15  # three epochs of 15 batches
    assert_same(pieces, whole)


def test_further_rungs_are_added_to_a_finished_training(tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole", rungs=[1, 3, 4])
    fit(tmp_path / "longer", rungs=[1, 3])
    assert_same(fit(tmp_path / "longer", rungs=[1, 3, 4]), whole)


def test_a_rung_writes_a_checkpoint_and_a_finished_training_is_read_back(tmp_path: Path) -> None:
    dataset = loading.load(DataSection(name="digits-8x8"), device="cpu")
    slot, model = FileSlot(tmp_path / "slot"), network()
    trainer = Trainer(SECTION, dataset, device="cpu")
    finished = model, trainer.fit(model, seed=5, rungs=[1, 3], rates=LearningRates(0.05), slot=slot)
    assert slot.saves == [1, 3]  # the epoch between takes less than a second
    told = []
    again = fit(
        tmp_path / "slot", callbacks=Callbacks(lambda score: told.append(score.epochs) or True)
    )
    assert told == [1, 3]
    assert_same(again, finished)


def test_a_checkpoint_of_an_earlier_commit_is_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of be09d58b, stopped in the second epoch, on a CPU whose rule is bfloat16."""
    monkeypatch.setattr(
        "nas_attn.training.numerics.computes_bfloat16", lambda device, depthwise: True
    )
    kept = Path(__file__).parent / "assets" / "checkpoint_before.pt"
    shutil.copy(kept, tmp_path / "slot")
    (model, scores), (whole, expected) = fit(tmp_path / "slot"), fit(tmp_path / "whole")
    assert [score.epochs for score in scores] == [1, 3]
    # written on another kind of CPU, perhaps
    for score, other in zip(scores, expected, strict=True):
        assert score.metrics["loss"] == pytest.approx(other.metrics["loss"], rel=1e-2)
    for tensor, other_tensor in zip(model.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(tensor, other_tensor, rtol=0.1, atol=0.01)


def test_checkpoints_come_when_their_time_has_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the interval at nothing there is one after each batch, and after the epoch; a killed
    training goes on from the last of them.
    """
    whole = fit(tmp_path / "whole", rungs=[2])
    monkeypatch.setattr("nas_attn.training.run.CHECKPOINT_EVERY_S", 0.0)
    slot, calls = FileSlot(tmp_path / "slot"), 0

    def hook() -> None:
        nonlocal calls
        calls += 1
        if calls == 21:  # in the second epoch
            raise KeyboardInterrupt

    dataset = loading.load(DataSection(name="digits-8x8"), device="cpu")
    with pytest.raises(KeyboardInterrupt):
        Trainer(SECTION, dataset, device="cpu", batch_hook=hook).fit(
            network(), seed=5, rungs=[2], rates=LearningRates(0.05), slot=slot
        )
    assert slot.saves == [0] * 15 + [1] * 6  # each batch, and the first epoch's end
    assert_same(fit(tmp_path / "slot", rungs=[2]), whole)


def test_the_checkpoint_of_another_training_is_refused_and_a_damaged_one(tmp_path: Path) -> None:
    fit(tmp_path / "slot", rungs=[1])
    for change in (
        {"seed": 6},
        {"rates": LearningRates(0.04)},
        {"section": SECTION.model_copy(update={"weight_decay": 0.0})},
        {"rates": LearningRates(0.05, frozenset({"0.weight"}))},
        {"rungs": [2, 3]},
    ):
        with pytest.raises(CheckpointError):
            fit(tmp_path / "slot", **change)
    blob = (tmp_path / "slot").read_bytes()
    for damaged in (b"", b"nothing of the kind", blob[: len(blob) // 2]):
        (tmp_path / "slot").write_bytes(damaged)
        with pytest.raises(CheckpointError, match="damaged"):
            fit(tmp_path / "slot")


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == before


def fit_with(path: Path, threads: int, callbacks: Callbacks = NO_CALLBACKS):
    dataset = loading.load(DataSection(name="digits-8x8"), device="cpu")
    model = network()
    trainer = Trainer(SECTION, dataset, device="cpu", threads=threads)
    return model, trainer.fit(
        model,
        seed=5,
        rungs=[1],
        rates=LearningRates(0.05),
        slot=FileSlot(path),
        callbacks=callbacks,
    )


def test_a_run_goes_on_with_the_threads_that_it_was_begun_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int] = []
    forward = Trainer.output
    monkeypatch.setattr(
        Trainer, "output", lambda *args: used.append(torch.get_num_threads()) or forward(*args)
    )
    whole = fit_with(tmp_path / "whole", 2)
    asked = iter([False] * 5 + [True])
    with pytest.raises(Interrupted):
        fit_with(tmp_path / "pieces", 2, Callbacks(stop=lambda: next(asked)))
    assert set(used) == {2}
    assert_same(fit_with(tmp_path / "pieces", 1), whole)
    assert set(used) == {2}


def test_cores_are_shared_out_and_the_environments_word_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nas_attn.training.numerics.cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [cores_for(workers) for workers in (1, 3, 4, 20)] == [8, 2, 2, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "2,1")
    assert [cores_for(workers) for workers in (1, 8)] == [2, 1]


def test_the_recipe_says_how_many_threads_unless_a_person_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nas_attn.training.numerics.cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    three = TrainingSection(threads=3)
    assert threads_for(TrainingSection(), workers=4) == 2
    assert threads_for(three, workers=4) == 3
    assert threads_for(three, 5, workers=4) == 5
