"""What `measure` says: of its words, of what it writes for another device, of what it measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nas_attn.errors import several

OTHER_MACHINE = (
    "The study's search used the latencies of another machine. nas-attn pareto shows both for its"
    " candidates."
)


def files_line(number: int) -> str:
    """That so many ONNX files are measured."""
    return f"measuring {several(number, 'ONNX file')}, without torch"


def study_line(study: str, *, front: bool) -> str:
    """That a word was taken for a study. `front`: no other word follows."""
    if front:
        return f"'{study}': a study, so its front is measured"
    return f"'{study}': a study"


def reference_line(backbone: str) -> str:
    """Which network the others are compared with, without a study."""
    return f"'{backbone}': the backbone, with which the others are compared"


def backbone_line(word: str) -> str:
    """That a word was taken for another backbone."""
    return f"'{word}': another backbone, without attention"


def trial_line(word: str, placement: object) -> str:
    """That a word was taken for a trial."""
    return f"'{word}': trial {word} of the study, {placement}"


def placement_line(word: str, backbone: str) -> str:
    """That a word was taken for a placement."""
    return f"'{word}': a placement on {backbone}"


def sent_line(folder: Path, others: int, *, runtime: str, program: str) -> str:
    """What a folder for another device has, beside the bare backbone, and what to do with it."""
    return (
        f"{folder} has the bare backbone and {others} more. On the device, with numpy and"
        f" {runtime}: python {program}. Then copy the folder back, and give it to nas-attn measure"
        " --from."
    )


def measured_title(backbone: str, reference_ms: float) -> str:
    """Of the table of latencies."""
    return f"Latency relative to the bare {backbone} ({reference_ms:.3f} ms)"


def conditions_line(machine: str, conditions: Mapping[str, object]) -> str:
    """Where and under which conditions it was measured."""
    shown = ", ".join(f"{name} {value}" for name, value in conditions.items())
    return f"{machine}; {shown}"


def sessions_line(sessions: int, dropped: int) -> str:
    """How many sessions there were."""
    return f"{several(sessions, 'session')}, {dropped} of them dropped by the A/A control"
