"""Relatives of the backbone that a search tries beside placements (`search.controls`): the answer
takes one instead of attention if it gains more.
"""

from __future__ import annotations

from collections.abc import Sequence

from optuna.trial import FrozenTrial

from nas_attn.attention.choice import Choice
from nas_attn.errors import BackboneError
from nas_attn.searching.prepare.baselines import (
    check_other,
    control_name,
    family_of,
    in_turn,
    most_relatives,
    relative,
)
from nas_attn.searching.worker.worker import Worker
from nas_attn.space.placement import BARE
from nas_attn.space.search_space import other_of
from nas_attn.storage.trial_book import BASELINE, OUTSIDE, outside


class QueuedRelatives:
    """Enqueues relatives of a study's backbone."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._bench = worker.benches.search
        # those that can be compared here, the first to try first; None: not found yet
        self._relatives: list[Choice] | None = None

    def enter(self, trials: Sequence[FrozenTrial]) -> bool:
        """Enqueues the next relative; returns whether there is one."""
        trials_in_all = self._worker.opened.trials
        tried = [other for trial in trials if (other := other_of(outside(trial) or BARE))]
        if len(tried) >= most_relatives(trials_in_all):
            return False
        if self._relatives is None:
            plan = self._bench.plan
            family = family_of(plan.recipe, plan, trials_in_all)
            for note in family.notes:
                self._worker.say(note)
            self._relatives = [other for other in in_turn(family) if self._can_start(other)]
        other = next((other for other in self._relatives if other not in tried), None)
        if other is None:
            return False
        network = relative(self._bench.plan, other)
        attributes = {BASELINE: control_name(network.placement), OUTSIDE: network.text}
        self._worker.opened.book.enqueue({}, attributes)
        return True

    def _can_start(self, other: Choice) -> bool:
        """Whether this machine can begin to train a network; says why not."""
        try:
            check_other(self._bench.plan, other)
        except BackboneError as error:
            self._worker.say(f"{other} is not compared with the backbone: {error}")
            return False
        return True
