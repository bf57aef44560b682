"""How networks that give numbers are exported: in the units of the data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import override

from nas_attn.data.dataset import Dataset
from nas_attn.export.formats import Interface, Run, TaskExport
from nas_attn.training.learnt import Learnt, learnt_from
from nas_attn.training.plan import Plan
from nas_attn.training.tasks.target_scores import NumbersOfImage


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
    """Export of networks that give numbers, which they learn in standard deviations."""

    @override
    def interface(self, plan: Plan, dataset: Dataset | None) -> Interface:
        given = super().interface(plan, dataset)
        if dataset is None or dataset.moments is None:
            return given
        mean, deviation = dataset.moments
        return replace(given, scale=tuple(deviation.tolist()), shift=tuple(mean.tolist()))

    @override
    def computing(self, model: nn.Module, dataset: Dataset | None) -> nn.Module:
        if dataset is None or dataset.moments is None:
            return model
        return InUnits(model, *dataset.moments).eval()

    @override
    def judged(self, run: Run, dataset: Dataset, *, stored: bool, batch: int) -> Learnt:
        """Scores an exported file, which gives numbers in the units of the data.

        Args:
            run: the file: images (N, C, H, W) in, numbers (N, K) out.
            dataset: has the images, and the means and deviations by which numbers are learnt.
            stored: the file takes images in uint8, as in the data set.
            batch: the number of images at a time.

        Returns:
            What gives the metrics.
        """
        learnt = learnt_from(dataset)
        assert isinstance(learnt, NumbersOfImage)

        def standardised(x: NDArray[Any]) -> NDArray[Any]:
            return learnt.standardised(torch.from_numpy(run(x))).numpy()

        return super().judged(standardised, dataset, stored=stored, batch=batch)

    @override
    def said(self, shape: tuple[int, ...], format_: str) -> str:
        if format_ != "weights":
            return super().said(shape, format_)
        given = f"({', '.join(map(str, ('N', *shape)))})"
        return f"{given} in standard deviations from the mean; the lines under Use know the units"
