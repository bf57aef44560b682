"""The memory that a network keeps from its forward pass until its backward pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas_attn.attachment.counting import CountedNetwork
from nas_attn.attachment.recording import run_copy


def training_bytes(network: CountedNetwork) -> int:
    """Bytes of what autograd keeps of one image, in the model's dtype; not its parameters, which do
    not grow with the batch. Counted as in evaluation: masks of dropout are not in it.
    """
    return run_copy(network.model, network.input_shape, _kept_bytes)


def _kept_bytes(model: nn.Module, x: Tensor) -> int:
    """Of a forward pass of x (1, C, H, W)."""
    own = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in own:
            kept[storage] = tensor
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        result = model(x)
    del result
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
