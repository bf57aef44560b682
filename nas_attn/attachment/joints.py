"""What lies around blocks: modules that join their results (a CSP stage), and the maps that a detector's head takes."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from nas_attn.attachment.blocks import CONTAINERS, Block, BlockFinder, safest
from nas_attn.attachment.recording import Call, Value


def composite(
    finder: BlockFinder, blocks: Sequence[Block], paths: Collection[str]
) -> tuple[str, tuple[int, int, int]] | None:
    """The module that joins these blocks' results with others, as a CSP stage does, and its output's shape.

    It holds no other block of the network, and its map has the blocks' size.

    Args:
        paths: of all blocks.
    """
    flow, found = finder.flow, None
    mine = {block.path for block in blocks}
    last = flow.calls_of[blocks[-1].path][-1]
    for index in flow.recording.stack(last.index)[1:-1]:
        call = flow.calls[index]
        value = flow.map_of(call)
        inside = {c.path for c in flow.calls[call.index :] if c.last <= call.last and c.path in paths}
        if value is None or not inside <= mine or flow.shapes[value][2:] != blocks[-1].shape[1:]:
            break
        if finder.in_one_place(call) and not issubclass(call.module, CONTAINERS) and finder.joins(call, layers=2):
            found = (call.path, (flow.shapes[value][1], *blocks[-1].shape[1:]))
    return found


def joined_in(finder: BlockFinder, block: Block) -> str | None:
    """The innermost module around a block that joins its result with others; None where there is none."""
    flow = finder.flow
    around = flow.recording.stack(flow.calls_of[block.path][-1].index)[1:-1]
    calls = (flow.calls[index] for index in around)
    return next((c.path for c in calls if not issubclass(c.module, CONTAINERS) and finder.joins(c, layers=2)), None)


def with_levels(finder: BlockFinder, blocks: list[Block], levels: Sequence[Value]) -> list[Block]:
    """The blocks, and as one each of these maps that no block makes, where it is the result of a module."""
    flow = finder.flow
    known = {block.value for block in blocks}
    known |= {
        call.output
        for block in blocks
        for call in flow.calls
        if call.output is not None and _around(finder, call, block)
    }
    added = []
    for value in levels:
        host = safest(call for call in flow.returned[value] if finder.in_one_place(call))
        if value not in known and host is not None:
            _, channels, height, width = flow.shapes[value]
            added.append(Block(host.path, host.path, (), (channels, height, width), flow.macs(host), value))
    return sorted([*blocks, *added], key=lambda block: flow.producer.get(block.value, -1)) if added else blocks


def _around(finder: BlockFinder, call: Call, block: Block) -> bool:
    """Whether a call holds a block and joins it with others."""
    inner = finder.flow.calls_of[block.path][-1]
    held = 0 < call.index < inner.index and inner.last <= call.last
    return held and finder.joins(call, layers=2)
