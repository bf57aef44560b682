"""What a study's runs were computed in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nas_attn.records import Arithmetic, Score


@dataclass(frozen=True, slots=True)
class ArithmeticUse:
    """The runs of one arithmetic."""

    # None: not recorded
    arithmetic: Arithmetic | None
    # kinds of device for which the study has decided it; empty: runs of machines that could not do
    # the same, or from before the study recorded it
    devices: tuple[str, ...]
    runs: int


def uses_of(
    decided: Mapping[str, str], runs: Mapping[str | None, int], *, recorded: bool
) -> tuple[ArithmeticUse, ...]:
    """First what the study has decided, then what else it was computed in.

    Args:
        decided: kind of device (and protocol) -> arithmetic.
        runs: arithmetic -> number of runs.
        recorded: false for a study that began before arithmetic was recorded.
    """
    found = []
    for text in dict.fromkeys([*decided.values(), *(text for text in runs if text is not None)]):
        kinds = (name.partition(" ")[0] for name, other in decided.items() if other == text)
        devices = tuple(dict.fromkeys(kinds))
        found.append(ArithmeticUse(Arithmetic.from_text(text), devices, runs.get(text, 0)))
    # else, a loop of the user's own has its own arithmetic
    if not recorded:
        found.append(ArithmeticUse(None, (), runs.get(None, 0)))
    return tuple(found)


def usual_arithmetic(arithmetics: Iterable[str | None]) -> str:
    """The arithmetic of most runs. Runs that do not say theirs count as such: before arithmetic was
    recorded, all were compared with all.
    """
    counts = Counter(text for text in arithmetics if text is not None)
    return max(counts, key=lambda text: (counts[text], text), default="")


def mixed_blocks(scores: Mapping[str, Mapping[int, Score]]) -> set[int]:
    """Blocks of a validation whose networks were computed in different arithmetic. `scores`:
    network -> block -> its score.
    """
    by_block: dict[int, set[str]] = {}
    for found in scores.values():
        for block, score in found.items():
            if score.arithmetic is not None:
                by_block.setdefault(block, set()).add(score.arithmetic)
    return {block for block, texts in by_block.items() if len(texts) > 1}
