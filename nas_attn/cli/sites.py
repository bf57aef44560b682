"""`nas-attn sites`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas_attn.cli.common import AsJson, console, print_json, table
from nas_attn.errors import BackboneError, UserError


def parse_shape(text: str) -> tuple[int, int, int]:
    """`3x224x224` as (3, 224, 224).

    Raises:
        BackboneError: it is no such shape.
    """
    parts = text.lower().replace(",", "x").split("x")
    if len(parts) != 3 or not all(p.strip().isdigit() and int(p) > 0 for p in parts):
        raise BackboneError(f"--input '{text}' is no CHANNELSxHEIGHTxWIDTH, like 3x224x224")
    channels, height, width = map(int, parts)
    return channels, height, width


def sites(
    backbone: Annotated[str, typer.Argument(help="resnet20, torchvision:resnet50, timm:…, package.module:function.")],
    shape: Annotated[str, typer.Option("--input", help="Shape of one image, channels first.")] = "3x224x224",
    granularity: Annotated[str, typer.Option("--granularity", help="stage, block or both.")] = "both",
    html: Annotated[str | None, typer.Option("--html", help="Also draw them into this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Prints each site with its positions, module path, channels, map size and share of the network's MACs."""
    from nas_attn import backbones
    from nas_attn.attachment import drawing
    from nas_attn.evaluation.plan import both_granularities
    from nas_attn.recipe import BackboneSection

    if granularity not in ("stage", "block", "both"):
        raise BackboneError(f"--granularity '{granularity}' is unknown: give stage, block or both")
    input_shape = parse_shape(shape)
    model = backbones.build(BackboneSection(name=backbone), input_shape=input_shape, classes=1000)
    found = [
        site
        for site in both_granularities(model, input_shape)
        if granularity == "both" or site.original or ("." in site.name) == (granularity == "block")
    ]
    if html:
        try:
            Path(html).write_text(drawing.page(found, title=f"{backbone}, {shape}"), "utf-8")
        except OSError as error:
            raise UserError(f"--html '{html}' cannot be written: {error.strerror}") from None
    if as_json:
        print_json(drawing.records(found))
        return
    right = ["channels", "map", "MACs"]
    console().print(table(f"Sites of {backbone} at {shape}", drawing.COLUMNS, drawing.rows(found), right=right))
