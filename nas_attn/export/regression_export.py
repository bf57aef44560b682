"""How networks that give numbers are exported: in the units of the data."""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from nas_attn.data.dataset import Dataset
from nas_attn.errors import UserError
from nas_attn.export.formats import Format, Run, TaskExport
from nas_attn.training.learnt import Tally, learnt_from
from nas_attn.training.plan import Plan
from nas_attn.training.tasks.target_scores import NumbersOfImage

LAST_LAYERS = (nn.Linear, nn.Conv2d)
"""Kinds of layers whose outputs can be scaled and moved by their weights."""
EQUAL_WITHIN_SD = 1e-3
"""Largest difference that rounding may cause, in standard deviations."""


class InUnits(nn.Module):
    """A network with its outputs in the units of the data."""

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("scale", deviation)
        self.register_buffer("shift", mean)

    def forward(self, image: Tensor) -> Tensor:
        return cast("Tensor", self.network(image) * self.scale + self.shift)


class RegressionExport(TaskExport):
    """Export of networks that give numbers."""

    @override
    def exported(
        self, model: nn.Module, plan: Plan, dataset: Dataset | None, kind: Format
    ) -> nn.Module:
        """The network with its outputs in the units of the data: its last layer has the mean and
        the standard deviation of the training images inside. Raises UserError: it has none, and the
        format holds no graph to which they can be added.
        """
        if dataset is None or dataset.moments is None:
            return model
        mean, deviation = dataset.moments
        wanted = InUnits(model.eval(), mean, deviation)
        x = torch.randn(2, *plan.input_shape)
        scaled = copy.deepcopy(model)
        with torch.no_grad():
            last = _last_layer(scaled, x, len(mean))
            if last is not None:
                _scale(last, mean, deviation)
                if _alike(scaled(x), wanted(x), deviation):
                    return scaled
        if not kind.graph:
            raise UserError(
                f"the format '{kind.name}' needs a network that ends with a linear layer, which"
                " gives numbers in the units of the data: give torch or onnx"
            )
        return wanted

    @override
    def judged(self, run: Run, dataset: Dataset, *, stored: bool, batch: int) -> Tally:
        learnt = learnt_from(dataset)
        assert isinstance(learnt, NumbersOfImage)

        def standardised(x: Any) -> Any:
            return learnt.standardised(torch.from_numpy(run(x))).numpy()

        return super().judged(standardised, dataset, stored=stored, batch=batch)


def _last_layer(model: nn.Module, x: Tensor, outputs: int) -> nn.Linear | nn.Conv2d | None:
    """The layer with so many outputs that is called last; None without one."""
    called: list[nn.Linear | nn.Conv2d] = []

    def note(layer: nn.Module, _inputs: object, _output: object) -> None:
        if isinstance(layer, LAST_LAYERS) and len(layer.weight) == outputs:
            called.append(layer)

    hooks = [layer.register_forward_hook(note) for layer in model.modules()]
    model(x)
    for hook in hooks:
        hook.remove()
    return called[-1] if called and called[-1].bias is not None else None


def _scale(layer: nn.Linear | nn.Conv2d, mean: Tensor, deviation: Tensor) -> None:
    """Moves a layer's outputs from standard deviations to units."""
    # whoever finds the layer sees to it
    assert layer.bias is not None
    layer.weight.mul_(deviation.view(-1, *[1] * (layer.weight.ndim - 1)))
    layer.bias.mul_(deviation).add_(mean)


def _alike(given: Tensor, wanted: Tensor, deviation: Tensor) -> bool:
    """Whether outputs (N, K) are the same, up to rounding."""
    return bool((((given - wanted) / deviation).abs() <= EQUAL_WITHIN_SD).all())
