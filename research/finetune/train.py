"""Fine-tunes trained networks on small folders by different recipes: plain PyTorch, one core.

    python -m research.finetune.train STAGE… --cifar DIR --fashion DIR --weights DIR --work DIR

A stage is a list of recipes, each trained on some problems (`stages.py`). Each training appends a
row to `rows.jsonl`; those that are there already are not trained again. The note
research/notes/training.md has the question, what was expected, and what came.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad
from torch.nn.modules.batchnorm import _BatchNorm

from nas_attn import backbones
from research.finetune.stages import (
    PROBLEMS,
    STAGES,
    Folder,
    Problem,
    Recipe,
    Sources,
    Trial,
    folder_of,
)

# of a batch norm: no weight, and not in every file
COUNTER = "num_batches_tracked"
ROWS = Path(__file__).parent / "rows.jsonl"
RISING_SHARE = 0.2
NORM_MOMENTUM = 0.1
SCORED_AT_ONCE = 250


def network_of(
    problem: Problem, classes: int, sources: Sources, *, zeros: bool = True
) -> nn.Module:
    """The problem's trained network with a new head for so many classes, of zeros or
    `nn.Linear`'s.
    """
    model = build(problem.network, classes)
    given = state_of(weights_of(problem, sources))
    head = head_of(model)
    body = {name: value for name, value in given.items() if not name.startswith(f"{head}.")}
    missing = model.load_state_dict(body, strict=False).missing_keys
    assert all(name.startswith(head) or name.endswith(COUNTER) for name in missing), missing
    linear = model.get_submodule(head)
    assert isinstance(linear, nn.Linear)
    linear.reset_parameters()
    for parameter in linear.parameters() if zeros else ():
        nn.init.zeros_(parameter)
    return model


def state_of(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of weights."""
    if path.suffix == ".npz":
        arrays = np.load(path)
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def build(network: str, classes: int) -> nn.Module:
    """A network with random weights."""
    library, _, name = network.partition(":")
    model: nn.Module
    if not name:
        model = backbones.create(network, input_shape=(3, 32, 32), classes=classes)
    elif library == "timm":
        model = timm.create_model(name, num_classes=classes)
    else:
        model = torchvision.models.get_model(name, num_classes=classes)
    return model


def head_of(model: nn.Module) -> str:
    """The name of the last linear layer."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1]


def weights_of(problem: Problem, sources: Sources) -> Path:
    """A file of the network's trained weights, which is made here where none is published."""
    if problem.before is None:
        return sources.weights / problem.weights
    path = sources.work / f"{problem.network.replace(':', '-')}-{problem.before.name}.pt"
    if not path.exists():
        folder = folder_of(problem.before, problem.side, sources)
        torch.manual_seed(0)
        model = build(problem.network, folder.classes)
        train(model, folder, problem.before_recipe, epochs=problem.before_epochs, seed=0)
        print(f"{path.name}: {accuracy(model, folder):.3f}", flush=True)
        torch.save(model.state_dict(), path)
    return path


def train(model: nn.Module, folder: Folder, recipe: Recipe, *, epochs: int, seed: int) -> None:
    """Trains a network; at the end it has the averaged weights if the recipe averages."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for module in () if recipe.by_hand else model.modules():
        if isinstance(module, _BatchNorm) and module.momentum is not None:
            module.momentum = max(module.momentum, NORM_MOMENTUM)
    optimizer = optimizer_of(model, recipe)
    shape = half_cosine if recipe.by_hand else cycle
    count = len(folder.labels)
    per_epoch = math.ceil(count / recipe.batch)
    steps = epochs * per_epoch
    average = {name: value.detach().clone() for name, value in averaged(model)}
    keep = recipe.average ** (100 / per_epoch)
    model.train()
    for step in range(steps):
        if step % per_epoch == 0:
            order = torch.randperm(count, generator=generator)
            order = order.repeat(2)[: per_epoch * recipe.batch]
        rows = order[step % per_epoch * recipe.batch :][: recipe.batch]
        x = augmented(folder.images[rows], recipe, generator)
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate * group["factor"] * shape((step + 0.5) / steps)
        optimizer.zero_grad()
        cross_entropy(model(x), folder.labels[rows]).backward()
        optimizer.step()
        for name, value in averaged(model) if recipe.average else ():
            average[name].lerp_(value.detach(), 1 - keep)
    for name, value in averaged(model) if recipe.average else ():
        value.data.copy_(average[name])


def averaged(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """All tensors of a network that training changes."""
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if value.is_floating_point():
            yield name, value


def cycle(position: float) -> float:
    """Factor on the rate: it rises over the first fifth, then falls to zero, both linearly."""
    if position < RISING_SHARE:
        return position / RISING_SHARE
    return (1 - position) / (1 - RISING_SHARE)


def half_cosine(position: float) -> float:
    """Factor on the rate, as torch's CosineAnnealingLR."""
    return (1 + math.cos(math.pi * position)) / 2


def optimizer_of(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Biases and norms have no decay; rates may fall with depth, and the head's be higher."""
    if recipe.by_hand:
        groups = [{"params": list(model.parameters()), "factor": 1.0}]
        return torch.optim.AdamW(groups, lr=recipe.rate, weight_decay=recipe.decay, fused=True)
    names = [name for name, _ in model.named_parameters()]
    head = head_of(model)
    head_factor = recipe.head
    if recipe.head_sum:
        head_factor = recipe.head_sum / model.get_submodule(head).in_features / recipe.rate
    groups = []
    for place, (name, parameter) in enumerate(model.named_parameters()):
        factor = recipe.layer_decay ** (12 * (1 - place / len(names)))
        if name.startswith(f"{head}."):
            factor = head_factor
        decay = recipe.decay if parameter.ndim > 1 else 0.0
        groups.append({"params": [parameter], "factor": factor, "weight_decay": decay})
    if recipe.optimizer == "AdamW":
        return torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.99), fused=True)
    return torch.optim.SGD(groups, lr=recipe.rate, momentum=0.9, nesterov=True, fused=True)


def augmented(x: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Mirrored with probability a half, and cropped by a padding of an eighth of the side."""
    if recipe.flip:
        mirrored = torch.rand(len(x), generator=generator) < 0.5
        x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
    side = x.shape[-1]
    margin = side // 8
    if recipe.crop:
        padded = pad(x, (margin,) * 4)
        corners = torch.randint(0, 2 * margin + 1, (len(x), 2), generator=generator).tolist()
        x = torch.stack(
            [
                one[:, top : top + side, left : left + side]
                for one, (top, left) in zip(padded, corners, strict=True)
            ]
        )
    return x.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def accuracy(model: nn.Module, folder: Folder) -> float:
    """The share of the unseen images that is right."""
    model.eval()
    right = 0
    batches = zip(
        folder.unseen.split(SCORED_AT_ONCE), folder.unseen_labels.split(SCORED_AT_ONCE), strict=True
    )
    for x, y in batches:
        answers = model(x.contiguous(memory_format=torch.channels_last)).argmax(1)
        right += int((answers == y).sum())
    return right / len(folder.unseen)


def run(stage: str, sources: Sources, keep: Callable[[dict[str, Any]], None]) -> None:
    """Trains what a stage asks for and what has no row yet."""
    known = [json.loads(line) for line in ROWS.read_text().splitlines()] if ROWS.exists() else []
    done = {
        Trial(row["problem"], Recipe(**row["recipe"]), row["epochs"], row["seed"]) for row in known
    }
    for trial in STAGES[stage]:
        if trial in done:
            continue
        problem = PROBLEMS[trial.problem]
        folder = folder_of(problem.images, problem.side, sources)
        torch.manual_seed(trial.seed)
        model = network_of(problem, folder.classes, sources, zeros=not trial.recipe.by_hand)
        began = time.process_time()
        train(model, folder, trial.recipe, epochs=trial.epochs, seed=trial.seed)
        cpu_s = time.process_time() - began
        right = round(accuracy(model, folder), 4)
        keep({**row_of(trial), "accuracy": right, "cpu_s": round(cpu_s, 1)})


def row_of(trial: Trial) -> dict[str, Any]:
    """What says in a row which training it was; of a recipe, what differs from the usual."""
    recipe = asdict(trial.recipe)
    usual = {field.name: field.default for field in fields(Recipe)}
    recipe = {name: value for name, value in recipe.items() if value != usual[name]}
    named = {"problem": trial.problem, "epochs": trial.epochs, "seed": trial.seed}
    return {**named, "recipe": recipe}


def _keep(row: dict[str, Any]) -> None:
    with ROWS.open("a") as file:
        print(json.dumps(row), file=file)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", nargs="+", choices=STAGES)
    for name in ("cifar", "fashion", "weights", "work"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    sources = Sources(given.cifar, given.fashion, given.weights, given.work)
    for stage in given.stage:
        run(stage, sources, _keep)


if __name__ == "__main__":
    main()
