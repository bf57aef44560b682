"""The clock of a search with a time: when new candidates, further seeds and everything end."""

from __future__ import annotations

import time
from dataclasses import dataclass

from nas_attn.answer.progress import seconds_per_epoch
from nas_attn.answer.workers import workers_of
from nas_attn.searching.prepare.baselines import trials_to_try_all
from nas_attn.searching.prepare.fitting import (
    END_S,
    PRUNED_SHARE,
    SCREENING,
)
from nas_attn.storage.opening import OpenStudy
from nas_attn.training.plan import session_s

# of the time: its end, in which a test is run if one fits; for finding the length, at most
TESTING = 0.3
LENGTH_SHARE = 0.4


@dataclass(frozen=True, slots=True)
class SearchTime:
    """What a command says of the time of a search."""

    seconds: float | None
    """For everything; None: as the study says, if it has a limit."""
    began: float
    """When the command began, by `time.monotonic`."""
    trials: int | None = None
    """Candidates that are wanted in any case."""
    unlimited: int = 0
    """Candidates at least, once no time limits them any more."""


def time_left(opened: OpenStudy, clock: SearchTime, *, workers: int) -> float | None:
    """Starts the study's clock, or lets it go on.

    Args:
        opened: the study.
        clock: what is asked of its time.
        workers: that share the time.

    Returns:
        Seconds until the whole search ends: as asked, else what is left of the study's time; None:
        no limit.
    """
    if clock.seconds is not None:
        left_s = max(1.0, clock.seconds - (time.monotonic() - clock.began) - END_S)
        start_clock(opened, left_s, trials=clock.trials, workers=workers)
        return left_s
    remaining_s = go_on(opened)
    if remaining_s is None and clock.trials is None and opened.trials < clock.unlimited:
        # a short time had made them fewer
        opened.store.set(trials=clock.unlimited)
    return remaining_s


def start_clock(
    opened: OpenStudy, seconds: float, *, trials: int | None = None, workers: int = 1
) -> None:
    """Lets the study's workers end new candidates, and everything, at set times from now on.

    Args:
        opened: the study.
        seconds: until its end.
        trials: a person's total; None: as many as the time allows, once a run has shown the pace.
        workers: that share the time.
    """
    store = opened.store
    epoch_s = seconds_per_epoch(store)
    if trials is None and epoch_s is not None:
        rungs = opened.recipe.training.rungs
        share = PRUNED_SHARE if len(rungs) > 1 else 1.0
        # one network is measured at a time
        each_s = epoch_s * rungs[-1] * share / workers + session_s(opened.recipe)
        trials = len(store.candidates()) + max(1, int(SCREENING * seconds / each_s))
    if trials is not None:
        store.set(trials=max(trials, trials_to_try_all(opened)))
    divide_time(opened, seconds, LENGTH_SHARE if opened.recipe.target_is_open else SCREENING)


def divide_time(opened: OpenStudy, seconds: float, screening: float = SCREENING) -> None:
    """Sets when new candidates end, from when a test may begin, and when everything ends.

    Args:
        opened: the study.
        seconds: from now until its end.
        screening: share of the time for new candidates.
    """
    now = opened.database.now()
    opened.store.set(
        screen_until=now + screening * seconds,
        test_from=now + (1 - TESTING) * seconds,
        ends_at=now + seconds,
    )


def go_on(opened: OpenStudy) -> float | None:
    """Gives a search with a time the pauses back in which nobody worked.

    Args:
        opened: the study.

    Returns:
        The seconds that it still has; None: it has no time (any more). After a clock was set back,
        the pause is negative, and the search has no more time than before.
    """
    store = opened.store
    now = opened.database.now()
    ends = store.settings
    if ends.ends_at is None or ends.screen_until is None or ends.test_from is None:
        return None
    pause = 0.0
    if not any(worker.works for worker in workers_of(opened)):
        times = [row.created_at for rows in store.all_checkpoints().values() for row in rows]
        times += [row.finished_at for row in store.queue.rows() if row.finished_at]
        pause = now - max([store.created_at, *times])
    if ends.ends_at + pause <= now:
        store.set(screen_until=None, test_from=None, ends_at=None)
        return None
    store.set(
        screen_until=ends.screen_until + pause,
        test_from=ends.test_from + pause,
        ends_at=ends.ends_at + pause,
    )
    return ends.ends_at + pause - now
