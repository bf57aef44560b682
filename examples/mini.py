"""The idea of nas_attn in one file: which attention, at which stage, at what latency?

Only PyTorch and Optuna; about a minute on one core. Read it from top to bottom: images, attention,
network, training, latency, search, comparison. `docs/explain/mini.md` says what nas_attn does in
place of each part, and why that takes more lines.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import optuna
import torch
from torch import Tensor, nn
from torch.nn import functional

STAGES = ("stage1", "stage2", "stage3")
EPOCHS = 8
TRIALS = 10
# seeds that repeat the front's networks after the search, each beside the bare one
FRESH_SEEDS = (1, 2, 3)

# ------------------------------------------------------------------------------------------ images
#
# Two shapes of opposite brightness, and a bar far from both. The bar is bright or dark, and says
# which shape is the label. Who looks at one place at a time cannot know: bar and shape must meet.
# So attention should help here. On most images it helps far less.

CLASSES = 4
SIDE = 8
HEIGHT, WIDTH = 24, 24


def draw(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draws images as float32 (N, 1, 24, 24) and their labels as int64 (N)."""
    # the same shapes for all sets of images
    shapes = torch.randn(CLASSES, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) > 0
    random = torch.Generator().manual_seed(seed)
    images = 0.5 * torch.randn(count, 1, HEIGHT, WIDTH, generator=random)
    kinds = torch.randint(CLASSES, (count, 2), generator=random)
    sign = 2.0 * torch.randint(2, (count,), generator=random) - 1
    bright_is_left = torch.randint(2, (count,), generator=random)
    for number in range(count):
        images[number, 0, :2] += 1.5 * sign[number]
        for place in range(2):
            brightness = 1.5 if place == bright_is_left[number] else -1.5
            top, shift = torch.randint(4, (2,), generator=random).tolist()
            left = place * WIDTH // 2 + shift
            shape = shapes[kinds[number, place]] * brightness
            images[number, 0, 12 + top : 12 + top + SIDE, left : left + SIDE] += shape
    meant = torch.where(sign > 0, bright_is_left, 1 - bright_is_left)
    return images, kinds.gather(1, meant[:, None])[:, 0]


# --------------------------------------------------------------------------------------- attention
#
# Each module multiplies its input by gates: one number for a channel, a place, a row or a column.
# A gate is 2 * sigmoid(z), and z begins at 0. So at first the module changes nothing, and a
# placement begins as the network that it is compared with.


def begin_at_zero(layer: nn.Module) -> None:
    """Lets a layer's output begin at 0."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def gate(z: Tensor) -> Tensor:
    """Returns the factors, between 0 and 2."""
    return 2 * torch.sigmoid(z)


class SE(nn.Module):
    """Squeeze-and-excitation (Hu et al. 2018): a channel's gate, by all channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.narrow = nn.Linear(channels, channels // 2)
        self.widen = nn.Linear(channels // 2, channels)
        begin_at_zero(self.widen)

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean((2, 3))
        return x * gate(self.widen(self.narrow(pooled).relu()))[:, :, None, None]


class ECA(nn.Module):
    """Efficient channel attention (Wang et al. 2020): a channel's gate, by its neighbours."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Conv1d(1, 1, 3, padding=1, bias=False)
        begin_at_zero(self.mix)

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean((2, 3))
        return x * gate(self.mix(pooled[:, None]))[:, 0, :, None, None]


class Spatial(nn.Module):
    """The spatial half of CBAM (Woo et al. 2018): each place has a gate."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.look = nn.Conv2d(2, 1, 7, padding=3)
        begin_at_zero(self.look)

    def forward(self, x: Tensor) -> Tensor:
        return x * gate(self.look(torch.cat([x.mean(1, True), x.amax(1, True)], 1)))


class ELA(nn.Module):
    """Efficient local attention (Xu and Wan 2024): each row and each column has a gate."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Conv1d(channels, channels, 5, padding=2, groups=channels)
        self.norm = nn.GroupNorm(4, channels)
        begin_at_zero(self.norm)

    def forward(self, x: Tensor) -> Tensor:
        rows = gate(self.norm(self.mix(x.mean(3))))
        columns = gate(self.norm(self.mix(x.mean(2))))
        return x * rows[:, :, :, None] * columns[:, :, None, :]


ATTENTION: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda channels: nn.Identity(),
    "se": SE,
    "eca": ECA,
    "spatial": Spatial,
    "ela": ELA,
}

# ----------------------------------------------------------------------------------------- network

Placement = dict[str, str]
"""Stage -> name of the attention in it."""
BARE: Placement = dict.fromkeys(STAGES, "none")


class Block(nn.Module):
    """A residual block with attention in its branch, before the addition."""

    def __init__(self, inside: int, outside: int, stride: int, attention: nn.Module) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(inside, outside, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outside),
            attention,
        )
        self.shortcut = nn.Conv2d(inside, outside, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.shortcut(x) + self.branch(x))


def build(placement: Placement, seed: int) -> nn.Sequential:
    """Builds a network. Networks of one seed have equal weights, but for their attention."""
    torch.manual_seed(seed)
    widths = (1, 8, 16, 32)
    blocks = []
    for number, stage in enumerate(STAGES):
        inside, outside = widths[number : number + 2]
        stride = 1 if number == 0 else 2
        with torch.random.fork_rng():
            attention = ATTENTION[placement[stage]](outside)
        blocks.append(Block(inside, outside, stride, attention))
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, CLASSES))


# ---------------------------------------------------------------------------------------- training

TRAINING = draw(1500, seed=1)
VALIDATION = draw(1000, seed=2)
BATCH = 50


def accuracy(placement: Placement, seed: int) -> float:
    """Trains a network and returns its share of right answers on the validation images."""
    model = build(placement, seed)
    images, labels = TRAINING
    steps = EPOCHS * len(images) // BATCH
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=steps)
    # the order depends only on the seed: networks of one seed are a pair
    order = torch.Generator().manual_seed(seed)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images), generator=order).split(BATCH):
            optimizer.zero_grad()
            functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        answers = model.eval()(VALIDATION[0]).argmax(1)
    return (answers == VALIDATION[1]).float().mean().item()


# ----------------------------------------------------------------------------------------- latency


def seconds(model: nn.Module, image: Tensor) -> float:
    """Times one forward pass."""
    began = time.perf_counter()
    model(image)
    return time.perf_counter() - began


@torch.no_grad()
def latency_ratio(placement: Placement) -> float:
    """The latency of a network, in times of the bare one's.

    The two are timed in turn: what slows the machine down for a while slows both.
    """
    bare = build(BARE, 0).eval()
    other = build(placement, 0).eval()
    image = VALIDATION[0][:1]
    pairs = [(seconds(other, image), seconds(bare, image)) for _ in range(200)]
    return statistics.median(of_other / of_bare for of_other, of_bare in pairs[20:])


# ------------------------------------------------------------------------------------------ search


def objective(trial: optuna.Trial) -> tuple[float, float]:
    """One candidate: a choice for each stage; its accuracy, to be high, and latency, to be low."""
    placement = {stage: trial.suggest_categorical(stage, list(ATTENTION)) for stage in STAGES}
    return accuracy(placement, seed=0), latency_ratio(placement)


def search() -> optuna.Study:
    """Tries the bare network, each attention at every stage, then what Optuna proposes."""
    study = optuna.create_study(
        directions=["maximize", "minimize"], sampler=optuna.samplers.NSGAIISampler(seed=0)
    )
    for name in ATTENTION:
        study.enqueue_trial(dict.fromkeys(STAGES, name))
    study.optimize(objective, n_trials=TRIALS)
    return study


# -------------------------------------------------------------------------------------- comparison

# Student's t at 97.5 %, for one degree of freedom less than there are seeds
T_AT_975 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}


@dataclass(frozen=True)
class Gain:
    """What a placement adds to the accuracy of the bare network."""

    mean: float
    half: float
    """Half of the 95 % interval."""


def gain_over_bare(placement: Placement) -> Gain:
    """Trains a placement and the bare network on fresh seeds, and compares them in pairs.

    The search chose the placement because it looked good on seed 0. So seed 0 does not count here.
    """
    differences = [accuracy(placement, seed) - accuracy(BARE, seed) for seed in FRESH_SEEDS]
    half = T_AT_975[len(FRESH_SEEDS)] * statistics.stdev(differences) / math.sqrt(len(FRESH_SEEDS))
    return Gain(statistics.fmean(differences), half)


def main() -> None:
    """Searches, then says what the best candidate of the front is worth."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = search()
    print("the front: no other candidate is both more accurate and faster")
    front = sorted(study.best_trials, key=lambda trial: trial.values[1])
    for trial in front:
        print(f"  {trial.values[0]:6.1%}  {trial.values[1]:.2f} x  {trial.params}")
    best = max(front, key=lambda trial: trial.values[0])
    if best.params == BARE:
        print("answer: keep the bare network")
        return
    gain = gain_over_bare(best.params)
    verdict = "take it" if gain.mean > gain.half else "not shown: keep the bare network"
    print(
        f"the most accurate one, on {len(FRESH_SEEDS)} fresh seeds: {100 * gain.mean:+.1f}"
        f" ± {100 * gain.half:.1f} points at {best.values[1]:.2f} x the latency"
    )
    print(f"answer: {verdict}")


if __name__ == "__main__":
    main()
