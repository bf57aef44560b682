"""The progress of a study, cheap enough to read every second."""

from __future__ import annotations

from collections import Counter

from nas_attn.answer.fronts import leading, minimised
from nas_attn.answer.pace import PURPOSES_OF_PHASE, narrowing, remaining_s
from nas_attn.answer.progress_facts import EndedRun, Phase, PhaseProgress, Progress
from nas_attn.storage.opening import OpenStudy
from nas_attn.storage.rows import RunRow
from nas_attn.storage.store import StudyStore


def ended_run(row: RunRow) -> EndedRun:
    """What is said of a run that has ended."""
    return EndedRun(str(row.run.placement), row.run.seed, row.state, row.reason)


def progress(opened: OpenStudy) -> Progress:
    """The progress of a study as of now."""
    rows = opened.store.candidates()
    leads = leading(opened.recipe.objectives)
    objective = opened.recipe.objectives[leads]
    states = Counter(row.state for row in rows)
    values = [told[leads] for told in opened.book.values().values()] if states["scored"] else []
    best = min(values, key=lambda v: minimised([objective], [v]), default=None)
    open_ = opened.trials - len(rows) + states["running"]
    return Progress(
        trials=opened.trials,
        **{
            state: states[state]
            for state in ("scored", "pruned", "infeasible", "failed", "running")
        },
        objective=objective,
        best=best,
        left_s=remaining_s(opened, [row.finished_at for row in rows if row.finished_at], open_),
        phase=_phase(opened.store),
    )


def _phase(store: StudyStore) -> PhaseProgress | None:
    """The phase that has waiting runs, or measures the front's latencies; None among the
    candidates.
    """
    counts = store.queue.counts()
    for phase, purposes in PURPOSES_OF_PHASE.items():
        waiting = sum(counts.get((purpose, "waiting"), 0) for purpose in purposes)
        ended = sum(
            counts.get((purpose, state), 0) for purpose in purposes for state in ("done", "failed")
        )
        if waiting:
            return PhaseProgress(phase, ended, waiting + ended)
    if narrowing(store):
        return PhaseProgress(Phase.NARROWING)
    return None
