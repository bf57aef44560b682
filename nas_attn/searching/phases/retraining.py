"""Runs of `nas-attn retrain`, which trains networks as the target says, for use.

It uses the runs of validations, too, but never chooses by the score on the test split: of several
seeds, the first one's weights are exported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn
from typing_extensions import override

from nas_attn.recipe.purposes import RETRAIN, TARGET_PROTOCOL
from nas_attn.searching.worker.worker import TaskSource
from nas_attn.space.placement import Placement
from nas_attn.storage.artifacts import is_kept
from nas_attn.storage.opening import OpenStudy
from nas_attn.storage.records import StoredScore
from nas_attn.storage.rows import Lease, Run, RunRow
from nas_attn.storage.store import StudyStore
from nas_attn.training.plan import keep_protocol, protocol_recipe

RETRAIN_PRIORITY = 50
# seeds of retrainings begin this far above the search's
FIRST_RETRAINING = 500_000


# ------------------------------------------------------------------------------------ retraining
@dataclass(frozen=True, slots=True)
class RetrainingOrder:
    protocol: str
    # all runs that count, including those of a validation
    runs: tuple[Run, ...]


def order(
    opened: OpenStudy,
    networks: Mapping[str, Placement],
    *,
    seeds: int = 1,
    epochs: int | None = None,
) -> RetrainingOrder:
    """Lists the runs that train networks for use. If not as the target says, the study keeps how.

    Args:
        opened: the study.
        networks: key -> placement.
        seeds: runs of each network.
        epochs: of a run; None: the target's.
    """
    recipe = opened.recipe
    store = opened.store
    training = recipe.target_training
    if epochs is not None:
        training = training.model_copy(update={"rungs": [epochs]})
    protocol = TARGET_PROTOCOL if epochs is None else keep_protocol(store, training, recipe.data)
    rows = store.queue.rows(protocol=protocol, state="done")
    done = [row.run for row in rows if is_kept(store, row.run)]
    runs: list[Run] = []
    for key, placement in networks.items():
        mine = sorted((run for run in done if run.key == key), key=lambda run: run.seed)[:seeds]
        there = {run.seed for run in mine}
        first = recipe.first_seed + FIRST_RETRAINING
        fresh = [seed for seed in range(first, first + seeds) if seed not in there]
        mine += [
            Run(key, placement, seed, 0, protocol, RETRAIN, RETRAIN_PRIORITY)
            for seed in fresh[: seeds - len(mine)]
        ]
        runs += mine
    return RetrainingOrder(protocol, tuple(runs))


def enter(store: StudyStore, wanted: RetrainingOrder) -> int:
    """Enqueues the runs that are not done, failed, or lost their weights; returns their number."""
    rows = {row.run.identity: row for row in store.queue.rows(protocol=wanted.protocol)}
    done = {name for name, row in rows.items() if row.state == "done" and is_kept(store, row.run)}
    left = [run for run in wanted.runs if run.identity not in done]
    queued = [rows[run.identity] for run in left if run.identity in rows]
    store.queue.again([row.id for row in queued if row.state in ("failed", "done")])
    store.queue.want(left)
    return len(left)


def results(
    store: StudyStore, wanted: RetrainingOrder
) -> list[tuple[Run, StoredScore | None, str]]:
    """Each run that was entered with its score on the validation split, or the reason why it has
    none.
    """
    last = len(protocol_recipe(store, wanted.protocol).training.rungs) - 1
    rows = {row.run.identity: row for row in store.queue.rows(protocol=wanted.protocol)}
    scores = {
        (s.key, s.score.seed, s.backbone): s
        for s in store.scores(protocol=wanted.protocol)
        if s.score.rung == last
    }
    return [
        (
            run,
            scores.get((run.key, run.seed, run.backbone)),
            rows[run.identity].reason,
        )
        for run in wanted.runs
    ]


class Retraining(TaskSource):
    purpose = RETRAIN

    @override
    def trained(self, row: RunRow, model: nn.Module, lease: Lease) -> None:
        self.worker.benches.of_run(row.run).keep_weights(row.run.files, model, lease)
