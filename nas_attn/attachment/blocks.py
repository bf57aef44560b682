"""Finds the blocks and parts of a network from the data flow through its modules, not from names.

From the model down, a module is taken apart until it is a block:
- it adds a shortcut to a deeper branch in its own forward (ResNet, MBConv, ConvNeXt), or its class
  does so elsewhere;
- it joins parallel branches in its own forward (Inception, Fire, ShuffleNet, a dense block);
- it has two or more convolutions, no such part, and does not shrink the map by more than two (a VGG
  stage, a U-Net's).
The rest, single convolutions with norm and activation, is stem, transition or head. If a network
consists of nothing else (VGG's `features`), each of them is a block.

A map belongs to backbone, neck or head:
- A network whose only output is a vector (a classifier) is all backbone.
- In others, the convolutions without a later hidden layer make the predictions. The head is the
  module that holds them all, where one does that takes the network's maps (a detector's `Detect`);
  else each chain of a few convolutions that leads to one prediction while its neighbour leads to
  another (boxes here, classes there). Predictions and all later maps are head.
- The neck is what stands on a map that has grown again after the smallest of a block: a feature
  pyramid with all its levels, a U-Net's decoder.
"""

import functools
import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise

from torch import nn

from nas_attn.attachment.recording import (
    ACTIVATIONS,
    ADDITIONS,
    CONVOLUTIONS,
    LAYERS,
    LAYOUT_CHANGING,
    NORMS,
    POOLINGS,
    Call,
    Flow,
    Value,
    gates_its_input,
)
from nas_attn.records import Role

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
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


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
        by_path: dict[str, list[Call]] = {}  # one block per module
        for call in calls:
            by_path.setdefault(call.path, []).append(call)
        return [block for path, same in by_path.items() if (block := self._block(path, same))]

    def _branches(self) -> dict[int, list[tuple[Value, Value]]]:
        """Frame (call index) -> (branch, shortcut) of its residual adds, in order: the branch is
        the deeper operand.
        """
        found: dict[int, list[tuple[Value, Value]]] = {}
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
                found.setdefault(frame, []).append((a, b) if depth[a] > depth[b] else (b, a))
        return found

    def _outer_branches(self) -> dict[Value, int]:
        """Results that a module which is no block adds to what they were made from, `x = x +
        self.convs[i](x)`, and the MACs of making them.
        """
        flow = self.flow
        found: dict[Value, int] = {}
        for frame, additions in self.branches.items():
            if flow.calls[frame].module in self.classes:
                continue
            for branch, shortcut in additions:
                made_from = flow.ancestors(branch)
                if made_from.isdisjoint(flow.light_chain(shortcut, SHORTCUT_STEPS)):
                    continue
                own = (made_from | {branch}) - flow.ancestors(shortcut) - {shortcut}
                macs = sum(op.macs for op in flow.operations if not own.isdisjoint(op.outputs))
                found.update(
                    (value, macs)
                    for value in islice(filter(flow.returned.get, flow.unary_chain(branch)), 1)
                )
        return found

    def _block_classes(self) -> set[type[nn.Module]]:
        """Classes of modules that add a shortcut or join branches in their own forward."""
        able = [
            call
            for call in self.flow.calls[1:]
            if self.flow.map_of(call) is not None
            and not issubclass(call.module, nn.Sequential | nn.ModuleList)
            and not self._shrinks(call)
            and not gates_its_input(self.flow, call)
        ]
        found = {
            call.module
            for call in able
            if call.index in self.branches or self.joins(call, layers=0)
        }
        found |= {
            call.module
            for call in able
            if self.joins(call, layers=2) and not self._holds(call, found)
        }
        return found

    def joins(self, call: Call, *, layers: int) -> bool:
        """Whether its own forward makes its result from several maps, with at most `layers` layers
        after they are joined.
        """
        value = call.output
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
                sources = whole  # the others are gates
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
        if not given or call.output is None:
            return False
        return any(
            self.flow.shapes[given[0]][i] > 2 * self.flow.shapes[call.output][i] + 2 for i in (2, 3)
        )

    def _visit(self, call: Call) -> Iterator[Call]:
        children = self.flow.children[call.index]
        parts = [child for child in children if self._is_part(child)]
        is_root = call.index == 0
        if not is_root and self.flow.map_of(call) is not None and not self._shrinks(call):
            if call.module in self.classes or self._grows_dense(parts):
                yield call
                return
            if not parts or self._is_wrapper(call, parts):
                if self.flow.convolutions(call.index) >= 2 or call.output in self.outer:
                    yield call
                return
        for child in children:
            yield from self._visit(child)

    def _is_wrapper(self, call: Call, parts: list[Call]) -> bool:
        """Whether it is a custom module around one plain Sequential of layers."""
        if (
            issubclass(call.module, CONTAINERS)
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
        shapes = {
            self.flow.shapes[call.output]: call.output for call in same if call.output is not None
        }
        if len(shapes) > 1:
            self.several[path] = list(shapes.values())
        elif shapes and len(same) != len(self.flow.calls_of[path]):
            self.repeated[path] = next(iter(shapes.values()))
        if len(shapes) != 1 or path in self.repeated:
            return None
        ((_, channels, height, width),) = shapes
        host = self.block_host(same[0])
        residual = tuple(
            dict.fromkeys(found for call in same for found in self._residual_hosts(call))
        )
        macs = sum(self.flow.macs(call) for call in same)
        added = [self.outer[call.output] for call in same if call.output in self.outer]
        shape = (channels, height, width)
        value = same[0].output
        assert value is not None
        if host is not None and added:
            return Block(path, None, (host,), shape, sum(added), value)
        return Block(path, host, residual, shape, macs, value) if host or residual else None

    def _residual_hosts(self, block: Call) -> Iterator[str]:
        assert block.output is not None
        for branch, _ in self.branches.get(block.index, ()):
            if self.flow.shapes[branch] == self.flow.shapes[block.output]:
                found = (self._returning(value, block) for value in self.flow.unary_chain(branch))
                yield from (host.path for host in islice(filter(None, found), 1))

    def _returning(self, value: Value, block: Call) -> Call | None:
        """The innermost call in a block that returned this value, of a module with no other use."""
        times = len(self.flow.calls_of[block.path])
        return safest(
            call
            for call in self.flow.returned[value]
            if call.index > block.index
            and call.last <= block.last
            and len(self.flow.calls_of[call.path]) == times
            and call.path not in self.unusable
        )

    def block_host(self, block: Call) -> str | None:
        """The block itself; for a Sequential, which cannot take another child, its last child. None
        if that cannot carry attention.
        """
        times = len(self.flow.calls_of[block.path])
        call = block
        while issubclass(call.module, nn.Sequential):
            last = self.flow.children[call.index][-1:]
            if (
                not last
                or last[0].output != call.output
                or len(self.flow.calls_of[last[0].path]) != times
            ):
                break
            call = last[0]
        return call.path if call.path not in self.unusable else None

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
                host = safest(c for c in flow.returned[value] if self.in_one_place(c)) or host
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
    found = list(calls)
    for call in found:
        around = call.index < found[0].index and not issubclass(call.module, CONTAINERS)
        if call is not found[0] and (around or call.module is nn.Identity):
            return call
        if not issubclass(found[0].module, FOLDED):
            break
    return found[0] if found else None


HIDDEN_NORMS = NORMS | {"native_layer_norm"}
"""Normalisations of hidden layers, of a map or of its channels."""
FEW = 4
"""Most convolutions between a map and a prediction, in a head without its own module."""
GROWTH = 1.5
"""A map has grown if it is so many times wider and higher than all its inputs; padding does not
count.
"""
WHOLE_LAYERS = ACTIVATIONS | {"native_layer_norm", "linear", "addmm", "mm"}
"""Layers over all channels at a place, which a map may reach in another layout."""


class Roles:
    """The parts of one recorded network."""

    def __init__(self, flow: Flow, blocks: Collection[Value]) -> None:
        """`blocks`: the results of its blocks."""
        self.flow = flow
        self._blocks = frozenset(blocks)
        last = frozenset() if flow.classifies else frozenset(self._last_convolutions())
        self._predictions = last - self._added(last)
        self.heads = self._head_calls()
        self._neck = set() if flow.classifies else self._grown()

    def of(self, value: Value) -> Role:
        """The part that a map belongs to."""
        if self._in_head(value):
            return "head"
        return "neck" if value in self._neck or value in self._pyramid else "backbone"

    def levels(self) -> list[Value]:
        """The maps that a head with several predictions takes, in the order in which they were
        made; before layers that all of them share (a tower that runs on each), the maps that these
        take.
        """
        if len(self._predictions) < 2:
            return []
        found: set[Value] = set()
        for op in self.flow.operations:
            if any(self._in_head(v) for v in op.outputs if v in self.flow.maps):
                found.update(v for v in op.inputs if v in self.flow.maps and not self._in_head(v))
        return sorted(
            {self._before_shared(v) for v in found}, key=lambda v: self.flow.producer.get(v, -1)
        )

    def _before_shared(self, value: Value) -> Value:
        """The input of the layers after a map that also run on maps of other shapes; without such
        layers, the map.
        """
        flow = self.flow
        best = value
        source: Value | None = value
        while source is not None and source in flow.producer:
            op = flow.operations[flow.producer[source]]
            around = [flow.calls[i] for i in flow.recording.stack(op.call) if flow.convolutions(i)]
            shared = [call for call in around if len(flow.by_shape(call.path)) > 1]
            if shared:
                source = next((v for v in shared[-1].inputs if v in flow.maps), None)
                best = best if source is None else source
            elif op.name in LAYERS - NORMS or op.name == "cat" or op.name in ADDITIONS:
                break
            else:
                source = self._made_from(source)
        return best

    @functools.cached_property
    def _pyramid(self) -> frozenset[Value]:
        """If some of the head's input maps have grown: all of them that no block makes, small
        levels included.
        """
        levels = self.levels()
        return (
            frozenset(levels) - self._blocks if not self._neck.isdisjoint(levels) else frozenset()
        )

    def _added(self, last: frozenset[int]) -> set[int]:
        """The convolutions among `last` whose result is added to a map of a hidden layer, as in a
        residual branch.
        """
        made: dict[Value, frozenset[int]] = {}
        found: set[int] = set()
        for i, op in enumerate(self.flow.operations):
            maps = [v for v in op.inputs if v in self.flow.maps]
            if op.name in ADDITIONS and any(v not in made for v in maps):
                found.update(*(made.get(v, frozenset()) for v in maps))
            before = frozenset({i} if i in last else ()).union(
                *(made.get(v, frozenset()) for v in op.inputs)
            )
            if before:
                made.update(dict.fromkeys(op.outputs, before))
        return found

    def _last_convolutions(self) -> Iterator[int]:
        """Convolutions that no convolution follows, and neither a norm nor an activation of hidden
        layers.

        A prediction is often cut up and decoded, so what follows a change of layout does not count,
        but for a layer that takes the map as a whole (ConvNeXt's layer norm), and for maps that are
        turned as they are (a norm written by hand). What is only pooled, and has a say in later
        convolutions, predicts nothing (what YOLO-World asks its texts with).
        """
        followed = set[Value]()
        whole = set[Value]()
        shapes = self.flow.shapes
        used: set[Value] = set()  # by later convolutions, in whatever layout
        for i in reversed(range(len(self.flow.operations))):
            op = self.flow.operations[i]
            after = {
                self.flow.operations[j].name for v in op.outputs for j in self.flow.consumers[v]
            }
            asks = not used.isdisjoint(op.outputs) and after <= POOLINGS | {"mean", "amax"}
            if op.name in CONVOLUTIONS or not used.isdisjoint(op.outputs):
                used.update(op.inputs)
            if op.name in WHOLE_LAYERS:
                whole.update(op.inputs)
            if op.name in LAYOUT_CHANGING:
                sizes = {math.prod(shapes[v]) for v in op.outputs if v in whole}
                whole.update(v for v in op.inputs if math.prod(shapes[v]) in sizes)
                if {len(shapes[v]) for v in (*op.inputs, *op.outputs)} == {4} and op.name in (
                    "permute",
                    "transpose",
                ):
                    followed.update(op.inputs if not followed.isdisjoint(op.outputs) else ())
                continue
            hidden = not (followed.isdisjoint(op.outputs) and whole.isdisjoint(op.outputs))
            if op.name in CONVOLUTIONS and op.outputs[0] in self.flow.maps and not (hidden or asks):
                yield i
            if op.name in CONVOLUTIONS | NORMS | ACTIVATIONS or hidden:
                followed.update(op.inputs)

    @functools.cached_property
    def _leads_to(self) -> dict[Value, frozenset[int]]:
        """Map -> the predictions that are made from it."""
        leads: dict[Value, frozenset[int]] = {}
        nothing: frozenset[int] = frozenset()
        for i in reversed(range(len(self.flow.operations))):
            op = self.flow.operations[i]
            if op.name in LAYOUT_CHANGING:
                continue
            ahead = nothing.union(*(leads.get(v, nothing) for v in op.outputs))
            if i in self._predictions:
                ahead |= {i}
            if ahead:
                for v in op.inputs:
                    leads[v] = leads.get(v, nothing) | ahead
        return leads

    @functools.cached_property
    def _predicted(self) -> set[Value]:
        """Predictions, and what they become."""
        found: set[Value] = set()
        for i, op in enumerate(self.flow.operations):
            if i in self._predictions or not found.isdisjoint(op.inputs):
                found.update(op.outputs)
        return found

    @functools.cached_property
    def _convolutions_ahead(self) -> dict[Value, int]:
        """Map -> convolutions on the longest way to a prediction, that one included."""
        ahead: dict[Value, int] = {}
        for i in reversed(range(len(self.flow.operations))):
            op = self.flow.operations[i]
            if op.name in LAYOUT_CHANGING:
                continue
            most = max((ahead[v] for v in op.outputs if v in ahead), default=None)
            if i in self._predictions:
                most = 1
            elif most is not None:
                most += op.name in CONVOLUTIONS
            if most is not None:
                for v in op.inputs:
                    ahead[v] = max(most, ahead.get(v, 0))
        return ahead

    def _head_calls(self) -> list[Call]:
        """The innermost module that makes all predictions, where there are several, and does not
        make them from the image; where none does (Mask R-CNN's regions and masks), those that make
        several of them in a few layers.
        """
        if len(self._predictions) < 2:
            return []
        flow = self.flow
        start = next(i for i, op in enumerate(flow.operations) if op.name in CONVOLUTIONS)
        made = {
            c.index: [i for i in self._predictions if c.first <= i < c.last] for c in flow.calls[1:]
        }
        around = [
            c for c in flow.calls[1:] if len(made[c.index]) > 1 and not c.first <= start < c.last
        ]
        for call in reversed(around):
            if len(made[call.index]) == len(self._predictions):
                return [call]

        def layers(call: Call) -> int:
            depths = flow.depths(call)
            return max(depths[flow.operations[i].outputs[0]] for i in made[call.index])

        return [call for call in around if layers(call) < 2 * FEW]

    def _in_head(self, value: Value) -> bool:
        if value in self._predicted:
            return True
        index = self.flow.producer.get(value)
        if index is None or not self._predictions:
            return False
        return self._in_module(index) or (
            not all(map(self._in_module, self._predictions)) and self._in_branch(value)
        )

    def _in_module(self, operation: int) -> bool:
        """Whether an operation runs in a module that is a head."""
        return any(head.first <= operation < head.last for head in self.heads)

    @functools.cache  # noqa: B019 - Roles live as long as one question
    def _in_branch(self, value: Value) -> bool:
        """Whether a map lies on a short way to one prediction, beside another map's to another."""
        mine = self._leads_to.get(value, frozenset())
        if len(mine) != 1:
            return False
        source: Value | None = value
        while source is not None and len(self._leads_to.get(source, ())) == 1:
            source = self._made_from(source)
        if source is None or self._convolutions_ahead.get(source, FEW + 1) > FEW:
            return False
        beside = (self._leads_through(i) for i in self.flow.consumers[source])
        return any(len(other) == 1 and other != mine for other in beside)

    def _leads_through(self, operation: int) -> frozenset[int]:
        """The predictions that are made from what an operation makes."""
        outputs = self.flow.operations[operation].outputs
        own = frozenset({operation} & self._predictions)
        return own or own.union(*(self._leads_to.get(v, frozenset()) for v in outputs))

    def _made_from(self, value: Value) -> Value | None:
        """The first map that a map was made from."""
        index = self.flow.producer.get(value)
        inputs = () if index is None else self.flow.operations[index].inputs
        return next((v for v in inputs if v in self.flow.maps), None)

    def _grown(self) -> set[Value]:
        """Maps that stand on one that has grown after the network's smallest was made."""
        smallest = self._smallest()
        grown: set[Value] = set()
        for i, op in enumerate(self.flow.operations):
            inside = [v for v in op.inputs if v in self.flow.maps]
            after = not grown.isdisjoint(
                op.inputs
            )  # maps may be stacked on the way, and be none for a while
            for value in op.outputs:
                if after or (
                    i > smallest and value in self.flow.maps and self._grows(op.name, inside, value)
                ):
                    grown.add(value)
        return grown

    def _grows(self, operation: str, inputs: list[Value], output: Value) -> bool:
        height, width = self.flow.shapes[output][2:]
        sides = [self.flow.shapes[v][2:] for v in inputs]
        upsampled = operation.startswith("upsample_")  # a pyramid's levels may be of one size
        return bool(sides) and (
            upsampled or all(h * GROWTH <= height and w * GROWTH <= width for h, w in sides)
        )

    def _smallest(self) -> int:
        """Index of the operation that makes the smallest map of a block; maps of one pixel, which
        gates have, are none, nor are cut-outs of the image, as many as there are regions.
        """
        whole = (v for v in self._blocks if self.flow.shapes[v][0] == 1)
        sides = (
            (self.flow.shapes[v][2] * self.flow.shapes[v][3], self.flow.producer.get(v, 0))
            for v in whole
        )
        return min(((area, i) for area, i in sides if area > 1), default=(0, 0))[1]
