"""Answers questions about a recorded forward: what is a feature map, what was made from what, which
modules are attention.

A 4-D tensor is a feature map (N, C, H, W) where a convolution, a 2-D norm or a 2-D pooling made or
took it, or where it came from one by element-wise operations. Vision transformers also have 4-D
tensors, but (N, H, W, C): those are none.
"""

import functools
import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping

from torch import nn

from nas_attn.attachment.operations import (
    ADDITIONS,
    CONTAINERS,
    CONVOLUTIONS,
    LAYERS,
    LAYOUT_CHANGING,
    MAPPED,
    NORMS,
    PRODUCTS,
    TURNING,
)
from nas_attn.attachment.recording import Call, Operation, Recording, Value


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

    def before_drop(self, value: Value) -> list[Call]:
        """The calls that returned a value, innermost first, up to a module that drops it in
        training: behind that it is another map.
        """
        return list(
            itertools.takewhile(lambda call: not self.only_drops(call), self.returned[value])
        )

    def only_drops(self, call: Call) -> bool:
        """Whether a module gives what it gets in evaluation, as one that drops a branch or values
        in training (stochastic depth): attention belongs before it, where it sees the same map in
        both, and nothing that was dropped comes back.
        """
        if call.output is None or call.output not in call.inputs:
            return False
        inner = self.children[call.index]
        if inner:
            # attention that is switched off is an identity in a module
            return any(map(self.only_drops, inner))
        return not issubclass(call.module, (nn.Identity, *CONTAINERS))

    @functools.cached_property
    def classifies(self) -> bool:
        """Whether the network's outputs are vectors of the image: one, or several in a tuple or an
        object (`logits` and features).
        """
        shapes = [self.shapes[value] for value in self.calls[0].outputs]
        return len(shapes) > 0 and all(len(shape) == 2 and shape[0] == 1 for shape in shapes)

    @functools.cached_property
    def unused(self) -> set[Value]:
        """Maps that the network's outputs do not depend on. Empty if an output does not depend on
        the image either: then code makes it from plain numbers, which cannot be followed.
        """
        outputs = self.calls[0].outputs
        if not outputs or not self.live.issuperset(outputs):
            return set()
        used = set(outputs).union(*map(self.ancestors, outputs))
        return self.maps - used

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
        is_real = value not in self.recording.complex_values
        return is_real and len(self.shapes[value]) == 4 and self.shapes[value][0] > 0

    def map_of(self, call: Call) -> Value | None:
        """A call's result, if it is a feature map."""
        return call.output if call.output in self.maps else None

    def main_map(self, call: Call) -> Value | None:
        """A call's result, if it is a feature map, or the only feature map that it makes: some
        blocks return a tuple or a dictionary, and pass on maps of others.
        """
        if call.output is not None:
            return self.map_of(call)
        maps = self.maps.intersection(call.outputs)
        own = [value for value in maps if self.producer.get(value, -1) >= call.first]
        return own[0] if len(own) == 1 else None

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

    @functools.cache  # noqa: B019 - it lives as long as its recording
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
