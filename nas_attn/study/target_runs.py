"""Runs as the target says: `nas-attn validate` tests what a search recommends, `nas-attn retrain`
trains networks for use.

A validation's family of comparisons is written down before the first run. A block trains every
network of the family with one fresh seed; each finished run reads the test split once. Retraining
uses the runs of validations, too, but never chooses by the score on the test split: of several
seeds, the first one's weights are exported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from nas_attn import tasks
from nas_attn.analysis.choosing import best_uniform, notation, nothing_recommended
from nas_attn.analysis.recommendation import promising
from nas_attn.analysis.snapshot import Snapshot
from nas_attn.analysis.units import duration
from nas_attn.analysis.validation import Family, Network
from nas_attn.errors import DataError, StudyError
from nas_attn.evaluation.artifacts import weights_run
from nas_attn.evaluation.leasing import TTL_S, release_dead
from nas_attn.evaluation.plan import Plan, keep_protocol, protocol_recipe
from nas_attn.notation import parse
from nas_attn.processes import owner_name
from nas_attn.purposes import RETRAIN, SEARCH, TARGET_PROTOCOL, VALIDATE
from nas_attn.recipe import Recipe
from nas_attn.records import BARE, Placement, StoredScore
from nas_attn.storage import Lease, Run, RunRow, StudyStore
from nas_attn.study.opening import OpenStudy
from nas_attn.study.progress import FURTHER, seconds_per_epoch, time_left
from nas_attn.study.reading import blocks_done, families, keep_family, snapshot, unfinished
from nas_attn.study.worker import TaskSource, Worker
from nas_attn.tasks.data import data_of

VALIDATE_PRIORITY, RETRAIN_PRIORITY = 60, 50
FEWEST_BLOCKS, MOST_BLOCKS = 2, 16  # blocks of the test at the end of a search with a time limit
LEAST_SHARE = (
    0.25  # of the test's share of the time: reading a study of many short runs takes time, too
)
CAUTION = 0.85  # largest share of the remaining time for a test
FIRST_SEED = 1_000_000  # seeds of the n-th validation begin at n times this above the search's
FIRST_RETRAINING = 500_000  # seeds of retrainings begin this far above the search's


@dataclass(frozen=True, slots=True)
class Asked:
    blocks: int | None = None  # None: the target's seeds
    front: int = 0  # further members of the front
    placements: tuple[str, ...] = ()  # further placements, also untried ones
    margin: float | None = None  # acceptable loss, in the metric's unit


def family_of(opened: OpenStudy, now: Snapshot, plan: Plan, asked: Asked) -> Family:
    """The networks and comparisons of a validation; nothing is written. Raises StudyError: there is
    nothing to compare.
    Raises PlacementError: a placement does not fit this backbone.
    """
    recipe, metric = opened.recipe, now.primary
    if metric is None or now.recommendation is None:
        raise StudyError(f"study '{now.study}' has nothing to validate. {nothing_recommended(now)}")
    number = 1 + len(families(opened.store))
    bare = Network(plan.resolved(BARE).key, BARE, "none")
    finalists = _finalists(now, plan, asked)
    networks = {network.key: network for network in (bare, *finalists)}
    comparisons = [(network.key, bare.key) for network in finalists if network.key != bare.key]
    recommended = finalists[0].key
    rival = next(
        (
            network.key
            for network in finalists
            if network.role in ("best placement", "best uniform")
        ),
        None,
    )
    if rival is not None and recommended != bare.key:
        comparisons.append((recommended, rival))
    if not comparisons:
        why = (
            f"study '{now.study}' recommends the bare backbone and has no other network to compare"
            " it with"
        )
        raise StudyError(f"{why}: name members of the front, or placements")
    exact = metric in tasks.of(recipe).guessed and recipe.training.evaluator is None
    return Family(
        number=number,
        networks=tuple(networks.values()),
        comparisons=tuple(comparisons),
        blocks=asked.blocks or recipe.target.seeds,
        margin=asked.margin,
        metric=metric,
        first_seed=recipe.first_seed + FIRST_SEED * number,
        epochs=recipe.target_training.rungs[-1],
        chance=1 / plan.classes if exact else None,
    )


def _finalists(now: Snapshot, plan: Plan, asked: Asked) -> list[Network]:
    """The recommended network first, then the best uniform one, the front's and the user's; each
    once. If a control is recommended, the best placement is second; if the bare backbone is, the
    best bet, where it is promising or alone.
    """
    best, uniform = now.recommendation, best_uniform(now)
    assert best is not None
    first = now.find(best.taken) or best
    found = [Network(first.key, first.placement, "recommended")]
    bet, alone = best.best_bet, uniform is None and best.instead is None
    if best.placement != BARE:
        found.append(Network(best.key, best.placement, "best placement"))
    elif (
        bet
        and bet.gain
        and (promising(bet.gain) or alone)
        and (view := now.find(bet.key)) is not None
    ):
        found.append(Network(view.key, view.placement, "best bet"))
    if uniform is not None:
        found.append(Network(uniform.key, uniform.placement, "best uniform"))
    front = [view for view in now.front if view.baseline != "none"]
    found += [Network(view.key, view.placement, "front") for view in front[: asked.front]]
    named = [plan.resolved(parse(notation(now, text))) for text in asked.placements]
    found += [Network(one.key, one.placement, "named") for one in named]
    kept: dict[str, Network] = {}
    for network in found:
        kept.setdefault(network.key, network)
    return list(kept.values())


def check_test_split(recipe: Recipe) -> None:
    """Raises DataError if there is no test split to read; says how to add one."""
    missing = data_of(tasks.of(recipe)).missing_test(recipe)
    if missing:
        raise DataError(missing)


def begin(opened: OpenStudy, family: Family) -> None:
    """Writes the family down, before its first run."""
    with opened.database.creating():
        keep_family(opened.store, family)


def family_runs(family: Family) -> list[Run]:
    """All runs of a family, block by block."""
    found = []
    for block in range(family.blocks):
        common = (
            family.first_seed + block,
            0,
            TARGET_PROTOCOL,
            VALIDATE,
            VALIDATE_PRIORITY,
            family.number,
        )
        found += [Run(network.key, network.placement, *common) for network in family.networks]
    return found


class Validation(TaskSource):
    purpose = VALIDATE

    def __init__(self, worker: Worker, families: Sequence[Family]) -> None:
        super().__init__(worker)
        self._families = families

    def want(self, lease: Lease) -> bool:
        there = {row.run.identity for row in self.queue.rows(protocol=TARGET_PROTOCOL)}
        missing = [
            run
            for family in self._families
            for run in family_runs(family)
            if run.identity not in there
        ]
        self.queue.want(missing)
        return bool(missing)

    def trained(self, row: RunRow, model: nn.Module, lease: Lease) -> None:
        """Scores the run on the test split, once."""
        bench = self.worker.benches.of(row.run.protocol)
        bench.test(row.run, model, lease=lease)
        bench.keep_weights(row.run.files, model, lease)

    def ended(self, row: RunRow, lease: Lease) -> None:
        (family,) = (f for f in self._families if f.number == row.run.round)
        runs = {run.identity for run in family_runs(family)}
        done = sum(
            r.run.identity in runs and r.state != "waiting"
            for r in self.queue.rows(protocol=TARGET_PROTOCOL)
        )
        failed = f" {row.state}: {row.reason}" if row.state != "done" else ""
        block = row.run.seed - family.first_seed + 1
        which = f"validation {family.number}, run {done}/{len(runs)}, block {block}"
        self.worker.say(f"{which}: {row.run.placement}{failed}")


class Testing(Validation):
    """At the end of a search with a time limit: validates what the answer takes in as many blocks
    as the time allows, unless this comparison was made before.
    """

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker, families(worker.store))
        self._before = len(self._families)

    def want(self, lease: Lease) -> bool:
        store = self.worker.store
        self._families = families(store)
        if (
            len(self._families) == self._before
            and not unfinished(store)
            and (family := self._planned()) is not None
        ):
            begin(self.worker.opened, family)
            self._families.append(family)
        return super().want(lease)

    def ended(self, row: RunRow, lease: Lease) -> None:
        self._families = families(self.worker.store)  # another worker may have begun it
        super().ended(row, lease)

    def _planned(self) -> Family | None:
        """None if there is no time, nothing to test, or no test split."""
        worker, ends_at = self.worker, self.worker.store.settings.ends_at
        block = block_of(worker)
        if ends_at is None or block is None:
            return None
        family, block_s = block
        blocks = min(MOST_BLOCKS, int(CAUTION * (ends_at - worker.opened.database.now()) / block_s))
        if blocks < FEWEST_BLOCKS:
            shortest = (
                f"the shortest, of {FEWEST_BLOCKS} blocks, takes"
                f" {duration(FEWEST_BLOCKS * block_s)}"
            )
            worker.say(
                f"no time for a test: {shortest}; test it later with nas-attn validate"
                f" {worker.store.name}"
            )
            return None
        return replace(family, blocks=blocks, planned=blocks)


def block_of(worker: Worker) -> tuple[Family, float] | None:
    """What the test at the end of a search would compare now, and the seconds that all workers
    together need for a block. None if there is nothing to test (any more), no test split, or no run
    yet.
    """
    opened, epoch_s = worker.opened, seconds_per_epoch(worker.store)
    try:
        check_test_split(opened.recipe)
        family = family_of(opened, snapshot(worker.store), opened.plan, Asked(blocks=FEWEST_BLOCKS))
    except (DataError, StudyError):
        return None
    if epoch_s is None or any(
        family.comparisons[0] in before.comparisons for before in families(worker.store)
    ):
        return None
    each_s = [
        seconds_per_epoch(worker.store, network.key) or epoch_s for network in family.networks
    ]
    training_s = sum(each_s) * opened.recipe.target_training.rungs[-1] / workers_of(worker.store)
    return family, training_s + len(family.networks) * _beside_s(opened, epoch_s)


def _beside_s(opened: OpenStudy, epoch_s: float) -> float:
    """What a run takes beside its epochs, at the pace of the last ones, divided by the workers:
    networks are built, results are read.
    """
    rows = opened.store.queue.rows(purposes=FURTHER)
    run_s = epoch_s * opened.recipe.training.rungs[-1]
    pace_s = time_left([row.finished_at for row in rows if row.finished_at], 1, lambda: run_s)
    return 0.0 if pace_s is None else max(0.0, pace_s - run_s / workers_of(opened.store))


def cut(opened: OpenStudy) -> None:
    """When a search's time is over, ends its test with the finished blocks: the clock chose their
    number, not a result. Does nothing while a worker has a run.
    """
    store, ends_at = opened.store, opened.store.settings.ends_at
    if ends_at is None or opened.database.now() < ends_at:
        return
    for family in unfinished(store):
        done = blocks_done(store, family)
        if family.planned is None or done < FEWEST_BLOCKS or release_dead(store, "run/"):
            continue
        kept = replace(family, blocks=done)
        keep_family(store, kept, shorter=True)
        left = {run.identity for run in family_runs(family)} - {
            run.identity for run in family_runs(kept)
        }
        rows = store.queue.rows(state="waiting", protocol=TARGET_PROTOCOL)
        for row in (row for row in rows if row.run.identity in left):
            if (lease := store.acquire(row.resource, owner=owner_name(), ttl_s=TTL_S)) is not None:
                store.queue.finish(row, "withdrawn", "the search's time was over", lease)
                store.release(lease)


def must_test(worker: Worker, runs: int) -> bool:
    """Whether the test of a search with a time must begin: after so many further runs, its longest
    form would not fit any more.
    """
    block, settings = block_of(worker), worker.store.settings
    if block is None or settings.ends_at is None or settings.test_from is None:
        return True
    family, block_s = block
    needed_s = block_s * (runs / len(family.networks) + MOST_BLOCKS / CAUTION)
    least_s = LEAST_SHARE * (settings.ends_at - settings.test_from)
    return worker.opened.database.now() + max(needed_s, least_s) > settings.ends_at


def workers_of(store: StudyStore) -> int:
    return max(1, len(store.workers.rows()))


def target_s(opened: OpenStudy) -> float | None:
    """Seconds that a run as the target says takes, divided by the workers; None if unknown."""
    each_s, epochs = seconds_per_epoch(opened.store), opened.recipe.target_training.rungs[-1]
    return None if each_s is None else each_s * epochs / workers_of(opened.store)


# ------------------------------------------------------------------------------------ retraining
@dataclass(frozen=True, slots=True)
class Order:
    protocol: str
    runs: tuple[Run, ...]  # all runs that count, including those of a validation


def order(
    opened: OpenStudy,
    networks: Mapping[str, Placement],
    *,
    seeds: int = 1,
    epochs: int | None = None,
) -> Order:
    """The runs to retrain networks (key -> placement). If `epochs` are not the target's, the study
    notes this protocol.
    """
    recipe, store = opened.recipe, opened.store
    training = recipe.target_training
    if epochs is not None:
        training = training.model_copy(update={"rungs": [epochs]})
    protocol = TARGET_PROTOCOL if epochs is None else keep_protocol(store, training, recipe.data)
    done = [
        row.run
        for row in store.queue.rows(protocol=protocol, state="done")
        if _kept(store, row.run)
    ]
    runs: list[Run] = []
    for key, placement in networks.items():
        mine = sorted((run for run in done if run.key == key), key=lambda run: run.seed)[:seeds]
        known = {run.seed for run in mine}
        numbers = [
            n
            for n in range(FIRST_RETRAINING, FIRST_RETRAINING + seeds)
            if recipe.first_seed + n not in known
        ]
        for number in numbers[: seeds - len(mine)]:
            mine.append(
                Run(
                    key,
                    placement,
                    recipe.first_seed + number,
                    0,
                    protocol,
                    RETRAIN,
                    RETRAIN_PRIORITY,
                )
            )
        runs += mine
    return Order(protocol, tuple(runs))


def enter(store: StudyStore, wanted: Order) -> int:
    """Enqueues the runs that are not done, failed, or lost their weights; returns their number."""
    rows = {row.run.identity: row for row in store.queue.rows(protocol=wanted.protocol)}
    done = {name for name, row in rows.items() if row.state == "done" and _kept(store, row.run)}
    left = [run for run in wanted.runs if run.identity not in done]
    known = [rows[run.identity] for run in left if run.identity in rows]
    store.queue.again([row.id for row in known if row.state in ("failed", "done")])
    store.queue.want(left)
    return len(left)


def results(store: StudyStore, wanted: Order) -> list[tuple[Run, StoredScore | None, str]]:
    """Each run with its score on the validation split, or the reason why it has none."""
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
            rows[run.identity].reason if run.identity in rows else "",
        )
        for run in wanted.runs
    ]


def kept_runs(store: StudyStore, key: str) -> list[Run]:
    """A network's runs as the target says whose weights are kept: retrained ones first, by seed."""
    done = [
        row.run for row in store.queue.rows(key=key, state="done") if row.run.protocol != SEARCH
    ]
    done = [run for run in done if _kept(store, run)]
    return sorted(done, key=lambda run: (run.purpose != RETRAIN, run.seed))


def _kept(store: StudyStore, run: Run) -> bool:
    return bool(store.checkpoints(weights_run(run.files)))


class Retraining(TaskSource):
    purpose = RETRAIN

    def trained(self, row: RunRow, model: nn.Module, lease: Lease) -> None:
        self.worker.benches.of(row.run.protocol).keep_weights(row.run.files, model, lease)
