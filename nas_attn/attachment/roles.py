"""Which part of a network a map belongs to, from the data flow through its modules.

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
from collections.abc import Collection, Iterator

from nas_attn.attachment.flow import Flow
from nas_attn.attachment.operations import (
    ACTIVATIONS,
    ADDITIONS,
    CONVOLUTIONS,
    LAYERS,
    LAYOUT_CHANGING,
    NORMS,
    POOLINGS,
)
from nas_attn.attachment.recording import Call, Value
from nas_attn.space.placement import Role

FEW_CONVOLUTIONS = 4
"""Most convolutions between a map and a prediction, in a head without its own module."""
GROWN_SIDES = 1.5
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
        last: frozenset[int] = frozenset()
        if not flow.classifies:
            last = frozenset(self._last_convolutions())
        self._predictions = last - self._added(last)
        self.heads = self._head_calls()
        self._neck = set() if flow.classifies else self._grown()

    def of(self, value: Value) -> Role:
        """The part that a map belongs to."""
        if self._in_head(value):
            return "head"
        if value in self._neck or value in self._pyramid:
            return "neck"
        return "backbone"

    def levels(self) -> list[Value]:
        """The maps that a head with several predictions takes, in the order in which they were
        made; before layers that all of them share (a tower that runs on each), the maps that these
        take.
        """
        if len(self._predictions) < 2:
            return []
        values: set[Value] = set()
        for op in self.flow.operations:
            if any(self._in_head(v) for v in op.outputs if v in self.flow.maps):
                values.update(v for v in op.inputs if v in self.flow.maps and not self._in_head(v))
        return sorted(
            {self._before_shared(v) for v in values}, key=lambda v: self.flow.producer.get(v, -1)
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
        if not self._neck.isdisjoint(levels):
            return frozenset(levels) - self._blocks
        return frozenset()

    def _added(self, last: frozenset[int]) -> set[int]:
        """The convolutions among `last` whose result is added to a map of a hidden layer, as in a
        residual branch.
        """
        made_by: dict[Value, frozenset[int]] = {}
        added: set[int] = set()
        for i, op in enumerate(self.flow.operations):
            maps = [v for v in op.inputs if v in self.flow.maps]
            if op.name in ADDITIONS and any(v not in made_by for v in maps):
                added.update(*(made_by.get(v, frozenset()) for v in maps))
            before = frozenset({i} if i in last else ()).union(
                *(made_by.get(v, frozenset()) for v in op.inputs)
            )
            if before:
                made_by.update(dict.fromkeys(op.outputs, before))
        return added

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
        # by later convolutions, in whatever layout
        used: set[Value] = set()
        for i in reversed(range(len(self.flow.operations))):
            op = self.flow.operations[i]
            after = set[str]()
            for v in op.outputs:
                after.update(self.flow.operations[j].name for j in self.flow.consumers[v])
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
    def _ahead(self) -> dict[Value, tuple[frozenset[int], int]]:
        """Map -> (the predictions that are made from it; convolutions on the longest way to one,
        that one included).
        """
        ahead: dict[Value, tuple[frozenset[int], int]] = {}
        for i in reversed(range(len(self.flow.operations))):
            op = self.flow.operations[i]
            if op.name in LAYOUT_CHANGING:
                continue
            behind = [ahead[v] for v in op.outputs if v in ahead]
            predictions = frozenset[int]().union(*(before for before, _ in behind))
            most = max((count for _, count in behind), default=0) + (op.name in CONVOLUTIONS)
            if i in self._predictions:
                predictions |= {i}
                most = 1
            if predictions:
                for v in op.inputs:
                    known, longest = ahead.get(v, (predictions, most))
                    ahead[v] = (known | predictions, max(longest, most))
        return ahead

    def _leads_to(self, value: Value | None) -> frozenset[int]:
        return self._ahead[value][0] if value in self._ahead else frozenset()

    @functools.cached_property
    def _predicted(self) -> set[Value]:
        """Predictions, and what they become."""
        predicted: set[Value] = set()
        for i, op in enumerate(self.flow.operations):
            if i in self._predictions or not predicted.isdisjoint(op.inputs):
                predicted.update(op.outputs)
        return predicted

    def _head_calls(self) -> list[Call]:
        """The innermost module that makes all predictions, where there are several, and does not
        make them from the image; where none does (Mask R-CNN's regions and masks), those that make
        several of them in a few layers.
        """
        if len(self._predictions) < 2:
            return []
        flow = self.flow
        start = next(i for i, op in enumerate(flow.operations) if op.name in CONVOLUTIONS)
        predictions_of = {}
        for call in flow.calls[1:]:
            predictions_of[call.index] = [
                i for i in self._predictions if call.first <= i < call.last
            ]
        around = [
            c
            for c in flow.calls[1:]
            if len(predictions_of[c.index]) > 1 and not c.first <= start < c.last
        ]
        for call in reversed(around):
            if len(predictions_of[call.index]) == len(self._predictions):
                return [call]

        def layers(call: Call) -> int:
            depths = flow.depths(call)
            return max(depths[flow.operations[i].outputs[0]] for i in predictions_of[call.index])

        return [call for call in around if layers(call) < 2 * FEW_CONVOLUTIONS]

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
        mine = self._leads_to(value)
        if len(mine) != 1:
            return False
        source: Value | None = value
        while source is not None and len(self._leads_to(source)) == 1:
            source = self._made_from(source)
        if source is None or source not in self._ahead:
            return False
        if self._ahead[source][1] > FEW_CONVOLUTIONS:
            return False
        beside = (self._leads_through(i) for i in self.flow.consumers[source])
        return any(len(other) == 1 and other != mine for other in beside)

    def _leads_through(self, operation: int) -> frozenset[int]:
        """The predictions that are made from what an operation makes."""
        outputs = self.flow.operations[operation].outputs
        own = frozenset({operation} & self._predictions)
        return own or own.union(*map(self._leads_to, outputs))

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
            # maps may be stacked on the way, and be none for a while
            after = not grown.isdisjoint(op.inputs)
            for value in op.outputs:
                if after or (
                    i > smallest and value in self.flow.maps and self._grows(op.name, inside, value)
                ):
                    grown.add(value)
        return grown

    def _grows(self, operation: str, inputs: list[Value], output: Value) -> bool:
        height, width = self.flow.shapes[output][2:]
        sides = [self.flow.shapes[v][2:] for v in inputs]
        # a pyramid's levels may be of one size
        upsampled = operation.startswith("upsample_")
        return bool(sides) and (
            upsampled
            or all(h * GROWN_SIDES <= height and w * GROWN_SIDES <= width for h, w in sides)
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
