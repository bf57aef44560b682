"""A model that an image cannot go through: one sentence that says what to do, and not a word of torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from nas_attn.attachment import find_sites
from nas_attn.errors import BackboneError


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.conv(image) * mask  # type: ignore[no-any-return]


class Strange(TwoInputs):
    def forward(self, image: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        raise RuntimeError("not today\n" * 20 + "x" * 2000)


@pytest.mark.parametrize(
    ("model", "shape", "words"),
    [
        (TwoInputs(), (3, 32, 32), "forward"),
        (nn.Conv2d(3, 8, 3), (1, 32, 32), "first convolution takes 3 channels, so give it such images"),
        (nn.Sequential(nn.Conv2d(3, 8, 40), nn.ReLU()), (3, 32, 32), "change data.size"),
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


def test_a_forward_that_takes_a_dict_is_one_error_and_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    class OfDicts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 8, 3)

        def forward(self, batch: dict[str, Tensor]) -> Tensor:
            y: Tensor = self.layer(batch["image"])
            return y

    with pytest.raises(BackboneError, match="wrap the model"):
        find_sites(OfDicts(), (3, 32, 32))
    assert not list(recwarn)
