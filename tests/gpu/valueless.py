"""CUDA tensors that have no values (torch's FakeTensorMode), and a watch over their operations.

A tensor on the wrong device raises, as on a GPU, and so does asking for a value. The watch also
sees what a GPU does without an error, but slowly: waiting, and copies between host and device.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import torch
from stubbed_cuda import installed, plain_name, waits
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

FUSED = ("_fused_adagrad_", "_fused_adam_", "_fused_adamw_", "_fused_sgd_")


class Watch(TorchDispatchMode):
    """Notes each operation that waits for the device, or copies between it and the host.

    `reading`: how many values the host may read from the device; each of them is 1.
    """

    def __init__(self, reading: int = 0) -> None:
        super().__init__()
        self.reading = reading
        self.reads = 0
        self.operations: Counter[str] = Counter()
        self.offences: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = plain_name(func)
        self.operations[name] += 1
        if name == "_local_scalar_dense":
            return self.read(args[0])
        result = func(*args, **kwargs)
        devices = devices_in((args, kwargs, result))
        if waits(name, args) and "cuda" in devices:
            self.offences[f"{name} waits for the device"] += 1
        copies = devices_in((args, kwargs)) != devices_in(result)
        if copies and devices == {"cpu", "cuda"}:
            self.offences[f"{name} copies between host and device"] += 1
        return result

    def read(self, tensor: Tensor) -> float:
        """A value: a wait, if it is on the device."""
        self.reads += tensor.is_cuda
        if tensor.is_cuda and self.reads > self.reading:
            self.offences["item waits for the device"] += 1
        return 1.0


def tensors_in(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def devices_in(value: Any) -> set[str]:
    return {tensor.device.type for tensor in tensors_in(value)}


def fused_step(*args: Any, **kwargs: Any) -> None:
    """A fused optimizer's kernel, which has no form without values: it takes no tensor of the host,
    and all of a parameter's tensors lie in the same order.
    """
    lists = [one for one in args if isinstance(one, list | tuple) and one]
    assert devices_in(lists) == {"cuda"}, "a fused optimizer has a tensor on the host"
    for parameter, gradient in zip(args[0], args[1], strict=True):
        assert parameter.stride() == gradient.stride(), "a gradient lies in another order"
        assert parameter.dtype == gradient.dtype


def backward(loss: Tensor) -> None:
    """What autograd does, whose threads need a real device: from node to node, the last first."""
    order: dict[Any, None] = {}

    def visit(node: Any) -> None:
        if node is not None and node not in order:
            for before, _ in node.next_functions:
                visit(before)
            order[node] = None

    visit(loss.grad_fn)
    gradients: dict[tuple[Any, int], Tensor] = {(loss.grad_fn, 0): torch.ones_like(loss)}
    for node in reversed(order):
        given = []
        for index, output in enumerate(node._input_metadata):
            gradient = gradients.pop((node, index), None)
            if gradient is not None:
                gradient = gradient.sum_to_size(output.shape).to(output.dtype)
            given.append(gradient)
        if hasattr(node, "variable"):
            accumulate(node.variable, given[0])
            continue
        made = node(*given)
        results = made if isinstance(made, tuple) else (made,)
        for key, gradient in zip(node.next_functions, results, strict=True):
            if key[0] is not None and gradient is not None:
                gradients[key] = gradients[key] + gradient if key in gradients else gradient


def accumulate(parameter: Tensor, gradient: Tensor | None) -> None:
    """Adds to a parameter's gradient, which has its order in memory, as autograd's has."""
    assert gradient is not None
    if parameter.grad is None:
        parameter.grad = torch.empty_like(parameter, dtype=gradient.dtype)
        parameter.grad.copy_(gradient)
    else:
        parameter.grad += gradient


class WithoutGpu(FakeTensorMode):
    """Never asks the driver, although the stub says that there is a GPU."""

    avoid_device_init = True


def with_values() -> AbstractContextManager[None]:
    """Inside, tensors have values again: for modules, which only then can go to the GPU."""
    return unset_fake_temporarily()  # type: ignore[no-any-return, return-value]


@contextmanager
def tensors_without_values() -> Iterator[None]:
    """Inside, new tensors have no values, and `device="cuda"` is there. Also a decorator of tests,
    not a fixture: pytest cannot report a failure while it is on.
    """
    patch = pytest.MonkeyPatch()
    patch.setattr(torch.autograd, "backward", backward)
    for name in FUSED:
        patch.setattr(torch, name, fused_step)
    try:
        with installed(values=False), WithoutGpu(allow_non_fake_inputs=True):
            yield
    finally:
        patch.undo()
