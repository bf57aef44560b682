"""What Optuna was told of a study's trials."""

from __future__ import annotations

from optuna.trial import TrialState

from nas_attn.storage.trial_book import TrialBook


def told(book: TrialBook) -> dict[int, tuple[float, ...]]:
    """Number -> values, of the trials that have some."""
    return {t.number: tuple(t.values) for t in book.all() if t.state == TrialState.COMPLETE}
