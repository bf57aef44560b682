"""The note of a study, which optuna-dashboard shows (Markdown)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nas_attn.answer.answer import Answer
from nas_attn.answer.answer_text import below, drawing_line, is_placement, rows
from nas_attn.answer.candidates import candidate_label
from nas_attn.answer.headline import headline
from nas_attn.answer.reasons import remarks
from nas_attn.answer.validation_text import validation_headline, validation_sentences
from nas_attn.report.columns import compared, tags
from nas_attn.report.estimates import provenance
from nas_attn.system.wrapping import Line, glued

# The name of the answer's table among the study's artifacts
SHEET = "answer.csv"
# Rows of the note's table at most
MOST_ROWS = 40


def study_note(answer: Answer) -> str:
    """The study's note: the answer, the tests, the front beside the baselines, and what the
    dashboard's own answer means.
    """
    return "\n\n".join(_paragraphs(answer))


def _paragraphs(answer: Answer) -> Iterator[str]:
    now = answer.now
    yield f"# {now.study}"
    yield f"**{headline(answer)}**"
    if answer.drawing:
        yield f"`{drawing_line(answer.drawing)}`"
    yield _table(["", ""], [[f"**{row.label}**", _said(row)] for row in rows(answer)])
    yield "\n".join(f"- {row.label}: {_said(row)}" for row in below(answer))
    yield from remarks(answer)
    for result in reversed(now.validations):
        yield f"**{validation_headline(result)}**"
        yield "\n".join(f"- {sentence}" for sentence in validation_sentences(result, now))
    if now.front:
        head = [one.head for one in compared(answer, now.front[0])]
        lines = [
            [
                str(view.trial),
                ", ".join([candidate_label(view), *tags(answer, view)]),
                # a number stays beside its unit
                *(glued(one.text) for one in compared(answer, view)),
                f"`{view.placement}`",
            ]
            for view in now.shown[:MOST_ROWS]
        ]
        yield _table(["trial", "candidate", *head, "placement"], lines)
    told = "the values that Optuna was told when a trial ended, in most cases of one run"
    best = f"*Best trials* in this dashboard, and its Pareto plot, are the front of {told}."
    if len(now.objectives) == 1:
        best = f"*Best* in this dashboard is the best of {told}. The best of many is partly luck."
    yield (
        f"{best} The answer above also uses the seeds and the latency sessions that came later, and"
        f" allows for luck. After the search, the artifact {SHEET} is the table above."
    )
    yield f"Estimates {provenance(now, now.metric)}, with 95 % intervals; not a claim."


def _said(row: Line) -> str:
    text = f"`{row.text}`" if is_placement(row) else row.text
    return f"{text} `{row.command}`" if row.command else text


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; empty without lines."""

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    whole = [line(head), line(["---"] * len(head)), *map(line, lines)]
    return "\n".join(whole) if lines else ""
