"""`nas-attn advise`: what is known of attention in a network, and what it costs here; in a minute,
without training.
"""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Option

from nas_attn.cli.commands import Context
from nas_attn.cli.common import TASK, Data, LatencySettings, Shape, Target, check_typed


def advise(
    context: Context,
    backbone: Annotated[
        str, Argument(help="resnet20, torchvision:resnet50, timm:…, package.module:function.")
    ],
    task: Annotated[
        str | None,
        Option(metavar=TASK, help="What the network is for.", show_default="by the backbone"),
    ] = None,
    target: Target = None,
    init: Annotated[
        str,
        Option(
            metavar="[identity|paper]", help="How modules begin: as the identity, or as published."
        ),
    ] = "identity",
    images: Annotated[
        int | None, Option(min=10, help="How many images you have, for training and validation.")
    ] = None,
    data: Data = None,
    shape: Shape = None,
    settings: LatencySettings = None,
) -> None:
    """Say what attention brings and costs, without a search. In a minute, and it trains nothing.

    Examples:
      nas-attn advise resnet20
      nas-attn advise torchvision:resnet50 --images 20000 --target weights

    What the advice rests on: docs/expect/advise.md
    """
    check_typed(backbone, data, trust=context.trust)
    # It loads torch, which no help needs.
    from nas_attn.cli.advised import AdviceRequest, show_advice

    request = AdviceRequest(
        backbone=backbone,
        task=task,
        target=target or [],
        init=init,
        images=images,
        data=data,
        shape=shape,
        settings=settings or [],
    )
    show_advice(request, wide=context.wide, as_json=context.as_json)
