"""The report, one self-contained HTML file about a study; and its answer alone, for a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import plotly.graph_objects as go
import plotly.io
from markupsafe import Markup

from nas_attn.answer.answer import Answer
from nas_attn.answer.answer_text import below, drawing_line, rows
from nas_attn.answer.choosing import Chosen, choice_sentences
from nas_attn.answer.effects import both_effects
from nas_attn.answer.effects_text import effects_message
from nas_attn.answer.headline import headline
from nas_attn.answer.pair_tests import ValidationResult
from nas_attn.answer.per_image import Mistakes
from nas_attn.answer.reasons import reasons, remarks
from nas_attn.answer.snapshot import Snapshot
from nas_attn.answer.validation_text import validation_headline, validation_sentences
from nas_attn.errors import StudyError, several
from nas_attn.latency.ratios import not_alone
from nas_attn.recipe import units
from nas_attn.recipe.reading import write_toml
from nas_attn.report import page_tables
from nas_attn.report.columns import named
from nas_attn.report.figures import all_figures, effects_name
from nas_attn.report.figures.style import unbroken
from nas_attn.report.templating import plotly_script, templates, trusted, when
from nas_attn.system.paths import user_path, write_whole

SECTIONS: Mapping[str, str] = {
    "tests": "Tests",
    "front": "Front and baselines",
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
in `render`.
"""


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
    figures = {name: _drawn(name, figure) for name, figure in all_figures(answer).items()}
    model = now.evidence.get(now.primary or "")
    parts = {
        "tests": [_tested(now, result) for result in reversed(now.validations)],
        "front": True,
        "effects": {"of": _effects(answer, figures)} if both_effects(now) else None,
        "mistakes": _mistakes(answer, beside),
        "maps": beside.maps,
        "curves": figures.get("curves"),
        "retrained": page_tables.retrained_table(now),
        "candidates": page_tables.candidates_table(answer),
        "study": True,
        "repeat": True,
    }
    context = {
        **_card(answer),
        "choice": choice and {"view": choice.view, "sentences": choice_sentences(now, choice)},
        "fronts": [drawn for name, drawn in figures.items() if name.startswith("front")],
        "new_images": model is not None and model.on_new_images,
        **parts,
        "front": page_tables.front_table(answer),
        **_study(now),
        "contents": {name: SECTIONS[name] for name, part in parts.items() if part},
        "written": datetime.now(UTC).timestamp(),
        "figures": list(figures.values()),
    }
    assets = {
        "style": trusted("style.css"),
        "script": trusted("script.js"),
        "plotly": plotly_script(),
    }
    return templates().get_template("report.html").render(context, **assets)


def summary(answer: Answer, mistakes: Mistakes | None = None) -> str:
    """The answer, the front's table, and the networks' mistakes, without scripts or styles."""
    front = page_tables.front_table(answer)
    wrong = _mistakes(answer, Beside(mistakes))
    page = templates().get_template("summary.html")
    return page.render(_card(answer), front=front, mistakes=wrong)


def _card(answer: Answer) -> dict[str, Any]:
    """What `templates/parts.html` writes of an answer."""
    card = {
        "headline": headline(answer),
        "drawing": drawing_line(answer.drawing) if answer.drawing else "",
        "rows": rows(answer),
        "below": below(answer),
        "remarks": remarks(answer),
        "reasons": [] if answer.taken is None else reasons(answer),
    }
    return {"now": answer.now, "answer": card, "best": answer.now.find(answer.taken_key or "")}


def _mistakes(answer: Answer, beside: Beside) -> dict[str, Any] | None:
    """What `templates/parts.html` shows of the networks' mistakes; None where they are not
    known.
    """
    mistakes = beside.mistakes
    if mistakes is None:
        return None
    names = [named(answer, key) for key in mistakes.keys]
    return {
        "classes": page_tables.mistakes_table(mistakes, names),
        "errors": beside.errors,
        "first": names[0],
    }


def _tested(now: Snapshot, result: ValidationResult) -> dict[str, Any]:
    return {
        "number": result.family.number,
        "headline": validation_headline(result),
        "sentences": list(validation_sentences(result, now)),
        "networks": page_tables.tested_table(result),
    }


def _effects(answer: Answer, figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "title": effects.of.replace("_", " "),
            "cv_error": effects.cv_error,
            "figure": figures.get(effects_name(effects)),
            # a map says it itself
            "said": "" if effects.sure else effects_message(effects),
            "table": page_tables.effects_table(effects),
        }
        for effects in both_effects(answer.now)
        if effects.rows
    ]


def _study(now: Snapshot) -> dict[str, Any]:
    """How it was measured, and how it is repeated."""
    record = now.latency
    conditions = {} if record is None else {**record.conditions, **record.details}
    readings = [(when(reading.read_at), reading.reason) for reading in now.test_readings]
    versions = sorted(now.versions.items())
    plain = page_tables.plain
    return {
        "machine": latency_machine(now),
        "conditions": plain("Conditions of measurement", ["what", "value"], conditions.items()),
        "images": now.images.described() if now.images else [],
        "readings": plain("Readings of the test images", ["when", "why"], readings),
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


def _drawn(name: str, figure: go.Figure) -> dict[str, Any]:
    """A figure in the page: its JSON, what is said of it, and a label for screen readers."""
    layout = figure.layout
    axes = [axis.title.text for axis in (layout.yaxis, layout.xaxis)]
    named = " against ".join(unbroken(title) for title in axes if title)
    # so that no text can end the element
    text = str(plotly.io.to_json(figure)).replace("<", "\\u003c")
    return {
        "name": f"figure-{name}",
        "json": Markup(text),
        **layout.meta,
        "label": f"{layout.meta['message']} {named}",
        "height": layout.height,
    }
