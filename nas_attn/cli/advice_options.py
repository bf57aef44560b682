"""The options of `nas-attn advise`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from typer import Option

from nas_attn.cli.common import AsJson, LatencySettings, Target, Trust, Wide


@dataclass(frozen=True)
class AdviceOptions:
    """What the advice is for, and how latency is measured."""

    task: Annotated[
        str | None,
        Option(help="classification, segmentation or detection.", show_default="by the backbone"),
    ] = None
    target: Target = None
    form: Annotated[str, Option(help="How modules begin: identity, or random (as published).")] = (
        "identity"
    )
    images: Annotated[
        int | None, Option(min=10, help="How many images you have, for training and validation.")
    ] = None
    data: Annotated[str | None, Option(help="Data set, or folder:PATH.")] = None
    shape: Annotated[
        str | None,
        Option(
            "--input",
            help="Shape of one image, channels first.",
            show_default="3x224x224, or 3x32x32 for ResNets of CIFAR",
        ),
    ] = None
    settings: LatencySettings = None
    trust: Trust = False
    wide: Wide = False
    as_json: AsJson = False
