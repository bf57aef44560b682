"""The report, one self-contained HTML file about a study; and its summary in a notebook."""

from __future__ import annotations

import base64
import gzip
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import plotly.graph_objects as go
import plotly.io
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from nas_attn.analysis.choosing import Chosen
from nas_attn.analysis.effects import Effects, both_effects
from nas_attn.analysis.per_image import Mistakes, Picture
from nas_attn.analysis.snapshot import STATES, Snapshot
from nas_attn.analysis.validation import ValidationResult
from nas_attn.errors import StudyError
from nas_attn.paths import user_path, write_whole
from nas_attn.recipe_reading import write_toml
from nas_attn.report import tables
from nas_attn.report.figures.curves import learning_curves
from nas_attn.report.figures.drawing import BLUE, unbroken, untold
from nas_attn.report.figures.effects import sure_map
from nas_attn.report.figures.front import front_figures
from nas_attn.report.figures.noise import noise_figure
from nas_attn.report.figures.retrained import retraining_curves
from nas_attn.words import units
from nas_attn.words.answer import answer
from nas_attn.words.candidates import front_in_words
from nas_attn.words.choosing import choice_sentences
from nas_attn.words.effects import effect_sentences
from nas_attn.words.figures import no_map_sentence
from nas_attn.words.machine import arithmetic_lines, latency_machine
from nas_attn.words.recommendation import measured_on, reasons
from nas_attn.words.remarks import remarks
from nas_attn.words.validation import validation_headline, validation_rows, validation_sentences

# plotly's bundle of the cartesian traces (npm: plotly.js-cartesian-dist-min)
PLOTLY = "plotly-cartesian.min.js.gz"
_PINNED = {"nas_attn": "nas-attn"} | {
    n: n for n in ("torch", "torchvision", "timm", "optuna", "numpy")
}
"""Library, as a study names it -> its name for pip."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """Networks' mistakes, and example images by their numbers in the validation split."""

    mistakes: Mistakes
    pictures: Mapping[int, Sequence[Picture]]


def write_report(
    snapshot: Snapshot, path: Path, choice: Chosen | None = None, *, wrong: Wrong | None = None
) -> Path:
    """Writes the complete report or nothing; returns its absolute path.

    `choice` is shown first; `wrong`: what the compared networks get wrong.
    StudyError: the file cannot be written there.
    """
    target = user_path(path, what="report", error=StudyError).absolute()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, render(snapshot, choice, wrong))
    except OSError as error:
        raise StudyError(
            f"the report cannot be written to '{target}': {error.strerror}; give another path"
        ) from None
    return target


def render(snapshot: Snapshot, choice: Chosen | None = None, wrong: Wrong | None = None) -> str:
    """The whole page as text."""
    page = Page()
    record = snapshot.latency
    model = snapshot.evidence.get(snapshot.primary or "")
    context = {
        **_answer(snapshot),
        "tested": [_tested(snapshot, result) for result in reversed(snapshot.validations)],
        "choice": None if choice is None else _choice(snapshot, choice),
        "tiles": _tiles(snapshot),
        "fronts": [page.draw(figure) for figure in front_figures(snapshot)],
        "new_images": model is not None and model.on_new_images,
        "noise": _noise(snapshot, page),
        "effects": [
            _effects(snapshot, found, page) for found in both_effects(snapshot) if found.rows
        ],
        "mistakes": _mistakes(snapshot, wrong),
        "curves": page.draw(learning_curves(snapshot)),
        "retrained": _retrained(snapshot, page),
        "candidates": tables.candidates_table(snapshot),
        "machine": latency_machine(snapshot),
        "conditions": tables.plain(
            ["what", "value"], {**record.conditions, **record.details}.items() if record else ()
        ),
        "images": snapshot.images,
        "arithmetic": arithmetic_lines(snapshot.arithmetic),
        "readings": tables.plain(
            ["when", "why"], [(when(r.read_at), r.reason) for r in snapshot.test_readings]
        ),
        "commands": _commands(snapshot),
        "recipe": write_toml(snapshot.recipe.model_dump(mode="json")),
        "versions": tables.plain(["library", "version"], sorted(snapshot.versions.items())),
        "written": datetime.now(UTC).timestamp(),
    }
    assets = {
        "style": trusted("style.css"),
        "script": trusted("script.js"),
        "plotly": plotly_script(),
    }
    return templates().get_template("report.html").render(context, **assets, figures=page.figures)


def summary(snapshot: Snapshot, wrong: Wrong | None = None) -> str:
    """For a notebook, without scripts or styles: the answer, the front as figure and table, and the
    networks' mistakes.
    """
    found = {**_answer(snapshot), "sentences": answer(snapshot)}
    drawn = Markup("")
    if snapshot.front:
        figure = drawing(front_figures(snapshot)[0])
        drawn = Markup(
            templates().get_template("drawing.svg").render(figure, label=front_in_words(snapshot))
        )
    return (
        templates()
        .get_template("summary.html")
        .render(found, drawn=drawn, mistakes=_mistakes(snapshot, wrong))
    )


def _answer(snapshot: Snapshot) -> dict[str, Any]:
    best = snapshot.recommendation
    why = reasons(best) if best and snapshot.brief is None else ()
    said = [*answer(snapshot), *why, *remarks(snapshot)]
    view = snapshot.find(snapshot.taken) if snapshot.taken else None
    return {"now": snapshot, "best": view, "sentences": said, "front": tables.front_table(snapshot)}


def _choice(snapshot: Snapshot, choice: Chosen) -> dict[str, Any]:
    return {"view": choice.view, "sentences": choice_sentences(snapshot, choice)}


def _tested(snapshot: Snapshot, result: ValidationResult) -> dict[str, Any]:
    cells = tables.Cell
    rows = [
        tables.TableRow([cells(role), cells(value), cells(notation=placement, wide=True)])
        for role, value, placement in validation_rows(result)
    ]
    names = {network.key: network.role for network in result.family.networks}
    head = ["network", "on the test split, ± over runs", "placement"]
    return {
        "number": result.family.number,
        "headline": validation_headline(result),
        "sentences": list(validation_sentences(result, snapshot)),
        "networks": tables.Table(head, rows if result.verdicts else []),
        "classes": tables.classes_table(result.by_class, names) if result.by_class else None,
    }


def _tiles(snapshot: Snapshot) -> list[tuple[str, str]]:
    points = [point for view in snapshot.candidates for point in view.scores]
    seconds = sum(point.wall_s for point in points)
    waited = [
        point.wall_s * point.metrics["loading_share"]
        for point in points
        if "loading_share" in point.metrics
    ]
    share = (
        f", {100 * sum(waited) / max(seconds, 1e-9):.0f} % of it waiting for images"
        if waited
        else ""
    )
    return [
        (f"{len(snapshot.candidates)} of {snapshot.planned}", "candidates"),
        (str(len(snapshot.front)), "on the front"),
        *((str(snapshot.counts[state]), state) for state in STATES if snapshot.counts[state]),
        (units.duration(seconds), f"of training{share}"),
    ]


def _noise(snapshot: Snapshot, page: Page) -> dict[str, Any] | None:
    floor = snapshot.noise.get(snapshot.primary or "")
    if floor is None or not floor.seed_sd:
        return None
    spread = "inferred from the spread of the scores, since no candidate has run twice yet"
    return {
        "seed": units.size(floor.metric, floor.seed_sd),
        "paired": units.size(floor.metric, 2**0.5 * (floor.paired_sd or 0.0)),
        "spread": units.size(floor.metric, floor.between_sd or 0.0),
        "source": measured_on(floor.repeated) if floor.source == "seeds" else spread,
        "one": f"{100 * (floor.reliability(1) or 0):.0f} %",
        "three": f"{100 * (floor.reliability(3) or 0):.0f} %",
        "figure": page.draw(noise_figure(snapshot)),
    }


def _effects(snapshot: Snapshot, found: Effects, page: Page) -> dict[str, Any]:
    error = (
        ""
        if found.cv_error is None
        else f" (additive model, leave-one-out error {100 * found.cv_error:.1f} %)"
    )
    figure = sure_map(found) if found.at("choice") else None
    return {
        "title": units.title(found.of),
        "error": error,
        "sentences": effect_sentences(found),
        "figure": page.draw(figure),
        "no_map": no_map_sentence(snapshot, found) if figure is None else "",
        "table": tables.effects_table(found),
    }


CAPTIONS = {
    "accuracy": (
        "The share of its runs in which each network is right, and what it takes the image for most"
        " often."
    ),
    "mean_iou": (
        "The share of pixels that each network has right, as the mean over its runs. Masks: the"
        " true one, then the networks'."
    ),
    "map50_95": (
        "The F1 of each network's boxes, as the mean over its runs. Boxes: the true ones, then the"
        " networks'."
    ),
}


def _mistakes(snapshot: Snapshot, wrong: Wrong | None) -> dict[str, Any] | None:
    if wrong is None:
        return None
    found = wrong.mistakes
    names = [role(snapshot, key) for key in wrong.mistakes.keys]
    shown = []
    for one in found.different:
        taken = [f" ({name})" for name in one.found] or [""] * len(names)
        said = {
            n: f"{n}: {100 * v:.0f} %{t}" for n, v, t in zip(names, one.values, taken, strict=False)
        }
        drawn = wrong.pictures.get(one.image, ())
        lines = [[said.pop(p.label, p.label) if len(drawn) > 1 else p.label] for p in drawn]
        if drawn:
            # the results of networks without their own picture
            lines[-1] += said.values()
            shown.append(
                [(_data_url(p.png), p.label, of) for p, of in zip(drawn, lines, strict=True)]
            )
    return {
        "title": units.title_of_class(found.what),
        "caption": CAPTIONS.get(found.what, ""),
        "over": "runs and images" if found.images else "runs, where there are several",
        "classes": tables.mistakes_table(found, names),
        "confusions": tables.confusions(found, names),
        "images": shown,
        "equal": not found.different,
    }


def role(snapshot: Snapshot, key: str) -> str:
    """The name of a compared network."""
    view = snapshot.find(key)
    if key == snapshot.taken:
        return "recommended"
    return "bare" if view is not None and view.baseline == "none" else "runner-up"


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _retrained(snapshot: Snapshot, page: Page) -> dict[str, Any] | None:
    if not snapshot.retrained:
        return None
    drawn = [page.draw(figure) for figure in retraining_curves(snapshot)]
    return {"table": tables.retrained_table(snapshot), "figures": drawn}


def _commands(snapshot: Snapshot) -> str:
    versions = sorted(
        (_PINNED[name], version) for name, version in snapshot.versions.items() if name in _PINNED
    )
    lines = (
        ["pip install " + " ".join(f"{name}=={version}" for name, version in versions)]
        if versions
        else []
    )
    lines += [f"nas-attn search {snapshot.study}.toml"]
    return "\n".join(
        [*lines, *(f"nas-attn {command} {snapshot.study}" for command in ("retrain", "export"))]
    )


@cache
def templates() -> Environment:
    """The environment of `nas_attn/report/templates`."""
    loader = PackageLoader("nas_attn.report")
    undefined = StrictUndefined
    made = Environment(
        loader=loader, undefined=undefined, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    made.filters |= {"code": code, "when": when}
    return made


def code(sentence: str) -> Markup:
    """A sentence, with text between backquotes as code."""
    parts = escape(sentence.replace(" %", "\N{NO-BREAK SPACE}%")).split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(p) if i % 2 else p for i, p in enumerate(parts)
    )


def when(seconds: float) -> str:
    """Unix seconds as a date and time in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def trusted(file: str) -> Markup:
    """Our style sheet or script, not escaped."""
    return Markup(resources.files("nas_attn.report").joinpath("templates", file).read_text("utf-8"))


@cache
def plotly_script() -> Markup:
    """The script that draws the figures in a browser."""
    packed = resources.files("nas_attn.report").joinpath("assets", PLOTLY).read_bytes()
    return Markup(gzip.decompress(packed).decode())


class Page:
    """Collects the figures of one page: name, JSON, height and width in pixels, and a label for
    screen readers.
    """

    def __init__(self) -> None:
        self.figures: list[dict[str, Any]] = []

    def draw(self, figure: go.Figure | None) -> dict[str, Any] | None:
        """Adds a figure; None without one."""
        if figure is None:
            return None
        bare, told = untold(figure)
        axes = [axis.title.text for axis in (bare.layout.yaxis, bare.layout.xaxis)]
        named = " against ".join(unbroken(title) for title in axes if title)
        # so that no text can end the element
        text = str(plotly.io.to_json(bare)).replace("<", "\\u003c")
        drawn = {
            "name": f"figure-{len(self.figures) + 1}",
            "json": Markup(text),
            "message": told.message,
            "how": told.how,
            "label": " ".join(filter(None, (told.message, told.described, named and f"{named}."))),
            "height": int(bare.layout.height),
            # at least
            "width": int((figure.layout.meta or {}).get("width", 0)),
        }
        self.figures.append(drawn)
        return drawn


PICTURE_WIDTH = 680
PICTURE_HEIGHT = 360
# Entries of a row of the legend
LEGEND_COLUMNS = 4
# Pixels beside the axes
AXIS_PIXELS = 64
RIGHT = 12
AXIS_TOP = 40
BOTTOM = 48


class Axis(NamedTuple):
    """Maps values to pixels."""

    low: float
    high: float
    begin: float
    end: float
    title: str

    def at(self, value: float) -> float:
        return round(
            self.begin + (value - self.low) / (self.high - self.low) * (self.end - self.begin), 1
        )

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """(pixel, number) at about five round numbers."""
        rough = (self.high - self.low) / 5
        step = next(
            s
            for s in (m * 10.0 ** math.floor(math.log10(rough)) for m in (1, 2, 5, 10))
            if s >= rough
        )
        first = math.ceil(self.low / step)
        last = math.floor(self.high / step)
        return [(self.at(number * step), f"{number * step:g}") for number in range(first, last + 1)]


def drawing(figure: go.Figure) -> dict[str, Any]:
    """The data of `templates/drawing.svg`, from a figure with points and one stepped line."""
    points = [trace for trace in figure.data if trace.mode == "markers"]
    x, y = (_drawn_axis(figure, points, axis) for axis in ("x", "y"))
    marks = [
        {
            "x": x.at(trace.x[i]),
            "y": y.at(trace.y[i]),
            "x_ends": tuple(map(x.at, _ends(trace, "x", i))),
            "y_ends": tuple(map(y.at, _ends(trace, "y", i))),
            "colour": trace.marker.color,
            "open": trace.marker.symbol == "circle-open",
            "said": trace.text[i].replace("<br>", "\n").replace("<b>", "").replace("</b>", ""),
        }
        for trace in points
        for i in range(len(trace.x))
    ]
    corners: list[tuple[float, float]] = []
    for line in (trace for trace in figure.data if trace.mode == "lines"):
        for at in zip(line.x, line.y, strict=True):
            if corners:
                corners.append(
                    (at[0], corners[-1][1]) if line.line.shape == "hv" else (corners[-1][0], at[1])
                )
            corners.append(at)
    return {
        "width": PICTURE_WIDTH,
        "height": PICTURE_HEIGHT,
        "x": x,
        "y": y,
        "marks": marks,
        "steps": " ".join(f"{x.at(a)},{y.at(b)}" for a, b in corners),
        "legend": [(trace.name, trace.marker.color) for trace in points],
        "columns": LEGEND_COLUMNS,
        "line": BLUE,
    }


def _drawn_axis(figure: go.Figure, points: Sequence[Any], name: str) -> Axis:
    ends = [
        end for trace in points for i in range(len(trace[name])) for end in _ends(trace, name, i)
    ] or [0.0]
    low = min(ends)
    high = max(ends)
    pad = 0.06 * (high - low) or 1.0
    title = unbroken(figure.layout[f"{name}axis"].title.text or "")
    place = (
        (AXIS_PIXELS, PICTURE_WIDTH - RIGHT) if name == "x" else (PICTURE_HEIGHT - BOTTOM, AXIS_TOP)
    )
    return Axis(low - pad, high + pad, *place, title)


def _ends(trace: Any, name: str, i: int) -> tuple[float, float]:
    bars = trace[f"error_{name}"]
    value = float(trace[name][i])
    return (
        (value, value)
        if bars.array is None
        else (value - bars.arrayminus[i], value + bars.array[i])
    )
