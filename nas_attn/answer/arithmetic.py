"""What a study's runs were computed in, as far as it decides which are compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache

from nas_attn.storage.records import Arithmetic, Score


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
