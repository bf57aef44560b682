"""Writes notes and plots for optuna-dashboard into the study's database."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from nas_attn.analysis import units
from nas_attn.analysis.choosing import answer
from nas_attn.analysis.snapshot import CandidateView, Snapshot
from nas_attn.recipe import lower_is_better, objective_name
from nas_attn.report import words
from nas_attn.report.figures import all_figures

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial


BELOW = "*nas_attn updates this note. Text below this line stays.*"
_CHUNK = 2045  # Characters that one attribute holds at most, as in optuna-dashboard (MySQL's limit)
_ROUNDS = 3  # Attempts, if another worker writes at the same time
_TITLES = {
    "front": "Front and baselines, as estimated now",
    "curves": "Learning curves",
    "effects-latency": "What each choice adds to the latency at each site, % of the backbone's",
    "effects": "What each choice adds at each site",
    "noise": "Each candidate's runs next to its estimate",
    "retrained": "Trained for use",
}
"""Beginning of a plot's name -> title; the first that fits."""
_MOST_ROWS = 40  # Rows of the study note's table at most


def publish(
    storage: BaseStorage, study: int, identity: Callable[[int], int], snapshot: Snapshot
) -> None:
    """Updates notes and plots; several workers may do so at once. `identity`: a trial's number ->
    its id in Optuna's storage.
    """
    views = [(view, identity(view.trial)) for view in snapshot.candidates]
    for _ in range(_ROUNDS):
        known = storage.get_study_system_attrs(study)
        wanted = _note_attributes(known, "dashboard:", study_note(snapshot))
        for view, trial in views:
            wanted |= _note_attributes(known, f"dashboard:{trial}:", note(view, snapshot))
        for name, figure in _plots(snapshot).items():
            wanted |= _chunks(known, f"dashboard:plot_data:{name}:", figure)
        changed = {key: value for key, value in wanted.items() if known.get(key) != value}
        if not changed:
            return
        for key, value in changed.items():
            storage.set_study_system_attr(study, key, value)


def note(view: CandidateView, snapshot: Snapshot) -> str:
    """A trial's note (Markdown): placement, outcome, cost. Current estimates only for front and
    baselines.
    """
    what = f"baseline: {view.baseline}" if view.baseline else "searched"
    lines = [
        f"`{view.placement}`",
        f"**{view.state}, {what}{', on the front' if view.on_front else ''}**",
    ]
    if view.reason:
        lines.append(" ".join(view.reason.split()))
    if view.on_front or view.baseline is not None:
        indices = range(len(snapshot.objectives))
        now = [
            f"{words.heading(snapshot, index)} {words.shown(snapshot, view, index)}"
            for index in indices
        ]
        lines.append(f"Estimated now: {', '.join(now)}.")
        if view.beats_none is not None:
            lines.append(
                "Probability of being better than the bare backbone:"
                f" {units.probability(view.beats_none)}."
            )
    if view.cost is not None:
        lines.append(f"{units.counted(view.cost)}.")
    return "\n\n".join(lines)


def study_note(snapshot: Snapshot) -> str:
    """The study's note (Markdown): recommendation, and the front beside the baselines."""
    lines = [f"# {snapshot.study}"]
    for result in reversed(snapshot.validations):  # tests come before estimates
        lines.append(f"**{words.validation_headline(result)}**")
        lines += [f"- {sentence}" for sentence in words.validation_sentences(result, snapshot)]
    lines += ["  \n".join(answer(snapshot)), *snapshot.remarks]
    if snapshot.front:
        lines.append(_front(snapshot))
    lines.append(
        "The Pareto plot here shows the values told to Optuna when a trial ended. The front above"
        " also uses the seeds and the latency sessions that came later; after the search, the"
        f" Pareto plot of the study {snapshot.study}{SUFFIX} shows it."
    )
    lines.append(
        "Estimates from the search on the validation images, with 95 % intervals; not a claim."
    )
    return "\n\n".join(lines)


def _front(snapshot: Snapshot) -> str:
    objectives = range(len(snapshot.objectives))
    rows = [
        [
            str(view.trial),
            ", ".join(filter(None, ["front" if view.on_front else "", view.baseline])),
        ]
        + [words.shown(snapshot, view, index) for index in objectives]
        + [f"`{view.placement}`"]
        for view in snapshot.shown[:_MOST_ROWS]
    ]
    return _table(
        ["trial", "", *(words.heading(snapshot, index) for index in objectives), "placement"], rows
    )


def _table(head: list[str], rows: list[list[str]]) -> str:
    def line(cells: list[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    return "\n".join([line(head), line(["---"] * len(head)), *map(line, rows)])


def _plots(snapshot: Snapshot) -> dict[str, str]:
    """Name -> figure as JSON, with the title that the HTML report gives in its headings."""
    found = {}
    for name, figure in all_figures(snapshot).items():
        title = next(title for prefix, title in _TITLES.items() if name.startswith(prefix))
        figure.update_layout(
            title={"text": title, "x": 0.02, "y": 0.97, "yanchor": "top"}, margin_t=110
        )
        found[f"nas_attn-{name}"] = str(figure.to_json())
    return found


def _note_attributes(known: dict[str, Any], prefix: str, ours: str) -> dict[str, Any]:
    """A note's attributes; empty if the note is up to date. The text below our line is the user's
    and stays.
    """
    body_prefix, version = f"{prefix}note_str:", f"{prefix}note_ver"
    old = "".join(str(known[key]) for key in _numbered(known, body_prefix))
    mine, marker, below = old.partition(BELOW)
    if not marker:
        mine, below = "", f"\n\n{old}" if old else ""
    if mine == f"{ours}\n\n":
        return {}
    return {
        version: int(known.get(version, 0)) + 1,
        **_chunks(known, body_prefix, f"{ours}\n\n{BELOW}{below}"),
    }


def _chunks(known: dict[str, Any], prefix: str, text: str) -> dict[str, Any]:
    """The text in pieces; pieces left over from a longer one become empty."""
    pieces = [text[start : start + _CHUNK] for start in range(0, len(text), _CHUNK)]
    left_over = len(_numbered(known, prefix)) - len(pieces)
    return {f"{prefix}{i}": piece for i, piece in enumerate(pieces + [""] * max(left_over, 0))}


def _numbered(known: dict[str, Any], prefix: str) -> list[str]:
    keys: list[str] = []
    while f"{prefix}{len(keys)}" in known:
        keys.append(f"{prefix}{len(keys)}")
    return keys


SUFFIX = "~answer"  # After the study's name; the name of a recipe cannot hold a tilde
MOST = 100  # Most candidates shown; the front and the baselines come first


def write_answer_study(storage: BaseStorage, now: Snapshot) -> None:
    """Writes the Optuna study of the answer; does nothing if no candidate is scored, or nothing has
    changed.
    """
    import optuna

    trials, name = _trials(now), f"{now.study}{SUFFIX}"
    if not trials:
        return
    with suppress(KeyError):
        known = optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)
        if [(t.params, t.values) for t in known] == [(t.params, t.values) for t in trials]:
            return
        optuna.delete_study(study_name=name, storage=storage)
    with suppress(
        optuna.exceptions.DuplicatedStudyError
    ):  # another process writes the same at this moment
        falls = [
            lower_is_better(objective) and not now.compared(objective)
            for objective in now.objectives
        ]
        directions: list[Literal["minimize", "maximize"]] = [
            "minimize" if one else "maximize" for one in falls
        ]
        study = optuna.create_study(study_name=name, storage=storage, directions=directions)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(
                [words.heading(now, index) for index in range(len(now.objectives))]
            )
        study.add_trials(trials)


def _trials(now: Snapshot) -> list[FrozenTrial]:
    from optuna.distributions import BaseDistribution, CategoricalDistribution
    from optuna.trial import create_trial

    scored = [
        (view, values)
        for view in now.candidates
        if view.state == "scored" and (values := _values(now, view))
    ]
    scored.sort(
        key=lambda found: (not found[0].on_front, found[0].baseline is None, found[0].trial)
    )
    shown = scored[:MOST]
    if not shown:
        return []
    columns = {
        "candidate": [f"{words.called(view, now)} ({view.trial})" for view, _ in shown],
        "placement": [str(view.placement) for view, _ in shown],
    }
    distributions: dict[str, BaseDistribution] = {
        name: CategoricalDistribution(tuple(dict.fromkeys(texts)))
        for name, texts in columns.items()
    }
    return [
        create_trial(
            values=values,
            params={name: texts[i] for name, texts in columns.items()},
            distributions=distributions,
        )
        for i, (_, values) in enumerate(shown)
    ]


def _values(now: Snapshot, view: CandidateView) -> list[float] | None:
    """Gains if they are known, else values, in display units; None if one is missing."""
    found = []
    for objective, value in zip(now.objectives, view.values, strict=True):
        gain = view.gains.get(objective_name(objective))
        if now.compared(objective):
            value = (
                gain.mean * units.unit(objective).scale
                if gain
                else 0.0
                if view.baseline == "none"
                else None
            )
        if value is None:
            return None
        found.append(round(value, 6))
    return found
