"""Answers about a study that take long: worked out once a snapshot, and of a large study kept in it for who asks next."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

from nas_attn.analysis.snapshot import Snapshot
from nas_attn.analysis.study_evidence import KEPT_FROM
from nas_attn.errors import StorageError

Answer = TypeVar("Answer")

VERSION = 2
"""Of what is answered: what another one has kept is worked out anew."""
_DIGEST = "digest"

_last: tuple[Snapshot, dict[str, Any]] | None = None
"""What was asked of one snapshot: a report asks for the same thing several times."""


def kept(
    taken: Snapshot,
    name: str,
    make: Callable[[], Answer],
    write: Callable[[Answer], Any],
    read: Callable[[Any], Answer],
) -> Answer:
    """What `make` gives.

    Args:
        name: attribute of the study that keeps it.
        write: to what JSON knows.
        read: back; whatever it raises of something else than that, is no fault.
    """
    known = _of(taken)
    if name in known:
        return cast(Answer, known[name])
    large = len(taken.candidates) >= KEPT_FROM
    if large:
        known[_DIGEST] = known.get(_DIGEST) or _digest(taken)
        with suppress(ValueError, TypeError, KeyError, AttributeError):  # not as it was written
            content = json.loads(taken.store.get(name) or "{}")
            if content.get(_DIGEST) == known[_DIGEST]:
                found = known[name] = read(content["found"])
                return found
    found = known[name] = make()
    if large:
        with suppress(StorageError):  # who only reads a study is not to fail where nothing can be written
            taken.store.put(name, json.dumps({_DIGEST: known[_DIGEST], "found": write(found)}))
    return found


def _of(taken: Snapshot) -> dict[str, Any]:
    global _last
    known = _last
    if known is None or known[0] is not taken:
        known = _last = (taken, {})
    return known[1]


def _digest(taken: Snapshot) -> str:
    """Equal where all that such an answer rests on is."""
    views = [(v.key, v.state, v.rung, v.on_front, v.latency) for v in taken.candidates]
    models = {metric: model.digest for metric, model in taken.evidence.items()}
    limit, same = taken.recipe.limits.max_latency_ratio, [constant.metric for constant in taken.constants]
    return hashlib.sha256(repr((VERSION, models, limit, same, views)).encode()).hexdigest()[:16]
