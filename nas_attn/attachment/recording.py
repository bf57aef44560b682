"""What flows through a model: one forward, every operation and every module call of it.

The forward runs on a copy of the model made of fake tensors, which have shapes and no numbers; where a model needs numbers
(control flow that depends on data), on a real copy. The model itself is not touched, nor is a random generator.

Tensors are told apart by their value, not by their object: an in-place operation makes a new value of the same tensor.
"""

import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from nas_attn.attachment.attaching import detach, refuse_wrapped
from nas_attn.backbones.detectors import undecided
from nas_attn.errors import BackboneError, shorten

Value = int
"""Number of a tensor's value in the order of appearance."""


@dataclass(slots=True)
class Operation:
    """One ATen operation."""

    name: str
    """`convolution`, `add`, `add_`; `mean2d` where the mean is over height and width of a 4-D tensor."""
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    call: int
    """Index of the innermost module call it ran in."""
    macs: int


@dataclass(slots=True)
class Call:
    """One call of one module."""

    index: int
    path: str
    module: type[nn.Module]
    parent: int | None
    inputs: tuple[Value, ...]
    """Tensors it was given, those inside lists included."""
    first: int
    """Number of operations before it began."""
    last: int = 0
    """Number of operations when it had ended."""
    ended: int = 0
    """Its place in the order in which calls ended: inner ones before outer ones."""
    output: Value | None = None
    """Its result, where that is one tensor."""
    outputs: tuple[Value, ...] = ()
    """All tensors in its result."""


@dataclass(slots=True)
class Recording:
    """One forward."""

    operations: list[Operation] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    """By value."""
    activation_bytes: int = 0
    """Bytes in float32 of all tensors that were made; views and in-place results make none."""

    @property
    def macs(self) -> int:
        return sum(operation.macs for operation in self.operations)

    def stack(self, call: int) -> list[int]:
        """A call and the calls around it, innermost first."""
        found = []
        index: int | None = call
        while index is not None:
            found.append(index)
            index = self.calls[index].parent
        return found


def record(model: nn.Module, input_shape: tuple[int, int, int], *, bare: bool) -> Recording:
    """Runs one image of this shape through a copy of the model in evaluation mode.

    Args:
        bare: leave out attention that is attached.

    Raises:
        BackboneError: the model cannot process such an image.
    """
    refuse_wrapped(model)
    name = type(model).__name__
    if any(is_lazy(parameter) for parameter in model.parameters()):
        raise BackboneError(f"{name} has lazy layers without sizes yet: run one batch through it first")
    log = logging.getLogger(FakeTensorMode.__module__)
    before, log.disabled = log.disabled, True  # it reports what fails on fake tensors, traceback and all
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _on_fakes(model, input_shape, bare)
    except Exception:  # whatever it was, the real run shows it if it is the model's own
        pass
    finally:
        log.disabled = before
    try:
        twin = copy.deepcopy(model)
    except Exception as error:
        raise BackboneError(f"{name} cannot be copied, which looking into it needs: {_first_line(error)}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _on_numbers(twin, input_shape, bare)
    except Exception as error:
        shape = "x".join(map(str, input_shape))
        raise BackboneError(
            f"{name} cannot process a {shape} image ({_first_line(error)}): {_way_out(model, error, input_shape)}"
        ) from error


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {shorten((str(error).strip().splitlines() or [''])[0])}"


def _way_out(model: nn.Module, error: Exception, input_shape: tuple[int, int, int]) -> str:
    """What to do about a model that an image cannot go through."""
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    if first is not None and first.in_channels != input_shape[0] and "channels" in str(error):
        return f"its first convolution takes {first.in_channels} channels, so give it such images, or let it take {input_shape[0]}"
    return "its forward has to take one batch of images (N, C, H, W) of this size: change data.size, or wrap the model"


def _on_fakes(model: nn.Module, input_shape: tuple[int, ...], bare: bool) -> Recording:
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with FakeCopyMode(mode):
        twin = copy.deepcopy(model)
    like = next(_floating(twin), None)
    with mode:
        x = torch.empty(1, *input_shape, dtype=_dtype(like), device=None if like is None else like.device)
        return _run(_prepared(twin, bare), x)


def _on_numbers(twin: nn.Module, input_shape: tuple[int, int, int], bare: bool) -> Recording:
    like = next(_floating(twin), None)
    device = torch.device("cpu") if like is None else like.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        x = torch.rand(1, *input_shape, generator=torch.Generator().manual_seed(0))
        return _run(_prepared(twin, bare), x.to(device=device, dtype=_dtype(like)))


def _prepared(twin: nn.Module, bare: bool) -> nn.Module:
    """In evaluation mode and without a user's hooks, which would see tensors of no use to them; a detector undecided.

    Hooks that run before a module and come from torch stay: they make its weights (weight norm, spectral norm).
    """
    undecided(twin)
    if bare:
        detach(twin)
    for module in twin.modules():
        module._forward_hooks.clear()
        module._forward_hooks_with_kwargs.clear()
        module._forward_hooks_always_called.clear()
        for key, hook in list(module._forward_pre_hooks.items()):
            if not type(hook).__module__.startswith("torch."):
                del module._forward_pre_hooks[key]
                module._forward_pre_hooks_with_kwargs.pop(key, None)
    return twin.eval()


def _floating(model: nn.Module) -> Iterator[Tensor]:
    return (t for tensors in (model.parameters(), model.buffers()) for t in tensors if t.is_floating_point())


def _dtype(like: Tensor | None) -> torch.dtype:
    return torch.float32 if like is None else like.dtype


def _run(model: nn.Module, x: Tensor) -> Recording:
    recorder = _Recorder()
    for path, module in model.named_modules():
        module.register_forward_pre_hook(recorder.enter(path), with_kwargs=True)
        module.register_forward_hook(recorder.leave, with_kwargs=True)
    with torch.no_grad(), _multi_head_attention_in_parts(), recorder:
        model(x)
    return recorder.recording


@contextmanager
def _multi_head_attention_in_parts() -> Iterator[None]:
    """Its fast path is one operation, of which torch knows no FLOPs."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation; its hooks see every module call. Keeps all tensors, so that identities stay unique."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.recording = Recording()
        self._values: dict[int, Value] = {}
        self._tensors: list[Tensor] = []
        self._open: list[Call] = []
        self._storages: set[int] = set()
        self._ended = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        inputs = self._known((args, kwargs))
        result = func(*args, **kwargs)
        self._count_bytes(result)
        outputs = tuple(self._new(tensor) for tensor in tree_leaves(result) if isinstance(tensor, Tensor))
        if not outputs:
            return result  # a question about a tensor
        formula = flop_registry.get(func._overloadpacket)
        macs = formula(*args, **kwargs, out_val=result) // 2 if formula is not None else 0
        call = self._open[-1].index if self._open else 0
        name = "mean2d" if _averages_map(func, args) else func._schema.name.partition("::")[2]
        self.recording.operations.append(Operation(name, inputs, outputs, call, macs))
        return result

    def enter(self, path: str) -> Callable[..., None]:
        """A pre-hook that knows its module's path."""

        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            calls = self.recording.calls
            call = Call(
                index=len(calls),
                path=path,
                module=type(module),
                parent=self._open[-1].index if self._open else None,
                inputs=self._known((args, kwargs)),
                first=len(self.recording.operations),
            )
            calls.append(call)
            self._open.append(call)

        return hook

    def leave(self, module: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
        call = self._open.pop()
        call.last = len(self.recording.operations)
        call.ended = self._ended
        self._ended += 1
        call.outputs = self._known(result)
        if isinstance(result, Tensor):
            call.output = self._value(result)

    def _count_bytes(self, result: Any) -> None:
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in self._storages:
                self._storages.add(tensor.untyped_storage()._cdata)
                self.recording.activation_bytes += 4 * tensor.numel()

    def _known(self, tree: Any) -> tuple[Value, ...]:
        return tuple(self._value(tensor) for tensor in tree_leaves(tree) if isinstance(tensor, Tensor))

    def _value(self, tensor: Tensor) -> Value:
        return self._values[id(tensor)] if id(tensor) in self._values else self._new(tensor)

    def _new(self, tensor: Tensor) -> Value:
        self._tensors.append(tensor)
        self._storages.add(tensor.untyped_storage()._cdata)
        value = self._values[id(tensor)] = len(self.recording.shapes)
        self.recording.shapes.append(tuple(int(size) for size in tensor.shape))
        return value


def _averages_map(func: Any, args: tuple[Any, ...]) -> bool:
    """Whether an operation is the mean over the last two of four dimensions: how pooling to one pixel arrives here."""
    if func is not torch.ops.aten.mean.dim or args[0].ndim != 4 or len(args) < 2:
        return False
    return {dim % 4 for dim in args[1] or ()} == {2, 3}
