"""Ways to train that are published: `training.preset`. Keys of `[training]` that a recipe gives itself come first."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_SGD = {"optimizer": "SGD", "optimizer_arguments": {"momentum": 0.9}}
PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        # He et al., 1512.03385, section 4.2; a cosine stands for its steps at a half and three quarters of the training.
        "cifar": {
            **_SGD,
            "batch_size": 128,
            "learning_rate": 0.1,
            "weight_decay": 1e-4,
            "ema": 0.0,
            "schedule": [{"name": "CosineAnnealingLR"}],
            "augment": [{"name": "flip"}, {"name": "crop", "padding": 4}],
        },
        # fastai's fine_tune: Howard and Gugger, 2002.04688; its momentum, which follows the rate, is fixed here.
        "fine-tune": {
            "optimizer": "AdamW",
            "optimizer_arguments": {"betas": [0.9, 0.99]},
            "batch_size": 64,
            "learning_rate": 0.002,
            "finetune_learning_rate": 0.002,
            "weight_decay": 0.01,
            "ema": 0.0,
            "schedule": [{"name": "OneCycleLR", "pct_start": 0.3}],
            "augment": [{"name": "RandomResizedCrop"}, {"name": "RandomHorizontalFlip"}],
        },
        # Wightman et al., ResNet strikes back, 2110.00476, A3 (warm-up: 5 of 100 epochs); its binary cross-entropy is not here.
        "timm-a3": {
            "optimizer": "timm.optim:Lamb",
            "batch_size": 2048,
            "learning_rate": 8e-3,
            "weight_decay": 0.02,
            "ema": 0.0,
            "schedule": [{"name": "LinearLR", "start_factor": 0.01, "epochs": 0.05}, {"name": "CosineAnnealingLR"}],
            "augment": [
                {"name": "RandomResizedCrop", "interpolation": "bicubic"},
                {"name": "RandomHorizontalFlip"},
                {"name": "RandAugment", "magnitude": 6},
                {
                    "name": "RandomChoice",
                    "transforms": [{"name": "MixUp", "alpha": 0.1}, {"name": "CutMix", "alpha": 1.0}],
                },
            ],
        },
        # torchvision's weights IMAGENET1K_V2 (warm-up: 5 of 600 epochs): https://pytorch.org/blog/how-to-train-state-of-the-art-models-using-torchvision-latest-primitives
        "torchvision-v2": {
            **_SGD,
            "batch_size": 1024,
            "learning_rate": 0.5,
            "weight_decay": 2e-5,
            "label_smoothing": 0.1,
            "schedule": [{"name": "LinearLR", "start_factor": 0.01, "epochs": 0.01}, {"name": "CosineAnnealingLR"}],
            "augment": [
                {"name": "RandomResizedCrop"},
                {"name": "RandomHorizontalFlip"},
                {"name": "TrivialAugmentWide"},
                {"name": "RandomErasing", "p": 0.1},
                {
                    "name": "RandomChoice",
                    "transforms": [{"name": "MixUp", "alpha": 0.2}, {"name": "CutMix", "alpha": 1.0}],
                },
            ],
        },
    }
)
"""Name -> keys of `[training]`. A transform's `size` is that of the images."""
