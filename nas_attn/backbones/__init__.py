"""The networks that attention is put into: CIFAR ResNets, torchvision's and timm's models, a user's
function.
"""

from nas_attn.backbones.building import build, create, load_weights, names

__all__ = ["build", "create", "load_weights", "names"]
