"""Attention in a network of torchvision: where it can go, in and out again."""

import torch
import torchvision

import nas_attn as na

PLACEMENT = "stage2=ela(variant=B) stage3=se(reduction=16)"
SHAPE = (3, 96, 96)

model = torchvision.models.resnet18()
for site in na.find_sites(model, SHAPE, granularity="stage"):
    print(f"{site.name}: {site.macs_share:.0%} of the multiplications")

image = torch.randn(1, *SHAPE)
bare = model.eval()(image)
names = set(model.state_dict())

# In place. The modules begin as the identity, so the outputs stay as they are.
na.attach(model, PLACEMENT, input_shape=SHAPE)
assert torch.allclose(model(image), bare, atol=1e-5)
assert names < set(model.state_dict()), "the network's own parameters keep their names"

# Train it now as usual. Before you deploy it, check that its attention still counts.
for module in na.check(model, SHAPE):
    print(module)

na.detach(model)
assert set(model.state_dict()) == names
