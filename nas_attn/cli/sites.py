"""`nas-attn sites`."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from nas_attn.cli.common import AsJson, console, print_json, table
from nas_attn.errors import BackboneError, UserError, shorten
from nas_attn.paths import HTML, output_path


def parse_shape(text: str) -> tuple[int, int, int]:
    """`3x224x224` as (3, 224, 224).

    Raises:
        BackboneError: it is no such shape.
    """
    from nas_attn.recipe import LARGEST

    parts = [part.strip() for part in text.lower().replace(",", "x").split("x")]
    if len(parts) != 3 or not all(re.fullmatch("[0-9]{1,9}", part) and int(part) for part in parts):
        raise BackboneError(f"--input '{shorten(text)}' is no CHANNELSxHEIGHTxWIDTH, like 3x224x224")
    channels, height, width = map(int, parts)
    if max(channels, height, width) > LARGEST:
        raise BackboneError(f"--input '{text}' is more than a network can take: give at most {LARGEST:,} each")
    return channels, height, width


def sites(
    backbone: Annotated[str, typer.Argument(help="resnet20, torchvision:resnet50, timm:…, package.module:function.")],
    shape: Annotated[str, typer.Option("--input", help="Shape of one image, channels first.")] = "3x224x224",
    granularity: Annotated[str, typer.Option("--granularity", help="stage, block or both.")] = "both",
    html: Annotated[str | None, typer.Option("--html", help="Also draw them into this file.")] = None,
    heads: Annotated[bool, typer.Option("--heads", help="Also what leads to the outputs only.")] = False,
    as_json: AsJson = False,
) -> None:
    """Prints each site with its positions, module path, channels, map size and share of the network's MACs."""
    from nas_attn import backbones
    from nas_attn.attachment import drawing, survey
    from nas_attn.recipe_reading import backbone_section

    if granularity not in ("stage", "block", "both"):
        raise BackboneError(f"--granularity '{granularity}' is unknown: give stage, block or both")
    input_shape = parse_shape(shape)
    model = backbones.build(backbone_section(backbone), input_shape=input_shape, classes=1000)
    surveyed = survey(model, input_shape, heads=heads)
    found = [
        site
        for site in surveyed.sites
        if granularity == "both" or site.original or ("." in site.name) == (granularity == "block")
    ]
    if html:
        try:
            output_path(html, what="--html", error=UserError, replaces=HTML).write_text(
                drawing.page(found, title=f"{backbone}, {shape}"), "utf-8"
            )
        except OSError as error:
            raise UserError(f"--html '{html}' cannot be written: {error.strerror}") from None
    if as_json:
        print_json(drawing.records(found))
        return
    right = ["channels", "map", "MACs"]
    console().print(table(f"Sites of {backbone} at {shape}", drawing.columns(found), drawing.rows(found), right=right))
    for note in surveyed.notes:
        console().print(note, highlight=False, markup=False, soft_wrap=True)
