"""Several processes that train one network come to what one process comes to, also interrupted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from training_team import train

from nas_attn.data.augment import EpochPlan
from nas_attn.data.dataset import Split
from nas_attn.data.pixels import InMemory
from nas_attn.errors import RecipeError
from nas_attn.recipe import AugmentSection
from nas_attn.training.team import Team

ALL = AugmentSection(flip=True, crop_padding=2, cutout=3)


@given(st.integers(8, 60), st.integers(8, 30), st.integers(2, 4), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_the_parts_of_an_epoch_are_its_images_augmented_alike(images: int, batch: int, parts: int, seed: int) -> None:
    pixels = torch.randint(0, 256, (images, 1, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    split = Split(InMemory(pixels), torch.arange(images), images, (0.0,), (1.0,))
    whole = list(split.epoch(batch, seed=seed, epoch=0, augment=ALL))
    divided = [list(split.epoch(batch, seed=seed, epoch=0, augment=ALL, part=(w, parts))) for w in range(parts)]
    seen = 0
    for number, (x, y) in enumerate(whole):
        for which in range(parts):
            part_x, part_y = divided[which][number]
            assert len(part_y) == len(y) // parts
            assert torch.equal(part_y, y[which::parts][: len(part_y)])
            assert torch.equal(part_x, x[which::parts][: len(part_x)])
            seen += len(part_y)
    assert seen == split.seen(batch, parts)
    later = list(split.epoch(batch, seed=seed, epoch=0, augment=ALL, part=(1, parts), first_batch=len(whole) - 1))
    assert torch.equal(later[0][0], divided[1][-1][0])


def test_a_batch_that_cannot_be_shared_is_an_error() -> None:
    with pytest.raises(RecipeError, match="--gpus 4 needs batches of at least 8 images, not 6"):
        Team(0, 4, torch.device("cpu")).check(6)
    plan = EpochPlan.draw(3, 2, (4, 4), AugmentSection(), seed=0, epoch=0, device=torch.device("cpu"))
    with pytest.raises(ValueError, match="cannot be divided"):
        plan.part(0, 2)


def together(folder: Path, stop_after: int) -> str:
    program = Path(__file__).with_name("training_team.py")
    launch = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    done = subprocess.run(
        [*launch, str(program), str(folder), str(stop_after)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_two_processes_come_to_the_weights_of_one_and_go_on_bit_for_bit(tmp_path: Path) -> None:
    for name in ("alone", "whole", "pieces"):
        (tmp_path / name).mkdir()
    model, scores = train(tmp_path / "alone", None, 0)
    together(tmp_path / "whole", 0)
    ranks = [torch.load(tmp_path / "whole" / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
    for name, tensor in model.state_dict().items():
        assert torch.allclose(tensor, ranks[0]["state"][name], atol=1e-4), name
        assert torch.equal(ranks[0]["state"][name], ranks[1]["state"][name]), name
    assert ranks[0]["metrics"][-1]["train_loss_sum"] == pytest.approx(scores[-1].metrics["train_loss_sum"], rel=1e-3)
    assert "rank 1 was interrupted" in together(tmp_path / "pieces", 17)
    together(tmp_path / "pieces", 0)
    resumed = torch.load(tmp_path / "pieces" / "rank0.pt", weights_only=True)
    for name, tensor in ranks[0]["state"].items():
        assert torch.equal(tensor, resumed["state"][name]), name
