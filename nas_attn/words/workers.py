"""What is said of the workers of a study: those that work, that have ended, and that were launched
or told to stop.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nas_attn.answer.workers import FailedStart, FormerView, LaunchState, WorkerView
from nas_attn.errors import several, shorten
from nas_attn.recipe.units import duration

WORKER_COLUMNS = ["machine", "pid", "device", "at", "for", "last sign of life"]
ALL_ENDED = "all workers have ended"
MPS_DOES_NOT_WORK = (
    "NVIDIA's MPS is installed but does not work here: the workers on one GPU take turns"
)
# of the last line of a log
LOG_LINE_LETTERS = 300
SHOWN_JOBS = 4


def workers_title(count: int) -> str:
    """Of a table of workers."""
    return several(count, "worker")


def worker_cells(worker: WorkerView) -> list[str]:
    """Its row in a table with WORKER_COLUMNS."""
    doing = worker.doing if not worker.waiting else f"{worker.doing}; {worker.waiting}"
    if worker.state in ("silent", "gone"):
        doing = f"{worker.state}; last task: {doing}"
    seen = f"{duration(worker.silent_s)} ago"
    return [worker.machine, worker.pid, worker.device, doing, duration(worker.at_it_s), seen]


def at_work_line(worker: WorkerView, *, has_run: bool) -> str:
    """`1234 on cpu: 12 s at trial 3`, the time first, so that a narrow terminal shows it.
    `has_run`: what it is doing is a run.
    """
    what = worker.waiting or worker.doing or worker.state
    at = "at " if has_run and what == worker.doing else ""
    return f"{worker.pid} on {worker.device}: {duration(worker.at_it_s)} {at}{what}"


def more_workers_line(count: int, study: str) -> str:
    """That there are more workers than are shown."""
    return f"and {count} more: nas-attn status {study}"


def former_text(workers: Sequence[FormerView]) -> str:
    """`3 workers have ended: 2 in order, 1 without a word`."""
    lost = sum(worker.ending == "lost" for worker in workers)
    verb = "has" if len(workers) == 1 else "have"
    ended = f"{several(len(workers), 'worker')} {verb} ended"
    if not lost:
        return ended
    return f"{ended}: {len(workers) - lost} in order, {lost} without a word"


def launch_text(on: str, state: LaunchState) -> str:
    """`slurm: 3 running, 13 pending`."""
    counts = ", ".join(f"{count} {name}" for name, count in state.counts.items())
    if state.silent:
        return f"{on}: {counts}; {state.silent} does not answer"
    if not state.host:
        return f"{on}: {counts}"
    return f"{on}: {counts} from {state.host}" if counts else f"{on}: on {state.host}"


def launches_line(launched: Sequence[str]) -> str:
    """What was launched, each as `launch_text` says it."""
    return f"Launched on {'; '.join(launched)}"


def failed_start_line(failure: FailedStart) -> str:
    """That a worker ended with an error soon after its start."""
    last = f": {shorten(failure.line, LOG_LINE_LETTERS)}" if failure.line else ""
    return f"{failure.name} ended at once with status {failure.status}{last} (log: {failure.log})"


def launched_lines(study: str, on: str, jobs: Sequence[str], logs: Path, at: str) -> str:
    """What was launched, and how it is watched and stopped. `at`: the option of the study's
    storage.
    """
    more = ""
    if len(jobs) > SHOWN_JOBS:
        more = f", … ({len(jobs)} in all)"
    return (
        f"launched {several(len(jobs), 'worker')} on {on}: {', '.join(jobs[:SHOWN_JOBS])}{more}\n"
        f"logs:  {logs}\n"
        f"watch: nas-attn status {study} --watch{at}\n"
        f"stop:  nas-attn stop {study}{at}"
    )


def worker_replaced_text(reason: str) -> str:
    """That a worker whose GPU is lost goes on in another process."""
    return f"{reason}; another process takes its place"


def told_to_stop_line(workers: int, cancelled: int) -> str:
    """That workers were told to stop, and launched ones cancelled before they began."""
    more = f", cancelled {cancelled} that had not begun" if cancelled else ""
    return f"told {several(workers, 'worker')} to stop{more}"


def still_running_line(workers: Sequence[WorkerView], seconds: float) -> str:
    """Which workers have not stopped in this time."""
    left = ", ".join(f"{worker.machine} {worker.pid} ({worker.doing})" for worker in workers)
    return f"still running after {seconds:.0f} s: {left}"
