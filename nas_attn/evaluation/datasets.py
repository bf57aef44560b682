"""A recipe's data, as every part of a study loads them."""

from __future__ import annotations

import torch

from nas_attn import data
from nas_attn.backbones.detectors import usual_side
from nas_attn.data import boxes
from nas_attn.recipe import DataSection, Recipe
from nas_attn.records import ALONE, Share
from nas_attn.training.detection import require_scorer

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Per channel, of the images that torchvision's and nearly all of timm's weights were trained on."""

GREY = frozenset({"digits", "cued-digits", "digits-8x8", "mnist", "fashion-mnist"})
"""Data sets of one channel, of which three say nothing."""


def load_data(recipe: Recipe, *, device: torch.device | str, share: Share = ALONE) -> data.Dataset | None:
    """The data for a recipe's task; None where an evaluator brings its own, or ultralytics reads them.

    Raises:
        DataError: they cannot be had.
    """
    detects = recipe.task.name == "detection"
    if recipe.data.name == "external" or (detects and not recipe.trained_here):
        return None
    if detects:
        require_scorer()
    return data.load(data_section(recipe), device=device, share=share, task=recipe.task.name)


def shape_and_classes(recipe: Recipe) -> tuple[tuple[int, int, int], int]:
    """What a network is fed, (C, H, W), and what it tells apart, where the data are not loaded here.

    Raises:
        DataError: a detection's data are not there.
    """
    section = recipe.data
    if section.name == "external":
        assert section.input_shape is not None  # the recipe's schema sees to it
        return section.input_shape, section.classes or 1
    side = boxes.side(section)
    return (3, side, side), len(boxes.class_names(section))


def has_test_split(recipe: Recipe) -> str:
    """Why there is no test split, with the way out; empty where there is one, or only an evaluator knows."""
    dataset = load_data(recipe, device="cpu")
    if dataset is not None:
        return dataset.missing_test
    if recipe.data.name == "external" or boxes.described(recipe.data).get("test"):
        return ""
    return f"data YAML '{boxes.data_file(recipe.data)}' has no test split: add test: and its images"


def data_section(recipe: Recipe) -> DataSection:
    """The recipe's data; a source's own weights come with the normalisation that they were trained with, a detector with a size."""
    section = recipe.data
    if recipe.task.name == "detection":
        return section.model_copy(update={"size": section.size or usual_side(recipe.backbone.name)})
    if recipe.training.weights != "default" or section.mean is not None or section.name in GREY:
        return section
    return section.model_copy(update={"mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD)})
