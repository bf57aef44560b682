"""Problems (a trained network and a folder), recipes, and the stages of the choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from research.finetune.images import Images

FIRST = (0, 1, 2, 3, 4)
ALL = (*FIRST, 5, 6, 7, 8, 9)


@dataclass(frozen=True)
class Problem:
    """A trained network, and a folder that it is fine-tuned on."""

    network: str
    side: int
    images: Images
    weights: str = ""
    """A file of published weights."""
    before: Images | None = None
    """What the network is trained on here, in place of a file."""
    before_epochs: int = 0


@dataclass(frozen=True)
class Recipe:
    """A way to fine-tune."""

    optimizer: str
    rate: float
    decay: float = 0.05
    batch: int = 32
    flip: bool = True
    crop: bool = False
    average: float = 0.0
    """Decay of the averaged weights per hundredth of an epoch; 0: the last weights count."""
    layer_decay: float = 1.0
    """Factor on the rate for each twelfth of the network, from its end to its beginning."""
    head: float = 1.0
    """Factor on the rate of the new head."""


@dataclass(frozen=True)
class Trial:
    """One training."""

    problem: str
    recipe: Recipe
    epochs: int
    seed: int = 0


LITE = "timm:tf_efficientnet_lite"
BEFORE = Images("cifar-before", ALL, 10000, enlarged=False)
PROBLEMS = MappingProxyType(
    {
        "mobilenet-fashion": Problem(
            "torchvision:mobilenet_v3_small",
            64,
            Images("fashion", ALL, 600),
            before=BEFORE,
            before_epochs=3,
        ),
        "resnet20-fashion": Problem(
            "resnet20", 32, Images("fashion", ALL, 300, seed=1), "resnet20_cifar10.npz"
        ),
        "lite0-first": Problem(f"{LITE}0", 96, Images("cifar", FIRST, 300), "lite0.pt"),
        "lite0-first-575": Problem(f"{LITE}0", 96, Images("cifar", FIRST, 575), "lite0.pt"),
    }
)
CHEAP = ("mobilenet-fashion", "resnet20-fashion")


def _adam(rate: float) -> Recipe:
    return Recipe("AdamW", rate)


def _sgd(rate: float) -> Recipe:
    return Recipe("SGD", rate, decay=5e-4)


def _each(
    recipes: Sequence[Recipe], problems: Sequence[str], epochs: int, seed: int
) -> list[Trial]:
    return [Trial(problem, recipe, epochs, seed) for recipe in recipes for problem in problems]


RATES = (
    _adam(3e-4),
    _adam(1e-3),
    _sgd(0.01),
    _adam(1e-4),
    _sgd(0.03),
    _adam(3e-3),
    _sgd(0.003),
)
HEADS = (
    replace(_adam(3e-4), head=10),
    replace(_adam(1e-3), head=10),
    replace(_adam(1e-3), batch=16),
    replace(_sgd(0.01), head=10),
    replace(_adam(1e-3), head=10, batch=16),
    _sgd(0.1),
)
"""The rates say: far from the first data, few steps at a low rate leave a head of zeros behind."""
BETWEEN = replace(_adam(5e-4), head=10)
STAGES = MappingProxyType(
    {
        "rates": _each(RATES, CHEAP, 5, 0),
        "heads": _each(HEADS, CHEAP, 5, 0),
        "first": [Trial("lite0-first-575", _adam(3e-4), 5)],
        "lite": _each((HEADS[1], HEADS[0], _adam(1e-3), _sgd(0.03)), ("lite0-first",), 5, 0),
        "between": [
            *_each([BETWEEN], (*CHEAP, "lite0-first"), 5, 0),
            *_each([replace(BETWEEN, batch=16)], ("lite0-first",), 5, 0),
        ],
    }
)
