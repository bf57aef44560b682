"""A detector of one's own around torchvision's RetinaNet, with a feature pyramid written by hand:
tests and journeys use it.
"""

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator


def layer(channels_in: int, channels: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU())


class Pyramid(nn.Module):
    out_channels = 16

    def __init__(self) -> None:
        super().__init__()
        self.stem = layer(3, 8, 2)
        self.first = layer(8, 16, 2)
        self.second = layer(16, 16, 2)
        self.coarse = nn.Conv2d(16, 16, 1)
        self.fine = nn.Conv2d(16, 16, 1)
        self.smooth = nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        first = self.first(self.stem(x))
        coarse = self.coarse(self.second(first))
        fine = self.smooth(self.fine(first) + interpolate(coarse, size=first.shape[2:]))
        return OrderedDict([("fine", fine), ("coarse", coarse)])


def build(classes: int, size: int = 32) -> nn.Module:
    anchors = AnchorGenerator(((6, 9), (13, 18)), ((1.0,),) * 2)
    return RetinaNet(Pyramid(), classes + 1, min_size=size, max_size=size, anchor_generator=anchors)
