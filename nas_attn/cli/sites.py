"""`nas-attn sites`: where attention can go in a backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from nas_attn.cli.commands import Context
from nas_attn.cli.common import (
    Shape,
    console,
    parse_shape,
    print_json,
    table,
)
from nas_attn.cli.trust import check_typed
from nas_attn.space.placement import Site, SiteNote, Survey

if TYPE_CHECKING:
    from rich.console import Console


# most names that are listed; the others are counted
SHOWN_NAMES = 3


def sites(
    context: Context,
    backbone: Annotated[
        str, Argument(help="resnet20, torchvision:resnet50, timm:…, package.module:function.")
    ],
    shape: Shape = None,
    heads: Annotated[
        bool,
        Option("--heads", help="Also list sites of the head, whose layers only lead to outputs."),
    ] = False,
) -> None:
    """Show where attention can go in a backbone.

    Examples:
      nas-attn sites resnet20 --input 3x32x32
      nas-attn sites torchvision:resnet50 --heads

    What sites are: docs/how-to/attach.md
    """
    from nas_attn import backbones
    from nas_attn.attachment import survey
    from nas_attn.cli.usual import CLASSES, task_of, usual_shape
    from nas_attn.recipe.reading import backbone_section

    check_typed(backbone, trust=context.trust)
    shape = shape or usual_shape(backbone)
    input_shape = parse_shape(shape)
    classes = CLASSES[task_of(backbone)]
    model = backbones.build(backbone_section(backbone), input_shape=input_shape, classes=classes)
    surveyed = survey(model, input_shape, heads=heads)
    if context.as_json:
        records = [_record(site) for site in surveyed.sites]
        print_json({"sites": records, "notes": _notes(surveyed)})
        return
    columns, rows = _site_rows(surveyed.sites)
    out = console(wide=context.wide)
    title = f"Sites of {backbone} at {shape}"
    right = ["channels", "map", "MACs"]
    out.print(table(title, columns, rows, right=right))
    _print_notes(out, surveyed)


def _print_notes(out: Console, surveyed: Survey) -> None:
    from nas_attn.cli.terminal import show_prose

    for note in _notes(surveyed):
        show_prose(out, note)


def _notes(surveyed: Survey) -> list[str]:
    return [site_note_text(note) for note in surveyed.notes]


def _site_rows(sites: Sequence[Site]) -> tuple[list[str], list[list[str]]]:
    """(headings, rows): one row per site and position; a site's name, part (where there are
    several) and share are in its first row.
    """
    parts = any(site.role != "backbone" for site in sites)
    rows = []
    for site in sites:
        for i, (position, points) in enumerate(site.points):
            point = points[0]
            paths = [p.path for p in points]
            if position == site.default_position and len(site.points) > 1:
                default = " (default)"
            else:
                default = ""
            name = ([site.name, site.role] if i == 0 else ["", ""])[: 2 if parts else 1]
            # `layer1.0.bn2 … layer1.2.bn2 (3)`
            where = paths[0]
            if len(paths) > 1:
                where = f"{paths[0]} {'…' if len(paths) > 2 else 'and'} {paths[-1]} ({len(paths)})"
            share = ""
            if i == 0:
                share = f"{100 * site.macs_share:.1f} %"
            rows.append(
                [
                    *name,
                    position + default,
                    where,
                    str(point.channels),
                    f"{point.height}x{point.width}",
                    share,
                ]
            )
    return [
        "site",
        *(["part"] if parts else []),
        "position",
        "modules",
        "channels",
        "map",
        "MACs",
    ], rows


def _record(site: Site) -> dict[str, object]:
    """The same for `--json`: a site's positions with all module paths."""
    positions: dict[str, object] = {}
    for position, points in site.points:
        shape = {name: getattr(points[0], name) for name in ("channels", "height", "width")}
        positions[position] = {"paths": [point.path for point in points], **shape}
    own = {"site": site.name, "role": site.role, "macs_share": site.macs_share}
    return {**own, "default_position": site.default_position, "positions": positions}


def site_note_text(note: SiteNote) -> str:
    """A note as a sentence."""
    modules = _listed(note.modules)
    match note.kind:
        case "merged":
            return (
                "not sites, since the network's own reparameterization removes or changes them:"
                f" {modules}; latency is measured after it"
            )
        case "outputs_only":
            return (
                f"not sites, since they only lead to outputs: {modules}; heads=True lists them as"
                " head1 …"
            )
        case "several_shapes":
            shapes = _listed(["x".join(map(str, shape)) for shape in note.shapes])
            return (
                f"{modules} is not a site: it runs on maps of several shapes ({shapes}), and"
                " attention is built for one"
            )
        case "several_places":
            return (
                f"{modules} is not a site: the network calls it at {note.places} places, and"
                " attention would go to all of them"
            )
        case "unused":
            return f"not sites, since the network's output does not depend on them: {modules}"
        case "no_gradient":
            return (
                "no gradient arrives there, since the network's code runs them under"
                f" torch.no_grad() or detaches what they make: {modules}; attention there would"
                " not learn"
            )
        case "repeated":
            return (
                "the network runs these more than once for an image, so attention there runs as"
                f" often: {modules}"
            )


def _listed(names: Sequence[str]) -> str:
    more = len(names) - SHOWN_NAMES
    if more <= 1:
        return ", ".join(names)
    return f"{', '.join(names[:SHOWN_NAMES])} and {more} more"
