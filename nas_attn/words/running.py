"""What a worker prints of its runs, besides the candidates' lines in `words.progress`."""

from __future__ import annotations

from collections.abc import Sequence

from nas_attn.analysis.length import LengthScore
from nas_attn.analysis.progress import EndedRun
from nas_attn.errors import several
from nas_attn.words.units import duration, value


def confirmed_line(run: EndedRun) -> str:
    """That a candidate was trained with one more seed."""
    if run.done:
        return f"confirm with seed {run.seed}: {run.placement}"
    return f"seed {run.seed} of {run.placement} {run.state}: {run.reason}"


def length_line(run: EndedRun, epochs: int) -> str:
    """That the bare network was trained for so many epochs, to find the target's length."""
    what = several(epochs, "epoch") if run.done else run.state
    why = f": {run.reason}" if run.reason else ""
    return f"bare network, seed {run.seed}: {what}{why}"


def longer_line(run: EndedRun, epochs: int) -> str:
    """That the bare network was trained longer than the search trains."""
    return f"bare network for {several(epochs, 'epoch')}, seed {run.seed}{_failed(run)}"


def tested_line(run: EndedRun, validation: int, done: int, total: int, block: int) -> str:
    """That a network of a test was trained; so many of its runs are done."""
    which = f"test {validation}, run {done}/{total}, block {block}"
    return f"{which}: {run.placement}{_failed(run)}"


def target_lines(
    metric: str, scores: Sequence[LengthScore], epochs: int, searched: int, *, known: bool
) -> list[str]:
    """How long the target trains, and the search. `known`: whether that is known to be enough."""
    reached = f"target: the bare network reaches {_scores(metric, scores)}"
    lines = [f"{reached}; there is no time to find out how long it gains"]
    if known:
        lines = [f"{reached}; {several(epochs, 'epoch')} will do"]
    if searched < epochs:
        lines.append(
            f"too little time for runs of {several(epochs, 'epoch')}: the search trains for"
            f" {searched} and recommends nothing for the end"
        )
    return lines


def no_test_line(study: str, blocks: int, seconds: float) -> str:
    """That the time ends before the shortest test, of so many blocks, could."""
    shortest = f"the shortest, of {blocks} blocks, takes {duration(seconds)}"
    return f"no time for a test: {shortest}; test it later with nas-attn test {study}"


def no_control_line(error: Exception) -> str:
    """That larger networks have no published weights, so that none can be compared."""
    return f"no larger network is tried as a control: {error}"


def worker_ended_line(status: int) -> str:
    """That one of several worker processes failed."""
    return f"a worker ended with status {status}; the others continued"


def worker_replaced_line(name: str) -> str:
    """That another process goes on with a worker's runs, as its GPU is lost."""
    return f"{name}: another process takes its place"


def worker_killed_line(name: str) -> str:
    """That a worker was killed, after the second signal."""
    return f"{name}: killed; its work since the last checkpoint is lost"


def _failed(run: EndedRun) -> str:
    return "" if run.done else f" {run.state}: {run.reason}"


def _scores(metric: str, scores: Sequence[LengthScore]) -> str:
    """`46.1 % after 20 epochs, 51.4 % after 40`."""
    parts = [f"{value(metric, one.value)} after {one.epochs}" for one in scores]
    if parts:
        parts[0] += " epochs" if scores[0].epochs > 1 else " epoch"
    return ", ".join(parts)
