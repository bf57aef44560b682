"""`nas-attn modules`: the attention modules, their knobs, and what they cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from nas_attn.attention.choice import Choice, Knob, format_knob
from nas_attn.cli.commands import Context
from nas_attn.cli.common import console, overrides, print_json, table
from nas_attn.errors import KnobError

if TYPE_CHECKING:
    from nas_attn.attention import Row


def modules(
    context: Context,
    name: Annotated[str | None, Argument(help="One module, or package.module:Class.")] = None,
    channels: Annotated[int, Option(min=1, help="Channels of the feature map.")] = 256,
    size: Annotated[int, Option(min=1, help="Side of the feature map.")] = 14,
    knobs: Annotated[
        list[str] | None,
        Option(
            "--set", metavar="KEY=VALUE", help="A knob of the module, like reduction=8; repeatable."
        ),
    ] = None,
) -> None:
    """List the attention modules, or show one. With their knobs, parameters and MACs.

    Examples:
      nas-attn modules
      nas-attn modules se --set reduction=8 --channels 64

    All of them, with their papers: docs/reference/attention.md
    """
    from nas_attn.attention import catalogue

    if name is None:
        context.refuse(["knobs"], "name the module whose knob it is")
        _show_catalogue(context, channels, size)
    else:
        given = overrides(knobs, "reduction=8")
        _show_module(context, catalogue.find(name), given, channels, size)


def _show_catalogue(context: Context, channels: int, size: int) -> None:
    from nas_attn.attention import catalogue
    from nas_attn.cli.terminal import show_prose

    listed = [_counted(row, channels, size) for row in catalogue.ROWS.values()]
    foreign, unusable = _foreign(channels, size)
    listed += foreign
    if context.as_json:
        print_json({"channels": channels, "size": size, "modules": listed, "unusable": unusable})
        return
    rows = []
    for m in listed:
        rows.append(
            [
                m["name"],
                m["title"],
                ", ".join(k["name"] for k in m["knobs"]),
                f"{m['parameters']:,}",
                f"{m['macs']:,}",
            ]
        )
    title = f"Attention modules on {channels} channels, {size}x{size}, with their default knobs"
    columns = ["name", "module", "knobs", "parameters", "MACs"]
    out = console(wide=context.wide)
    out.print(table(title, columns, rows, right=["parameters", "MACs"]))
    for module in unusable:
        named = f"{module['name']} ({module['package']})"
        show_prose(out, f"{named} cannot be used: {module['reason']}")


def _show_module(
    context: Context, row: Row, given: dict[str, Knob], channels: int, size: int
) -> None:
    from nas_attn.attention import catalogue
    from nas_attn.cli.terminal import show_prose

    knobs = row.resolve(given, channels, size, size)
    cost = catalogue.cost(Choice(row.name, knobs), channels, size, size)
    described = _described(row)
    if context.as_json:
        at = {"channels": channels, "size": size}
        print_json({**described, **at, "resolved": dict(knobs), **cost._asdict()})
        return
    out = console(wide=context.wide)
    show_prose(out, f"{row.name}: {row.title}", style="bold")
    show_prose(out, row.paper)
    show_prose(out, f"built by {row.class_path}")
    out.print()
    listed = [[k["name"], k["default"], k["range"], k["doc"]] for k in described["knobs"]]
    if listed:
        columns = ["knob", "default", "range", "what it does"]
        out.print(table("Knobs", columns, listed, whole=["knob"]))
    shown = ", ".join(f"{k}={format_knob(v)}" for k, v in knobs)
    show_prose(out, f"On {channels} channels, {size}x{size}: {row.name}({shown})")
    show_prose(out, f"{cost.parameters:,} parameters, {cost.macs:,} MACs")


def _foreign(channels: int, size: int) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """(what installed packages offer by entry points, what of it cannot be used and why)."""
    from nas_attn.attention import catalogue

    listed = []
    unusable = []
    for name, entry in sorted(catalogue.installed().items()):
        package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
        try:
            if name in catalogue.ROWS:
                raise KnobError("nas_attn has a module of the same name")
            described = _counted(catalogue.find(name), channels, size)
        except KnobError as error:
            unusable.append({"name": name, "package": package, "reason": str(error)})
        else:
            listed.append({**described, "title": f"{described['title']} ({package})"})
    return listed, unusable


def _counted(row: Row, channels: int, size: int) -> dict[str, Any]:
    from nas_attn.attention import catalogue

    canonical = row.resolve({}, channels, size, size, strict=False)
    cost = catalogue.cost(Choice(row.name, canonical), channels, size, size)
    return {**_described(row), **cost._asdict()}


def _described(row: Row) -> dict[str, Any]:
    knobs = [
        {"name": k.name, "default": format_knob(k.default), "range": k.range, "doc": k.doc}
        for k in row.knobs
    ]
    return {
        "name": row.name,
        "title": row.title,
        "family": row.family,
        "paper": row.paper,
        "knobs": knobs,
    }
