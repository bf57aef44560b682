"""Attention in int8: does it pay to leave the attention modules' own layers in float while the rest
is quantized?

    python -m benchmarks.int8_gates              # prints the table of docs/benchmarks/latency.md

ResNet-8 with the module at every residual site, trained from random weights on `digits`. Four files
of each network: float32, int8, int8 with the attention modules' layers in float, and int8 with
those in float that nas_attn.latency.files.LIGHT says.
Accuracy: on the validation images. Time: of one image, in turns on one thread, as a ratio to
float32.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

import nas_attn as na
from nas_attn import backbones, tasks
from nas_attn.data import Dataset
from nas_attn.latency.files import CALIBRATION, LIGHT, quantize, write_onnx
from nas_attn.latency.nets import deployed
from nas_attn.latency.paired import Opened, host_turn, time_rounds
from nas_attn.recipe import LatencySection
from nas_attn.recipe_reading import recipe_from
from nas_attn.tasks.data import data_of

SHAPE = (1, 20, 20)
BATCH = 100
KINDS = {
    "float32": None,
    "int8": 0.0,
    "int8, gates in float": math.inf,
    "int8, by the rule": LIGHT,
}  # the share in float


def trained(module: str, dataset: Dataset, epochs: int) -> nn.Module:
    torch.manual_seed(0)
    model = backbones.create("resnet8", input_shape=SHAPE, classes=len(dataset.classes))
    if module != "none":
        na.attach(
            model,
            " ".join(f"stage{i}@residual={module}" for i in (1, 2, 3)),
            input_shape=SHAPE,
            init="paper",
        )
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    batches = [(x.float().clone(), y.clone()) for x, y in dataset.train.batches(64)]
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.1, total_steps=epochs * len(batches)
    )
    for _ in range(epochs):
        for x, y in random.sample(batches, len(batches)):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def files(model: nn.Module, images: torch.Tensor, batch: int, folder: Path) -> dict[str, Path]:
    section, made = (
        LatencySection(),
        {kind: folder / f"{number}-{batch}.onnx" for number, kind in enumerate(KINDS)},
    )
    ready = deployed(model, section, SHAPE)
    for light, path in zip(KINDS.values(), made.values(), strict=True):
        with torch.no_grad():
            write_onnx(ready, torch.zeros(batch, *SHAPE), path)
        if light is not None:
            quantize(path, images.numpy(), batch, light=light)
    return made


def accuracy(path: Path, mode: str, dataset: Dataset) -> float:
    opened, right, count = Opened(path, mode, np.zeros((BATCH, *SHAPE), np.float32), 1), 0, 0
    for x, y in dataset.validation.batches(BATCH):
        if len(x) == BATCH:
            opened.x[:] = x.float().numpy()
            opened.call()
            right, count = (
                right + int((opened.outputs()[0].argmax(1) == y.numpy()).sum()),
                count + BATCH,
            )
    return right / count


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--modules", nargs="+", default=["none", "se", "eca", "cbam", "coord", "ela", "gc", "simam"]
    )
    parser.add_argument("--runtimes", nargs="+", default=["onnxruntime", "openvino"])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=2.0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    table = {
        "name": "gates",
        "space": "small",
        "backbone": {"name": "resnet8"},
        "data": {"name": "digits"},
    }
    recipe = recipe_from(table, where="here")
    dataset = data_of(tasks.of(recipe)).load(recipe, device="cpu")
    assert dataset is not None
    images = next(iter(dataset.validation.batches(CALIBRATION)))[0].float()
    print("| module | runtime | " + " | ".join(f"{kind}: accuracy, time" for kind in KINDS) + " |")
    for module in given.modules:
        model = trained(module, dataset, given.epochs)
        for runtime in given.runtimes:
            with tempfile.TemporaryDirectory() as folder:
                right = [
                    accuracy(path, runtime, dataset)
                    for path in files(model, images, BATCH, Path(folder)).values()
                ]
                x = images[:1].numpy()
                opened = [
                    Opened(path, runtime, x, 1)
                    for path in files(model, images, 1, Path(folder)).values()
                ]
                turns = [
                    lambda calls, call=one.call: host_turn(call, calls, own_time=True)
                    for one in opened
                ]
                times, _ = time_rounds(turns, random.Random(0), seconds=given.seconds)
            ratios = [
                math.exp(
                    statistics.median(
                        math.log(mine[0] / base[0])
                        for mine, base in zip(rows, times[0], strict=True)
                    )
                )
                for rows in times
            ]
            cells = [
                f"{100 * share:.2f} %, {ratio:.2f}"
                for share, ratio in zip(right, ratios, strict=True)
            ]
            print(f"| {module} | {runtime} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
