"""Sessions over any number of networks until they are known well enough."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from torch import nn

from nas_attn.latency.locks import DeviceLock
from nas_attn.latency.nets import Net
from nas_attn.latency.session import MAX_CANDIDATES, run_session
from nas_attn.recipe import LatencySection
from nas_attn.records import Session

StillOpen = Callable[[Sequence[Session]], Collection[str]]
"""Sessions so far -> keys that need more, the neediest first; none ends the measuring."""


def measure(
    section: LatencySection,
    *,
    reference: nn.Module,
    candidates: Mapping[str, nn.Module],
    input_shape: tuple[int, ...],
    seed: int,
    still_open: StillOpen,
    lock: DeviceLock | None = None,
) -> Iterator[Session]:
    """Runs sessions, each with the 8 neediest candidates, and hands over each as it ends.

    A session with room left takes candidates that need nothing more as companions: that costs little and pairs them.

    Args:
        still_open: decides what goes on: `lambda s: analysis.latency.open_keys(s, keys, tolerance=…, max_sessions=…)`.
        lock: held for each session alone, so that others get their turns between.

    Raises:
        MeasurementError: as `run_session`.
    """
    rng = random.Random(seed)
    sessions: list[Session] = []
    kept: dict[str, Net] = {}
    while open_ := list(still_open(sessions)):
        others = [key for key in candidates if key not in open_]
        rng.shuffle(others)
        group = [*open_, *others][:MAX_CANDIDATES]
        session = run_session(
            section,
            reference=reference,
            candidates={key: candidates[key] for key in group},
            input_shape=input_shape,
            seed=rng.getrandbits(31),
            lock=lock,
            kept=kept,
        )
        sessions.append(session)
        yield session
