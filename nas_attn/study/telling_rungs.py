"""Which rungs prune, with `search.rungs = "auto"`: those whose scores are seen to tell placements apart (`analysis.weak_rungs`).

Until that is known of a rung, and where it is not so, all runs go on from it: nothing is lost there by chance. One run each cannot
tell what is a placement's from what is a run's luck, so the first candidates that were scored run again, on one seed that had no
part in choosing them, as far as anyone may be pruned. What was found is kept in the study: workers agree, and a resumed study goes
on as it would have.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from nas_attn.analysis.evidence import Evidence
from nas_attn.analysis.weak_rungs import FEWEST, REPEATED, Judged, judged
from nas_attn.evaluation.ways import backbone_number
from nas_attn.records import Score
from nas_attn.storage import Lease, Run, RunRow, StudyStore
from nas_attn.storage.queue import WAITING
from nas_attn.study.worker import Duties, Worker

RUNGS = "rungs"
AGAIN = 1.25
"""Growth of the number of candidates at a rung after which it is looked at again."""
SEED = 300_000
"""Seed of the repeats, above the search's: beyond those of its confirmation."""
PRIORITY = 35
"""Before the search's own runs, which wait for what comes of it."""
_NAME = "rungs/{rung}"
"""Attribute of a study: what was found of a rung last."""


class Repeats(Duties):
    """The agenda of brief runs that tell what a rung's scores are worth. The search enters them as it goes on."""

    purpose = RUNGS

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker)
        self._last = len(worker.recipe.training.rungs) - 1
        self._wanted = worker.recipe.search.rungs == "auto" and self._last > 0

    def want(self, turn: Lease) -> bool:
        return False

    def want_more(self) -> bool:
        """Enters what is wanted by now; whether it was anything."""
        if not self._wanted:
            return False
        recipe, queue = self.worker.recipe, self.worker.queue
        there = {row.run.key for row in queue.rows(purposes=[RUNGS])}
        self._wanted = len(there) < REPEATED
        scored = [row for row in self.worker.store.candidates() if row.state == "scored" and row.key not in there]
        first = sorted(scored, key=lambda row: row.trial)[: REPEATED - len(there)]
        seed = recipe.search.seed + SEED
        number = backbone_number(recipe, seed)
        queue.want(Run(row.key, row.placement, seed, number, purpose=RUNGS, priority=PRIORITY) for row in first)
        return bool(first)

    def go_on(self, run: Run, score: Score) -> bool:
        return score.rung < self._last - 1

    def ended(self, row: RunRow, lease: Lease) -> None:
        how = f"failed: {row.reason}" if row.state == "failed" else "done"
        self.worker.say(f"repeated briefly, to see what its rungs are worth: {row.run.placement}: {how}")


class TellingRungs:
    """Asked at each decision; looks at the evidence seldom, as that takes longer the more there is."""

    def __init__(self, store: StudyStore, evidence: Callable[[int], Evidence | None]) -> None:
        """Args:
        evidence: rung -> the model of the metric that is searched for, as of now.
        """
        self._store, self._evidence, self._repeated = store, evidence, False

    def tells(self, rung: int, candidates: int) -> bool:
        """Whether a rung prunes.

        Args:
            candidates: that have been scored there by now.
        """
        if candidates < FEWEST or not self._are_repeated():
            return False
        known = self._kept(rung)
        if known is None or candidates >= AGAIN * known.candidates:
            model = self._evidence(rung)
            known = judged(model) if model is not None else None
            if known is not None:
                kept = {"candidates": known.candidates, "reliability": known.reliability}
                self._store.put(_NAME.format(rung=rung), json.dumps(kept))
        return known is not None and known.tells

    def _are_repeated(self) -> bool:
        if not self._repeated:
            states = [row.state for row in self._store.queue.rows(purposes=[RUNGS])]
            self._repeated = len(states) >= REPEATED and WAITING not in states
        return self._repeated

    def _kept(self, rung: int) -> Judged | None:
        text = self._store.get(_NAME.format(rung=rung))
        try:
            found = json.loads(text or "")
            share = found["reliability"]
            return Judged(int(found["candidates"]), None if share is None else float(share))
        except (ValueError, TypeError, KeyError):
            return None
