"""`nas-attn sites`."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Annotated

import typer

from nas_attn.cli.common import console, print_json, table
from nas_attn.cli.options import AsJson, complete_space
from nas_attn.errors import BackboneError, shorten
from nas_attn.records import Site

SAMPLES = 5
"""Random placements that are shown of a search space."""


def parse_shape(text: str) -> tuple[int, int, int]:
    """`3x224x224` as (3, 224, 224).

    Raises:
        BackboneError: it is no such shape.
    """
    from nas_attn.recipe import LARGEST

    parts = [part.strip() for part in text.lower().replace(",", "x").split("x")]
    if len(parts) != 3 or not all(re.fullmatch("[0-9]{1,9}", part) and int(part) for part in parts):
        raise BackboneError(f"--input '{shorten(text)}' is not of the form CHANNELSxHEIGHTxWIDTH, like 3x224x224")
    channels, height, width = map(int, parts)
    if max(channels, height, width) > LARGEST:
        raise BackboneError(f"--input '{text}' is too large: give at most {LARGEST:,} for each number")
    return channels, height, width


def sites(
    backbone: Annotated[str, typer.Argument(help="resnet20, torchvision:resnet50, timm:…, package.module:function.")],
    shape: Annotated[str, typer.Option("--input", help="Shape of one image, channels first.")] = "3x224x224",
    heads: Annotated[
        bool, typer.Option("--heads", help="Also list sites of the head, whose layers only lead to outputs.")
    ] = False,
    space: Annotated[
        str | None,
        typer.Option(
            "--space",
            help="Show this search space on it: choices per site, number of placements, samples.",
            autocompletion=complete_space,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Prints each site with its positions, module path, channels, map size and share of the network's MACs."""
    if space is not None:
        _show_space(space, backbone, shape, as_json)
        return
    from nas_attn import backbones
    from nas_attn.attachment import survey
    from nas_attn.recipe_reading import backbone_section

    input_shape = parse_shape(shape)
    model = backbones.build(backbone_section(backbone), input_shape=input_shape, classes=1000)
    surveyed = survey(model, input_shape, heads=heads)
    found = surveyed.sites
    if as_json:
        print_json(records(found))
        return
    columns, rows = as_table(found)
    title = f"Sites of {backbone} at {shape}"
    console().print(table(title, columns, rows, right=["channels", "map", "MACs"]))
    for note in surveyed.notes:
        console().print(note, highlight=False, markup=False, soft_wrap=True)


def _show_space(name: str, backbone: str, shape: str, as_json: bool) -> None:
    """The choices of a search space at each site after resolving and merging, the exact number of placements, and samples."""
    from nas_attn import backbones
    from nas_attn.attachment import survey
    from nas_attn.recipe_reading import backbone_section, load_space
    from nas_attn.space import SearchSpace

    spec = load_space(name)
    input_shape = parse_shape(shape)
    model = backbones.build(backbone_section(backbone), input_shape=input_shape, classes=10)
    found = SearchSpace(spec, survey(model, input_shape, custom=spec.sites.custom, heads=spec.sites.heads).sites)
    count = found.count()
    rng = random.Random(0)
    drawn = [str(found.placement(found.sample(rng))) for _ in range(SAMPLES if count else 0)]
    allowed = found.allowed
    if as_json:
        print_json({"space": spec.name, "backbone": backbone, "sites": allowed, "placements": count, "samples": drawn})
        return
    out = console()
    rows = []
    for site in found.sites:
        point = site.at(site.default_position)[0]
        described = f"{point.channels} ch, {point.height}x{point.width}"
        rows.append([site.name, described, str(len(allowed[site.name])), "  ".join(allowed[site.name])])
    out.print(table(f"Search space {spec.name} on {backbone} at {shape}", ["site", "map", "choices", ""], rows))
    out.print(f"{count:,} placements", markup=False)
    if drawn:
        out.print("\nSamples", style="bold")
        for placement in drawn:
            out.print(f"  {placement}", markup=False)


def as_table(sites: Sequence[Site]) -> tuple[list[str], list[list[str]]]:
    """(headings, rows): one row per site and position; a site's name, part and share stand in its first row only.

    The part of the network is named where there are several.
    """
    parts = any(site.role != "backbone" for site in sites)
    rows = []
    for site in sites:
        for i, (position, points) in enumerate(site.points):
            point, first = points[0], i == 0
            default = " (default)" if position == site.default_position and len(site.points) > 1 else ""
            name = [site.name if first else "", *([site.role if first else ""] if parts else [])]
            shape = [str(point.channels), f"{point.height}x{point.width}"]
            share = f"{100 * site.macs_share:.1f} %" if first else ""
            rows.append([*name, position + default, _paths([p.path for p in points]), *shape, share])
    return ["site", *(["part"] if parts else []), "position", "modules", "channels", "map", "MACs"], rows


def records(sites: Sequence[Site]) -> list[dict[str, object]]:
    """The same for machines: one entry per site, its positions with all module paths."""
    return [
        {
            "site": site.name,
            "role": site.role,
            "macs_share": site.macs_share,
            "default_position": site.default_position,
            "positions": {
                position: {
                    "paths": [point.path for point in points],
                    "channels": points[0].channels,
                    "height": points[0].height,
                    "width": points[0].width,
                }
                for position, points in site.points
            },
        }
        for site in sites
    ]


def _paths(paths: list[str]) -> str:
    """`layer1.0.bn2 … layer1.2.bn2 (3)`."""
    if len(paths) == 1:
        return paths[0]
    return f"{paths[0]} {'…' if len(paths) > 2 else 'and'} {paths[-1]} ({len(paths)})"
