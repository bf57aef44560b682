"""A model that an image cannot go through: one sentence that says what to do, and not a word of torch's own."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor, nn

from nas_attn.attachment import find_sites
from nas_attn.errors import BackboneError


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.conv(image) * mask  # type: ignore[no-any-return]


class Frames(TwoInputs):
    def forward(self, clip: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        _, _, _, _, _ = clip.shape
        return self.conv(clip.flatten(0, 1))  # type: ignore[no-any-return]


class Strange(TwoInputs):
    def forward(self, image: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        raise RuntimeError("not today\n" * 20 + "x" * 2000)


@pytest.mark.parametrize(
    ("model", "shape", "words"),
    [
        (TwoInputs(), (3, 32, 32), r"takes 2 inputs \(image, mask\)"),
        (Frames(), (3, 32, 32), r"it takes 5-D input"),
        (nn.Conv3d(3, 8, 3), (3, 32, 32), r"it takes volumes or videos \(N, C, D, H, W\)"),
        (nn.Conv1d(3, 8, 3), (3, 32, 32), r"it takes sequences \(N, C, L\)"),
        (nn.Conv2d(3, 8, 3), (1, 32, 32), "first convolution takes 3 channels, so give it such images"),
        (nn.Sequential(nn.Conv2d(3, 8, 40), nn.ReLU()), (3, 32, 32), "it takes 3x64x64: give it such images"),
        (Strange(), (3, 32, 32), "forward"),
    ],
)
def test_the_way_out_fits_the_model(
    capfd: pytest.CaptureFixture[str], model: nn.Module, shape: tuple[int, int, int], words: str
) -> None:
    with pytest.raises(BackboneError, match=words) as caught:
        find_sites(model, shape)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 600
    assert capfd.readouterr() == ("", "")


def test_an_image_that_is_too_small(capfd: pytest.CaptureFixture[str]) -> None:
    with torch.device("meta"):
        model = torchvision.models.alexnet()
    with pytest.raises(BackboneError, match=r"cannot process a 3x32x32 image \(.*\): it takes 3x64x64"):
        find_sites(model, (3, 32, 32))
    assert capfd.readouterr() == ("", "")


def test_a_forward_that_takes_a_dict_is_one_error_and_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    class OfDicts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 8, 3)

        def forward(self, batch: dict[str, Tensor]) -> Tensor:
            y: Tensor = self.layer(batch["image"])
            return y

    with pytest.raises(BackboneError, match="wrap a model that takes a dict"):
        find_sites(OfDicts(), (3, 32, 32))
    assert not list(recwarn)
