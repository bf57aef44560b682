"""Larger networks without attention, for comparison: wider, deeper or next in size in a backbone's
family.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from nas_attn.attention.choice import Choice
from nas_attn.recipe.recipe import BackboneSection
from nas_attn.recipe.tables import BACKBONE_SOURCES

WIDER = (1.125, 1.25, 1.375, 1.5, 2.0)
"""Times the width of a CIFAR ResNet."""
SIZES_IN_ORDER = tuple(
    tuple(words.split())
    for words in (
        "atto femto pico nano tiny small base large xlarge huge",
        "n s m l x",
        "18 34 50 101 152",
        "26 50 101",
        "121 169 201",
        "11 13 16 19",
        "b0 b1 b2 b3 b4 b5 b6 b7",
        "lite0 lite1 lite2 lite3 lite4",
        "002 004 006 008 016 032 040 064 080 120 160 320",
        "200mf 400mf 800mf 1_6gf 3_2gf 8gf 16gf 32gf",
        "0_5 0_75 1_0 1_3 1_5 2_0",
        "050 075 100 120 140",
    )
)
"""Libraries' words for the sizes of a family, ascending."""


def larger(section: BackboneSection) -> list[Choice]:
    """Larger networks of a backbone's family: the nearest one, for a CIFAR ResNet several. Empty if
    none is known.
    """
    source, colon, name = section.name.partition(":")
    if not colon:
        return list(_of_cifar(section))
    row = BACKBONE_SOURCES.get(source)
    if row is None or section.options.get("depth"):
        return []
    following = _following(name, row.exists())
    if following is None:
        return []
    return [Choice(f"{source}:{following}")]


def _of_cifar(section: BackboneSection) -> Iterator[Choice]:
    from nas_attn.backbones.cifar import MODELS

    if section.name not in MODELS:
        return
    family = section.name.rstrip("0123456789")
    width = section.width or 16
    for wider in sorted({max(width + 1, round(factor * width)) for factor in WIDER}):
        yield Choice(section.name, (("width", wider),))
    deeper = [name for name in MODELS if name.rstrip("0123456789") == family]
    for name in deeper[deeper.index(section.name) + 1 :][:1]:
        yield Choice(name, (("width", width),))


def _following(name: str, exists: Callable[[str], bool]) -> str | None:
    """The name of the family's next size: the word for the size is replaced by the next one that
    exists.
    """
    if not name.endswith((".yaml", ".pt")):
        # What follows the point is timm's tag of the weights.
        name = name.partition(".")[0]
    for sizes in SIZES_IN_ORDER:
        for number, size in enumerate(sizes):
            edge = r"\d" if size[0].isdigit() else "A-Za-z"
            word = re.search(rf"(?<![{edge}]){size}(?![A-Za-z0-9])", name)
            if word is None:
                continue
            for larger_size in sizes[number + 1 :]:
                following = name[: word.start()] + larger_size + name[word.end() :]
                if exists(following):
                    return following
    return None


def in_torchvision(name: str) -> bool:
    """Whether torchvision has a network of this name."""
    import torchvision

    return name in torchvision.models.list_models()


def in_timm(name: str) -> bool:
    """Whether timm has a network of this name."""
    try:
        import timm
    except ImportError:
        return False
    return bool(timm.is_model(name))


def in_smp(name: str) -> bool:
    """Whether segmentation_models_pytorch has a network of this name."""
    try:
        import segmentation_models_pytorch as smp
    except ImportError:
        return False
    return name.rpartition("/")[2] in smp.encoders.get_encoder_names()
