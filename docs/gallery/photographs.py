"""Makes what the gallery's search of photographs needs, in the current folder: `photos`, 2,600
photographs of five animals from CIFAR-10, and `resnet18.pt`, the weights of torchvision's ResNet-18
after a training of some minutes on CIFAR-10's other five classes.

python docs/gallery/photographs.py FOLDER    # where CIFAR-10 is, or is to be loaded to
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from torchvision.datasets import CIFAR10
from torchvision.models import resnet18

ANIMALS = ("bird", "cat", "deer", "dog", "horse")
OTHERS = ("airplane", "automobile", "frog", "ship", "truck")
TRAIN, VALIDATION, TEST = 120, 200, 200
"""Photographs of each animal."""
EPOCHS = 5
BATCH = 64
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main() -> None:
    """Writes the photographs, then trains the network."""
    train = CIFAR10(sys.argv[1], train=True, download=True)
    write_photographs(train)
    torch.save(trained(*images_of(train, OTHERS, 2000)), "resnet18.pt")


def write_photographs(data: CIFAR10) -> None:
    """A folder with train, val and test, each with a folder per class."""
    for name in ANIMALS:
        number = data.class_to_idx[name]
        places = [place for place, label in enumerate(data.targets) if label == number]
        splits = ["train"] * TRAIN + ["val"] * VALIDATION + ["test"] * TEST
        for place, split in zip(places, splits, strict=False):
            folder = Path("photos", split, name)
            folder.mkdir(parents=True, exist_ok=True)
            data[place][0].save(folder / f"{place:05}.png")


def images_of(
    data: CIFAR10, names: tuple[str, ...], each: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """(images, 3, 32, 32), normalised, and their classes."""
    targets = torch.tensor(data.targets)
    places = [(targets == data.class_to_idx[name]).nonzero()[:each, 0] for name in names]
    labels = torch.arange(len(names)).repeat_interleave(each)
    pixels = torch.from_numpy(data.data[torch.cat(places).numpy()]).permute(0, 3, 1, 2) / 255
    return (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None], labels


def trained(images: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """The weights of a ResNet-18 that has learned these images."""
    torch.manual_seed(0)
    model = resnet18(num_classes=len(OTHERS))
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=5e-4)
    steps = EPOCHS * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
    for epoch in range(EPOCHS):
        right = 0
        for batch in torch.randperm(len(images)).split(BATCH)[: steps // EPOCHS]:
            x = images[batch]
            logits = model(x.flip(3) if torch.rand(()) < 0.5 else x)
            optimizer.zero_grad()
            cross_entropy(logits, labels[batch]).backward()
            optimizer.step()
            schedule.step()
            right += int((logits.argmax(1) == labels[batch]).sum())
        print(f"epoch {epoch + 1}: {right / (steps // EPOCHS * BATCH):.1%} right", flush=True)
    return model.state_dict()


if __name__ == "__main__":
    main()
