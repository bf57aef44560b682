"""Who works on a study, who did, what was launched, and what failed: for `nas-attn status`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from nas_attn.answer.progress import FEWEST_TIMES, PACE_OF, Progress, progress
from nas_attn.answer.workers import (
    FormerView,
    LaunchState,
    WorkerView,
    former_view,
    workers_of,
)
from nas_attn.errors import NasAttnError
from nas_attn.recipe.purposes import SEARCH
from nas_attn.searching.run.launching import engine, launches
from nas_attn.storage.opening import OpenStudy


@dataclass(frozen=True, slots=True)
class Overview:
    progress: Progress
    # candidates at the pace of the last ones; None: too few, or nobody works
    per_hour: float | None
    workers: tuple[WorkerView, ...]
    # the workers that have ended, the oldest first
    former: tuple[FormerView, ...]
    # what engines say of what was launched on them: `slurm: 3 running, 13 pending`
    launched: tuple[str, ...]
    # (reason, how many candidates and other runs), the most frequent first
    failures: tuple[tuple[str, int], ...]


def overview(opened: OpenStudy) -> Overview:
    reached = progress(opened)
    workers = workers_of(opened)
    per_hour = None
    if any(worker.state in ("working", "waiting") for worker in workers):
        times = sorted(row.finished_at for row in opened.store.candidates() if row.finished_at)[
            -PACE_OF:
        ]
        if len(times) > FEWEST_TIMES:
            per_hour = (len(times) - 1) / max(1e-3, opened.database.now() - times[0]) * 3600
    launched = _launched(opened) if workers or reached.trials > reached.finished else []
    return Overview(
        progress=reached,
        per_hour=per_hour,
        workers=workers,
        former=tuple(former_view(row) for row in opened.store.workers.former()),
        launched=tuple(launched),
        failures=tuple(_failures(opened)),
    )


def _launched(opened: OpenStudy) -> list[str]:
    lines = []
    for launched in launches(opened):
        try:
            state = engine(launched.on).state(launched)
        except NasAttnError:
            # the engine is not on this machine
            state = LaunchState({"launched": len(launched.jobs)}, host=launched.host)
        if state is not None:
            lines.append(f"{launched.on}: {_state_text(state)}")
    return lines


def _state_text(state: LaunchState) -> str:
    """`3 running, 13 pending`."""
    counts = ", ".join(f"{count} {name}" for name, count in state.counts.items())
    if state.silent:
        return f"{counts}; {state.silent} does not answer"
    if not state.host:
        return counts
    return f"{counts} from {state.host}" if counts else f"on {state.host}"


def _failures(opened: OpenStudy) -> list[tuple[str, int]]:
    reasons = [row.reason for row in opened.store.candidates() if row.state == "failed"]
    reasons += [
        row.reason for row in opened.store.queue.rows(state="failed") if row.run.purpose != SEARCH
    ]
    return Counter(reason or "no reason is known" for reason in reasons).most_common()
