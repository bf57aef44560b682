"""How long a training step of each network takes, as a multiple of the bare backbone's.

    python -m research.trial.costs --root DATA > research/trial/costs.csv

Steps of the network and of the bare one alternate, on one core, in the thread's own time; the
figure is the ratio of the medians. One problem stands for all: their maps have similar sizes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
from torch import nn

from nas_attn.space.notation import parse
from research.trial.cells import BARE, as_trained, networks
from research.trial.run import Bench, recipe_of

PROBLEM = "cifar"
TURNS = 15
WARM_UP = 3


def step_s(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """CPU seconds of one forward and backward pass."""
    began = time.thread_time()
    loss = nn.functional.cross_entropy(model(images), labels)
    torch.autograd.backward(loss)
    return time.thread_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True, help="where the published files lie")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(recipe_of(PROBLEM, 0, asked.root), lambda: None)
    images, labels = next(iter(bench.test.batches(64)))
    images = images.float().contiguous(memory_format=torch.channels_last)
    bare = bench.network(parse(BARE), 0).to(memory_format=torch.channels_last)
    print("network,step")
    for notation in networks():
        model = bench.network(parse(as_trained(notation)), 0)
        model = model.to(memory_format=torch.channels_last)
        turns: list[tuple[float, float]] = []
        for _ in range(WARM_UP + TURNS):
            bare_s = step_s(bare, images, labels)
            turns.append((bare_s, step_s(model, images, labels)))
        bare_times = [turn[0] for turn in turns[WARM_UP:]]
        model_times = [turn[1] for turn in turns[WARM_UP:]]
        ratio = statistics.median(model_times) / statistics.median(bare_times)
        print(f"{notation},{ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
