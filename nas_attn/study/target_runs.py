"""`nas-attn validate`: what a search recommends, trained as the target says in fresh blocks, and tested.

The family of comparisons is written down before the first run. A block is one fresh seed on one fresh backbone (where
the study trains it), with every network of the family in it; the test split is read once per finished run. A later
validation takes fresh runs.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from torch import nn

from nas_attn import tasks
from nas_attn.analysis.choosing import nothing_recommended
from nas_attn.analysis.snapshot import CandidateView, Snapshot
from nas_attn.analysis.units import duration
from nas_attn.analysis.validation import RETRAIN, Family, Network, family_name
from nas_attn.errors import DataError, RecipeError, StudyError
from nas_attn.evaluation.artifacts import weights_run
from nas_attn.evaluation.plan import TARGET, Plan, keep_protocol, protocol_recipe
from nas_attn.recipe import Recipe, TrainingSection
from nas_attn.storage import SEARCH, Lease, Run, RunRow, StoredScore, StudyStore
from nas_attn.study.opening import OpenStudy
from nas_attn.study.reading import families, snapshot
from nas_attn.study.worker import TaskSource, Worker

PURPOSE = "validate"
VALIDATE_PRIORITY, RETRAIN_PRIORITY = 60, 50
FEWEST_BLOCKS, MOST_BLOCKS = 2, 16  # blocks of the test at the end of a search with a time
CAUTION = 0.85  # of the time that is left, what a test may be expected to take
FIRST_SEED = 1_000_000  # seeds of the n-th validation begin at n times this above the search's
FIRST_RETRAINING = 500_000  # seeds of retrainings begin this far above the search's


@dataclass(frozen=True, slots=True)
class Asked:
    """What a user asks of a validation."""

    blocks: int | None = None  # None: the target's seeds
    front: int = 0  # further members of the front
    placements: tuple[str, ...] = ()  # further placements, also untried ones
    margin: float | None = None  # what may be lost, in the metric's unit


def family_of(opened: OpenStudy, now: Snapshot, plan: Plan, asked: Asked) -> Family:
    """The networks and comparisons that a validation would have; nothing is written.

    Raises:
        StudyError: nothing is recommended yet, or nothing but no attention is to be validated.
        PlacementError: a placement is none of this backbone.
    """
    recipe = opened.recipe
    blocks = asked.blocks or recipe.target.seeds
    metric = now.primary
    if metric is None or now.recommendation is None:
        raise StudyError(f"study '{now.study}' has nothing to validate. {nothing_recommended(now)}")
    number = 1 + len(families(opened.store))
    bare = Network(plan.resolved("none").key, "none", "none")
    networks = {bare.key: bare}
    uniform = next((v for v in now.ordered(now.baselines) if v.baseline != "none" and v.state == "scored"), None)
    finalists = _finalists(now, plan, asked, uniform)
    networks |= {network.key: network for network in finalists}
    comparisons = [(network.key, bare.key) for network in finalists if network.key != bare.key]
    recommended = finalists[0].key
    if uniform is not None and recommended not in (uniform.key, bare.key):
        comparisons.append((recommended, uniform.key))
    if not comparisons:
        raise StudyError(
            f"study '{now.study}' recommends the bare backbone and has no other network to compare it with: name members "
            "of the front, or placements"
        )
    return Family(
        number=number,
        networks=tuple(networks.values()),
        comparisons=tuple(comparisons),
        blocks=blocks,
        margin=asked.margin,
        metric=metric,
        first_seed=recipe.search.seed + FIRST_SEED * number,
        fresh_backbones=recipe.target_training.start == "backbone",
        epochs=recipe.target_training.rungs[-1],
        chance=1 / plan.classes
        if metric in ("accuracy", "balanced_accuracy") and recipe.training.evaluator is None
        else None,
    )


def _finalists(now: Snapshot, plan: Plan, asked: Asked, uniform: CandidateView | None) -> list[Network]:
    """The recommended first, then the best uniform one, the front's, and those typed; each once."""
    assert now.recommendation is not None
    found = [Network(now.recommendation.key, now.recommendation.placement, "recommended")]
    if uniform is not None:
        found.append(Network(uniform.key, uniform.placement, "best uniform"))
    front = [view for view in now.front if view.baseline != "none"]
    found += [Network(view.key, view.placement, "front") for view in front[: asked.front]]
    for typed in asked.placements:
        resolved = plan.resolved(typed)
        found.append(Network(resolved.key, resolved.text, "named"))
    kept: dict[str, Network] = {}
    for network in found:
        kept.setdefault(network.key, network)
    return list(kept.values())


def check_test_split(recipe: Recipe) -> None:
    """Whether there is a test split to read: asked before anything is trained.

    Raises:
        DataError: there is none; says how to add one.
    """
    missing = tasks.of(recipe).missing_test(recipe)
    if missing:
        raise DataError(missing)


def begin(opened: OpenStudy, family: Family) -> None:
    """Writes the family down, before its first run."""
    with opened.database.creating():
        if opened.store.validations.get(family_name(family.number)) is None:
            opened.store.validations.put(family_name(family.number), json.dumps(asdict(family)))


def family_runs(family: Family) -> list[Run]:
    """All runs of a family, block by block."""
    return [
        Run(
            network.key,
            network.placement,
            family.first_seed + block,
            _backbone(family, block),
            TARGET,
            PURPOSE,
            VALIDATE_PRIORITY,
            family.number,
        )
        for block in range(family.blocks)
        for network in family.networks
    ]


def _backbone(family: Family, block: int) -> int:
    return FIRST_SEED * family.number + block if family.fresh_backbones else 0


class Validation(TaskSource):
    """The task source of a family's runs."""

    purpose = PURPOSE

    def __init__(self, worker: Worker, families: Sequence[Family]) -> None:
        super().__init__(worker)
        self._families = families

    def want(self, turn: Lease) -> bool:
        """All runs of the families that are not there."""
        there = {row.run.identity for row in self.worker.queue.rows(way=TARGET)}
        missing = [run for family in self._families for run in family_runs(family) if run.identity not in there]
        self.worker.queue.want(missing)
        return bool(missing)

    def trained(self, row: RunRow, model: nn.Module, lease: Lease) -> None:
        """The one reading of the test split that the run has."""
        bench = self.worker.benches.of(row.run.way)
        bench.test(row.run, model, lease=lease)
        bench.keep_weights(row.run.files, model, lease)

    def ended(self, row: RunRow, lease: Lease) -> None:
        (family,) = (f for f in self._families if f.number == row.run.round)
        runs = {run.identity for run in family_runs(family)}
        done = sum(r.run.identity in runs and r.state != "waiting" for r in self.worker.queue.rows(way=TARGET))
        failed = f" {row.state}: {row.reason}" if row.state != "done" else ""
        block = row.run.seed - family.first_seed + 1
        self.worker.say(
            f"validation {family.number}, run {done}/{len(runs)}, block {block}: {row.run.placement}{failed}"
        )


class Testing(Validation):
    """At the end of a search with a time: a validation of what it recommends, in as many blocks as there is time for."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker, families(worker.store))

    def want(self, turn: Lease) -> bool:
        """Begins the validation, once; its runs."""
        self._families = families(self.worker.store)
        if not self._families:
            family = self._planned()
            if family is None:
                return False
            begin(self.worker.opened, family)
            self._families = [family]
        return super().want(turn)

    def ended(self, row: RunRow, lease: Lease) -> None:
        self._families = families(self.worker.store)  # another worker may have begun it
        super().ended(row, lease)

    def _planned(self) -> Family | None:
        """None where there is no time, nothing to test, or no test split."""
        worker, opened = self.worker, self.worker.opened
        ends_at = worker.store.settings.ends_at
        if ends_at is None:
            return None
        now = snapshot(worker.store)
        if now.recommendation is None:
            return None
        try:
            check_test_split(opened.recipe)
            family = family_of(opened, now, opened.plan, Asked(blocks=FEWEST_BLOCKS))
        except (DataError, StudyError):
            return None
        epoch_s = seconds_per_epoch(worker.store)
        if epoch_s is None:
            return None
        target: TrainingSection = opened.recipe.target_training
        epochs = len(family.networks) * target.rungs[-1] + (target.backbone_epochs if family.fresh_backbones else 0)
        left = CAUTION * (ends_at - opened.database.now()) * max(1, len(worker.store.workers.rows()))
        blocks = min(MOST_BLOCKS, int(left / (epoch_s * epochs)))
        if blocks < FEWEST_BLOCKS:
            needed = FEWEST_BLOCKS * epoch_s * epochs
            worker.say(f"no time for a test, which takes {duration(needed)}: nas-attn validate {worker.store.name}")
            return None
        return family_of(opened, now, opened.plan, Asked(blocks=blocks))


def seconds_per_epoch(store: StudyStore) -> float | None:
    """What an epoch of a candidate has taken so far, its scoring included; None before the first score."""
    found: list[float] = []
    before: dict[tuple[str, int, int], int] = {}
    for stored in store.scores(way=SEARCH):
        place, score = (stored.key, stored.score.seed, stored.backbone), stored.score
        found.append(score.wall_s / max(1, score.epochs - before.get(place, 0)))
        before[place] = score.epochs
    return statistics.median(found) if found else None


# ---- retraining


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be trained, and how."""

    networks: Mapping[str, str]  # key -> placement
    way: str
    runs: tuple[Run, ...]  # all that count, those of a validation included


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
        fresh = (recipe.search.seed + FIRST_RETRAINING + number for number in range(seeds))
        known = {run.seed for run in mine}
        for seed in (s for s in fresh if s not in known):
            if len(mine) == seeds:
                break
            number = seed - recipe.search.seed if training.start == "backbone" else 0
            mine.append(Run(key, placement, seed, number, way, RETRAIN, RETRAIN_PRIORITY))
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
