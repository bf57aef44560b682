"""Your own network, and your own training and score: a function that gets a network and returns
what it is worth.
"""

import torch
from torch import nn

import nas_attn as na
from nas_attn import EvaluatorRun


def small_net() -> nn.Module:
    """Any function that builds a network."""

    def layer(inside: int, outside: int) -> nn.Module:
        convolution = nn.Conv2d(inside, outside, 3, stride=2, padding=1)
        return nn.Sequential(convolution, nn.BatchNorm2d(outside), nn.ReLU())

    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 2)]
    return nn.Sequential(layer(1, 8), layer(8, 16), layer(16, 32), *head)


def brighter_half(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images whose left or right half is brighter, and which one it is."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (count,), generator=random)
    images = torch.randn(count, 1, 16, 16, generator=random)
    images[labels == 0, :, :, :8] += 0.3
    images[labels == 1, :, :, 8:] += 0.3
    return images, labels


def train_and_score(model: nn.Module, run: EvaluatorRun) -> dict[str, float]:
    """Trains up to `run.epochs` epochs with the seed `run.seed`."""
    torch.manual_seed(run.seed)
    images, labels = brighter_half(256, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(run.epochs):
        for batch in torch.randperm(len(images)).split(32):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model.train()(images[batch]), labels[batch])
            loss.backward()
            optimizer.step()
    images, labels = brighter_half(256, seed=1)
    with torch.no_grad():
        right = model.eval()(images).argmax(1) == labels
    return {"right": right.float().mean().item()}


def main() -> None:
    study = na.search(
        model=small_net,
        data="external",
        input_shape=(1, 16, 16),
        evaluator=train_and_score,
        objectives=["right", "params"],
        space="small",
        trials=6,
        overrides={"training.start": "scratch", "training.rungs": [1], "search.confirm_seeds": 0},
    )
    for candidate in study.front():
        print(candidate.label, candidate.placement)


if __name__ == "__main__":
    main()
