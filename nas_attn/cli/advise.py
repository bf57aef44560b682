"""`nas-attn advise`: what is known of attention in a network, and what it costs here; in a minute,
without training.
"""

from __future__ import annotations

from typing import Annotated

from typer import Argument

from nas_attn.cli.advice_options import AdviceOptions
from nas_attn.cli.common import check_typed, grouped


@grouped
def advise(
    backbone: Annotated[
        str, Argument(help="resnet20, torchvision:resnet50, timm:…, package.module:function.")
    ],
    options: AdviceOptions,
) -> None:
    """Say what attention brings and costs, without a search. Takes up to a minute, and trains
    nothing.
    """
    check_typed(backbone, options.data, trust=options.trust)
    # It loads torch, which no help needs.
    from nas_attn.cli.advised import show_advice

    show_advice(backbone, options)
