"""Records the data flow of one forward: every operation and every module call. `flow` answers
questions about it.

The forward runs on a copy of the model with fake tensors, which have shapes and no numbers; for a
model that needs numbers (control flow that depends on data), on a real copy. The model itself and
the random generators do not change.

Tensors are told apart by their value, not by their object: an in-place operation makes a new value
of the same tensor.
"""

import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from nas_attn.attachment.attaching import detach, floating, refuse_wrapped
from nas_attn.attachment.operations import VIEWS
from nas_attn.attachment.twins import NoCopyError, twin_of
from nas_attn.backbones.torchvision_detectors import undecided
from nas_attn.errors import BackboneError, first_line, shorten

R = TypeVar("R")
Run = Callable[[nn.Module, Tensor], R]
"""Gets a copy of a network and an image `(1, C, H, W)`."""
Value = int
"""Number of a tensor's value in the order of appearance."""


@dataclass(slots=True)
class Operation:
    """One ATen operation."""

    name: str
    """`convolution`, `add`, `add_`."""
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    # the innermost module call it ran in
    call: int
    macs: int


@dataclass(slots=True)
class Call:
    """One call of one module."""

    index: int
    path: str
    module: type[nn.Module]
    parent: int | None
    inputs: tuple[Value, ...]
    """Its input tensors, those inside lists included; likewise `outputs`."""
    first: int
    """Number of operations before it began; `last`: before it ended."""
    last: int = 0
    ended: int = 0
    """Its place in the order of the calls' ends: inner ones before outer ones."""
    output: Value | None = None
    """Its result, if that is one tensor."""
    outputs: tuple[Value, ...] = ()


@dataclass(slots=True)
class Recording:
    """One forward."""

    operations: list[Operation] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    # by value
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    complex_values: set[Value] = field(default_factory=set)
    """Tensors of complex numbers, which attention does not take."""
    activation_bytes: int = 0
    """Bytes in float32 of all tensors that were made; views and in-place results make none."""

    @property
    def macs(self) -> int:
        return sum(operation.macs for operation in self.operations)

    def stack(self, call: int) -> list[int]:
        """A call and the calls around it, innermost first."""
        calls = []
        index: int | None = call
        while index is not None:
            calls.append(index)
            index = self.calls[index].parent
        return calls


def record(model: nn.Module, input_shape: tuple[int, int, int], *, bare: bool) -> Recording:
    """The data flow of one image of this shape, as `run_copy` runs it."""
    return run_copy(model, input_shape, _run, bare=bare)


@torch.inference_mode(False)
def run_copy(
    model: nn.Module,
    input_shape: tuple[int, int, int],
    run: Run[R],
    *,
    bare: bool = False,
) -> R:
    """Runs a copy of the model in evaluation mode: without numbers, or with them if it needs them.

    It leaves inference mode meanwhile, in which torch shows no operations.

    Args:
        model: stays as it is.
        input_shape: (channels, height, width) of one image.
        run: gets the copy and the image `(1, C, H, W)`.
        bare: without attention.

    Returns:
        What `run` finds.

    Raises:
        BackboneError: the model cannot process such an image.
    """
    refuse_wrapped(model)
    name = type(model).__name__
    if any(is_lazy(parameter) for parameter in model.parameters()):
        raise BackboneError(
            f"{name} has lazy layers without sizes yet: run one batch through it first"
        )
    # of a model that needs numbers; the real run shows its own errors
    with suppress(Exception):
        return _on_shapes(model, input_shape, run, bare)
    try:
        return _on_numbers(model, input_shape, run, bare)
    except NoCopyError:
        raise
    except Exception as error:
        # whatever a user's own model may raise
        shape = "x".join(map(str, input_shape))
        reason = f"{type(error).__name__}: {shorten(first_line(error))}"
        way = _way_out(model, error, input_shape)
        raise BackboneError(f"{name} cannot process a {shape} image ({reason}): {way}") from error


def _way_out(model: nn.Module, error: Exception, input_shape: tuple[int, int, int]) -> str:
    """The way out for a model that cannot process an image."""
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    if first is not None and first.in_channels != input_shape[0] and "channels" in str(error):
        return (
            f"its first convolution takes {first.in_channels} channels, so give it such images, or"
            f" let it take {input_shape[0]}"
        )
    if any(parameter.is_complex() for parameter in model.parameters()):
        return (
            "it computes with complex numbers, which attention does not take, so give the part that"
            " takes and returns real maps"
        )
    return (
        "its forward has to take one batch of images (N, C, H, W) of this size: change data.size,"
        " or wrap the model"
    )


def _on_shapes(model: nn.Module, input_shape: tuple[int, int, int], run: Run[R], bare: bool) -> R:
    """Runs without numbers. Fused attention is recorded as its parts, with the matrix between
    them.
    """
    shapes: dict[int, Any] = {id(t): t.to("meta") for t in model.buffers()}
    shapes |= {id(p): nn.Parameter(p.to("meta"), p.requires_grad) for p in model.parameters()}
    with (
        twin_of(model, shapes) as twin,
        warnings.catch_warnings(),
        torch.device("meta"),
    ):
        warnings.simplefilter("ignore")
        x = torch.empty(1, *input_shape, dtype=floating(twin).dtype)
        return run(_prepared(twin, bare), x)


def _on_numbers(model: nn.Module, input_shape: tuple[int, int, int], run: Run[R], bare: bool) -> R:
    """Runs on a real image."""
    with twin_of(model) as twin, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = image_for(twin, input_shape)
        with torch.random.fork_rng([x.device] if x.device.type == "cuda" else []):
            return run(_prepared(twin, bare), x)


def image_for(model: nn.Module, shape: tuple[int, int, int]) -> Tensor:
    """One random image, always the same, of the model's device and dtype."""
    generator = torch.Generator().manual_seed(0)
    # whatever the default device is
    image = torch.rand(1, *shape, generator=generator, device="cpu")
    return image.to(floating(model))


def _prepared(twin: nn.Module, bare: bool) -> nn.Module:
    """The copy in evaluation mode, a detector without NMS."""
    if bare:
        detach(twin)
    return undecided(twin).eval()


def _run(model: nn.Module, x: Tensor) -> Recording:
    recorder = _Recorder()
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            # it takes no such hooks: its operations count as those of the module around it
            continue
        module.register_forward_pre_hook(recorder.enter(path), with_kwargs=True)
        module.register_forward_hook(recorder.leave, with_kwargs=True)
    fast = torch.backends.mha.get_fastpath_enabled()
    # it is one operation, of which torch knows no FLOPs
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), recorder:
            model(x)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return recorder.recording


def tensors_in(result: Any, depth: int = 3) -> list[Tensor]:
    """The tensors in a module's result, in order; looks into objects of other classes down to
    `depth` levels.
    """
    tensors: list[Tensor] = []
    for leaf in tree_leaves(result):
        if isinstance(leaf, Tensor):
            tensors.append(leaf)
        elif depth and not isinstance(leaf, nn.Module | type):
            names = getattr(leaf, "__dataclass_fields__", getattr(leaf, "__dict__", ()))
            tensors += tensors_in([getattr(leaf, name, None) for name in names], depth - 1)
    return tensors


def floating_tensors(result: Any) -> list[Tensor]:
    """Those among them that hold floating-point numbers."""
    return [t for t in tensors_in(result) if t.is_floating_point()]


def _norm_on_shapes(func: Any, args: tuple[Any, ...]) -> tuple[Tensor, Tensor, Tensor] | None:
    """What a BatchNorm in evaluation mode gives without numbers; None for all else. Torch runs the
    parts of a norm instead, which takes most of the time of a recording.
    """
    if func is not torch.ops.aten.native_batch_norm.default or not args[0].is_meta or args[5]:
        return None
    statistics = args[0].new_empty(args[0].shape[1])
    return torch.empty_like(args[0]), statistics, torch.empty_like(statistics)


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation; its hooks see every module call. Keeps all tensors, so that identities
    stay unique.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.recording = Recording()
        self._values: dict[int, Value] = {}
        self._tensors: list[Tensor] = []
        self._open: list[Call] = []
        self._storages: set[int] = set()
        self._ended = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        inputs = self._known((args, kwargs))
        result = _norm_on_shapes(func, args) or func(*args, **kwargs)
        tensors = [tensor for tensor in tree_leaves(result) if isinstance(tensor, Tensor)]
        for tensor in tensors:
            if tensor.untyped_storage()._cdata not in self._storages:
                self._storages.add(tensor.untyped_storage()._cdata)
                self.recording.activation_bytes += 4 * tensor.numel()
        outputs = tuple(map(self._new, tensors))
        if not outputs:
            # a query of a tensor
            return result
        formula = flop_registry.get(func._overloadpacket)
        macs = 0
        if formula is not None:
            macs = formula(*args, **kwargs, out_val=result) // 2
        call = self._open[-1].index if self._open else 0
        name = func._schema.name.partition("::")[2]
        if name in VIEWS and self._keeps_places(inputs[0], outputs[0]):
            name = "alias"
        self.recording.operations.append(Operation(name, inputs, outputs, call, macs))
        return result

    def _keeps_places(self, given: Value, result: Value) -> bool:
        """Whether a view leaves every pixel where it is: `(N, C, H, W)` as `(1, NC, H, W)`, as
        instance normalisation sees its map, is the same map.
        """
        before = self.recording.shapes[given]
        after = self.recording.shapes[result]
        return len(before) == len(after) == 4 and before[2:] == after[2:]

    def enter(self, path: str) -> Callable[..., None]:
        """A pre-hook that knows its module's path."""

        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            calls = self.recording.calls
            first = len(self.recording.operations)
            parent = self._open[-1].index if self._open else None
            self._open.append(
                Call(len(calls), path, type(module), parent, self._known((args, kwargs)), first)
            )
            calls.append(self._open[-1])

        return hook

    def leave(self, _module: nn.Module, _args: Any, _kwargs: Any, result: Any) -> None:
        call = self._open.pop()
        call.last = len(self.recording.operations)
        call.ended = self._ended
        self._ended += 1
        call.outputs = tuple(map(self._value, tensors_in(result)))
        if isinstance(result, Tensor):
            call.output = self._value(result)

    def _known(self, tree: Any) -> tuple[Value, ...]:
        return tuple(
            self._value(tensor) for tensor in tree_leaves(tree) if isinstance(tensor, Tensor)
        )

    def _value(self, tensor: Tensor) -> Value:
        if id(tensor) in self._values:
            return self._values[id(tensor)]
        return self._new(tensor)

    def _new(self, tensor: Tensor) -> Value:
        self._tensors.append(tensor)
        self._storages.add(tensor.untyped_storage()._cdata)
        value = self._values[id(tensor)] = len(self.recording.shapes)
        self.recording.shapes.append(tuple(int(size) for size in tensor.shape))
        if tensor.is_complex():
            self.recording.complex_values.add(value)
        return value
