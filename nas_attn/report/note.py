"""What optuna-dashboard's note on a study says, in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from nas_attn.answer.answer import Answer
from nas_attn.answer.answer_text import below, drawing_line, headline, is_placement, rows
from nas_attn.answer.candidates import objective_heading, objective_shown
from nas_attn.answer.remarks import remarks
from nas_attn.answer.snapshot import CandidateView, Snapshot
from nas_attn.answer.validation import ValidationResult
from nas_attn.answer.validation_text import validation_headline, validation_sentences
from nas_attn.recipe import units
from nas_attn.report.figure_facts import Provenance, provenance
from nas_attn.system.wrapping import Line

# Ends our part of a note
BELOW = "*nas_attn updates this note. Text below this line stays.*"
_ESTIMATES: Mapping[Provenance, str] = {
    Provenance.SEARCH: "Estimates from the search on the validation images",
    Provenance.TARGET: "Estimates for training as the target says, on the validation images",
    Provenance.TESTED: "Estimates for training as the target says, on the test images",
}


def trial_paragraphs(view: CandidateView, now: Snapshot) -> Iterator[str]:
    """A trial's placement, outcome and cost; current estimates only of front and baselines."""
    what = f"baseline: {view.baseline}" if view.baseline else "searched"
    front = ", on the front" if view.on_front else ""
    yield f"`{view.placement}`"
    yield f"**{view.state}, {what}{front}**"
    if view.reason:
        yield " ".join(view.reason.split())
    if view.on_front or view.baseline is not None:
        estimates = [
            f"{objective_heading(now, index)} {objective_shown(now, view, index)}"
            for index in range(len(now.objectives))
        ]
        yield f"Estimated now: {', '.join(estimates)}."
        if view.beats_none is not None:
            odds = units.probability(view.beats_none)
            yield f"Probability of being better than the bare backbone: {odds}."
    if view.cost is not None:
        yield f"{units.counted(view.cost)}."


def answer_paragraphs(answer: Answer) -> Iterator[str]:
    """The headline, the drawing, the rows as a table, and what stands below as a list."""
    yield f"**{headline(answer)}**"
    if answer.drawing:
        yield f"`{drawing_line(answer.drawing)}`"
    cells = [[f"**{row.label}**", _said(row)] for row in rows(answer)]
    if cells:
        yield table(["", ""], cells)
    small = below(answer)
    if small:
        yield "\n".join(f"- {row.label}: {_said(row)}" for row in small)
    yield from remarks(answer.now)


def _said(row: Line) -> str:
    text = f"`{row.text}`" if is_placement(row) else row.text
    return f"{text} `{row.command}`" if row.command else text


def test_paragraphs(now: Snapshot, result: ValidationResult) -> Iterator[str]:
    """A test: its headline, and a line for each comparison."""
    yield f"**{validation_headline(result)}**"
    yield "\n".join(f"- {sentence}" for sentence in validation_sentences(result, now))


def what_estimates_are(now: Snapshot) -> str:
    """Which training and which images the table's estimates are about."""
    return f"{_ESTIMATES[provenance(now, now.metric)]}, with 95 % intervals; not a claim."


def what_best_means(now: Snapshot, sheet: str) -> str:
    """How the dashboard's own answer differs from ours. `sheet`: the artifact with our table."""
    told = "the values that Optuna was told when a trial ended, in most cases of one run"
    ours = (
        "The answer above also uses the seeds and the latency sessions that came later, and allows"
        f" for luck. After the search, the artifact {sheet} is the table above."
    )
    if len(now.objectives) == 1:
        return (
            f"*Best* in this dashboard is the best of {told}. The best of many is partly luck."
            f" {ours}"
        )
    return f"*Best trials* in this dashboard, and its Pareto plot, are the front of {told}. {ours}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    return "\n".join([line(head), line(["---"] * len(head)), *map(line, rows)])
