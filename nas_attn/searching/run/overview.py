"""Who works on a study, and what failed: for `nas-attn status`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from nas_attn.answer.progress import FEWEST_TIMES, PACE_OF, Progress, progress
from nas_attn.answer.workers import WorkerView, workers_of
from nas_attn.recipe.purposes import SEARCH
from nas_attn.storage.opening import OpenStudy


@dataclass(frozen=True, slots=True)
class Overview:
    progress: Progress
    # candidates at the pace of the last ones; None: too few, or nobody works
    per_hour: float | None
    workers: tuple[WorkerView, ...]
    # (reason, how many candidates and other runs), the most frequent first
    failures: tuple[tuple[str, int], ...]


def overview(opened: OpenStudy) -> Overview:
    reached = progress(opened)
    workers = workers_of(opened)
    candidates = opened.store.candidates()
    per_hour = None
    if any(worker.works for worker in workers):
        times = sorted(row.finished_at for row in candidates if row.finished_at)[-PACE_OF:]
        if len(times) > FEWEST_TIMES:
            per_hour = (len(times) - 1) / max(1e-3, opened.database.now() - times[0]) * 3600
    reasons = [row.reason for row in candidates if row.state == "failed"]
    reasons += [
        row.reason for row in opened.store.queue.rows(state="failed") if row.run.purpose != SEARCH
    ]
    failures = Counter(reason or "no reason is known" for reason in reasons).most_common()
    return Overview(reached, per_hour, workers, tuple(failures))
