"""The times at which a search with a time limit ends its phases."""

from __future__ import annotations

from nas_attn.answer.pace import seconds_per_epoch
from nas_attn.searching.prepare.lengths import LENGTH_SHARE
from nas_attn.searching.prepare.own_placements import trials_to_try_all
from nas_attn.searching.prepare.timing import LAST_SEED_SHARE, PRUNED_SHARE, SCREENING, TESTING
from nas_attn.storage.leasing import release_dead
from nas_attn.storage.opening import OpenStudy
from nas_attn.training.plan import session_s


def start_clock(
    opened: OpenStudy, seconds: float, *, tested: bool, trials: int | None = None, workers: int = 1
) -> None:
    """The study's workers end new candidates, and everything, at set times from now on. `trials`: a
    person's total; None: as many as the time allows so many workers.
    """
    store = opened.store
    now = opened.database.now()
    total = trials
    if total is None:
        total = _fitting(opened, seconds, workers)
    if total is not None:
        store.set(trials=max(total, trials_to_try_all(opened)))
    rest = TESTING if tested else LAST_SEED_SHARE
    screening = LENGTH_SHARE if opened.recipe.target_is_open else SCREENING
    store.set(
        screen_until=now + screening * seconds,
        test_from=now + (1 - rest) * seconds,
        ends_at=now + seconds,
    )


def _fitting(opened: OpenStudy, seconds: float, workers: int) -> int | None:
    """The candidates that a study has after so long; None before its first run, whose pace would
    not be known.
    """
    epoch_s = seconds_per_epoch(opened.store)
    if epoch_s is None:
        return None
    rungs = opened.recipe.training.rungs
    share = PRUNED_SHARE if len(rungs) > 1 else 1.0
    # one network is measured at a time
    each_s = epoch_s * rungs[-1] * share / workers + session_s(opened.recipe)
    return len(opened.store.candidates()) + max(1, int(SCREENING * seconds / each_s))


def go_on(opened: OpenStudy) -> float | None:
    """Seconds that a search with a time still has, pauses in which nobody worked left out; None if
    it has no time (any more). After a clock was set back, the pause is negative, and the search has
    no more time than before.
    """
    store = opened.store
    now = opened.database.now()
    ends = store.settings
    if ends.ends_at is None or ends.screen_until is None or ends.test_from is None:
        return None
    times = [row.created_at for rows in store.all_checkpoints().values() for row in rows]
    times += [row.finished_at or row.created_at for row in store.candidates()]
    times += [row.finished_at for row in store.queue.rows() if row.finished_at]
    pause = 0.0
    if not _is_somebody_at_work(opened, now):
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


def _is_somebody_at_work(opened: OpenStudy, now: float) -> bool:
    """Whether a worker holds a lease, killed ones left out."""
    store = opened.store
    release_dead(store, "")
    # SQLite calls a lease of another container held until it has been watched for a while
    return any(
        lease.state == "held" and lease.expires_at > now for lease in store.leases(released=False)
    )
