"""`nas-attn retrain`: chosen networks trained as the target says, for use.

Runs that a validation has made count where they are the same. None is chosen by its score on the test split: where
several seeds were asked for, the first one's weights are exported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from nas_attn.analysis.facts import RETRAIN
from nas_attn.errors import RecipeError
from nas_attn.evaluation.artifacts import weights_run
from nas_attn.evaluation.plan import TARGET, keep_protocol, protocol_recipe
from nas_attn.storage import Lease, Run, RunRow, StoredScore, StudyStore
from nas_attn.study.opening import OpenStudy
from nas_attn.study.worker import TaskSource

PRIORITY = 50
FIRST_SEED = 500_000
"""Seeds of retrainings begin this far above the search's."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be trained, and how."""

    networks: Mapping[str, str]
    """Key -> placement."""
    way: str
    runs: tuple[Run, ...]
    """All that count, those of a validation included."""


def order(
    opened: OpenStudy,
    networks: Mapping[str, str],
    *,
    seeds: int = 1,
    epochs: int | None = None,
    data: str | None = None,
) -> Order:
    """The runs that a retraining takes; the study notes how they train where that is not the target as it stands.

    Args:
        networks: key -> placement.
        epochs: instead of the target's.
        data: another data set, or `folder:PATH`, instead of the study's.

    Raises:
        RecipeError: the evaluator brings its own data.
    """
    recipe, store = opened.recipe, opened.store
    if data is not None and recipe.data.name == "external":
        raise RecipeError(f"data '{data}' is not supported: the evaluator of this study brings its own data")
    training = recipe.target_training
    if epochs is not None:
        training = training.model_copy(update={"rungs": [epochs]})
    section = recipe.data if data is None else recipe.data.model_copy(update={"name": data})
    way = TARGET if epochs is None and data is None else keep_protocol(store, training, section)
    done = [row.run for row in store.queue.rows(way=way, state="done") if _kept(store, row.run)]
    runs: list[Run] = []
    for key, placement in networks.items():
        mine = sorted((run for run in done if run.key == key), key=lambda run: run.seed)[:seeds]
        fresh = (recipe.search.seed + FIRST_SEED + number for number in range(seeds))
        known = {run.seed for run in mine}
        for seed in (s for s in fresh if s not in known):
            if len(mine) == seeds:
                break
            number = seed - recipe.search.seed if training.start == "backbone" else 0
            mine.append(Run(key, placement, seed, number, way, RETRAIN, PRIORITY))
        runs += mine
    return Order(networks, way, tuple(runs))


def open_runs(store: StudyStore, wanted: Order) -> list[Run]:
    """Those that are not done, or whose weights could not be written."""
    done = {row.run.identity for row in store.queue.rows(way=wanted.way, state="done") if _kept(store, row.run)}
    return [run for run in wanted.runs if run.identity not in done]


def results(store: StudyStore, wanted: Order) -> list[tuple[Run, StoredScore | None, str]]:
    """Each run with its score on the validation split, and why it has none."""
    last = len(protocol_recipe(store, wanted.way).training.rungs) - 1
    rows = {row.run.identity: row for row in store.queue.rows(way=wanted.way)}
    scores = {(s.key, s.score.seed, s.backbone): s for s in store.scores(way=wanted.way) if s.score.rung == last}
    return [
        (run, scores.get((run.key, run.seed, run.backbone)), rows[run.identity].reason if run.identity in rows else "")
        for run in wanted.runs
    ]


def kept_runs(store: StudyStore, key: str) -> list[Run]:
    """A network's runs as the target says whose weights are kept: retrained ones first, by seed."""
    done = [row.run for row in store.queue.rows(key=key, state="done") if row.run.way != "search"]
    done = [run for run in done if _kept(store, run)]
    return sorted(done, key=lambda run: (run.purpose != RETRAIN, run.seed))


def _kept(store: StudyStore, run: Run) -> bool:
    return bool(store.checkpoints(weights_run(run.files)))


class Retraining(TaskSource):
    """The task source of the runs that were ordered."""

    purpose = RETRAIN

    def trained(self, row: RunRow, model: nn.Module, lease: Lease) -> None:
        """For export."""
        self.worker.benches.of(row.run.way).keep_weights(row.run.files, model, lease)


def enter(store: StudyStore, runs: Sequence[Run]) -> None:
    """Puts the runs of an order into the queue; those that failed before, or left no weights, are tried again."""
    identities = {run.identity for run in runs}
    rows = [row for row in store.queue.rows() if row.run.identity in identities]
    store.queue.again(
        [row.id for row in rows if row.state == "failed" or (row.state == "done" and not _kept(store, row.run))]
    )
    store.queue.want(runs)
