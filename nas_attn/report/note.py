"""The note of a study, which optuna-dashboard shows (Markdown)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nas_attn.answer.answer import Answer
from nas_attn.answer.answer_text import below, drawing_line, is_placement, rows
from nas_attn.answer.candidates import SIGNS, candidate_label
from nas_attn.answer.columns import gain_columns, heads
from nas_attn.answer.headline import headline
from nas_attn.answer.reasons import remarks
from nas_attn.answer.snapshot import CandidateView, Snapshot
from nas_attn.answer.validation_text import validation_headline, validation_sentences
from nas_attn.report.estimates import Provenance, provenance
from nas_attn.system.wrapping import Line, glued

# Ends our part of a note
BELOW = "*nas_attn updates this note. Text below this line stays.*"
# The name of the answer's table among the study's artifacts
SHEET = "answer.csv"
# Rows of the study note's table at most
MOST_ROWS = 40


def study_note(answer: Answer) -> str:
    """The study's note: the answer, the tests, the front beside the baselines, and what the
    dashboard's own answer means.
    """
    now = answer.now
    paragraphs = [f"# {now.study}", *_answer_paragraphs(answer)]
    for result in reversed(now.validations):
        paragraphs.append(f"**{validation_headline(result)}**")
        sentences = validation_sentences(result, now)
        paragraphs.append("\n".join(f"- {sentence}" for sentence in sentences))
    if now.front:
        paragraphs.append(_front(now))
    told = "the values that Optuna was told when a trial ended, in most cases of one run"
    best = f"*Best trials* in this dashboard, and its Pareto plot, are the front of {told}."
    if len(now.objectives) == 1:
        best = f"*Best* in this dashboard is the best of {told}. The best of many is partly luck."
    paragraphs.append(
        f"{best} The answer above also uses the seeds and the latency sessions that came later, and"
        f" allows for luck. After the search, the artifact {SHEET} is the table above."
    )
    about = {
        Provenance.SEARCH: "from the search on the validation images",
        Provenance.TARGET: "for training as the target says, on the validation images",
        Provenance.TESTED: "for training as the target says, on the test images",
    }[provenance(now, now.metric)]
    paragraphs.append(f"Estimates {about}, with 95 % intervals; not a claim.")
    return "\n\n".join(paragraphs)


def _answer_paragraphs(answer: Answer) -> Iterator[str]:
    """The headline, the drawing, the rows as a table, and what stands below as a list."""
    yield f"**{headline(answer)}**"
    if answer.drawing:
        yield f"`{drawing_line(answer.drawing)}`"
    cells = [[f"**{row.label}**", _said(row)] for row in rows(answer)]
    if cells:
        yield _table(["", ""], cells)
    small = below(answer)
    if small:
        yield "\n".join(f"- {row.label}: {_said(row)}" for row in small)
    yield from remarks(answer)


def _said(row: Line) -> str:
    text = f"`{row.text}`" if is_placement(row) else row.text
    return f"{text} `{row.command}`" if row.command else text


def _front(snapshot: Snapshot) -> str:
    shown = snapshot.shown[:MOST_ROWS]
    columns = [gain_columns(snapshot, view) for view in shown]
    rows = [
        # a number stays beside its unit
        [str(view.trial), _role(view), *(glued(one.text) for one in of), f"`{view.placement}`"]
        for view, of in zip(shown, columns, strict=True)
    ]
    return _table(["trial", "", *heads(columns[0]), "placement"], rows)


def _role(view: CandidateView) -> str:
    """`front, uniform se`, `front, control resnet14, larger`; empty for a placement that is
    neither.
    """
    name = candidate_label(view) if view.baseline else ""
    other = view.means if view.means in SIGNS else ""
    return ", ".join(filter(None, ["front" if view.on_front else "", name, other]))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    return "\n".join([line(head), line(["---"] * len(head)), *map(line, rows)])
