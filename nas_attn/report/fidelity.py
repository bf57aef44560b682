"""How far cheap settings rank as a long training does: a figure, and one self-contained HTML file."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from nas_attn.analysis.fidelity import Fidelity, Measure
from nas_attn.report import tables
from nas_attn.report.figures import GREEN, GREY, ORANGE, PALETTE, blank_figure
from nas_attn.report.page import Drawings, page, with_code, write_page

COLUMNS = ("setting", "seeds", "metric", "tau", "95 %", "reliability", "front", "device s")
SYMBOLS = ("circle", "diamond", "square", "cross")


def write_fidelity_report(found: Fidelity, name: str, path: Path) -> Path:
    """Writes the report on the fidelity of a study or recipe of this name; returns the absolute path.

    Raises:
        StudyError: the file cannot be written there.
    """
    return write_page(render(found, name), path)


def render(found: Fidelity, name: str) -> str:
    """The whole page as text."""
    drawings = Drawings()
    said = "".join(f"<p>{with_code(sentence)}</p>" for sentence in found.advice.sentences)
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    sections = [
        f'<div class="card answer" id="recommendation">{said}</div>',
        f"<h2>Tau against cost</h2>{drawings.place(fidelity_figure(found))}{_meaning(found)}",
        f"<h2>All settings</h2>{_table(found)}",
        f"<h2>Placements</h2>{_placements(found)}",
    ]
    return page(f"Fidelity of {name}", f'<p class="muted">Written {when} by nas_attn.</p>', sections, drawings)


def fidelity_figure(found: Fidelity) -> go.Figure:
    """Kendall's tau of every setting by the reference's metric against its device seconds, with the noise floor."""
    figure = blank_figure(height=480)
    floor = found.floor
    mine = [row for row in found.rows if row.setting.metric == floor.setting.metric]
    seconds = sorted(row.device_s for row in (*mine, floor))
    figure.add_hrect(y0=floor.low, y1=floor.high, fillcolor=GREY, opacity=0.15, line_width=0)
    figure.add_hline(y=0, line={"width": 1, "color": GREY})
    figure.add_hline(y=floor.tau, line={"dash": "dot", "width": 1.5, "color": GREY})
    ways = list(dict.fromkeys((row.setting.start, row.setting.subset) for row in mine))
    counts = sorted({row.setting.seeds for row in mine})
    for index, way in enumerate(ways):
        for k in counts:
            rows = [r for r in mine if (r.setting.start, r.setting.subset) == way and r.setting.seeds == k]
            figure.add_trace(_trace(rows, PALETTE[index % len(PALETTE)], SYMBOLS[counts.index(k) % len(SYMBOLS)]))
    figure.add_trace(_mark([floor], "noise floor: one run of the reference", ORANGE, "star", 13))
    chosen = [row for row in mine if row.setting == found.advice.setting]
    if chosen:
        figure.add_trace(_mark(chosen, "recommended", GREEN, "circle-open", 22).update(marker_line_width=3))
    figure.update_xaxes(title="device seconds per candidate", **_axis(seconds))
    figure.update_yaxes(title="Kendall's tau with the long training · higher is better", range=[-1.05, 1.05])
    return figure


def _axis(seconds: Sequence[float]) -> dict[str, Any]:
    """A logarithmic axis whose numbers are seconds, not digits; a linear one where there is a zero."""
    if min(seconds) <= 0:
        return {"type": "linear"}
    decades = range(math.floor(math.log10(min(seconds))), math.ceil(math.log10(max(seconds))) + 1)
    steps = [step * 10.0**decade for decade in decades for step in (1, 2, 5)]
    return {"type": "log", "tickmode": "array", "tickvals": steps, "ticktext": [f"{step:g}" for step in steps]}


def _trace(rows: Sequence[Measure], colour: str, symbol: str) -> go.Scatter:
    setting = rows[0].setting
    share = "" if setting.subset == 1 else f", {100 * setting.subset:.3g} % of images"
    name = f"{setting.start}{share}, {setting.seeds} seed{'' if setting.seeds == 1 else 's'}"
    bars = {"array": [r.high - r.tau for r in rows], "arrayminus": [r.tau - r.low for r in rows]}
    trace = _mark(rows, name, colour, symbol, 9)
    return trace.update(mode="markers+lines", line={"width": 1}, error_y={"type": "data", "thickness": 1, **bars})


def _mark(rows: Sequence[Measure], name: str, colour: str, symbol: str, size: int) -> go.Scatter:
    return go.Scatter(
        x=[row.device_s for row in rows],
        y=[row.tau for row in rows],
        mode="markers",
        name=html.escape(name),
        marker={"color": colour, "symbol": symbol, "size": size},
        text=[f"{html.escape(str(row.setting))}<br>{html.escape(', '.join(cells(row)[3:]))}" for row in rows],
        hovertemplate="%{text}<extra></extra>",
    )


def setting_name(row: Measure) -> str:
    """`backbone, 1 epoch`, `scratch, 4 epochs, 50 % of images`."""
    s = row.setting
    share = "" if s.subset == 1 else f", {100 * s.subset:.3g} % of images"
    return f"{s.start}, {s.epochs} epoch{'' if s.epochs == 1 else 's'}{share}"


def cells(row: Measure) -> list[str]:
    """A setting's row under COLUMNS."""
    return [
        setting_name(row),
        str(row.setting.seeds),
        row.setting.metric,
        f"{row.tau:+.2f}",
        f"{row.low:+.2f} to {row.high:+.2f}",
        f"{row.reliability:.2f}",
        f"{100 * row.front:.0f} %",
        f"{row.device_s:.3g}",
    ]


def _table(found: Fidelity) -> str:
    rows = [("", _cells(found.floor, "noise floor: "))]
    for row in found.rows:
        rows.append(("front" if row.setting == found.advice.setting else "", _cells(row, "")))
    return tables.table(COLUMNS, rows, name="settings", sortable=True)


def _cells(row: Measure, before: str) -> list[tables.Cell]:
    shown = cells(row)
    values = [None, row.setting.seeds, None, row.tau, row.low, row.reliability, row.front, row.device_s]
    made = [
        tables.text(text) if value is None else tables.number(text, value)
        for text, value in zip(shown, values, strict=True)
    ]
    return [tables.text(before + shown[0]), *made[1:]]


def explanation(found: Fidelity) -> list[str]:
    """What the columns mean, in sentences."""
    floor = found.floor.setting
    cost = "latency" if found.cost == "latency" else "MACs"
    return [
        f"Reference: {len(found.placements)} placements, start {floor.start}, {floor.epochs} epochs, {found.reference_seeds} seeds. "
        "Settings ran with seeds of their own.",
        f"tau: Kendall's tau-b of a setting's scores (mean over its seeds) with the reference's mean {floor.metric} over all "
        "seeds but one; 1 is the same order, 0 is chance. 95 %: bootstrap over placements and seeds. Noise floor: the seed "
        "left out against that mean.",
        "reliability: share of the variance of that mean that is difference between placements. A setting may agree with "
        "itself and still rank wrongly.",
        f"front: share of the reference's front of {floor.metric} against {cost} that the setting finds "
        f"(a random ranking: {100 * found.chance_front:.0f} %). device s: seconds of the device per candidate, all seeds; a trained "
        "backbone comes on top once per study.",
    ]


def _meaning(found: Fidelity) -> str:
    return "".join(f"<p>{html.escape(sentence)}</p>" for sentence in explanation(found))


def _placements(found: Fidelity) -> str:
    return tables.table(["placement"], [("", [tables.notation(text)]) for text in found.placements])
