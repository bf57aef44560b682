"""`nas-attn modules`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas_attn.cli import completing
from nas_attn.cli.common import AsJson, console, overrides, print_json, table
from nas_attn.records import Choice, Knob, format_knob

if TYPE_CHECKING:
    from nas_attn.attention import Row


TURNS = 40
"""Turns of one measurement."""
CALLS = 20
"""Timed calls in a turn."""


def modules(
    name: Annotated[
        str | None, typer.Argument(help="One module, or package.module:Class.", autocompletion=completing.modules)
    ] = None,
    channels: Annotated[int, typer.Option("--channels", min=1, help="Channels of the feature map.")] = 256,
    size: Annotated[int, typer.Option("--size", min=1, help="Side of the feature map.")] = 14,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A knob of the module: --set reduction=8; repeatable.")
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Also build the module, and measure its time and memory.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Without a name the whole catalogue; with one its knobs, parameters and MACs on a map of this shape."""
    from nas_attn.attention import catalogue

    if name is None:
        _all(channels, size, as_json)
        return
    row = catalogue.find(name)
    knobs: dict[str, Knob] = overrides(settings or [])
    resolved = row.resolve(knobs, channels, size, size)
    found: dict[str, Any] = {
        **_described(row),
        "channels": channels,
        "size": size,
        "resolved": dict(resolved.knobs),
        "parameters": resolved.parameters,
        "macs": resolved.macs,
    }
    if measure:
        found |= _measured(name, knobs, channels, size)
    if as_json:
        print_json(found)
    else:
        _one(row, found)


def _all(channels: int, size: int, as_json: bool) -> None:
    from nas_attn.attention import catalogue

    listed = [_counted(row, channels, size) for row in catalogue.ROWS.values()]
    foreign, unusable = _foreign(channels, size)
    listed += foreign
    if as_json:
        print_json({"channels": channels, "size": size, "modules": listed, "unusable": unusable})
        return
    rows = [
        [m["name"], m["title"], ", ".join(k["name"] for k in m["knobs"]), f"{m['parameters']:,}", f"{m['macs']:,}"]
        for m in listed
    ]
    title = f"Attention modules on {channels} channels, {size}x{size}, with their default knobs"
    columns = ["name", "module", "knobs", "parameters", "MACs"]
    out = console()
    out.print(table(title, columns, rows, right=["parameters", "MACs"]))
    for module in unusable:
        out.print(f"{module['name']} ({module['package']}) cannot be used: {module['reason']}", markup=False)


def _counted(row: Row, channels: int, size: int) -> dict[str, Any]:
    resolved = row.resolve({}, channels, size, size, strict=False)
    return {**_described(row), "parameters": resolved.parameters, "macs": resolved.macs}


def _foreign(channels: int, size: int) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """(what installed packages offer by entry points, what of it cannot be used and why)."""
    from nas_attn.attention import catalogue
    from nas_attn.attention.foreign import installed
    from nas_attn.errors import KnobError

    listed, unusable = [], []
    for name, entry in sorted(installed().items()):
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


def _one(row: Row, found: dict[str, Any]) -> None:
    out = console()
    out.print(f"{row.name}: {row.title}", style="bold")
    out.print(f"{row.paper}\nbuilt by {row.target}\n", markup=False)
    knobs = [[k["name"], k["default"], k["range"], k["doc"]] for k in found["knobs"]]
    if knobs:
        out.print(table("Knobs", ["knob", "default", "range", "what it does"], knobs))
    shape = f"{found['channels']} channels, {found['size']}x{found['size']}"
    shown = ", ".join(f"{k}={format_knob(v)}" for k, v in found["resolved"].items())
    out.print(f"On {shape}: {row.name}({shown})", markup=False)
    out.print(f"{found['parameters']:,} parameters, {found['macs']:,} MACs", markup=False)
    if "forward_ms" in found:
        spread = f"{found['forward_ms_low']:.4f} to {found['forward_ms_high']:.4f}"
        out.print(
            f"forward on one CPU thread, batch 1: {found['forward_ms']:.4f} ms (middle half of {TURNS} turns: {spread}), "
            f"{found['peak_bytes']:,} bytes at the peak",
            markup=False,
        )


def _measured(name: str, knobs: dict[str, Knob], channels: int, size: int) -> dict[str, Any]:
    """Time of the thread's own CPU work in an inference of the module alone, and its peak memory."""
    import statistics

    import torch

    from nas_attn.attention import catalogue
    from nas_attn.latency.memory import peak_memory
    from nas_attn.latency.nets import example_input, prepare
    from nas_attn.recipe import LatencySection

    section, shape = LatencySection(), (channels, size, size)
    module = catalogue.build(Choice(name, tuple(knobs.items())), channels, size, size)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            net = prepare(module, section, example_input(section, shape, 0))
            times = [net.turn(CALLS)[0] for _ in range(TURNS)]
    finally:
        torch.set_num_threads(before)
    low, middle, high = statistics.quantiles(times, n=4)
    return {
        "forward_ms": middle,
        "forward_ms_low": low,
        "forward_ms_high": high,
        "peak_bytes": peak_memory(section, module, shape),
    }


def _described(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "title": row.title,
        "family": row.family,
        "paper": row.paper,
        "knobs": [
            {"name": k.name, "default": format_knob(k.default), "range": k.range, "doc": k.doc} for k in row.knobs
        ],
    }
