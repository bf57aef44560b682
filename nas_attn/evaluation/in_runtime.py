"""What a trained network scores as an int8 network, in the runtime in which its latency is measured."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from nas_attn import data, tasks
from nas_attn.evaluation.starts import calibration
from nas_attn.latency.nets import deployed, open_in_runtime
from nas_attn.recipe import LatencySection, Recipe
from nas_attn.tables import IN_INT8
from nas_attn.training import Trainer


class InRuntime(nn.Module):
    """A network as its runtime answers: x (N, C, H, W) of any N -> the file's first output, on x's device."""

    def __init__(self, model: nn.Module, section: LatencySection, shape: tuple[int, int, int], images: Tensor) -> None:
        super().__init__()
        x = torch.zeros(section.batch_size, *shape)
        copied = deployed(model, section, shape)
        with torch.no_grad():
            self._opened = open_in_runtime(copied, section, x, images)

    def forward(self, x: Tensor) -> Tensor:
        answers, given = [], self._opened.x
        for rows in torch.split(x.float().cpu(), len(given)):
            given[: len(rows)] = rows.numpy()
            self._opened.call()
            answers.append(self._opened.outputs()[0][: len(rows)])
        return torch.from_numpy(np.concatenate(answers)).to(x.device)


def int8_metrics(
    recipe: Recipe, dataset: data.Dataset, model: nn.Module, epochs: int, split: data.Split | None = None
) -> Mapping[str, float]:
    """`accuracy_int8` and the task's other shares on a split, the validation images, as the deployed network scores in int8.

    At the last rung, and at the others if an objective needs it; empty where latency is not measured in int8.
    """
    task, images = tasks.of(recipe), calibration(recipe, dataset)
    asked = any(objective.endswith(IN_INT8) for objective in recipe.objectives)
    if images is None or not (asked or epochs == recipe.training.rungs[-1]):
        return {}
    with torch.random.fork_rng(devices=[]):  # the training goes on as if nothing had been scored
        network = InRuntime(model, recipe.latency, dataset.input_shape, images)
        scorer = Trainer(recipe.training, dataset, device=next(model.parameters()).device)
        found = scorer.score(network, split or dataset.validation).metrics
    return {f"{name}{IN_INT8}": value for name, value in found.items() if name in task.shares}
