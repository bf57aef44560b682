"""An attention module of your own, beside ours: its path in place of a type."""

import torch
import torchvision
from torch import Tensor, nn

import nas_attn as na


class Contrast(nn.Module):
    """`y = x·(1 + a·sd)`, sd the standard deviation of each channel over the map, a learned.

    It begins as the identity: a is 0.
    """

    def __init__(self, channels: int, *, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.zeros(channels))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        sd_NC = x_NCHW.std(dim=(2, 3))
        return x_NCHW * (1 + self.scale * self.weight * sd_NC)[:, :, None, None]


if __name__ == "__main__":
    model = torchvision.models.resnet18()
    placement = "stage1=own_module:Contrast(scale=0.5) stage2=se"
    na.attach(model, placement, input_shape=(3, 64, 64))
    own = [module for module in model.modules() if type(module).__name__ == "Contrast"]
    print(f"{len(own)} blocks of stage 1 have it")
    assert own
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 1000)
    # A search has it, too, if the search space names it:
    # choices = { "own_module:Contrast" = { scale = [0.5, 1.0] }, se = {} }
