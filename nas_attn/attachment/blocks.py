"""Finds the blocks and parts of a network from the data flow through its modules, not from names.

From the model down, a module is taken apart until it is a block:
- it adds a shortcut to a deeper branch in its own forward (ResNet, MBConv, ConvNeXt), or its class
  does so elsewhere;
- it joins parallel branches in its own forward (Inception, Fire, ShuffleNet, a dense block);
- it has two or more convolutions, no such part, and does not shrink the map by more than two (a VGG
  stage, a U-Net's).
The rest, single convolutions with norm and activation, is stem, transition or head. If a network
consists of nothing else (VGG's `features`), each of them is a block.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise

from torch import nn

from nas_attn.attachment.flow import Flow, gates_its_input
from nas_attn.attachment.operations import ADDITIONS, CONTAINERS, CONVOLUTIONS, LAYERS, NORMS
from nas_attn.attachment.recording import Call, Value

END_BLOCKS = 2
"""So many blocks before the first that adds or joins are a stem, behind the last a classifier's
head; more are a network of their own (a U-Net's encoder).
"""
SHORTCUT_STEPS = 4
"""Operations that a shortcut may contain outside of a block: pooling, convolution, norm,
activation.
"""
FOLDED = (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase)
"""Modules that tools fold into each other for inference."""
HIDDEN_NORMS = NORMS | {"native_layer_norm"}
"""Normalisations of hidden layers, of a map or of its channels."""


@dataclass(frozen=True, slots=True)
class Block:
    """A repeated unit of the network: the module at `path`."""

    path: str
    host: str | None
    """The module whose output is the block's; None if there is no single one."""
    residual: tuple[str, ...]
    """Modules whose outputs enter its residual adds."""
    shape: tuple[int, int, int]
    """(C, H, W) of its output."""
    macs: int
    value: Value
    """Its output, at the first of its calls."""


class BlockFinder:
    """Finds the blocks of one recorded forward."""

    def __init__(self, flow: Flow, unusable: frozenset[str]) -> None:
        """`unusable`: paths of modules that cannot host attention."""
        self.flow = flow
        self.unusable = unusable
        self.branches = self._branches()
        self.levels = {c.module for c in flow.calls if self._holds(c, {c.module})}
        """Classes of modules that hold others of their class: levels of a network that is built
        from the inside out (an hourglass, MONAI's U-Nets), or containers.
        """
        self.classes = self._block_classes()
        self.outer = self._outer_branches()
        self.several: dict[str, list[Value]] = {}
        """Modules that would be blocks but for running on maps of several shapes -> those maps."""
        self.repeated: dict[str, Value] = {}
        """Modules that would be blocks but for being called at several places -> the map of the
        first.
        """

    def find(self) -> list[Block]:
        """Blocks in the order of execution; empty for a plain chain of layers."""
        calls = list(self._visit(self.flow.calls[0]))
        special = [i for i, call in enumerate(calls) if call.module in self.classes]
        if special and self.flow.classifies and len(calls) - 1 - special[-1] <= END_BLOCKS:
            calls = calls[: special[-1] + 1]
        if special and special[0] <= END_BLOCKS:
            calls = calls[special[0] :]
        # one block per module
        by_path: dict[str, list[Call]] = {}
        for call in calls:
            by_path.setdefault(call.path, []).append(call)
        return [block for path, same in by_path.items() if (block := self._block(path, same))]

    def _branches(self) -> dict[int, list[tuple[Value, Value]]]:
        """Frame (call index) -> (branch, shortcut) of its residual adds, in order: the branch is
        the deeper operand.
        """
        branches: dict[int, list[tuple[Value, Value]]] = {}
        flow = self.flow
        depths: dict[int, dict[Value, int]] = {}
        for i, op in enumerate(flow.operations):
            if op.name not in ADDITIONS or len(op.inputs) != 2 or op.outputs[0] not in flow.maps:
                continue
            a, b = op.inputs
            if not (
                flow.shapes[a] == flow.shapes[b] == flow.shapes[op.outputs[0]]
                and {a, b} <= flow.live
            ):
                continue
            frame = flow.frame(i)
            depth = depths.setdefault(frame, flow.depths(flow.calls[frame]))
            if depth[a] != depth[b]:
                branches.setdefault(frame, []).append((a, b) if depth[a] > depth[b] else (b, a))
        return branches

    def _outer_branches(self) -> dict[Value, int]:
        """Results that a module which is no block adds to what they were made from, `x = x +
        self.convs[i](x)`, and the MACs of making them.
        """
        flow = self.flow
        macs_of: dict[Value, int] = {}
        for frame, additions in self.branches.items():
            if flow.calls[frame].module in self.classes:
                continue
            for branch, shortcut in additions:
                made_from = flow.ancestors(branch)
                if made_from.isdisjoint(flow.light_chain(shortcut, SHORTCUT_STEPS)):
                    continue
                own = (made_from | {branch}) - flow.ancestors(shortcut) - {shortcut}
                macs = sum(op.macs for op in flow.operations if not own.isdisjoint(op.outputs))
                macs_of.update(
                    (value, macs)
                    for value in islice(filter(flow.returned.get, flow.unary_chain(branch)), 1)
                )
        return macs_of

    def _block_classes(self) -> set[type[nn.Module]]:
        """Classes of modules that add a shortcut or join branches in their own forward."""
        able = list(filter(self._may_be_block, self.flow.calls[1:]))
        adding = set[type[nn.Module]]()
        for call in able:
            if call.index in self.branches or self.joins(call, layers=0):
                adding.add(call.module)
        joining = set[type[nn.Module]]()
        for call in able:
            if self.joins(call, layers=2) and not self._holds(call, adding):
                joining.add(call.module)
        return (adding | joining) - self.levels

    def _may_be_block(self, call: Call) -> bool:
        return (
            self.flow.main_map(call) is not None
            and not issubclass(call.module, nn.Sequential | nn.ModuleList)
            and not self._shrinks(call)
            and not gates_its_input(self.flow, call)
        )

    def joins(self, call: Call, *, layers: int) -> bool:
        """Whether its own forward makes its result from several maps, with at most `layers` layers
        after they are joined.
        """
        value = self.flow.main_map(call)
        while value is not None:
            index = self.flow.producer.get(value)
            if index is None or index < call.first:
                return False
            op = self.flow.operations[index]
            frame = self.flow.calls[self.flow.frame(index)]
            own = frame is call or issubclass(frame.module, nn.Sequential)
            layers -= op.name in LAYERS
            if layers < 0:
                return False
            sources = [v for v in dict.fromkeys(op.inputs) if v in self.flow.live]
            whole = [v for v in sources if self.flow.shapes[v] == self.flow.shapes[value]]
            if len(sources) > 1 and len(whole) == 1 and op.name != "cat":
                # the others are gates
                sources = whole
            if len(sources) > 1:
                return own and (op.name == "cat" or op.name in ADDITIONS)
            value = sources[0] if sources else None
        return False

    def _holds(self, call: Call, classes: set[type[nn.Module]]) -> bool:
        """Whether a module of one of these classes runs inside a call."""
        return any(
            child.module in classes or self._holds(child, classes)
            for child in self.flow.children[call.index]
        )

    def _shrinks(self, call: Call) -> bool:
        """Whether the map's side shrinks by a factor above two, which is too much for one block."""
        given = [v for v in call.inputs if v in self.flow.maps]
        result = self.flow.main_map(call)
        if not given or result is None:
            return False
        before = self.flow.shapes[given[0]]
        after = self.flow.shapes[result]
        return any(before[i] > 2 * after[i] + 2 for i in (2, 3))

    def _visit(self, call: Call) -> Iterator[Call]:
        children = self.flow.children[call.index]
        parts = [child for child in children if self._is_part(child)]
        is_root = call.index == 0
        if not is_root and self.flow.main_map(call) is not None and not self._shrinks(call):
            if call.module in self.classes or self._grows_dense(parts):
                yield call
                return
            if not parts or self._is_wrapper(call, parts):
                many = self.flow.convolutions(call.index) >= 2
                if call.output in self.outer or (many and not gates_its_input(self.flow, call)):
                    yield call
                return
        for child in children:
            yield from self._visit(child)

    def _is_wrapper(self, call: Call, parts: list[Call]) -> bool:
        """Whether it is a custom module around one plain Sequential of layers."""
        if (
            issubclass(call.module, CONTAINERS)
            or call.module in self.levels
            or len(parts) != 1
            or not issubclass(parts[0].module, nn.Sequential)
        ):
            return False
        inner = self.flow.children[parts[0].index]
        return not any(self._is_part(child) for child in inner)

    def _is_part(self, call: Call) -> bool:
        """Whether a call is, or holds, a block."""
        own = self.flow.convolutions(call.index) >= 2 or call.module in self.classes
        return (own or self._holds(call, self.classes)) and not gates_its_input(self.flow, call)

    def _grows_dense(self, parts: list[Call]) -> bool:
        """Whether its parts each add channels to one map, like a dense block's layers."""
        if (
            len(parts) < 2
            or len({part.module for part in parts}) != 1
            or parts[0].module not in self.classes
        ):
            return False
        shapes = [self.flow.shapes[part.output] for part in parts if part.output is not None]
        channels = [shape[1] for shape in shapes]
        return len({shape[2:] for shape in shapes}) == 1 and all(
            a < b for a, b in pairwise(channels)
        )

    def _block(self, path: str, same: list[Call]) -> Block | None:
        """The block of a module; None if it is called on maps of different shapes."""
        maps = [value for call in same if (value := self.flow.main_map(call)) is not None]
        shapes = {self.flow.shapes[value]: value for value in maps}
        if len(shapes) > 1:
            self.several[path] = list(shapes.values())
        elif shapes and len(same) != len(self.flow.calls_of[path]):
            self.repeated[path] = next(iter(shapes.values()))
        if len(shapes) != 1 or path in self.repeated:
            return None
        ((_, channels, height, width),) = shapes
        host = self.block_host(same[0])
        hosts = itertools.chain.from_iterable(map(self._residual_hosts, same))
        residual = tuple(dict.fromkeys(hosts))
        macs = sum(self.flow.macs(call) for call in same)
        added = [self.outer[call.output] for call in same if call.output in self.outer]
        shape = (channels, height, width)
        value = maps[0]
        if host is not None and added:
            return Block(path, None, (host,), shape, sum(added), value)
        if not (host or residual):
            return None
        return Block(path, host, residual, shape, macs, value)

    def _residual_hosts(self, block: Call) -> Iterator[str]:
        result = self.flow.main_map(block)
        assert result is not None
        for branch, _ in self.branches.get(block.index, ()):
            if self.flow.shapes[branch] == self.flow.shapes[result]:
                returning = (
                    self._returning(value, block) for value in self.flow.unary_chain(branch)
                )
                yield from (host.path for host in islice(filter(None, returning), 1))

    def _returning(self, value: Value, block: Call) -> Call | None:
        """The innermost call in a block that returned this value, of a module with no other use."""
        times = len(self.flow.calls_of[block.path])
        return safest(
            call
            for call in self.flow.before_drop(value)
            if call.index > block.index
            and call.last <= block.last
            and len(self.flow.calls_of[call.path]) == times
            and call.path not in self.unusable
        )

    def block_host(self, block: Call) -> str | None:
        """The block itself; for a Sequential, which cannot take another child, its last child; for
        one whose map is part of a tuple, or dropped at its end, the module in it that makes the
        map. None if that cannot carry attention.
        """
        result = self.flow.main_map(block)
        if block.output is None and result is not None:
            inner = self._returning(result, block)
            return None if inner is None else inner.path
        times = len(self.flow.calls_of[block.path])
        call = block
        while issubclass(call.module, nn.Sequential):
            children = self.flow.children[call.index]
            last = [child for child in children if not self.flow.only_drops(child)][-1:]
            if (
                not last
                or last[0].output != call.output
                or len(self.flow.calls_of[last[0].path]) != times
            ):
                break
            call = last[0]
        if call.output is not None and call not in self.flow.before_drop(call.output):
            before = (self._returning(value, call) for value in self.flow.unary_chain(call.output))
            return next((inner.path for inner in before if inner is not None), None)
        return None if call.path in self.unusable else call.path

    def is_idle(self, block: Block) -> bool:
        """Whether the network's outputs do not depend on what a block makes."""
        maps = map(self.flow.main_map, self.flow.calls_of[block.path])
        return self.flow.unused.issuperset(filter(None, maps))

    def chain(self) -> list[Block]:
        """Each convolution with the norm and activation after it, for a network without blocks."""
        flow = self.flow
        blocks: dict[str, Block] = {}
        for i, op in enumerate(flow.operations):
            if op.name not in CONVOLUTIONS or op.outputs[0] not in flow.maps:
                continue
            host = None
            value: Value | None = op.outputs[0]
            while value is not None:
                host = safest(c for c in flow.before_drop(value) if self.in_one_place(c)) or host
                value = self._next_unary(value)
            if host is None:
                path = flow.calls[flow.frame(i)].path
                if len(flow.calls_of[path]) > 1 and path not in self.unusable:
                    self.repeated.setdefault(path, op.outputs[0])
                continue
            assert host.output is not None
            if len(maps := flow.by_shape(host.path)) > 1:
                self.several[host.path] = list(maps.values())
                continue
            _, channels, height, width = flow.shapes[host.output]
            macs = flow.macs(flow.calls[flow.frame(i)])
            blocks[host.path] = Block(
                host.path, host.path, (), (channels, height, width), macs, host.output
            )
        wide = [block for block in blocks.values() if block.shape[1:] != (1, 1)]
        return wide or list(blocks.values())

    def in_one_place(self, call: Call) -> bool:
        """Whether a module may carry attention, and each call of the module around it calls it
        once.
        """
        if call.parent is None or call.path in self.unusable:
            return False
        return len(self.flow.calls_of[call.path]) == len(
            self.flow.calls_of[self.flow.calls[call.parent].path]
        )

    def _next_unary(self, value: Value) -> Value | None:
        """The result of a map's only use, if that is a norm or not a layer."""
        uses = self.flow.consumers[value]
        if len(uses) != 1:
            return self._behind_module(value)
        op = self.flow.operations[uses[0]]
        norms = {"native_batch_norm", "native_group_norm"}
        result = op.outputs[0] if op.outputs else None
        if (
            op.name in LAYERS - norms
            or op.name in ADDITIONS
            or result not in self.flow.maps
            or self.flow.shapes[result] != self.flow.shapes[value]
        ):
            return self._behind_module(value)
        return result

    def _behind_module(self, value: Value) -> Value | None:
        """The result of the only module that uses a map, if it has no layer but norms: a norm that
        is written by hand, or one that turns the map before and after.
        """
        flow = self.flow
        uses = self.flow.consumers[value]
        if not uses:
            return None
        for index in flow.recording.stack(flow.operations[uses[0]].call):
            call = flow.calls[index]
            result = flow.map_of(call)
            if (
                result is not None
                and result != value
                and sum(v in flow.maps for v in call.inputs) == 1
                and flow.shapes[result] == flow.shapes[value]
                and all(call.first <= use < call.last for use in uses)
                and not any(op.name in LAYERS - HIDDEN_NORMS for op in flow.within(call))
            ):
                return result
        return None


def safest(calls: Iterable[Call]) -> Call | None:
    """The innermost of the calls that returned one value; not a convolution or a norm, where a
    module around it, or the identity behind it, returns the same: tools fold these two into one,
    and drop or replace the norm.
    """
    candidates = list(calls)
    for call in candidates:
        around = call.index < candidates[0].index and not issubclass(call.module, CONTAINERS)
        if call is not candidates[0] and (around or call.module is nn.Identity):
            return call
        if not issubclass(candidates[0].module, FOLDED):
            break
    return candidates[0] if candidates else None
