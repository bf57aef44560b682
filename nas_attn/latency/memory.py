"""Peak memory of one inference."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nas_attn.latency.nets import deployed, example_input
from nas_attn.recipe import LatencySection


def peak_memory(section: LatencySection, model: nn.Module, input_shape: tuple[int, int, int]) -> int:
    """Bytes at the peak of one eager forward: weights, input and all tensors alive at once.

    On CUDA what torch's allocator gave out, so with the kernels' workspaces; on a CPU the tensors that operations return,
    without workspaces inside an operation. The section gives batch size, dtype and memory format.

    Args:
        input_shape: (C, H, W).
    """
    if section.device == "cuda":
        return _cuda_peak(section, model, input_shape)
    copied, x = deployed(model, section, input_shape), example_input(section, input_shape, 0)
    alive = _Alive()
    with torch.inference_mode(), alive:
        for tensor in (*copied.parameters(), *copied.buffers(), x):
            alive.meet(tensor)
        copied(x)
    return alive.peak


def _cuda_peak(section: LatencySection, model: nn.Module, input_shape: tuple[int, int, int]) -> int:
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    copied, x = deployed(model, section, input_shape), example_input(section, input_shape, 0)
    torch.cuda.reset_peak_memory_stats()
    with torch.inference_mode():
        copied(x)
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


class _Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensor storages from the operation that returns them until they go."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now: int = 0
        self.peak: int = 0
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.meet(leaf)
        return result

    def meet(self, tensor: Tensor) -> None:
        """Counts a tensor's storage, once."""
        storage = tensor.untyped_storage()
        identity = id(storage)
        if identity in self._known:
            return
        size = storage.nbytes()

        def gone(_: object) -> None:
            self.now -= size
            del self._known[identity]

        self._known[identity] = weakref.ref(storage, gone)
        self.now += size
        self.peak = max(self.peak, self.now)
