"""What is said about a network's sites, and what names that meant more once say."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import nas_attn as na
from nas_attn.attachment import survey
from nas_attn.errors import BackboneError, PlacementError

SHAPE = (3, 32, 32)


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.norm(self.conv(functional.relu(x)))
        return y


class Levels(nn.Module):
    """A body, then one module that runs on every size of map, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.body = nn.ModuleList(Residual(8) for _ in range(2))
        self.shared = Residual(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.body:
            x = self.shared(block(functional.max_pool2d(x, 2)))
        return x.mean((2, 3))


def test_a_module_that_runs_on_several_sizes_is_no_site_and_that_is_said() -> None:
    found = survey(Levels(), SHAPE)
    assert [site.name for site in found.sites if "." not in site.name] == ["stage1", "stage2"]
    assert found.notes == (
        "shared is not a site: it runs on maps of several shapes (8x16x16, 8x8x8), and attention is built for one",
    )


class Mirror(nn.Module):
    """A body that shrinks its maps and one of the same blocks that grows them again: sizes come twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.ModuleList(Residual(8) for _ in range(5))
        self.classes = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block, scale in zip(self.blocks, (1.0, 0.5, 0.5, 2.0, 2.0), strict=True):
            x = block(x if scale == 1 else functional.interpolate(x, scale_factor=scale))
        y: Tensor = self.classes(x)
        return y


def test_a_site_of_ones_own_needs_a_name_of_its_own() -> None:
    with pytest.raises(BackboneError, match="'neck1'"):
        na.find_sites(Mirror(), SHAPE, custom={"neck1": ["stem"]})


def test_blocks_alone_are_meant_by_a_star() -> None:
    model = na.attach(Mirror(), "*=eca", input_shape=SHAPE, granularity="block")
    assert len([name for name in model.state_dict() if "nas_attn" in name]) == 5
    with pytest.raises(PlacementError, match="unknown site 'stage1'"):
        na.attach(na.detach(model), "stage1=eca", input_shape=SHAPE, granularity="block")


def test_one_module_at_several_places_is_said_to_be_no_site() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.shared, self.last = (nn.Conv2d(i, 8, 3, padding=1) for i in (3, 8, 8))
            self.classes = nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.shared(functional.relu(self.last(functional.relu(self.shared(self.first(x))))))
            y: Tensor = self.classes(x.mean((2, 3)))
            return y

    found = survey(Twice(), SHAPE)
    assert "shared" not in {point.path for site in found.sites for _, points in site.points for point in points}
    assert any(note.startswith("shared is not a site") for note in found.notes)


def test_blocks_of_an_encoder_that_runs_twice_are_sites() -> None:
    class Siamese(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Sequential(*(nn.Sequential(nn.Conv2d(i, 8, 3), nn.ReLU()) for i in (3, 8, 8)))
            self.classes = nn.Linear(16, 5)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.classes(torch.cat([self.encoder(v).mean((2, 3)) for v in (x, x.flip(-1))], 1))
            return y

    assert survey(Siamese(), SHAPE).sites
    attended = na.attach(Siamese(), "*=se(reduction=2)", input_shape=SHAPE)
    assert all(one.takes_part for one in na.check(attended, SHAPE))
