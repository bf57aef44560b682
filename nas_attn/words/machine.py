"""What computed and measured a study: machines, conditions, arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

from nas_attn.answer.arithmetic import ArithmeticUse
from nas_attn.answer.snapshot import Snapshot
from nas_attn.errors import several
from nas_attn.recipe.units import duration
from nas_attn.storage.records import Arithmetic


def not_alone(notes: Sequence[str]) -> str:
    """A sentence about latency sessions that did not have the device alone, from a note of each;
    empty without any.
    """
    if not notes:
        return ""
    others = "; ".join(dict.fromkeys(notes))
    return (
        f"{several(len(notes), 'latency session')} did not have the device alone: next to {others}."
    )


def latency_machine(snapshot: Snapshot) -> str:
    """Where and how latency was measured."""
    record = snapshot.latency
    if record is None:
        return "No latency has been measured."
    text = (
        f"Latency was measured on {record.machine} in {several(record.sessions, 'session')}"
        f" ({duration(record.duration_s)}): {record.reference_ms:.3g} ms for the bare backbone."
        f" {record.dropped} sessions were dropped because two copies of the same network differed"
        f" too much; typically the copies differ by {100 * record.control_spread:.2f} %."
    )
    if "nms" in record.conditions:
        text += (
            " A detector is timed without the selection of boxes (NMS), unless it is part of the"
            " network."
        )
    return f"{text} {not_alone(record.beside)}".rstrip()


def arithmetic_text(arithmetic: Arithmetic | None) -> str:
    """`bfloat16, channels last, eager steps, fused optimizer, filled batches`."""
    if arithmetic is None:
        return "not recorded"
    steps = {"eager": "eager", "compile": "compiled", "cuda-graph": "recorded"}[
        arithmetic.execution
    ]
    batches = {
        "filled": "filled batches",
        "uneven": "batches of uneven sizes",
        "own": "the DataLoader's batches",
    }[arithmetic.batches]
    rounded = {"none": "", "convolutions": "TF32 in convolutions", "matmul": "TF32 in products"}
    parts = [
        arithmetic.precision,
        arithmetic.memory_format.replace("_", " "),
        f"{steps} steps",
        f"{'fused' if arithmetic.fused else 'ordinary'} optimizer",
        rounded.get(arithmetic.tf32, "TF32"),
        batches,
    ]
    return ", ".join(filter(None, parts))


def arithmetic_lines(uses: Sequence[ArithmeticUse]) -> list[str]:
    """What the runs of a study were computed in, a line for each arithmetic."""
    lines = []
    for use in uses:
        runs = several(use.runs, "run")
        arithmetic = arithmetic_text(use.arithmetic)
        if use.arithmetic is None:
            lines.append(f"Arithmetic not recorded ({runs}): the study began before it was")
        elif use.devices:
            eager = f", {use.unrecorded} of them in eager steps" if use.unrecorded else ""
            lines.append(f"Arithmetic on {' and '.join(use.devices)}: {arithmetic} ({runs}{eager})")
        else:
            lines.append(
                f"Another arithmetic: {arithmetic} ({runs}, compared only with each other)"
            )
    return lines
