"""A segmentation network of one's own: tests import it, journeys copy it into their person's
folder.
"""

from torch import Tensor, nn
from torch.nn.functional import interpolate


def layer(channels_in: int, channels: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU())


class Segmenter(nn.Module):
    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.stage1 = layer(channels, 4, 1)
        self.stage2 = layer(4, 8, 2)
        self.stage3 = layer(8, 16, 2)
        self.head = nn.Conv2d(16, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(self.stage3(self.stage2(self.stage1(x))))
        return interpolate(y, size=x.shape[2:], mode="bilinear")


def build(classes: int, in_channels: int) -> nn.Module:
    return Segmenter(classes, in_channels)
