"""Costs of a network, counted on shapes: the functions of the table of costs
(`nas_attn.recipe.tables`).
"""

import math
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from nas_attn.attachment.hosting import replaced_parameters
from nas_attn.attachment.recording import Recording, record
from nas_attn.errors import NasAttnError, OperationError, RecipeError
from nas_attn.recipe import tables
from nas_attn.recipe.tables import Costs, Function
from nas_attn.system.importing import load_object


class CountedNetwork:
    """A network whose cost is counted, for one image; nothing in the model changes."""

    def __init__(self, model: nn.Module, input_shape: tuple[int, int, int]) -> None:
        self.model = model
        self.input_shape = input_shape

    @cached_property
    def recording(self) -> Recording:
        """One recorded forward pass; BackboneError: the model cannot process an image of this
        shape.
        """
        return record(self.model, self.input_shape, bare=False)


def cost(
    model: nn.Module, input_shape: tuple[int, int, int], objectives: Iterable[str] = ()
) -> Costs:
    """Name -> number, of all costs that are counted; `objectives` may name a user's own,
    `package.module:function`.

    Raises:
        BackboneError: the model cannot process an image of this shape.
        RecipeError: a user's function does not exist.
        OperationError: it raised an exception, or did not return a finite number.
    """
    network = CountedNetwork(model, input_shape)
    costs = {}
    for name in tables.counted_costs(objectives):
        function = _counting(name)
        try:
            costs[name] = _plain(function(network))
        except NasAttnError:
            raise
        except Exception as error:
            # whatever a user's own code may raise
            raise OperationError(
                f"the cost '{name}' raised {type(error).__name__}: {error}"
            ) from error
        if not isinstance(costs[name], int | float) or not math.isfinite(costs[name]):
            raise OperationError(
                f"the cost '{name}' returned {costs[name]!r}: return a finite int or float"
            )
    return costs


def _counting(name: str) -> Function:
    row = tables.COSTS.get(name)
    if row is None or row.function is None:
        own: Function = load_object(name, what="objectives", error=RecipeError)
        return own
    return row.function()


def _plain(value: Any) -> Any:
    """The number in a scalar of NumPy or torch."""
    if isinstance(value, np.generic | torch.Tensor) and np.ndim(value) == 0:
        return value.item()
    return value


def parameters(network: CountedNetwork) -> int:
    """Number of trained parameters. Shared ones count once, those of a replaced module not at
    all.
    """
    idle = set[int]()
    for module in network.model.modules():
        idle.update(map(id, replaced_parameters(module)))
    return sum(
        parameter.numel() for parameter in network.model.parameters() if id(parameter) not in idle
    )


def macs(network: CountedNetwork) -> int:
    """Multiply-accumulates: half the FLOPs by torch's own formulas."""
    return network.recording.macs


def activation_bytes(network: CountedNetwork) -> int:
    """Bytes of all tensors that one forward pass makes, in float32; views and in-place results make
    none.
    """
    return network.recording.activation_bytes
