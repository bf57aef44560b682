"""`nas-attn space`."""

from __future__ import annotations

import random
from typing import Annotated

import typer

from nas_attn.cli import completing
from nas_attn.cli.common import AsJson, console, print_json, table
from nas_attn.cli.sites import parse_shape


def space(
    name: Annotated[
        str,
        typer.Argument(
            help="Shipped name (plug_and_play, channel, ela, …) or path of a space.", autocompletion=completing.spaces
        ),
    ],
    backbone: Annotated[str, typer.Option("--backbone", help="Backbone that it is laid over.")] = "resnet20",
    shape: Annotated[str, typer.Option("--input", help="Shape of one image, channels first.")] = "3x32x32",
    samples: Annotated[int, typer.Option("--samples", min=0, help="Random placements to show.")] = 5,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the samples.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Prints the sites, each site's choices after resolving and merging, the exact number of placements, and samples."""
    from nas_attn import backbones
    from nas_attn.attachment import survey
    from nas_attn.recipe_reading import backbone_section, load_space
    from nas_attn.space import SearchSpace

    spec = load_space(name)
    input_shape = parse_shape(shape)
    model = backbones.build(backbone_section(backbone), input_shape=input_shape, classes=10)
    found = SearchSpace(spec, survey(model, input_shape, custom=spec.sites.custom, heads=spec.sites.heads).sites)
    count = found.count()
    rng = random.Random(seed)
    drawn = [str(found.placement(found.sample(rng))) for _ in range(samples if count else 0)]
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
