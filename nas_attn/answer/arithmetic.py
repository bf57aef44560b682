"""What a study's runs were computed in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from nas_attn.errors import several
from nas_attn.storage.records import Arithmetic, Score


@dataclass(frozen=True, slots=True)
class ArithmeticUse:
    """The runs of one arithmetic."""

    # None: not recorded
    arithmetic: Arithmetic | None
    # kinds of device for which the study has decided it; empty: runs of machines that could not do
    # the same, or from before the study recorded it
    devices: tuple[str, ...]
    runs: int
    # of these, runs in eager steps although recorded ones had been decided: they are compared with
    # the others, but took longer
    unrecorded: int = 0


def uses_of(
    decided: Mapping[str, str], runs: Mapping[str | None, int], *, recorded: bool
) -> tuple[ArithmeticUse, ...]:
    """First what the study has decided, then what else it was computed in.

    Args:
        decided: kind of device (and protocol) -> arithmetic.
        runs: arithmetic -> number of runs.
        recorded: false for a study that began before arithmetic was recorded.
    """
    counts: dict[str, int] = dict.fromkeys(decided.values(), 0)
    unrecorded = Counter[str]()
    for text, number in runs.items():
        if text is None:
            continue
        same = text if text in counts else _compared_with(text, counts)
        counts[same] = counts.get(same, 0) + number
        if same != text and Arithmetic.from_text(same).execution == "cuda-graph":
            unrecorded[same] += number
    uses = []
    for text, number in counts.items():
        kinds = (name.partition(" ")[0] for name, other in decided.items() if other == text)
        devices = tuple(dict.fromkeys(kinds))
        arithmetic = Arithmetic.from_text(text)
        uses.append(ArithmeticUse(arithmetic, devices, number, unrecorded[text]))
    # else, a loop of the user's own has its own arithmetic
    if not recorded:
        uses.append(ArithmeticUse(None, (), runs.get(None, 0)))
    return tuple(uses)


def _compared_with(text: str, others: Iterable[str]) -> str:
    """The first of the other arithmetics that runs of this one are compared with; itself without
    one.
    """
    return next((other for other in others if pairing(other) == pairing(text)), text)


@cache
def pairing(text: str) -> str:
    """What runs have in common that are compared with those of this arithmetic."""
    return Arithmetic.from_text(text).comparable.text


def usual_arithmetic(arithmetics: Iterable[str | None]) -> str:
    """The `pairing` of most runs. Runs that do not say theirs count as such: before arithmetic was
    recorded, all were compared with all.
    """
    counts = Counter(pairing(text) for text in arithmetics if text is not None)
    return max(counts, key=lambda text: (counts[text], text), default="")


def mixed_blocks(scores: Mapping[str, Mapping[int, Score]]) -> set[int]:
    """Blocks of a validation whose networks were computed in different arithmetic. `scores`:
    network -> block -> its score.
    """
    by_block: dict[int, set[str]] = {}
    for by_seed in scores.values():
        for block, score in by_seed.items():
            if score.arithmetic is not None:
                by_block.setdefault(block, set()).add(pairing(score.arithmetic))
    return {block for block, texts in by_block.items() if len(texts) > 1}


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
