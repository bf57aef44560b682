"""A self-contained HTML page: its looks, its script, its figures. Nothing is loaded from anywhere."""

from __future__ import annotations

import gzip
import html
from collections.abc import Iterable
from functools import cache
from importlib import resources
from pathlib import Path

import plotly.graph_objects as go
import plotly.io

from nas_attn.errors import StudyError
from nas_attn.paths import user_path, write_whole

STYLE = """
:root { color-scheme: light; --bg: #ffffff; --card: #f6f8fa; --text: #1f2328; --muted: #59636e; --line: #d1d9e0;
  --accent: #1a7f5a; --front: #ddf4e8; --code: #eef1f4; }
@media (prefers-color-scheme: dark) { :root:not(.paper) { color-scheme: dark; --bg: #0d1117; --card: #151b23; --text: #e6edf3;
  --muted: #9198a1; --line: #30363d; --accent: #3fb98a; --front: #12332a; --code: #212830; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--text); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 24px 20px 60px; }
h1 { font-size: 26px; margin: 0 0 4px; overflow-wrap: anywhere; }
h3 { font-size: 16px; margin: 20px 0 4px; }
h2 { font-size: 19px; margin: 40px 0 8px; padding-top: 12px; border-top: 1px solid var(--line); }
p { margin: 6px 0; max-width: 85ch; }
a { color: var(--accent); }
.muted { color: var(--muted); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 18px; margin: 16px 0; }
.answer { border-left: 5px solid var(--accent); }
.answer p:first-child { font-size: 17px; font-weight: 600; }
.tiles { display: flex; flex-wrap: wrap; gap: 10px; margin: 16px 0; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 8px 14px; min-width: 92px; }
.tile b { display: block; font-size: 20px; }
.tile span { color: var(--muted); font-size: 13px; }
code, .notation { font: 13px/1.45 ui-monospace, "SF Mono", Consolas, monospace; background: var(--code); border-radius: 5px;
  padding: 1px 5px; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 10px; margin: 12px 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 14px; }
th, td { text-align: left; padding: 6px 12px; border-bottom: 1px solid var(--line); vertical-align: top; white-space: nowrap; }
td.wide { white-space: normal; min-width: 300px; }
tr:last-child td { border-bottom: 0; }
th { background: var(--card); font-weight: 600; }
table.sortable th { cursor: pointer; user-select: none; }
table.sortable th::after { content: " ↕"; color: var(--muted); font-weight: 400; }
table.sortable th[aria-sort=ascending]::after { content: " ↑"; }
table.sortable th[aria-sort=descending]::after { content: " ↓"; }
tr.front td { background: var(--front); }
tr.front code, tr.front .notation { background: transparent; padding: 0; }
.tag { display: inline-block; border: 1px solid var(--line); border-radius: 20px; padding: 0 8px; margin-left: 4px; }
.tag { font-size: 12px; font-style: normal; }
.tag.best { border-color: var(--accent); color: var(--accent); font-weight: 600; }
.figure { margin: 8px 0; min-height: 120px; }
.wideview { overflow-x: auto; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
details summary { cursor: pointer; margin: 8px 0; }
pre { background: var(--code); border-radius: 8px; padding: 12px; overflow: auto; font-size: 13px; max-height: 420px; }
input[type=search] { font: inherit; color: inherit; background: var(--bg); border: 1px solid var(--line); border-radius: 8px;
  padding: 6px 10px; width: min(100%, 360px); }
@media print { main { max-width: none; padding: 0; } .figure, tr { break-inside: avoid; }
  .figure { min-width: 0 !important; } .scroll { overflow: visible; border: 0; }
  table { font-size: 11px; } td, th { white-space: normal; padding: 3px 5px; } td.wide { min-width: 160px; }
  td .notation { font-size: 10px; } pre { white-space: pre-wrap; max-height: none; } p { break-inside: avoid; }
  table.sortable th::after { content: none; } .tag { margin-left: 0; padding: 0 4px; font-size: 10px; }
  input, .modebar { display: none; } h2, h3, h2 + p { break-after: avoid; }
  .tile, tr.front td { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
@media screen and (max-width: 640px) { main { padding: 14px 10px 40px; } h1 { font-size: 21px; } th, td { padding: 5px 8px; }
  td.wide { min-width: 0; }
  .stacked, .stacked tbody, .stacked tr { display: block; } .stacked tr { border-bottom: 1px solid var(--line); padding: 4px 0; }
  .stacked tr[hidden] { display: none; } .stacked tbody tr:last-child { border-bottom: 0; }
  .stacked tr.front { background: var(--front); }
  .stacked td { display: flex; justify-content: space-between; gap: 12px; white-space: normal; border: 0; padding: 1px 10px; }
  .stacked td::before { content: attr(data-label); color: var(--muted); }
  .stacked td:empty { display: none; } .stacked td.wide { display: block; overflow-wrap: anywhere; }
  .stacked td.wide::before, .stacked td:first-child::before { content: none; }
  .stacked td:first-child { display: block; font-weight: 600; }
  .stacked thead { display: none; } .stacked.sortable thead { display: block; }
  .stacked.sortable thead tr { display: flex; flex-wrap: wrap; } .stacked.sortable th { border: 0; font-size: 12px; } }
"""

SCRIPT = """
(() => {
  const figures = [...document.querySelectorAll(".figure")];
  const themed = () => {
    const style = getComputedStyle(document.documentElement);
    const of = name => style.getPropertyValue(name).trim();
    return { "font.color": of("--text"), "hoverlabel.bgcolor": of("--card"), "hoverlabel.bordercolor": of("--line"),
      "hoverlabel.font.color": of("--text"), ...(innerWidth < 600 ? { "xaxis.title.font.size": 11 } : {}) };
  };
  const paint = traces => traces.forEach(trace => {  // plotly takes what is translucent for what lies on white
    if (trace.texttemplate || trace.type === "bar") trace.textfont = { color: themed()["font.color"] };
  });
  const theme = figure => { paint(figure.data); Plotly.update(figure, {}, themed()); };
  const shown = element => element.offsetParent !== null;
  const draw = figure => {
    const data = JSON.parse(document.getElementById(figure.dataset.json).textContent);
    paint(data.data);
    Plotly.newPlot(figure, data.data, data.layout, { responsive: true, displaylogo: false,
      displayModeBar: innerWidth < 600 ? false : "hover", modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] });
    theme(figure);
    figure.dataset.drawn = "1";
  };
  const near = new IntersectionObserver(entries => entries.forEach(entry => {
    if (entry.isIntersecting && !entry.target.dataset.drawn) { draw(entry.target); near.unobserve(entry.target); }
  }), { rootMargin: "400px" });
  figures.forEach(figure => near.observe(figure));
  const drawn = () => figures.filter(f => f.dataset.drawn);
  const paper = 720;  // pixels across a page of A4 or Letter
  addEventListener("beforeprint", () => {
    document.documentElement.classList.add("paper");
    figures.filter(f => !f.dataset.drawn && shown(f)).forEach(draw);
    drawn().forEach(f => { theme(f); Plotly.relayout(f, { width: paper }); });
  });
  addEventListener("afterprint", () => {
    document.documentElement.classList.remove("paper");
    drawn().forEach(f => { theme(f); Plotly.relayout(f, { width: null, autosize: true }); });
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change",
    () => drawn().forEach(theme));

  const narrow = matchMedia("(max-width: 640px)"), stack = () => narrow.matches &&
    document.querySelectorAll("table:not(.stacked)").forEach(table => {  // on a phone each row is a block of lines
      const heads = [...table.tHead.rows[0].cells].map(head => head.textContent);
      if (heads.length < 3) return;
      for (const row of table.tBodies[0].rows) [...row.cells].forEach((cell, i) => { cell.dataset.label = heads[i]; });
      table.classList.add("stacked");
    });
  stack();
  narrow.addEventListener("change", stack);

  const key = cell => cell.dataset.sort ?? cell.textContent.trim().toLowerCase();
  const compare = (a, b) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    const x = Number(a), y = Number(b);
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
  };
  document.querySelectorAll("table.sortable").forEach(table => {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const sort = () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach(other => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const body = table.tBodies[0];
        const keyed = [...body.rows].map(row => [key(row.cells[column]), row]);
        keyed.sort(([a], [b]) => (a === "" || b === "") ? compare(a, b) : (down ? compare(b, a) : compare(a, b)));
        keyed.forEach(([, row]) => body.append(row));
      };
      head.tabIndex = 0;
      head.addEventListener("click", sort);
      head.addEventListener("keydown", event => { if (event.key === "Enter") sort(); });
    });
  });
  document.querySelectorAll("input[data-filters]").forEach(input => input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\\s+/).filter(Boolean);
    for (const row of document.getElementById(input.dataset.filters).tBodies[0].rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every(word => text.includes(word));
    }
  }));
})();
"""

_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"
)
"""The page may not load anything from anywhere, and the browser holds it to that."""


PLOTLY = "plotly-cartesian.min.js.gz"
"""Plotly's own bundle of the cartesian traces (npm: plotly.js-cartesian-dist-min), a third of the whole one."""


@cache
def plotly_script() -> str:
    """What draws the figures."""
    return gzip.decompress(resources.files("nas_attn.report").joinpath("assets", PLOTLY).read_bytes()).decode()


class Drawings:
    """Figures of one page, their data kept apart from where they are drawn."""

    def __init__(self) -> None:
        self._json: list[str] = []

    def place(self, figure: go.Figure | None, *, label: str = "") -> str:
        """Where a figure goes; nothing without a figure.

        Args:
            label: the figure in words, for who does not see it.
        """
        if figure is None:
            return ""
        self._json.append(str(plotly.io.to_json(figure)))
        name = f"figure-{len(self._json)}"
        height, width = int(figure.layout.height), (figure.layout.meta or {}).get("width", 0)
        said = html.escape(label or f"Figure: {_titles(figure)}", quote=True)
        least = f";min-width:{width}px" if width else ""
        drawn = f'<div class="figure" role="figure" aria-label="{said}" style="height:{height}px{least}" data-json="{name}"></div>'
        return f'<div class="wideview">{drawn}</div>' if width else drawn

    def data(self) -> str:
        """The figures' data; `<` is written so that no text can end the element."""
        named = {f"figure-{i}": text for i, text in enumerate(self._json, start=1)}
        return "".join(
            f'<script type="application/json" id="{name}">{text.replace("<", chr(92) + "u003c")}</script>'
            for name, text in named.items()
        )


def _titles(figure: go.Figure) -> str:
    """The titles of a figure's axes."""
    named = [axis.title.text for axis in (figure.layout.yaxis, figure.layout.xaxis) if axis.title.text]
    return " against ".join(named)


def page(title: str, subtitle: str, sections: Iterable[str], drawings: Drawings) -> str:
    """The whole page as text.

    Args:
        title: plain text; subtitle and sections are trusted HTML.
    """
    name = html.escape(title)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name} · nas_attn</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<style>{STYLE}</style></head><body><main>"
        f"<h1>{name}</h1>{subtitle}{''.join(sections).replace(' %', '&nbsp;%')}</main>"
        f"{drawings.data()}<script>{plotly_script()}</script><script>{SCRIPT}</script></body></html>"
    )


def write_page(text: str, path: Path) -> Path:
    """Writes a page; what was at `path` is replaced once the new one is complete.

    Returns:
        The absolute path.

    Raises:
        StudyError: the file cannot be written there.
    """
    target = user_path(path, what="report", error=StudyError).absolute()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, text)
    except OSError as error:
        raise StudyError(f"the report cannot be written to '{target}': {error.strerror}; give another path") from None
    return target


def with_code(sentence: str) -> str:
    """Text between backquotes becomes code."""
    parts = html.escape(sentence).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))
