"""`nas-attn modules`: the attention modules, their knobs, and what they cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from nas_attn.cli.common import (
    AsJson,
    console,
    overrides,
    print_json,
    table,
)
from nas_attn.errors import (
    KnobError,
)
from nas_attn.records import Choice, Knob, format_knob

if TYPE_CHECKING:
    from nas_attn.attention import Row


def modules(
    name: Annotated[str | None, Argument(help="One module, or package.module:Class.")] = None,
    channels: Annotated[int, Option(min=1, help="Channels of the feature map.")] = 256,
    size: Annotated[int, Option(min=1, help="Side of the feature map.")] = 14,
    knobs: Annotated[
        list[str] | None,
        Option("--knob", help="A knob of the module: --knob reduction=8; repeatable."),
    ] = None,
    runtimes: Annotated[
        bool, Option("--runtimes", help="Where each module exports and runs, and its cost there.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the attention modules, or show one. With their knobs, parameters and MACs."""
    from nas_attn.attention import catalogue

    if runtimes:
        _show_runtimes(name, as_json)
    elif name is None:
        _show_catalogue(channels, size, as_json)
    else:
        _show_module(
            catalogue.find(name), overrides(knobs or [], "--knob"), channels, size, as_json
        )


def _show_catalogue(channels: int, size: int, as_json: bool) -> None:
    from nas_attn.attention import catalogue

    listed = [_counted(row, channels, size) for row in catalogue.ROWS.values()]
    foreign, unusable = _foreign(channels, size)
    listed += foreign
    if as_json:
        print_json({"channels": channels, "size": size, "modules": listed, "unusable": unusable})
        return
    rows = [
        [
            m["name"],
            m["title"],
            ", ".join(k["name"] for k in m["knobs"]),
            f"{m['parameters']:,}",
            f"{m['macs']:,}",
        ]
        for m in listed
    ]
    title = f"Attention modules on {channels} channels, {size}x{size}, with their default knobs"
    columns = ["name", "module", "knobs", "parameters", "MACs"]
    out = console()
    out.print(table(title, columns, rows, right=["parameters", "MACs"]))
    for module in unusable:
        out.print(
            f"{module['name']} ({module['package']}) cannot be used: {module['reason']}",
            markup=False,
        )


def _show_runtimes(name: str | None, as_json: bool) -> None:
    from nas_attn.attention import catalogue

    measured, (titles, *lines) = catalogue.runtimes()
    if as_json:
        print_json(measured)
        return
    rows = [line for line in lines if name in (None, line[0])]
    title = (
        "CPU time of ResNet-8 with the module at every residual site, relative to the bare network"
    )
    out = console()
    out.print(table(title, titles, rows, right=titles[1:]))
    out.print("Measured with:")
    for sentence in catalogue.measured_with():
        out.print(f"  {sentence}", markup=False)
    out.print("TensorRT, RKNN and Core ML were not tested.", markup=False)


def _show_module(row: Row, given: dict[str, Knob], channels: int, size: int, as_json: bool) -> None:
    from nas_attn.attention import catalogue

    canonical = row.resolve(given, channels, size, size)
    cost = catalogue.cost(Choice(row.name, canonical), channels, size, size)
    found = _described(row)
    knobs = dict(canonical)
    sizes = cost._asdict()
    if as_json:
        print_json({**found, "channels": channels, "size": size, "resolved": knobs, **sizes})
        return
    out = console()
    out.print(f"{row.name}: {row.title}", style="bold")
    out.print(f"{row.paper}\nbuilt by {row.target}\n", markup=False)
    listed = [[k["name"], k["default"], k["range"], k["doc"]] for k in found["knobs"]]
    if listed:
        out.print(table("Knobs", ["knob", "default", "range", "what it does"], listed))
    shown = ", ".join(f"{k}={format_knob(v)}" for k, v in knobs.items())
    out.print(f"On {channels} channels, {size}x{size}: {row.name}({shown})", markup=False)
    out.print(f"{cost.parameters:,} parameters, {cost.macs:,} MACs", markup=False)


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
            found = _counted(catalogue.find(name), channels, size)
        except KnobError as error:
            unusable.append({"name": name, "package": package, "reason": str(error)})
        else:
            listed.append({**found, "title": f"{found['title']} ({package})"})
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
