"""A self-contained HTML page: its looks, its script, its figures. Nothing is loaded from anywhere."""

from __future__ import annotations

import gzip
import html
import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

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
.network { display: flex; flex-wrap: wrap; gap: 6px 18px; margin: 6px 0; }
.network > div { position: relative; border: 1px solid var(--line); border-radius: 8px; padding: 4px 10px; min-width: 74px; }
.network > div + div::before { content: "→"; position: absolute; left: -16px; }
.network b { display: block; font-weight: 600; color: var(--text); }
.network span { display: block; font-size: 12px; color: var(--text); }
.network .attended { border: 2px solid var(--accent); background: var(--front); }
.timeline { display: flex; height: 26px; margin: 26px 0 8px; max-width: 900px; }
.timeline > div { position: relative; display: flex; flex-basis: 0; min-width: 3px; background: var(--line); margin-right: 2px; }
.timeline b { position: absolute; top: -18px; left: 0; right: 0; overflow: hidden; white-space: nowrap; font-size: 12px;
  line-height: 16px; font-weight: 400; color: var(--text); }
.timeline span { flex: 1 1 0; min-width: 0; }
.timeline i { min-width: 3px; background: var(--accent); }
.wideview { overflow-x: auto; }
td .notation[role=button] { cursor: pointer; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
details summary { cursor: pointer; margin: 8px 0; }
pre { background: var(--code); border-radius: 8px; padding: 12px; overflow: auto; font-size: 13px; max-height: 420px; }
input[type=search] { font: inherit; color: inherit; background: var(--bg); border: 1px solid var(--line); border-radius: 8px;
  padding: 6px 10px; width: min(100%, 360px); }
.timeline b.below { top: 28px; right: auto; overflow: visible; }
.timeline > div:last-child b.below { left: auto; right: 0; }
.timeline:has(.below) { margin-bottom: 28px; }
@media print { main { max-width: none; padding: 0; } .figure, .picked, tr { break-inside: avoid; }
  .figure { min-width: 0 !important; } .scroll { overflow: visible; border: 0; }
  table { font-size: 11px; } td, th { white-space: normal; padding: 3px 5px; } td.wide { min-width: 160px; }
  td .notation { font-size: 10px; } pre { white-space: pre-wrap; max-height: none; } p { break-inside: avoid; }
  table.sortable th::after { content: none; } .tag { margin-left: 0; padding: 0 4px; font-size: 10px; }
  input, .modebar { display: none; } h2, h3, h2 + p { break-after: avoid; }
  .timeline *, .tile, tr.front td, .network .attended { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
@media screen and (max-width: 640px) { main { padding: 14px 10px 40px; } h1 { font-size: 21px; } th, td { padding: 5px 8px; }
  .network > div + div::before { content: none; } td.wide { min-width: 0; }
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
  const choices = text => Object.fromEntries([...text.matchAll(/(\\S+?)=([^\\s(]+(?:\\([^)]*\\))?)/g)].map(m => [m[1], m[2]]));
  const backbone = JSON.parse(document.getElementById("backbone")?.textContent ?? '{"parts": [], "added": {}}');
  const timed = backbone.parts.length > 0 && backbone.parts.every(part => part.ms !== null);
  const whole = timed ? backbone.parts.reduce((sum, part) => sum + part.ms, 0) : 1;
  const length = part => timed ? part.ms / whole : 1 / backbone.parts.length;
  const add = (parent, kind, text) => {
    const element = parent.appendChild(document.createElement(kind));
    if (text) element.textContent = text;
    return element;
  };
  const ms = share => timed ? ` ${(share * whole).toPrecision(2)} ms` : "";
  const fill = 1000;  // below a sum of 1 a flexible box would leave room
  const timeline = at => {  // stages to scale of their time, each block of them, modules behind the blocks where they sit
    const bar = document.createElement("div");
    bar.className = "timeline";
    for (const part of backbone.parts) {
      const stage = add(bar, "div");
      add(stage, "b", part.name);
      let grow = length(part);
      for (let block = 1; block <= part.blocks; block++) {
        add(stage, "span").style.flexGrow = fill * length(part) / part.blocks;
        for (const [place, choice] of Object.entries(at)) {
          const [site, position] = place.split("@"), own = site === `${part.name}.block${block}`;
          if (!own && (site !== part.name || (position === "stage" && block < part.blocks))) continue;
          const share = Math.max(backbone.added[`${place}=${choice}`] ?? 0, 0) / (own || position === "stage" ? 1 : part.blocks);
          const module = add(stage, "i");
          module.style.flex = `${fill * share} 1 0`;
          module.title = `${place}: ${choice}` + (share ? `, adds${ms(share) || ` ${(100 * share).toFixed(1)} %`}` : "");
          grow += share;
        }
      }
      stage.style.flexGrow = fill * grow;
      stage.title = part.name + (timed ? `: ${part.ms.toPrecision(2)} ms of ${whole.toPrecision(2)} ms` : "");
    }
    return bar;
  };
  const named = bar => {  // a name that is wider than its stage stands below it, if there is room
    let end = -Infinity;
    for (const name of bar.querySelectorAll("b")) if (name.scrollWidth > name.clientWidth) {
      name.className = "below";
      const place = name.getBoundingClientRect();
      if (place.left < end) name.style.visibility = "hidden"; else end = place.right + 4;
    }
  };
  const pick = (text, box) => {
    if (!box || !box.classList.contains("picked")) return;
    const at = choices(text), bare = site => site.split("@")[0];
    const sites = backbone.parts.filter(part => part.site).map(part => part.name);
    for (const site of Object.keys(at)) if (!sites.includes(bare(site))) sites.push(bare(site));
    const drawing = document.createElement("div");
    drawing.className = "network";
    drawing.setAttribute("role", "img");
    drawing.setAttribute("aria-label", text === "none" ? "No attention" : "Attention at " + text);
    for (const site of sites) {
      const stage = drawing.appendChild(document.createElement("div"));
      const part = backbone.parts.find(part => part.name === site);
      add(stage, "b", site);
      if (part) stage.title = `${part.shape}${timed ? `, ${part.ms.toPrecision(2)} ms` : ""}`;
      for (const [place, choice] of Object.entries(at)) if (bare(place) === site) {
        const module = stage.appendChild(document.createElement("span"));
        module.textContent = choice + (place.includes("@") ? " @" + place.split("@")[1] : "");
      }
      stage.classList.toggle("attended", stage.children.length > 1);
    }
    const bar = timeline(at);
    box.replaceChildren(bar, drawing);
    named(bar);
    if (!timed && backbone.parts.length) add(box, "p", backbone.unknown);
    add(box, "code", text);
  };
  const first = document.querySelector(".picked");
  if (first && first.dataset.shown) pick(first.dataset.shown, first);
  if (first) document.querySelectorAll("td .notation").forEach(element => {
    element.tabIndex = 0;
    element.setAttribute("role", "button");
    const show = () => { pick(element.textContent, first); first.scrollIntoView({ block: "nearest" }); };
    element.addEventListener("click", show);
    element.addEventListener("keydown", event => { if (event.key === "Enter") show(); });
  });
  const shown = element => element.offsetParent !== null;
  const draw = figure => {
    const data = JSON.parse(document.getElementById(figure.dataset.json).textContent);
    paint(data.data);
    Plotly.newPlot(figure, data.data, data.layout, { responsive: true, displaylogo: false,
      displayModeBar: innerWidth < 600 ? false : "hover", modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] });
    theme(figure);
    figure.on("plotly_click", event => {
      const text = event.points[0].customdata;
      if (typeof text !== "string") return;
      const own = figure.nextElementSibling;
      pick(text, own && own.classList.contains("picked") ? own : first);
    });
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

    def __init__(self, backbone: Mapping[str, Any] | None = None) -> None:
        """Args:
        backbone: on what the placement of a point that is clicked is drawn: `parts`, and `added` by each choice.
        """
        self._json: list[str] = []
        self._backbone = backbone

    def place(self, figure: go.Figure | None, *, label: str = "", pick: str | None = None) -> str:
        """Where a figure goes; nothing without a figure.

        Args:
            label: the figure in words, for who does not see it.
            pick: below it, the placement of a point that is clicked is drawn; at first this one, where it is not empty.
        """
        if figure is None:
            return ""
        self._json.append(str(plotly.io.to_json(figure)))
        name = f"figure-{len(self._json)}"
        height, width = int(figure.layout.height), (figure.layout.meta or {}).get("width", 0)
        said = html.escape(label or f"Figure: {_titles(figure)}", quote=True)
        least = f";min-width:{width}px" if width else ""
        drawn = f'<div class="figure" role="figure" aria-label="{said}" style="height:{height}px{least}" data-json="{name}"></div>'
        if width:
            drawn = f'<div class="wideview">{drawn}</div>'
        if pick is None:
            return drawn
        hint = "Click a point, or a placement in a table, to see where its modules sit."
        first = f' data-shown="{html.escape(pick, quote=True)}"' if pick else ""
        return f'{drawn}<div class="picked muted"{first} aria-live="polite">{hint}</div>'

    def data(self) -> str:
        """The figures' data; `<` is written so that no text can end the element."""
        named = {f"figure-{i}": text for i, text in enumerate(self._json, start=1)}
        if self._backbone is not None:
            named["backbone"] = json.dumps(self._backbone)
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
