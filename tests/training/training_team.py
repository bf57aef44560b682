"""Run by torchrun: trains a network without BatchNorm together, and writes what came out."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

from nas_attn import data
from nas_attn.recipe import AugmentSection, DataSection, TrainingSection
from nas_attn.records import Score
from nas_attn.training import Interrupted, Trainer
from nas_attn.training.team import Team, joined

SECTION = TrainingSection(
    batch_size=60,
    learning_rate=0.05,
    augment=AugmentSection(crop_padding=1, flip=True),
    clip_norm=1.0,
    precision="float32",
)


class Slot:
    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> bytes | None:
        return self.path.read_bytes() if self.path.exists() else None

    def save(self, blob: bytes, epochs: int) -> None:
        self.path.write_bytes(blob)


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 10)
    )


def train(folder: Path, team: Team | None, stop_after: int) -> tuple[nn.Module, tuple[Score, ...]]:
    dataset = data.load(DataSection(name="digits-8x8", train_subset=600), device="cpu")  # batches of 60: equal parts
    model, asked, leads = network(), 0, team is None or team.leads

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked == stop_after

    scores = Trainer(SECTION, dataset, device="cpu", team=team).fit(
        model,
        seed=5,
        rungs=[1, 3],
        learning_rate=0.05,
        slot=Slot(folder / "slot") if leads else None,
        stop=stop if leads else None,
    )
    return model, scores


if __name__ == "__main__":
    with joined("cpu") as team:
        try:
            model, scores = train(Path(sys.argv[1]), team, int(sys.argv[2]))
        except Interrupted:
            print(f"rank {team.rank} was interrupted")
        else:
            metrics = [dict(score.metrics) for score in scores]
            torch.save({"state": model.state_dict(), "metrics": metrics}, f"{sys.argv[1]}/rank{team.rank}.pt")
