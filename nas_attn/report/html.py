"""The report, one self-contained HTML file about a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import plotly.graph_objects as go
import plotly.io
from markupsafe import Markup

from nas_attn.answer.answer import Answer
from nas_attn.answer.choosing import Chosen, choice_sentences
from nas_attn.answer.effects import both_effects
from nas_attn.answer.effects_text import effects_message
from nas_attn.answer.per_image import Mistakes
from nas_attn.answer.snapshot import STATES, Snapshot
from nas_attn.answer.validation import ValidationResult
from nas_attn.answer.validation_text import validation_headline, validation_sentences
from nas_attn.errors import StudyError, several
from nas_attn.latency.ratios import not_alone
from nas_attn.recipe import units
from nas_attn.recipe.reading import write_toml
from nas_attn.report import page_tables
from nas_attn.report.estimates import estimates_sentences
from nas_attn.report.figures.curves import learning_curves
from nas_attn.report.figures.drawing import unbroken, untold
from nas_attn.report.figures.effect_map import effect_map
from nas_attn.report.figures.front import front_figures
from nas_attn.report.network import drawn_answer
from nas_attn.report.templating import plotly_script, templates, trusted, when
from nas_attn.system.paths import user_path, write_whole

SECTIONS: Mapping[str, str] = {
    "tests": "Tests",
    "front": "Front and baselines",
    "estimates": "What the estimates mean",
    "effects": "What each choice does",
    "mistakes": "What the networks get wrong",
    "maps": "Where attention is strong",
    "curves": "Learning curves",
    "retrained": "Trained for use",
    "candidates": "All candidates",
    "study": "The study",
    "repeat": "Repeat the study",
}
"""The sections of the page: id of `templates/ID.html` -> heading. Their order is that of the parts
in `render`; the last two are in every report.
"""
# Library, as a study names it -> its name for pip
PINNED: Mapping[str, str] = {
    "nas_attn": "nas-attn",
    "torch": "torch",
    "torchvision": "torchvision",
    "timm": "timm",
    "optuna": "optuna",
    "numpy": "numpy",
}


class ShownImage(NamedTuple):
    """An image of the page, with the lines under it."""

    # the address of an `img`
    source: str
    lines: Sequence[str]


class Maps(NamedTuple):
    """Where attention is strong: a row of pictures for each image; or why there are none."""

    images: Sequence[Sequence[ShownImage]] = ()
    missing: str = ""


class Beside(NamedTuple):
    """What the page has beside the answer: results and pictures of validation images."""

    mistakes: Mistakes | None = None
    errors: Sequence[ShownImage] = ()
    maps: Maps | None = None


NOTHING_BESIDE = Beside()


def write_report(
    answer: Answer, path: Path, choice: Chosen | None = None, beside: Beside = NOTHING_BESIDE
) -> Path:
    """Writes the complete report or nothing.

    Args:
        answer: of the study.
        path: of the page.
        choice: a candidate that is shown first.
        beside: what the networks get wrong, and where attention is strong.

    Returns:
        The page's absolute path.

    Raises:
        StudyError: the file cannot be written there.
    """
    target = user_path(path, what="report", error=StudyError).absolute()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, render(answer, choice, beside))
    except OSError as error:
        raise StudyError(
            f"the report cannot be written to '{target}': {error.strerror}; give another path"
        ) from None
    return target


def render(answer: Answer, choice: Chosen | None = None, beside: Beside = NOTHING_BESIDE) -> str:
    """The whole page as text, of what `write_report` is given."""
    now = answer.now
    page = Page()
    model = now.evidence.get(now.primary or "")
    parts = {
        "tests": [_tested(now, result) for result in reversed(now.validations)],
        "front": True,
        "estimates": list(estimates_sentences(answer)),
        "effects": _effects(answer, page),
        "mistakes": mistakes_parts(answer, beside.mistakes, beside.errors),
        "maps": beside.maps,
        "curves": page.draw(learning_curves(answer)),
        "retrained": page_tables.retrained_table(now),
        "candidates": page_tables.candidates_table(answer),
    }
    contents = {name: SECTIONS[name] for name, part in parts.items() if part}
    contents |= {"study": SECTIONS["study"], "repeat": SECTIONS["repeat"]}
    context = {
        "now": now,
        "answer": drawn_answer(answer),
        "best": now.find(answer.taken_key or ""),
        "choice": choice and {"view": choice.view, "sentences": choice_sentences(now, choice)},
        "tiles": _tiles(now),
        "fronts": [page.draw(figure) for figure in front_figures(answer)],
        "new_images": model is not None and model.on_new_images,
        **parts,
        "front": page_tables.front_table(answer),
        **_study(now),
        "contents": contents,
        "written": datetime.now(UTC).timestamp(),
        "figures": page.figures,
    }
    assets = {
        "style": trusted("style.css"),
        "script": trusted("script.js"),
        "plotly": plotly_script(),
    }
    return templates().get_template("report.html").render(context, **assets)


def mistakes_parts(
    answer: Answer, mistakes: Mistakes | None, errors: Sequence[ShownImage] = ()
) -> dict[str, Any] | None:
    """What `templates/parts.html` shows of the networks' mistakes; None where they are not
    known.
    """
    if mistakes is None:
        return None
    names = [page_tables.role(answer, key) for key in mistakes.keys]
    return {
        "classes": page_tables.mistakes_table(mistakes, names),
        "confusions": page_tables.confusions(mistakes, names),
        "errors": errors,
        "first": names[0],
    }


def _tiles(now: Snapshot) -> list[tuple[str, str]]:
    """How far the study is: numbers, and what they count."""
    seconds = sum(point.wall_s for view in now.candidates for point in view.scores)
    states = [(str(now.counts[state]), state) for state in STATES if now.counts[state]]
    return [
        (f"{len(now.candidates)} of {now.planned}", "candidates"),
        (str(len(now.front)), "on the front"),
        *states,
        (units.duration(seconds), "of training"),
    ]


def _tested(now: Snapshot, result: ValidationResult) -> dict[str, Any]:
    return {
        "number": result.family.number,
        "headline": validation_headline(result),
        "sentences": list(validation_sentences(result, now)),
        "networks": page_tables.tested_table(result),
        "classes": page_tables.tested_classes_table(result),
    }


def _effects(answer: Answer, page: Page) -> dict[str, Any] | None:
    parts = []
    for effects in both_effects(answer.now):
        if not effects.rows:
            continue
        figure = effect_map(effects) if effects.sure else None
        parts.append(
            {
                "title": "latency" if effects.of == "latency" else units.title(effects.of),
                "cv_error": effects.cv_error,
                "figure": page.draw(figure),
                # a map says it in its title
                "said": "" if figure else effects_message(effects),
                "table": page_tables.effects_table(effects),
            }
        )
    return {"of": parts} if parts else None


def _study(now: Snapshot) -> dict[str, Any]:
    """How it was measured, and how it is repeated."""
    record = now.latency
    conditions = {} if record is None else {**record.conditions, **record.details}
    readings = [(when(reading.read_at), reading.reason) for reading in now.test_readings]
    versions = sorted(now.versions.items())
    pinned = [f"{PINNED[name]}=={version}" for name, version in versions if name in PINNED]
    plain = page_tables.plain
    return {
        "machine": latency_machine(now),
        "conditions": plain("Conditions of measurement", ["what", "value"], conditions.items()),
        "images": now.images.described() if now.images else [],
        "readings": plain("Readings of the test images", ["when", "why"], readings),
        "pinned": " ".join(sorted(pinned)),
        "recipe": write_toml(now.recipe.model_dump(mode="json")),
        "versions": plain("Versions", ["library", "version"], versions),
    }


def latency_machine(now: Snapshot) -> str:
    """Where and how latency was measured."""
    record = now.latency
    if record is None:
        return "No latency has been measured."
    text = (
        f"Latency was measured on {record.machine} in {several(record.sessions, 'session')}"
        f" ({units.duration(record.duration_s)}): {record.reference_ms:.3g} ms for the bare"
        " backbone."
        f" {record.dropped} sessions were dropped because two copies of the same network differed"
        f" too much; typically the copies differ by {100 * record.control_spread:.2f} %."
    )
    if "nms" in record.conditions:
        text += (
            " A detector is timed without the selection of boxes (NMS), unless it is part of the"
            " network."
        )
    return f"{text} {not_alone(record.beside)}".rstrip()


class Page:
    """Collects the figures of one page: name, JSON, height in pixels, and a label for
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
            "label": " ".join(filter(None, (told.message, named and f"{named}."))),
            "height": int(bare.layout.height),
        }
        self.figures.append(drawn)
        return drawn
