"""Records the data flow of one forward: every operation and every module call, and answers
questions about them.

The forward runs on a copy of the model with fake tensors, which have shapes and no numbers; for a
model that needs numbers (control flow that depends on data), on a real copy. The model itself and
the random generators do not change.

Tensors are told apart by their value, not by their object: an in-place operation makes a new value
of the same tensor. A 4-D tensor is a feature map (N, C, H, W) where a convolution, a 2-D norm or a
2-D pooling made or took it, or where it came from one by element-wise operations. Vision
transformers also have 4-D tensors, but (N, H, W, C): those are none.
"""

import functools
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from nas_attn.attachment.hosting import detach, floating, refuse_wrapped
from nas_attn.attachment.twins import has_hooks, twin_of, without_hooks
from nas_attn.backbones.detectors import undecided
from nas_attn.errors import BackboneError, first_line, shorten

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


@torch.inference_mode(False)
def record(model: nn.Module, input_shape: tuple[int, int, int], *, bare: bool) -> Recording:
    """Runs one image of this shape through a copy of the model in evaluation mode; `bare`: without
    attention. BackboneError: the model cannot process such an image. It leaves inference mode
    meanwhile, in which torch shows no operations.
    """
    refuse_wrapped(model)
    name = type(model).__name__
    if any(is_lazy(parameter) for parameter in model.parameters()):
        raise BackboneError(
            f"{name} has lazy layers without sizes yet: run one batch through it first"
        )
    # of a model that needs numbers; the real run shows its own errors
    with suppress(Exception):
        return _on_shapes(model, input_shape, bare, hooks=True)
    try:
        return _on_numbers(model, input_shape, bare, hooks=True)
    except _NoCopyError as error:
        raise BackboneError(
            f"{name} cannot be copied, and finding its sites needs a copy: {error}"
        ) from error
    except Exception as error:
        # a user's may take only images of their own
        if has_hooks(model):
            for run in (_on_shapes, _on_numbers):
                with suppress(Exception):
                    return run(model, input_shape, bare, hooks=False)
        shape = "x".join(map(str, input_shape))
        way = _way_out(model, error, input_shape)
        raise BackboneError(
            f"{name} cannot process a {shape} image ({_first_line(error)}): {way}"
        ) from error


class _NoCopyError(Exception):
    """A model that cannot be copied; its text says why."""


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {shorten(first_line(error))}"


def _way_out(model: nn.Module, error: Exception, input_shape: tuple[int, int, int]) -> str:
    """The way out for a model that cannot process an image."""
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    if first is not None and first.in_channels != input_shape[0] and "channels" in str(error):
        return (
            f"its first convolution takes {first.in_channels} channels, so give it such images, or"
            f" let it take {input_shape[0]}"
        )
    return (
        "its forward has to take one batch of images (N, C, H, W) of this size: change data.size,"
        " or wrap the model"
    )


def _on_shapes(
    model: nn.Module, input_shape: tuple[int, int, int], bare: bool, *, hooks: bool
) -> Recording:
    """Records without numbers. Fused attention is recorded as its parts, with the matrix between
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
        return _run(_prepared(twin, bare, hooks), x)


def _on_numbers(
    model: nn.Module, input_shape: tuple[int, int, int], bare: bool, *, hooks: bool
) -> Recording:
    """Records on a real image."""
    with ExitStack() as stack:
        try:
            twin = stack.enter_context(twin_of(model))
        except Exception as error:
            raise _NoCopyError(_first_line(error)) from error
        x = image_for(twin, input_shape)
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(
            torch.random.fork_rng([x.device] if x.device.type == "cuda" else []),
        )
        warnings.simplefilter("ignore")
        return _run(_prepared(twin, bare, hooks), x)


def image_for(model: nn.Module, shape: tuple[int, int, int]) -> Tensor:
    """One random image, always the same, of the model's device and dtype."""
    return torch.rand(1, *shape, generator=torch.Generator().manual_seed(0)).to(floating(model))


def _prepared(twin: nn.Module, bare: bool, hooks: bool) -> nn.Module:
    """The copy in evaluation mode, a detector without NMS; with the network's own hooks, by which
    its parts may give each other maps, or without.
    """
    if bare:
        detach(twin)
    undecided(twin)
    return (twin if hooks else without_hooks(twin)).eval()


def _run(model: nn.Module, x: Tensor) -> Recording:
    recorder = _Recorder()
    for path, module in model.named_modules():
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
        result = func(*args, **kwargs)
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
        return value


def _named(*texts: str) -> frozenset[str]:
    return frozenset(name for text in texts for name in text.split())


VIEWS = _named("view _unsafe_view reshape _reshape_alias")
"""Operations that give the same numbers another shape."""
LAYOUT_CHANGING = _named(
    "permute transpose t view _unsafe_view reshape _reshape_alias unsqueeze squeeze expand unfold"
    " as_strided movedim",
    "matmul bmm mm addmm select index diagonal im2col col2im",
)
"""Operations whose result may not be a map even if an input is one."""
TURNING = _named("permute transpose")
"""Operations that put the channels last, and back."""
CONVOLUTIONS = _named("convolution _convolution cudnn_convolution mkldnn_convolution")
NORMS = _named(
    "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training"
    " cudnn_batch_norm",
    "batch_norm_with_update native_group_norm",
)
POOLINGS = _named(
    "max_pool2d_with_indices avg_pool2d _adaptive_avg_pool2d adaptive_max_pool2d"
    " adaptive_avg_pool2d max_pool2d"
)
MAPPED = (
    CONVOLUTIONS
    | NORMS
    | POOLINGS
    | _named("upsample_nearest2d upsample_bilinear2d upsample_bicubic2d pixel_shuffle")
)
"""Operations that read and write (N, C, H, W)."""
MATRIX_PRODUCTS = _named("mm addmm bmm baddbmm linear")
PRODUCTS = _named(
    "bmm baddbmm _scaled_dot_product_flash_attention _scaled_dot_product_flash_attention_for_cpu"
    " _scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention"
    " _scaled_dot_product_attention_math _scaled_dot_product_fused_attention_overrideable"
)
"""Products of values that may both come from the map, as queries and keys do."""
LAYERS = CONVOLUTIONS | NORMS | POOLINGS | MATRIX_PRODUCTS | {"native_layer_norm"}
"""Operations that count as depth: a branch has more of them than a shortcut."""
_UNITS = _named("relu silu gelu hardswish leaky_relu elu mish hardtanh _prelu_kernel prelu rrelu")
ACTIVATIONS = _UNITS | frozenset(f"{unit}_" for unit in _UNITS)
"""Operations that follow hidden layers, not predictions."""
ADDITIONS = frozenset({"add", "add_"})


class Flow:
    """Answers questions about a recording."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.operations = recording.operations
        self.calls = recording.calls
        self.shapes = recording.shapes
        self.gating: dict[int, bool] = {}
        self.live = self._live()
        self.maps = self._maps()
        self.producer = dict[Value, int]()
        for i, op in enumerate(self.operations):
            self.producer.update(dict.fromkeys(op.outputs, i))
        self.consumers: dict[Value, list[int]] = defaultdict(list)
        for i, op in enumerate(self.operations):
            for value in set(op.inputs):
                self.consumers[value].append(i)
        self.calls_of: dict[str, list[Call]] = defaultdict(list)
        self.children: dict[int, list[Call]] = defaultdict(list)
        for call in self.calls:
            self.calls_of[call.path].append(call)
            if call.parent is not None:
                self.children[call.parent].append(call)
        self.returned: dict[Value, list[Call]] = defaultdict(list)
        # innermost first
        for call in sorted(self.calls, key=lambda c: c.ended):
            if call.output is not None:
                self.returned[call.output].append(call)

    @functools.cached_property
    def classifies(self) -> bool:
        """Whether the network's only output is a vector."""
        root = self.calls[0]
        return len(root.outputs) == 1 and len(self.shapes[root.outputs[0]]) == 2

    def _live(self) -> set[Value]:
        """Values that depend on the image."""
        live = set(self.calls[0].inputs) if self.calls else set()
        for op in self.operations:
            if not live.isdisjoint(op.inputs):
                live.update(op.outputs)
        return live

    def _maps(self) -> set[Value]:
        maps: set[Value] = set()
        # (N, H, W, C), as a layer norm takes it -> its map
        turned: dict[Value, Value] = {}
        for op in self.operations:
            if op.name in MAPPED:
                maps.update(v for v in (*op.inputs[:1], *op.outputs[:1]) if self._is_4d(v))
            elif op.name in TURNING:
                self._turn(op, maps, turned)
            elif op.name not in LAYOUT_CHANGING:
                self._work_on(op, maps, turned)
        for op in reversed(self.operations):
            if op.name not in LAYOUT_CHANGING and not maps.isdisjoint(op.outputs):
                maps.update(v for v in op.inputs if self._is_4d(v))
        return maps & self.live

    def _turn(self, op: Operation, maps: set[Value], turned: dict[Value, Value]) -> None:
        """Notes a map with its channels last, or one that is turned back."""
        before = op.inputs[0]
        after = op.outputs[0]
        if before in maps and self._is_4d(after):
            turned[after] = before
        elif before in turned and self.shapes[after] == self.shapes[turned[before]]:
            maps.add(after)

    def _work_on(self, op: Operation, maps: set[Value], turned: dict[Value, Value]) -> None:
        """Notes what an operation that keeps the layout makes from maps and from turned ones."""
        if not maps.isdisjoint(op.inputs):
            maps.update(v for v in op.outputs if self._is_4d(v))
        source = next((v for v in op.inputs if v in turned), None)
        if source is not None:
            same = (v for v in op.outputs if self.shapes[v] == self.shapes[source])
            turned.update(dict.fromkeys(same, turned[source]))

    def _is_4d(self, value: Value) -> bool:
        return len(self.shapes[value]) == 4 and self.shapes[value][0] > 0

    def map_of(self, call: Call) -> Value | None:
        """A call's result, if it is a feature map."""
        return call.output if call.output in self.maps else None

    def by_shape(self, path: str) -> dict[tuple[tuple[int, ...], ...], Value]:
        """Shapes of a module's results -> their first tensor; several entries if it runs on maps of
        several shapes.
        """
        maps = {}
        for call in self.calls_of[path]:
            if call.outputs:
                shapes = tuple(self.shapes[v] for v in call.outputs)
                maps[shapes] = call.outputs[0]
        return maps

    def within(self, call: Call) -> list[Operation]:
        return self.operations[call.first : call.last]

    @functools.cache  # noqa: B019 - a Flow lives as long as one question
    def convolutions(self, call: int) -> int:
        """Convolutions over maps in a call."""
        inside = self.within(self.calls[call])
        return sum(op.name in CONVOLUTIONS and op.outputs[0] in self.maps for op in inside)

    @functools.cache  # noqa: B019
    def frame(self, operation: int) -> int:
        """The innermost call around an operation that has other convolutions or layers, too: its
        forward contains the operation.
        """
        stack = self.recording.stack(self.operations[operation].call)
        for index in stack:
            if any(op.name in LAYERS for op in self.within(self.calls[index])):
                return index
        return stack[-1]

    def depths(self, call: Call) -> dict[Value, int]:
        """Number of layers between a call's inputs and each value made in it; values from outside
        have depth 0. A norm of weights is no layer.
        """
        depth: dict[Value, int] = defaultdict(int)
        for op in self.within(call):
            counts = op.name in LAYERS and not self.live.isdisjoint(op.inputs)
            here = max((depth[v] for v in op.inputs), default=0) + counts
            for value in op.outputs:
                depth[value] = here
        return depth

    def macs(self, call: Call) -> int:
        return sum(op.macs for op in self.within(call))

    def unary_chain(self, value: Value) -> Iterator[Value]:
        """A value, the map it was made from element by element (or by a norm), and so on back."""
        source: Value | None = value
        while source is not None and self.shapes[source] == self.shapes[value]:
            yield source
            index = self.producer.get(source)
            layer = index is not None and self.operations[index].name in LAYERS - NORMS
            source = None if layer else self._only_input(source)

    def light_chain(self, value: Value, steps: int) -> Iterator[Value]:
        """A value, the only one that it was made from, and so on, at most `steps` steps back."""
        source: Value | None = value
        for _ in range(steps + 1):
            if source is not None:
                yield source
                source = self._only_input(source)

    def _only_input(self, value: Value) -> Value | None:
        index = self.producer.get(value)
        if index is None:
            return None
        inputs = {v for v in self.operations[index].inputs if v in self.live}
        return inputs.pop() if len(inputs) == 1 else None

    def ancestors(self, value: Value) -> set[Value]:
        """All values that a value was made from."""
        values: set[Value] = set()
        waiting = [value]
        while waiting:
            index = self.producer.get(waiting.pop())
            if index is None:
                continue
            fresh = set(self.operations[index].inputs) - values
            values.update(fresh)
            waiting.extend(fresh)
        return values


def gates_its_input(flow: Flow, call: Call) -> bool:
    """Whether a call's result is its input times gates that it computes with at least one layer,
    once or in turn (CBAM), or the sum of such products (scSE). Such a module is attention, not a
    block.
    """
    if call.index not in flow.gating:
        value = flow.map_of(call)
        flow.gating[call.index] = (
            value is not None and _gated(flow, call, value, flow.depths(call)) > 0
        )
    return flow.gating[call.index]


def attends_in_a_branch(flow: Flow, call: Call) -> bool:
    """Whether a call is self-attention whose result its block adds to what it was computed from:
    a product of two values that both come from the input through layers (queries and keys, keys
    and values), and an addition of the call's output and its input, or what the input is a norm of.
    """
    output = flow.map_of(call)
    if output is None or len(call.inputs) != 1 or call.inputs[0] not in flow.maps:
        return False
    if flow.shapes[output] != flow.shapes[call.inputs[0]] or not _multiplies(flow, call):
        return False
    sources = set(flow.unary_chain(call.inputs[0]))
    for operation in flow.operations[call.last :]:
        if operation.name not in ADDITIONS or len(operation.inputs) != 2:
            continue
        for branch, shortcut in (operation.inputs, operation.inputs[::-1]):
            if output in flow.unary_chain(branch) and shortcut in sources:
                return True
    return False


def _multiplies(flow: Flow, call: Call) -> bool:
    """Whether a call multiplies two values that it computes from its input with layers."""
    products = [operation for operation in flow.within(call) if operation.name in PRODUCTS]
    if not products:
        return False
    depths = flow.depths(call)
    for product in products:
        computed = [value for value in set(product.inputs) if depths[value] > 0]
        if len(flow.live.intersection(computed)) > 1:
            return True
    return False


def _gated(flow: Flow, call: Call, value: Value, depths: Mapping[Value, int]) -> int:
    """Number of gates with layers, if the value is a call's input times gates; else 0."""
    index = flow.producer.get(value, -1)
    if index < call.first or index >= call.last:
        return 0
    op = flow.operations[index]
    if len(op.inputs) != 2:
        return 0
    if op.name in ADDITIONS:
        each = [_gated(flow, call, v, depths) for v in op.inputs]
        return sum(each) if all(each) else 0
    if op.name not in ("mul", "mul_") or not _own(flow, call, index):
        return 0
    for scaled, gate in (op.inputs, op.inputs[::-1]):
        if gate not in call.inputs and depths[gate] > 0:
            before = 0
            if scaled not in call.inputs:
                before = _gated(flow, call, scaled, depths)
            if scaled in call.inputs or before:
                return before + 1
    return 0


def _own(flow: Flow, call: Call, operation: int) -> bool:
    """Whether an operation is of the call's own forward, or of a part that gates as well (CBAM's
    two halves).
    """
    frame = flow.frame(operation)
    return frame == call.index or flow.calls[frame].parent == call.index
