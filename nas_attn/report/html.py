"""The report, one self-contained HTML file about a study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import plotly.io
from markupsafe import Markup

from nas_attn.answer.answer import Answer
from nas_attn.answer.arithmetic import arithmetic_lines
from nas_attn.answer.choosing import Chosen, choice_sentences
from nas_attn.answer.effects import Effects, both_effects
from nas_attn.answer.effects_text import effect_sentences
from nas_attn.answer.snapshot import Snapshot
from nas_attn.answer.time_use import time_sentence
from nas_attn.answer.validation import ValidationResult
from nas_attn.answer.validation_text import validation_headline, validation_sentences
from nas_attn.errors import StudyError
from nas_attn.recipe.reading import write_toml
from nas_attn.report import prose as words
from nas_attn.report import tables
from nas_attn.report.figure_facts import provenance, run_range, runs_beside_test
from nas_attn.report.figures.curves import learning_curves
from nas_attn.report.figures.drawing import unbroken, untold
from nas_attn.report.figures.effects import sure_map
from nas_attn.report.figures.front import front_figures
from nas_attn.report.figures.noise import noise_figure
from nas_attn.report.figures.retrained import retraining_curves
from nas_attn.report.headings import SECTIONS
from nas_attn.report.messages import no_map_sentence
from nas_attn.report.mistakes import Wrong, mistakes_parts
from nas_attn.report.network import drawn_answer
from nas_attn.report.prose import latency_machine
from nas_attn.report.templating import Explaining, plotly_script, templates, trusted
from nas_attn.report.terms import TERMS
from nas_attn.system.paths import user_path, write_whole


@dataclass(frozen=True, slots=True)
class ReportSection:
    """A part of the page: `templates/ID.html`, with its heading."""

    id: str
    title: str


ALWAYS_SHOWN = frozenset({"front", "study", "repeat"})


def write_report(
    answer: Answer, path: Path, choice: Chosen | None = None, *, wrong: Wrong | None = None
) -> Path:
    """Writes the complete report or nothing; returns its absolute path.

    `choice` is shown first; `wrong`: what the compared networks get wrong.
    StudyError: the file cannot be written there.
    """
    target = user_path(path, what="report", error=StudyError).absolute()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, render(answer, choice, wrong))
    except OSError as error:
        raise StudyError(
            f"the report cannot be written to '{target}': {error.strerror}; give another path"
        ) from None
    return target


def render(answer: Answer, choice: Chosen | None = None, wrong: Wrong | None = None) -> str:
    """The whole page as text."""
    snapshot = answer.now
    page = Page()
    parts = {
        "tests": [_tested(snapshot, result) for result in reversed(snapshot.validations)],
        "estimates": _estimates(answer, page),
        "effects": _all_effects(snapshot, page),
        "mistakes": mistakes_parts(snapshot, wrong),
        "curves": page.draw(learning_curves(snapshot)),
        "retrained": _retrained(snapshot, page),
        "candidates": tables.candidates_table(snapshot),
    }
    context = {
        "now": snapshot,
        "about": words.about(snapshot.recipe),
        "answer": drawn_answer(answer),
        "best": snapshot.find(snapshot.taken) if snapshot.taken else None,
        "choice": None if choice is None else _choice(snapshot, choice),
        "tiles": words.tiles(snapshot),
        "tested": parts["tests"],
        "noise": parts["estimates"],
        **parts,
        **_front(snapshot, page),
        **_study(snapshot),
        "contents": _contents(parts),
        "explain": Explaining(TERMS),
        "written": datetime.now(UTC).timestamp(),
        "figures": page.figures,
    }
    assets = {
        "style": trusted("style.css"),
        "script": trusted("script.js"),
        "plotly": plotly_script(),
    }
    return templates().get_template("report.html").render(context, **assets)


def _contents(parts: Mapping[str, object]) -> list[ReportSection]:
    """The sections that have something to show."""
    unlike = (parts.keys() | ALWAYS_SHOWN) ^ SECTIONS.keys()
    if unlike:
        raise LookupError(f"these have a heading or a part in the report, and not both: {unlike}")
    return [
        ReportSection(name, title)
        for name, title in SECTIONS.items()
        if name in ALWAYS_SHOWN or parts[name]
    ]


def _choice(snapshot: Snapshot, choice: Chosen) -> dict[str, Any]:
    return {"view": choice.view, "sentences": choice_sentences(snapshot, choice)}


def _tested(snapshot: Snapshot, result: ValidationResult) -> dict[str, Any]:
    return {
        "number": result.family.number,
        "headline": validation_headline(result),
        "sentences": list(validation_sentences(result, snapshot)),
        "networks": tables.tested_table(result),
        "classes": tables.tested_classes_table(result),
    }


def _front(snapshot: Snapshot, page: Page) -> dict[str, Any]:
    model = snapshot.evidence.get(snapshot.primary or "")
    new_images = model is not None and model.on_new_images
    return {
        "front": tables.front_table(snapshot),
        "front_intro": list(words.front_intro(snapshot, new_images=new_images)),
        "fronts": [page.draw(figure) for figure in front_figures(snapshot)],
        "nothing_scored": words.NOTHING_SCORED,
    }


def _estimates(answer: Answer, page: Page) -> dict[str, Any] | None:
    snapshot = answer.now
    floor = snapshot.noise.get(snapshot.primary or "")
    if floor is None or not floor.seed_sd:
        return None
    return {
        "sentences": list(
            words.noise_sentences(
                floor,
                run_range(snapshot),
                runs_beside_test(answer),
                provenance(snapshot, floor.metric),
            )
        ),
        "figure": page.draw(noise_figure(snapshot)),
    }


def _all_effects(snapshot: Snapshot, page: Page) -> dict[str, Any] | None:
    both = [effects for effects in both_effects(snapshot) if effects.rows]
    if not both:
        return None
    parts = [_effects(snapshot, effects, page) for effects in both]
    sentences: list[str] = []
    for effects, part in zip(both, parts, strict=True):
        # where nothing can be told from zero, one sentence says so
        if not part["no_map"]:
            sentences += effect_sentences(effects)
    return {"intro": words.EFFECTS_NOTE, "sentences": sentences, "of": parts}


def _effects(snapshot: Snapshot, effects: Effects, page: Page) -> dict[str, Any]:
    figure = sure_map(effects) if effects.at("choice") else None
    return {
        "title": words.effects_title(effects.of),
        "error": "" if effects.cv_error is None else words.additive_error(effects.cv_error),
        "figure": page.draw(figure),
        "no_map": no_map_sentence(snapshot, effects) if figure is None else "",
        "table": tables.effects_table(effects),
    }


def _retrained(snapshot: Snapshot, page: Page) -> dict[str, Any] | None:
    if not snapshot.retrained:
        return None
    return {
        "intro": words.RETRAINED,
        "table": tables.retrained_table(snapshot),
        "figures": [page.draw(figure) for figure in retraining_curves(snapshot)],
    }


def _study(snapshot: Snapshot) -> dict[str, Any]:
    """How it was measured, and how it is repeated."""
    candidates = tables.candidates_table(snapshot)
    return {
        "candidates_count": words.several_candidates(candidates.rows if candidates else ()),
        "machine": latency_machine(snapshot),
        "conditions": tables.conditions_table(snapshot),
        "images": snapshot.images.described() if snapshot.images else [],
        "arithmetic": arithmetic_lines(snapshot.arithmetic),
        "time": time_sentence(snapshot.time_use),
        "times": tables.time_table(snapshot),
        "test_readings": words.test_readings(snapshot),
        "readings": tables.readings_table(snapshot),
        "repeat": words.repeat(snapshot.study),
        "commands": "\n".join(words.repeat_commands(snapshot)),
        "recipe": write_toml(snapshot.recipe.model_dump(mode="json")),
        "versions": tables.versions_table(snapshot),
    }


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
