"""Finds how long the target trains, where the recipe leaves that open (`target.epochs = "auto"`).

Before its first candidate, a study trains the bare network for n, 2n, 4n … epochs, each time from
the start and with a schedule of its own, on two seeds. The first length whose double is not clearly
better becomes the target (`nas_attn.answer.length` has the rule), is written into the study's
recipe, and stays.

A search with a time spends at most a part of it on this. If the time ends before the length is
found, the target is the next one that would have been tried, and the search trains more briefly:
its answer then recommends nothing.
"""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from typing_extensions import override

from nas_attn.answer.cautions import only_guessed
from nas_attn.answer.fronts import primary_metric
from nas_attn.answer.length import (
    LengthScore,
    MetricKind,
    length_scores,
    metric_kind,
    needed_length,
)
from nas_attn.answer.progress import worker_count
from nas_attn.errors import OperationError, RecipeError, several
from nas_attn.recipe import tasks
from nas_attn.recipe.protocol import TrainingSection
from nas_attn.recipe.purposes import LENGTH, length_protocol
from nas_attn.recipe.recipe import Recipe
from nas_attn.recipe.tables import LAYER_NORM_PRESET
from nas_attn.recipe.units import value
from nas_attn.searching.prepare.planning import (
    LAST_SEED_SHARE,
    SCREENING,
    SEEDS_PER_LENGTH,
    TESTING,
    Fit,
    Speed,
    control_lengths,
    fitted,
    most_of_few,
    shorter_lengths,
    usual_epochs,
)
from nas_attn.searching.worker.ending import Ending
from nas_attn.searching.worker.worker import TaskSource, Worker, how_it_failed
from nas_attn.space.placement import BARE
from nas_attn.storage.rows import Lease, Run, RunRow
from nas_attn.storage.store import StudyStore
from nas_attn.training.plan import session_s, study_plan

# n to 32n; a network that still gains then is taken at the longest
MOST_LENGTHS = 6
LENGTH_PRIORITY = 40


def length_run(recipe: Recipe, key: str, epochs: int, seed: int) -> Run:
    """The training of the bare network (its key) for so many epochs."""
    protocol = length_protocol(epochs)
    return Run(key, BARE, recipe.first_seed + seed, 0, protocol, LENGTH, LENGTH_PRIORITY)


def keep_length_protocol(store: StudyStore, recipe: Recipe, epochs: int) -> None:
    """Stores how a run of this length trains, for all workers: as the target, for so many
    epochs.
    """
    name = length_protocol(epochs)
    if store.protocols.get(name) is not None:
        return
    training = recipe.target_training.model_copy(update={"rungs": [epochs]})
    content = {
        "training": training.model_dump(mode="json"),
        "data": recipe.data.model_dump(mode="json", exclude={"workers"}),
    }
    store.protocols.put(name, json.dumps(content, sort_keys=True))


@dataclass(frozen=True, slots=True)
class Lengths:
    """The lengths that a study has tried, and what follows from them."""

    scores: tuple[LengthScore, ...]
    metric: str
    kind: MetricKind
    # epochs of lengths without a score, whose runs have all ended
    failed: frozenset[int]
    # whether all runs of all lengths predicted one class for all images
    only_guessed: bool

    @classmethod
    def of(cls, store: StudyStore, recipe: Recipe) -> Lengths:
        metrics: dict[int, list[Mapping[str, float]]] = defaultdict(list)
        for stored in store.scores():
            if stored.purpose == LENGTH:
                metrics[stored.score.epochs].append(stored.score.metrics)
        names = {name for runs in metrics.values() for run in runs for name in run}
        metric = primary_metric(recipe, names) or tasks.of(recipe).metric
        states: dict[int, set[str]] = defaultdict(set)
        for row in store.queue.rows(purposes=[LENGTH]):
            states[_epochs_of(row)].add(row.state)
        failed = frozenset(e for e, of in states.items() if of == {"failed"} and e not in metrics)
        return cls(
            tuple(length_scores(metrics, metric)),
            metric,
            metric_kind(recipe, metric),
            failed,
            only_guessed(recipe, itertools.chain.from_iterable(metrics.values())),
        )

    @property
    def needed(self) -> int | None:
        """The length that the bare network needs; None while it is not known."""
        epochs = needed_length(self.scores, self.kind)
        if epochs is None and self.scores and len(self.scores) >= MOST_LENGTHS:
            return self.scores[-1].epochs
        if epochs is None and self.scores and self.failed:
            return self.scores[-1].epochs
        return epochs

    def wanted(self, first: int, *, timed: bool) -> list[int]:
        """The lengths to train next: two at first, since one says nothing, then one by one. A
        search with a time learns from the first how long the second takes.
        """
        if self.needed is not None or first in self.failed:
            return []
        if self.scores:
            return [2 * self.scores[-1].epochs]
        if timed:
            return [first]
        return [first, 2 * first]


def _epochs_of(row: RunRow) -> int:
    return int(row.run.protocol.rpartition("-")[2])


class FindingLength(TaskSource):
    """Trains the bare network longer and longer, then writes the target into the study."""

    purpose = LENGTH

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker)
        dataset = worker.benches.search.dataset
        images = 0
        if dataset is not None:
            images = len(dataset.train)
        self._first = usual_epochs(self.recipe, images)
        self._key = study_plan(worker.opened.store).resolved(BARE).key

    @override
    def want(self, lease: Lease) -> bool:
        lengths = Lengths.of(self.store, self.recipe)
        timed = self.store.settings.ends_at is not None
        runs = []
        for epochs in lengths.wanted(self._first, timed=timed):
            if self._there_is_time(lengths, epochs):
                for seed in range(SEEDS_PER_LENGTH):
                    runs.append(length_run(self.recipe, self._key, epochs, seed))
        there = {
            row.run.identity
            for row in self.queue.rows(purposes=[LENGTH])
            if row.state != "withdrawn"
        }
        missing = [run for run in runs if run.identity not in there]
        for run in missing:
            keep_length_protocol(self.store, self.recipe, int(run.protocol.rpartition("-")[2]))
        self.queue.want(missing)
        return bool(missing)

    def _there_is_time(self, lengths: Lengths, epochs: int) -> bool:
        until = self.store.settings.screen_until
        epoch_s = epoch_seconds(self.store)
        if until is None or epoch_s is None or not lengths.scores:
            return True
        needed_s = epochs * epoch_s * SEEDS_PER_LENGTH / worker_count(self.store)
        return self.worker.opened.database.now() + needed_s <= until

    @override
    def ended(self, row: RunRow, lease: Lease) -> None:
        what = several(_epochs_of(row), "epoch") if row.state == "done" else row.state
        why = f": {row.reason}" if row.reason else ""
        self.worker.say(f"bare network, seed {row.run.seed}: {what}{why}")

    @override
    def close(self) -> Ending:
        settle(self.worker)
        return Ending.COMPLETE


def other_training(training: TrainingSection) -> str:
    """Names another training for a network that predicts one class for all images."""
    if training.evaluator is not None:
        return f"change how '{training.evaluator}' trains, then begin a new study (--name)"
    setting = f"training.learning_rate={training.learning_rate / 10:g}"
    if training.optimizer == "SGD":
        setting = f"training.preset={LAYER_NORM_PRESET}"
    return f"try another training in a new study (--name): --set {setting}"


def settle(worker: Worker) -> None:
    """Writes the length that was found into the study's recipe, and plans the time that is left."""
    store = worker.store
    recipe = worker.recipe
    lengths = Lengths.of(store, recipe)
    if not lengths.scores:
        raise OperationError(
            f"the bare network of study '{store.name}' cannot be trained, so it is not known how"
            " long the target trains: see the failed runs above, or give target.epochs a number"
        )
    if lengths.only_guessed:
        longest = several(lengths.scores[-1].epochs, "epoch")
        raise RecipeError(
            f"the bare network of study '{store.name}' has learned nothing in {longest}: it"
            " predicts one class for all images, so there is nothing to compare:"
            f" {other_training(recipe.target_training)}"
        )
    needed = lengths.needed
    epochs = needed if needed is not None else 2 * lengths.scores[-1].epochs
    searched, fit = _searched(worker, recipe, epochs, known=needed is not None)
    _announce(worker, lengths, epochs, searched, known=needed is not None)
    settings = store.settings
    if fit is not None and settings.ends_at is not None:
        now = worker.opened.database.now()
        left_s = settings.ends_at - now
        rest = TESTING if fit.blocks else LAST_SEED_SHARE
        store.set(
            trials=min(fit.trials, settings.trials),
            screen_until=now + SCREENING * left_s,
            test_from=now + (1 - rest) * left_s,
        )
    store.set(recipe=recipe.with_length(epochs, searched=searched).to_json())


def _searched(
    worker: Worker, recipe: Recipe, epochs: int, *, known: bool
) -> tuple[int, Fit | None]:
    """How long the search's runs train, the target's length unless it was not found or too few of
    them fit; and what fits into the time that is left, None without one.
    """
    settings = worker.store.settings
    epoch_s = epoch_seconds(worker.store)
    if settings.ends_at is None or epoch_s is None:
        return epochs, None
    left_s = settings.ends_at - worker.opened.database.now()
    speed = Speed(epoch_s, worker_count(worker.store), session_s(recipe))
    for length in shorter_lengths(epochs, with_itself=known):
        most = settings.trials
        if recipe.data.resplit is True:
            most = min(most, most_of_few(left_s, speed, length))
        fit = fitted(left_s, speed, length, most=most, begun=True)
        if fit is not None:
            return length, fit
    return length, Fit(1, 0)


def _announce(worker: Worker, lengths: Lengths, epochs: int, searched: int, *, known: bool) -> None:
    reached = [f"{value(lengths.metric, s.value)} after {s.epochs}" for s in lengths.scores]
    reached[0] += " epochs" if lengths.scores[0].epochs > 1 else " epoch"
    enough = "there is no time to find out how long it gains"
    if known:
        enough = f"{several(epochs, 'epoch')} will do"
    worker.say(f"target: the bare network reaches {', '.join(reached)}; {enough}")
    if searched < epochs:
        worker.say(
            f"too little time for runs of {several(epochs, 'epoch')}: the search trains for"
            f" {searched} and recommends nothing for the end"
        )


def epoch_seconds(store: StudyStore) -> float | None:
    """Seconds of an epoch of the bare network in its trainings of several lengths; None before the
    first has ended.
    """
    scores = [stored.score for stored in store.scores() if stored.purpose == LENGTH]
    epochs = sum(score.epochs for score in scores)
    if epochs:
        return sum(score.wall_s for score in scores) / epochs
    return None


class Control(TaskSource):
    """Trains the bare network for twice the target's epochs, as a control beside attention: what
    this brings costs no latency. Where the search trains more briefly than the target, also for the
    target's.
    """

    purpose = LENGTH

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker)
        self._key = study_plan(worker.opened.store).resolved(BARE).key

    @override
    def want(self, lease: Lease) -> bool:
        rows = self.queue.rows(purposes=[LENGTH])
        there = {row.run.identity for row in rows if row.state != "withdrawn"}
        runs = [
            length_run(self.recipe, self._key, epochs, seed)
            for epochs in control_lengths(self.recipe, self.worker.opened.trials)
            for seed in range(SEEDS_PER_LENGTH)
        ]
        missing = [run for run in runs if run.identity not in there]
        for epochs in sorted({int(run.protocol.rpartition("-")[2]) for run in missing}):
            keep_length_protocol(self.store, self.recipe, epochs)
        self.queue.want(missing)
        return bool(missing)

    @override
    def ahead(self, lease: Lease) -> bool:
        """An idle worker may begin them before the candidates have ended, but not before the bare
        network has: if it cannot be trained, neither can these.
        """
        bare = self.store.candidate(self._key)
        return bare is not None and bare.state == "scored" and self.want(lease)

    @override
    def ended(self, row: RunRow, lease: Lease) -> None:
        epochs = several(_epochs_of(row), "epoch")
        self.worker.say(f"bare network for {epochs}, seed {row.run.seed}{how_it_failed(row)}")
