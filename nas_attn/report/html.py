"""The report: one self-contained HTML file that shows a study to someone who was not there."""

from __future__ import annotations

import html
import json
from datetime import UTC, datetime
from pathlib import Path

from nas_attn.analysis.snapshot import STATES, Snapshot
from nas_attn.report import figures, tables, words
from nas_attn.report.page import Drawings, page, with_code, write_page


def write_report(snapshot: Snapshot, path: Path) -> Path:
    """Writes the report; what was at `path` is replaced once the new one is complete.

    Returns:
        The absolute path.

    Raises:
        StudyError: the file cannot be written there.
    """
    return write_page(render(snapshot), path)


def render(snapshot: Snapshot) -> str:
    """The whole page as text."""
    drawings = Drawings()
    sections = [
        _answer(snapshot),
        _counts(snapshot),
        _front(snapshot, drawings),
        _meaning(snapshot, drawings),
        _placements(snapshot, drawings),
        _curves(snapshot, drawings),
        _candidates(snapshot),
        _study(snapshot),
    ]
    return page(snapshot.study, _subtitle(snapshot), sections, drawings)


def _subtitle(snapshot: Snapshot) -> str:
    recipe = snapshot.recipe
    parts = [f"{recipe.backbone.name} on {recipe.data.name}", f"search space {recipe.space.name}"]
    parts.append(f"started {_when(snapshot.created_at)}")
    return f'<p class="muted">{html.escape(" · ".join(parts))}</p>'


def _answer(snapshot: Snapshot) -> str:
    best = snapshot.recommendation
    if best is None:
        last = snapshot.recipe.training.rungs[-1]
        return f'<div class="card answer"><p>No recommendation yet: nothing has been scored at {last} epochs.</p></div>'
    said = "".join(f"<p>{with_code(sentence)}</p>" for sentence in best.sentences)
    return f'<div class="card answer" id="recommendation">{said}</div>'


def _counts(snapshot: Snapshot) -> str:
    planned = snapshot.recipe.search.trials
    tiles = [(f"{len(snapshot.candidates)} of {planned}", "candidates"), (str(len(snapshot.front)), "on the front")]
    tiles += [(str(snapshot.counts[state]), state) for state in STATES if snapshot.counts[state]]
    seconds = sum(point.wall_s for view in snapshot.candidates for point in view.scores)
    tiles.append((words.duration(seconds), "of training"))
    inside = "".join(f'<div class="tile"><b>{value}</b><span>{name}</span></div>' for value, name in tiles)
    return f'<div class="tiles">{inside}</div>'


def _front(snapshot: Snapshot, drawings: Drawings) -> str:
    if not snapshot.front:
        return "<h2>Front and baselines</h2><p>No candidate has been scored to the end yet.</p>"
    drawn = "".join(drawings.place(figure, pick=True) for figure in figures.front_figures(snapshot))
    differs = (
        "<p>The front by today's estimates is not the front by the values told to Optuna, which cannot be changed "
        "afterwards: further seeds and latency sessions came in since.</p>"
        if snapshot.told_front_differs
        else ""
    )
    pairs = ", ".join(f"{html.escape(a.label)} and {html.escape(b.label)}" for a, b in snapshot.ties)
    tied = f"<p>Cannot be told apart in any objective: {pairs}.</p>" if pairs else ""
    return (
        "<h2>Front and baselines</h2><p>Candidates that no other beats in every objective, beside those that nobody had "
        f"to search for. Bars are 95 % intervals.</p>{drawn}{differs}{tables.front_table(snapshot)}{tied}"
    )


def _meaning(snapshot: Snapshot, drawings: Drawings) -> str:
    floor = snapshot.noise.get(snapshot.primary or "")
    if floor is None or floor.seed_sd is None:
        return ""
    points = floor.metric == "accuracy"

    def size(sd: float) -> str:
        return f"{100 * sd:.2f} points" if points else f"{sd:.3g}"

    one, three = floor.reliability(1), floor.reliability(3)
    lines = [
        f"The same candidate trained again with another seed scores differently by {size(floor.seed_sd)} (standard "
        f"deviation, {_source(floor.source, floor.repeated)}). This is the noise floor of this study.",
        f"The candidates' true scores seem to spread by {size(floor.between_sd or 0.0)}. So one run tells {100 * (one or 0):.0f} % "
        f"signal, the mean of three runs {100 * (three or 0):.0f} %.",
        "Each estimate is therefore the mean of a candidate's runs pulled towards the mean of all, the more the fewer runs "
        "it had; bars reach two standard deviations either way. Among many candidates the best-looking is partly lucky: "
        "this pull is what corrects for it.",
        "These are estimates made during a search, from brief training and the validation images. They are not a claim "
        "about fully trained networks or about the test images, which the search has not read.",
    ]
    text = "".join(f"<p>{html.escape(line)}</p>" for line in lines)
    return f"<h2>What the estimates mean</h2>{text}{drawings.place(figures.noise_figure(snapshot))}"


def _source(source: str, repeated: int) -> str:
    return {
        "seeds": f"measured on {repeated} candidates that ran more than once",
        "images": "inferred from the finite validation set, as no candidate has run twice yet",
        "assumed": "assumed to be half of the variance seen, as no candidate has run twice yet",
    }.get(source, source)


def _placements(snapshot: Snapshot, drawings: Drawings) -> str:
    matrix = drawings.place(figures.placement_matrix(snapshot))
    effects = drawings.place(figures.latency_effects_figure(snapshot))
    text = "<h2>Placements</h2><p>Candidates from left (best in the first objective) to right; ★ is on the front.</p>"
    cost = "<h2>What each module costs</h2><p>Added latency by choice and site, from the additive model of the measured candidates.</p>"
    return (f"{text}{matrix}" if matrix else "") + (f"{cost}{effects}" if effects else "")


def _curves(snapshot: Snapshot, drawings: Drawings) -> str:
    curves = drawings.place(figures.learning_curves(snapshot))
    return f"<h2>Learning curves</h2><p>One line a run; pruned ones end in a cross.</p>{curves}" if curves else ""


def _candidates(snapshot: Snapshot) -> str:
    if not snapshot.candidates:
        return ""
    field = '<input type="search" data-filters="candidates" placeholder="Filter: se stage2 …" aria-label="Filter candidates">'
    return f"<h2>All candidates</h2>{field}{tables.candidates_table(snapshot)}"


def _study(snapshot: Snapshot) -> str:
    recipe = html.escape(json.dumps(snapshot.recipe.model_dump(mode="json"), indent=2, sort_keys=True))
    rows = [(name, version) for name, version in sorted(snapshot.versions.items())]
    versions = tables.table(["library", "version"], [("", [tables.text(a), tables.text(b)]) for a, b in rows])
    readings = snapshot.test_readings
    tests = (
        "The test images have not been read." if not readings else f"The test images were read {len(readings)} times:"
    )
    log = [("", [tables.text(_when(reading.read_at)), tables.text(reading.reason)]) for reading in readings]
    return (
        f"<h2>The study</h2>{_machine(snapshot)}<p>{tests}</p>{tables.table(['when', 'why'], log) if log else ''}"
        f"<details><summary>Recipe</summary><pre>{recipe}</pre></details>"
        f"<details><summary>Versions</summary>{versions}</details>"
        f'<p class="muted">Written {_when(datetime.now(UTC).timestamp())} by nas_attn.</p>'
    )


def _machine(snapshot: Snapshot) -> str:
    record = snapshot.latency
    if record is None:
        return "<p>No latency has been measured.</p>"
    reference = f"{record.reference_ms:.3g} ms for the bare backbone"
    text = (
        f"Latency measured on {record.machine} in {record.sessions} sessions ({words.duration(record.duration_s)}): {reference}. "
        f"{record.dropped} of them do not count, because two copies of the same network came out too far apart; typically "
        f"the copies differ by {100 * record.control_spread:.2f} %."
    )
    facts = {**record.conditions, **record.details}
    rows = [("", [tables.text(name), tables.text(value)]) for name, value in facts.items()]
    more = f"<details><summary>Conditions of measurement</summary>{tables.table(['what', 'value'], rows)}</details>"
    return f"<p>{html.escape(text)}</p>{more}"


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
