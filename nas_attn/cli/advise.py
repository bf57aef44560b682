"""`nas-attn advise`: what is known of attention in a network, and what it costs here; in a minute,
without training.
"""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Option

from nas_attn.cli.common import AsJson, LatencySettings, Target, Trust, Wide, check_typed


def advise(
    backbone: Annotated[
        str, Argument(help="resnet20, torchvision:resnet50, timm:…, package.module:function.")
    ],
    task: Annotated[
        str | None,
        Option(help="classification, segmentation or detection.", show_default="by the backbone"),
    ] = None,
    target: Target = None,
    form: Annotated[str, Option(help="How modules begin: identity, or random (as published).")] = (
        "identity"
    ),
    images: Annotated[
        int | None, Option(min=10, help="How many images you have, for training and validation.")
    ] = None,
    data: Annotated[str | None, Option(help="Data set, or folder:PATH.")] = None,
    shape: Annotated[
        str | None,
        Option(
            "--input",
            help="Shape of one image, channels first.",
            show_default="3x224x224, or 3x32x32 for ResNets of CIFAR",
        ),
    ] = None,
    settings: LatencySettings = None,
    trust: Trust = False,
    wide: Wide = False,
    as_json: AsJson = False,
) -> None:
    """Say what attention brings and costs, without a search. Takes up to a minute, and trains
    nothing.
    """
    check_typed(backbone, data, trust=trust)
    # It loads torch, which no help needs.
    from nas_attn.cli.advised import AdviceRequest, show_advice

    request = AdviceRequest(
        backbone=backbone,
        task=task,
        target=target or [],
        form=form,
        images=images,
        data=data,
        shape=shape,
        settings=settings or [],
    )
    show_advice(request, wide=wide, as_json=as_json)
