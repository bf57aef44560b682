"""Parts of a network without sites, with the note that says why; custom sites on containers."""

from __future__ import annotations

import torch
from attachment_models import Residual, shaken
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import nas_attn as na
from nas_attn.attachment import survey
from nas_attn.space.placement import SiteNote

SHAPE = (3, 16, 16)


def body() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), Residual(8), Residual(8))


class Distilled(nn.Module):
    """A student and its frozen teacher."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher = body().requires_grad_(False)
        self.student = body()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            target = self.teacher(x)
        return self.student(x), target


def test_a_teacher_without_gradients_has_no_sites_and_a_note() -> None:
    found = survey(Distilled(), SHAPE)
    paths = {p.path for site in found.sites for _, points in site.points for p in points}
    assert paths
    assert all(path.startswith("student.") for path in paths)
    (note,) = (note for note in found.notes if note.kind == "no_gradient")
    assert all(path.startswith("teacher.") for path in note.modules)


class TooLong(nn.Module):
    """A segmenter that runs a whole encoder and takes an early map of it."""

    def __init__(self) -> None:
        super().__init__()
        self.early = body()
        self.late = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), Residual(16), Residual(16))
        self.classes = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.early(x)
        self.late(x)
        return self.classes(x)


def test_blocks_that_no_output_depends_on_are_no_sites() -> None:
    found = survey(TooLong(), SHAPE)
    assert [site.name for site in found.sites if "." not in site.name] == ["stage1"]
    assert SiteNote("unused", ("late.1", "late.2")) in found.notes


def test_a_frozen_backbone_has_sites_since_its_head_is_trained() -> None:
    model = nn.Sequential(body().requires_grad_(False), nn.Flatten(), nn.Linear(8 * 256, 5))
    found = survey(model, SHAPE)
    assert [site.name for site in found.sites if "." not in site.name] == ["stage1"]
    assert not found.notes
    assert survey(model.requires_grad_(False), SHAPE).sites == found.sites


class Checkpointed(nn.Module):
    """Runs a container, or with checkpointing its children."""

    checkpointing = False

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.stage = nn.Sequential(Residual(8), Residual(8))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        if self.checkpointing:
            for layer in self.stage:
                x = checkpoint(layer, x, use_reentrant=False)
        else:
            x = self.stage(x)
        return self.head(x.mean((2, 3)))


def test_a_custom_site_on_a_container_stays_when_its_children_run_one_by_one() -> None:
    model = Checkpointed().eval()
    na.attach(model, "mine=se", input_shape=SHAPE, custom={"mine": ["stage"]})
    x = torch.rand(2, *SHAPE)
    want = shaken(model)(x)
    model.checkpointing = True
    assert torch.equal(model(x), want)
    (one,) = na.check(model, SHAPE)
    assert one.takes_part
