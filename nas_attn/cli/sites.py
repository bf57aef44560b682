"""`nas-attn sites`: where attention can go in a backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

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
from nas_attn.space.placement import Site, SiteNote, SiteNoteKind

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
    from nas_attn.attachment import survey
    from nas_attn.cli.terminal import show_prose
    from nas_attn.cli.usual import bare_network, task_of, usual_shape

    check_typed(backbone, trust=context.trust)
    shape = shape or usual_shape(backbone)
    input_shape = parse_shape(shape)
    model = bare_network(backbone, input_shape, task_of(backbone))
    surveyed = survey(model, input_shape, heads=heads)
    if context.as_json:
        records = [_record(site) for site in surveyed.sites]
        print_json({"sites": records, "notes": [site_note_text(one) for one in surveyed.notes]})
        return
    out = console(wide=context.wide)
    title = f"Sites of {backbone} at {shape}"
    columns = ["site", "part", "position", "modules", "channels", "map", "MACs"]
    out.print(table(title, columns, _site_rows(surveyed.sites), right=columns[4:]))
    for note in surveyed.notes:
        show_prose(out, site_note_text(note))


def _site_rows(sites: Sequence[Site]) -> list[list[str]]:
    """A row for each site and position."""
    rows = []
    for site in sites:
        for position, points in site.points:
            usual = position == site.default_position and len(site.points) > 1
            first = points[0].path
            rows.append(
                [
                    site.name,
                    site.role,
                    f"{position} (default)" if usual else position,
                    f"{first} … {points[-1].path} ({len(points)})" if len(points) > 1 else first,
                    str(points[0].channels),
                    f"{points[0].height}x{points[0].width}",
                    f"{100 * site.macs_share:.1f} %",
                ]
            )
    return rows


def _record(site: Site) -> dict[str, object]:
    """The same for `--json`: a site's positions with all module paths."""
    positions: dict[str, object] = {}
    for position, points in site.points:
        shape = {name: getattr(points[0], name) for name in ("channels", "height", "width")}
        positions[position] = {"paths": [point.path for point in points], **shape}
    own = {"site": site.name, "role": site.role, "macs_share": site.macs_share}
    return {**own, "default_position": site.default_position, "positions": positions}


NOTES: Mapping[SiteNoteKind, str] = {
    "merged": "not sites, since the network's own reparameterization removes or changes them:"
    " {modules}; latency is measured after it",
    "outputs_only": "not sites, since they only lead to outputs: {modules}; heads=True lists them"
    " as head1 …",
    "several_shapes": "{modules} is not a site: it runs on maps of several shapes ({shapes}), and"
    " attention is built for one",
    "several_places": "{modules} is not a site: the network calls it at {places} places, and"
    " attention would go to all of them",
    "unused": "not sites, since the network's output does not depend on them: {modules}",
    "no_gradient": "no gradient arrives there, since the network's code runs them under"
    " torch.no_grad() or detaches what they make: {modules}; attention there would not learn",
    "repeated": "the network runs these more than once for an image, so attention there runs as"
    " often: {modules}",
}
"""Kind of a note -> its sentence."""


def site_note_text(note: SiteNote) -> str:
    """A note as a sentence."""
    shapes = _listed(["x".join(map(str, shape)) for shape in note.shapes])
    return NOTES[note.kind].format(modules=_listed(note.modules), shapes=shapes, places=note.places)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - SHOWN_NAMES
    if more <= 1:
        return ", ".join(names)
    return f"{', '.join(names[:SHOWN_NAMES])} and {more} more"
