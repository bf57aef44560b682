"""Which modules are attention: they scale their input by gates that they compute from it."""

from __future__ import annotations

from collections.abc import Mapping

from nas_attn.attachment.flow import ADDITIONS, Flow
from nas_attn.attachment.recording import Call, Value


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
