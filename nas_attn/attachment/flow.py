"""Questions about a recording: which values are feature maps, how deep a value lies, where a value comes from,
and which modules are attention: they scale their input by gates that they compute from it.

A 4-D tensor is a feature map (N, C, H, W) where a convolution, a 2-D norm or a 2-D pooling made or took it, or where it
came from one by element-wise operations. Vision transformers also have 4-D tensors, but (N, H, W, C): those are none.
"""

import functools
from collections import defaultdict
from collections.abc import Iterator, Mapping

from nas_attn.attachment.recording import Call, Operation, Recording, Value


def _named(text: str) -> frozenset[str]:
    return frozenset(text.split())


LAYOUT_CHANGING = _named(
    """
    permute transpose t view _unsafe_view reshape _reshape_alias unsqueeze squeeze expand unfold as_strided movedim
    matmul bmm mm addmm select index diagonal im2col col2im
    """
)
"""Operations whose result need not be a map where an input was one."""

CONVOLUTIONS = frozenset({"convolution", "_convolution", "cudnn_convolution", "mkldnn_convolution"})

NORMS = _named(
    """
    native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training cudnn_batch_norm
    batch_norm_with_update native_group_norm
    """
)

POOLINGS = _named(
    """
    max_pool2d_with_indices avg_pool2d _adaptive_avg_pool2d adaptive_max_pool2d adaptive_avg_pool2d max_pool2d
    """
)

RESIZINGS = frozenset({"upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d", "pixel_shuffle"})

MAPPED = CONVOLUTIONS | NORMS | POOLINGS | RESIZINGS
"""Operations that read and write (N, C, H, W)."""

MATRIX_PRODUCTS = frozenset({"mm", "addmm", "bmm", "baddbmm", "linear"})

LAYERS = CONVOLUTIONS | NORMS | POOLINGS | MATRIX_PRODUCTS | {"native_layer_norm"}
"""Operations that count as depth: a branch has more of them than a shortcut."""

_UNITS = _named("relu silu gelu hardswish leaky_relu elu mish hardtanh _prelu_kernel prelu rrelu")

ACTIVATIONS = _UNITS | frozenset(f"{unit}_" for unit in _UNITS)
"""What stands behind hidden layers, not behind predictions."""

ADDITIONS = frozenset({"add", "add_"})


class Flow:
    """A recording with its answers."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.operations = recording.operations
        self.calls = recording.calls
        self.shapes = recording.shapes
        self.live = self._live()
        self.maps = self._maps()
        self.producer = {value: i for i, op in enumerate(self.operations) for value in op.outputs}
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
        for call in sorted(self.calls, key=lambda c: c.ended):  # innermost first
            if call.output is not None:
                self.returned[call.output].append(call)

    @functools.cached_property
    def classifies(self) -> bool:
        """Whether the network's one answer is a vector."""
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
        for op in self.operations:
            if op.name in MAPPED:
                maps.update(v for v in (*op.inputs[:1], *op.outputs[:1]) if self._is_4d(v))
            elif op.name not in LAYOUT_CHANGING and not maps.isdisjoint(op.inputs):
                maps.update(v for v in op.outputs if self._is_4d(v))
        for op in reversed(self.operations):
            if op.name not in LAYOUT_CHANGING and not maps.isdisjoint(op.outputs):
                maps.update(v for v in op.inputs if self._is_4d(v))
        return maps & self.live

    def _is_4d(self, value: Value) -> bool:
        return len(self.shapes[value]) == 4 and self.shapes[value][0] > 0

    def map_of(self, call: Call) -> Value | None:
        """A call's result, where it is a feature map."""
        return call.output if call.output in self.maps else None

    def within(self, call: Call) -> list[Operation]:
        return self.operations[call.first : call.last]

    @functools.cache  # noqa: B019 - a Flow lives as long as one question
    def convolutions(self, call: int) -> int:
        """Convolutions over maps in a call."""
        inside = self.within(self.calls[call])
        return sum(op.name in CONVOLUTIONS and op.outputs[0] in self.maps for op in inside)

    @functools.cache  # noqa: B019
    def frame(self, operation: int) -> int:
        """The innermost call around an operation that has convolutions or other layers besides it: whose forward it is."""
        stack = self.recording.stack(self.operations[operation].call)
        for index in stack:
            if any(op.name in LAYERS for op in self.within(self.calls[index])):
                return index
        return stack[-1]

    def depths(self, call: Call) -> dict[Value, int]:
        """Layers between a call's inputs and each value made in it; what comes from outside has depth 0."""
        depth: dict[Value, int] = defaultdict(int)
        for op in self.within(call):
            here = max((depth[v] for v in op.inputs), default=0) + (op.name in LAYERS)
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
        """A value, the only one it was made from, and so on back, so many steps at most."""
        source: Value | None = value
        for _ in range(steps + 1):
            if source is not None:
                yield source
                source = self._only_input(source)

    def _only_input(self, value: Value) -> Value | None:
        index = self.producer.get(value)
        inputs = () if index is None else {v for v in self.operations[index].inputs if v in self.live}
        return next(iter(inputs)) if len(inputs) == 1 else None

    def ancestors(self, value: Value) -> set[Value]:
        """All values that a value was made from."""
        found: set[Value] = set()
        waiting = [value]
        while waiting:
            index = self.producer.get(waiting.pop())
            fresh = () if index is None else set(self.operations[index].inputs) - found
            found.update(fresh)
            waiting.extend(fresh)
        return found


# ------------------------------------------------------------------------------------------- attention of a network's own


def gates_its_input(flow: Flow, call: Call) -> bool:
    """Whether a call's result is its input times gates that it computes with at least one layer, once or in turn (CBAM), or
    the sum of such products (scSE)."""
    value = flow.map_of(call)
    return value is not None and _gated(flow, call, value, flow.depths(call)) > 0


def _gated(flow: Flow, call: Call, value: Value, depths: Mapping[Value, int]) -> int:
    """Gates with layers between a call's input and a value that is a product of both; 0 where it is something else."""
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
            before = 0 if scaled in call.inputs else _gated(flow, call, scaled, depths)
            if scaled in call.inputs or before:
                return before + 1
    return 0


def _own(flow: Flow, call: Call, operation: int) -> bool:
    """Whether an operation is of the call's own forward, or of a part that gates as well (CBAM's two halves)."""
    frame = flow.frame(operation)
    return frame == call.index or flow.calls[frame].parent == call.index
