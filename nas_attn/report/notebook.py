"""A study in a notebook: the answer and the front's table, without scripts or styles."""

from __future__ import annotations

from nas_attn.answer.answer import Answer
from nas_attn.answer.per_image import Mistakes
from nas_attn.report import page_tables
from nas_attn.report.html import mistakes_parts
from nas_attn.report.network import drawn_answer
from nas_attn.report.templating import templates


def summary(answer: Answer, mistakes: Mistakes | None = None) -> str:
    """The answer, the front's table, and the networks' mistakes."""
    snapshot = answer.now
    return (
        templates()
        .get_template("summary.html")
        .render(
            now=snapshot,
            answer=drawn_answer(answer),
            best=snapshot.find(answer.taken_key or ""),
            front=page_tables.front_table(answer),
            mistakes=mistakes_parts(answer, mistakes),
        )
    )
