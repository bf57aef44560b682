"""The report: one self-contained HTML file that shows a study to someone who was not there."""

from __future__ import annotations

import html
from datetime import UTC, datetime
from pathlib import Path

from nas_attn.analysis.choosing import Choice, nothing_recommended
from nas_attn.analysis.effects import Effects, fit_effects
from nas_attn.analysis.recommendation_words import measured_on
from nas_attn.analysis.snapshot import STATES, CandidateView, Snapshot
from nas_attn.analysis.suggestions import suggest
from nas_attn.analysis.validation import ValidationResult
from nas_attn.collecting import uncollected
from nas_attn.report import effect_map, figures, retrained, tables, verdicts, words
from nas_attn.report.page import Drawings, page, with_code, write_page
from nas_attn.tasks import SHARES
from nas_attn.toml_text import write_toml

MOST_OPEN = 300
"""Candidates up to which their table is open from the beginning."""


def write_report(snapshot: Snapshot, path: Path, choice: Choice | None = None) -> Path:
    """Writes the report; what was at `path` is replaced once the new one is complete.

    Args:
        choice: a candidate that was chosen in other words than `--recommended`; it is shown first.

    Returns:
        The absolute path.

    Raises:
        StudyError: the file cannot be written there.
    """
    return write_page(render(snapshot, choice), path)


@uncollected()
def render(snapshot: Snapshot, choice: Choice | None = None) -> str:
    """The whole page as text."""
    drawings = Drawings()
    sections = [
        _tested(snapshot),
        "" if choice is None else _chosen(choice),
        _answer(snapshot),
        _counts(snapshot),
        _front(snapshot, drawings),
        _meaning(snapshot, drawings),
        _effects(snapshot, drawings),
        _suggestions(snapshot),
        _classes(snapshot),
        _curves(snapshot, drawings),
        _retrained(snapshot, drawings),
        _candidates(snapshot),
        _study(snapshot),
    ]
    return page(snapshot.study, _subtitle(snapshot), sections, drawings)


def summary(snapshot: Snapshot) -> str:
    """The answer and the front in a few lines of HTML, without a style of their own: for a notebook."""
    return f"<p><b>{html.escape(snapshot.study)}</b></p>{_answer(snapshot)}{tables.front_table(snapshot)}"


def _subtitle(snapshot: Snapshot) -> str:
    recipe = snapshot.recipe
    parts = [f"{recipe.backbone.name} on {recipe.data.name}", f"search space {recipe.space.name}"]
    parts.append(f"started {_when(snapshot.created_at)}")
    return f'<p class="muted">{html.escape(" · ".join(parts))}</p>'


def _chosen(choice: Choice) -> str:
    said = [f"Chosen: {choice.sentences[0]}", f"`{choice.view.placement}`", *choice.sentences[1:]]
    body = "".join(f"<p>{with_code(text)}</p>" for text in said)
    return f'<div class="card answer" id="chosen">{body}{_snippet(choice.view)}</div>'


def _snippet(view: CandidateView | None) -> str:
    if view is None or not view.snippet:
        return ""
    code = f'<pre><code id="snippet-{view.key}">{html.escape(view.snippet)}</code></pre>'
    return f"<details><summary>In your own code</summary>{code}</details>"


def _tested(snapshot: Snapshot) -> str:
    """What validations have shown, the latest first: it stands before all that is estimated."""
    return "".join(_verdict(snapshot, result) for result in reversed(snapshot.validations))


def _verdict(snapshot: Snapshot, result: ValidationResult) -> str:
    said = "".join(f"<p>{with_code(sentence)}</p>" for sentence in verdicts.sentences(result, snapshot))
    rows = [
        ("", [tables.text(role), tables.text(value), tables.notation(placement)])
        for role, value, placement in verdicts.summary(result)
    ]
    networks = tables.table(["network", "on the test split, ± over runs", "placement"], rows) if result.verdicts else ""
    head = f"<p>{html.escape(verdicts.headline(result))}</p>"
    classes = ""
    if result.by_class is not None:
        names = {network.key: network.role for network in result.family.networks}
        table = tables.classes_table(result.by_class, names)
        classes = f"<details><summary>On the test split class by class</summary>{table}</details>"
    return f'<div class="card answer" id="validation-{result.family.number}">{head}{said}{networks}{classes}</div>'


def _answer(snapshot: Snapshot) -> str:
    best = snapshot.recommendation
    sentences = snapshot.remarks
    if best is None:
        said = "".join(f"<p>{html.escape(text)}</p>" for text in [*sentences, nothing_recommended(snapshot)])
        return f'<div class="card answer">{said}</div>'
    said = "".join(f"<p>{with_code(sentence)}</p>" for sentence in [*best.sentences, *sentences])
    return f'<div class="card answer" id="recommendation">{said}{_snippet(snapshot.find(best.key))}</div>'


def _counts(snapshot: Snapshot) -> str:
    tiles = [
        (f"{len(snapshot.candidates)} of {snapshot.planned}", "candidates"),
        (str(len(snapshot.front)), "on the front"),
    ]
    tiles += [(str(snapshot.counts[state]), state) for state in STATES if snapshot.counts[state]]
    seconds = sum(point.wall_s for view in snapshot.candidates for point in view.scores)
    tiles.append((words.duration(seconds), "of training"))
    inside = "".join(f'<div class="tile"><b>{value}</b><span>{name}</span></div>' for value, name in tiles)
    return f'<div class="tiles">{inside}</div>'


def _front(snapshot: Snapshot, drawings: Drawings) -> str:
    if not snapshot.front:
        return "<h2>Front and baselines</h2><p>No candidate has been scored to the end yet.</p>"
    drawn = "".join(
        drawings.place(figure, label=_front_in_words(snapshot)) for figure in figures.front_figures(snapshot)
    )
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
        f"to search for. Values are the model's of all evidence; what only the plain scores put on the front is marked. "
        f"Bars are 95 % intervals.</p>{drawn}{differs}{tables.front_table(snapshot)}{tied}"
    )


def _front_in_words(snapshot: Snapshot) -> str:
    """For who does not see the points."""
    front = snapshot.front
    ends = [front[0], front[-1]] if len(front) > 1 else list(front)
    said = [
        f"{view.label}: "
        + ", ".join(
            f"{words.title(objective)} {words.value(objective, value)}"
            for objective, value in zip(snapshot.objectives, view.values, strict=True)
        )
        for view in ends
    ]
    return (
        f"The front has {len(front)} of {snapshot.counts['scored']} scored candidates, from {' to '.join(said)}; "
        "the table below has them all."
    )


def _meaning(snapshot: Snapshot, drawings: Drawings) -> str:
    floor = snapshot.noise.get(snapshot.primary or "")
    if floor is None or not floor.seed_sd:
        return ""
    points = floor.metric in SHARES

    def size(sd: float) -> str:
        return f"{100 * sd:.2f} points" if points else f"{sd:.3g}"

    one, three = floor.reliability(1), floor.reliability(3)
    paired = size(2**0.5 * (floor.paired_sd or 0.0))
    lines = [
        f"The same candidate trained again with another seed scores differently by {size(floor.seed_sd)} (standard "
        f"deviation, {_source(floor.source, floor.repeated)}). This is the noise floor of this study. A seed moves all "
        f"candidates alike in part, so two candidates with the same seed differ by {paired} by luck.",
        f"The candidates' true scores seem to spread by {size(floor.between_sd or 0.0)}. So one run tells {100 * (one or 0):.0f} % "
        f"signal, the mean of three runs {100 * (three or 0):.0f} %.",
        "Each estimate reads all runs together: it is the mean of a candidate's runs pulled towards what its sites and types "
        "did elsewhere, the more the fewer runs it had; bars are 95 % intervals. Among many candidates the best-looking is "
        "partly lucky: this pull is what corrects for it.",
        "These are estimates made during a search, from brief training and the validation images. They are not a claim "
        "about fully trained networks or about the test images, which the search has not read.",
    ]
    text = "".join(f"<p>{html.escape(line)}</p>" for line in lines)
    return f"<h2>What the estimates mean</h2>{text}{drawings.place(figures.noise_figure(snapshot))}"


def _source(source: str, repeated: int) -> str:
    return {
        "seeds": measured_on(repeated),
        "images": "inferred from the finite validation set and the spread of the scores, as no candidate has run twice yet",
        "assumed": "inferred from the spread of the scores, as no candidate has run twice yet",
    }.get(source, source)


def _effects(snapshot: Snapshot, drawings: Drawings) -> str:
    found = [fit_effects(snapshot, what) for what in (snapshot.primary, "latency") if what]
    known = [effects for effects in found if effects is not None and effects.rows]
    if not known:
        return ""
    said = "".join(f"<li>{with_code(sentence)}</li>" for effects in known for sentence in effects.sentences)
    maps = "".join(_effect_map(effects, drawings) for effects in known)
    return (
        "<h2>What each choice does</h2><p>What a choice adds against nothing at its site, wherever it stands; ± is half of the 95 % "
        f"interval, bold where that leaves out 0. Blue does good, orange harm. Click a cell to see where it sits.</p><ul>{said}</ul>{maps}"
    )


def _effect_map(effects: Effects, drawings: Drawings) -> str:
    of = effects.of
    error = "" if effects.cv_error is None else f" (additive model, left-one-out error {100 * effects.cv_error:.1f} %)"
    figure = effect_map.effect_map(effects) if effects.at("choice") else None
    drawn = drawings.place(figure, label=effect_map.described(of, effects))
    return (
        f"<h3>On the {html.escape(words.title(of))}{error}</h3>{drawn}"
        f"<details><summary>All effects on the {html.escape(of)} as a table</summary>{tables.effects_table(effects)}</details>"
    )


def _suggestions(snapshot: Snapshot) -> str:
    said = "".join(f"<li>{with_code(words.suggestion(one))}</li>" for one in suggest(snapshot))
    text = "<p>Predicted by the model of all evidence from what was seen at single sites; none of these has run.</p>"
    return f"<h2>Worth trying next</h2>{text}<ul>{said}</ul>" if said else ""


def _curves(snapshot: Snapshot, drawings: Drawings) -> str:
    curves = drawings.place(figures.learning_curves(snapshot))
    return f"<h2>Learning curves</h2><p>One line a run; pruned ones end in a cross.</p>{curves}" if curves else ""


def _retrained(snapshot: Snapshot, drawings: Drawings) -> str:
    if not snapshot.retrained:
        return ""
    drawn = "".join(drawings.place(figure) for figure in retrained.retraining_curves(snapshot))
    return (
        "<h2>Trained for use</h2><p>Runs of <code>nas-attn retrain</code>, scored on the validation split; the weights are "
        f"kept for <code>nas-attn export</code>.</p>{retrained.retrained_table(snapshot)}{drawn}"
    )


def _classes(snapshot: Snapshot) -> str:
    if snapshot.by_class is None:
        return ""
    names = {view.key: words.called(view, snapshot) for view in snapshot.candidates}
    return (
        "<h2>Class by class</h2><p>The share of each class's validation images that is right, mean over the runs of the last "
        f"rung.</p>{tables.balance_table(snapshot, names)}{tables.classes_table(snapshot.by_class, names)}"
    )


def _candidates(snapshot: Snapshot) -> str:
    if not snapshot.candidates:
        return ""
    closed = len(snapshot.candidates) > MOST_OPEN  # a browser lays out what is open
    field = '<input type="search" data-filters="candidates" placeholder="Filter: se stage2 …" aria-label="Filter candidates">'
    return (
        f"<h2>All candidates</h2><details{'' if closed else ' open'}><summary>{len(snapshot.candidates):,} candidates</summary>"
        f"{field}{tables.candidates_table(snapshot)}</details>"
    )


def _study(snapshot: Snapshot) -> str:
    rows = [(name, version) for name, version in sorted(snapshot.versions.items())]
    versions = tables.table(["library", "version"], [("", [tables.text(a), tables.text(b)]) for a, b in rows])
    readings = snapshot.test_readings
    tests = (
        "The test images have not been read." if not readings else f"The test images were read {len(readings)} times:"
    )
    log = [("", [tables.text(_when(reading.read_at)), tables.text(reading.reason)]) for reading in readings]
    return (
        f"<h2>The study</h2>{_machine(snapshot)}<p>{tests}</p>{tables.table(['when', 'why'], log) if log else ''}"
        f"{_spent(snapshot)}{_again(snapshot)}"
        f"<details><summary>Versions</summary>{versions}</details>"
        f'<p class="muted">Written {_when(datetime.now(UTC).timestamp())} by nas_attn.</p>'
    )


def _spent(snapshot: Snapshot) -> str:
    """What the study took, and for what."""
    rows = words.spent(snapshot)
    if not rows:
        return ""
    cells = [("", [tables.text(n), tables.text(c), tables.number(words.duration(s), s)]) for n, c, s in rows]
    total = words.duration(sum(seconds for *_, seconds in rows))
    return f"<p>It took {total}, all workers together:</p>{tables.table(['what', 'scores or sessions', 'time'], cells)}"


def _again(snapshot: Snapshot) -> str:
    """How to have it again."""
    name = f"{snapshot.study}.toml"
    pinned = ["nas-attn" if library == "nas_attn" else library for library in sorted(snapshot.versions)]
    known = {"nas-attn", "torch", "torchvision", "timm", "optuna", "numpy", "scikit-learn"}
    install = " ".join(
        f"{library}=={snapshot.versions.get(library) or snapshot.versions['nas_attn']}"
        for library in pinned
        if library in known
    )
    lines = [
        f"pip install {install}",
        f"nas-attn search {name}",
        f"nas-attn retrain {snapshot.study}",
        f"nas-attn export {snapshot.study}",
    ]
    recipe = html.escape(write_toml(snapshot.recipe.model_dump(mode="json")))
    return (
        f"<h2>Again</h2><p>With the recipe below as <code>{html.escape(name)}</code>; on a CPU of the same kind and with as many threads, "
        f"the same numbers come out.</p><pre>{html.escape(chr(10).join(lines))}</pre>"
        f"<details><summary>Recipe</summary><pre>{recipe}</pre></details>"
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
    if "nms" in record.conditions:
        text += (
            " It is the whole detector's at the images' size, of ultralytics' and torchvision's without the choice among boxes (NMS): "
            "an export's card has both times."
        )
    text = f"{text} {words.beside(record.beside)}".rstrip()
    facts = {**record.conditions, **record.details}
    rows = [("", [tables.text(name), tables.text(value)]) for name, value in facts.items()]
    more = f"<details><summary>Conditions of measurement</summary>{tables.table(['what', 'value'], rows)}</details>"
    return f"<p>{html.escape(text)}</p>{more}"


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
