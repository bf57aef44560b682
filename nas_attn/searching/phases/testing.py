"""Runs of `nas-attn test`, which tests what a search recommends, and of the test that ends a search
with a time.

A validation's family of comparisons is written down before the first run. A block trains every
network of the family with one fresh seed; each finished run reads the test split once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import nn
from typing_extensions import override

from nas_attn.answer.answer import Answer
from nas_attn.answer.choosing import notation
from nas_attn.answer.forecast import finalists, once_each
from nas_attn.answer.headline import nothing_recommended
from nas_attn.answer.pair_tests import Family, TestedNetwork
from nas_attn.answer.progress import seconds_per_epoch
from nas_attn.answer.reading import answer, families, keep_family, unfinished
from nas_attn.errors import DataError, StudyError
from nas_attn.recipe.purposes import TARGET_PROTOCOL, VALIDATE
from nas_attn.recipe.recipe import Recipe
from nas_attn.recipe.tables import METRICS
from nas_attn.searching.prepare.clock import TESTING
from nas_attn.searching.prepare.fitting import LAST_SHARE
from nas_attn.searching.worker.worker import TaskSource, Worker, how_it_ended
from nas_attn.space.notation import parse
from nas_attn.space.placement import BARE
from nas_attn.storage.opening import OpenStudy
from nas_attn.storage.rows import Lease, Run, RunRow
from nas_attn.storage.store import StudyStore
from nas_attn.training.plan import Plan, study_plan
from nas_attn.training.tasks.data import reading_of

VALIDATE_PRIORITY = 60
# blocks of the test that ends a search with a time
FEWEST_BLOCKS = 2
MOST_BLOCKS = 16
# seeds of the n-th validation begin at n times this above the search's
FIRST_SEED = 1_000_000


@dataclass(frozen=True, slots=True)
class ValidationRequest:
    # None: the target's seeds
    blocks: int | None = None
    # further members of the front
    front: int = 0
    # further placements, also untried ones
    placements: tuple[str, ...] = ()
    # acceptable loss, in the metric's unit
    margin: float | None = None


def family_of(opened: OpenStudy, answer: Answer, plan: Plan, asked: ValidationRequest) -> Family:
    """Chooses the networks and comparisons of a validation; writes nothing.

    Args:
        opened: the study.
        answer: of the study as of now.
        plan: of its networks.
        asked: what the user wants to compare.

    Raises:
        StudyError: there is nothing to compare.
        PlacementError: a placement does not fit this backbone.
    """
    recipe = opened.recipe
    now = answer.now
    metric = now.primary
    finalists = _finalists(answer, plan, asked)
    if metric is None or not finalists:
        why = f"study '{now.study}' has nothing to test. {nothing_recommended(answer)}"
        way_out = ""
        if metric is not None:
            way_out = " A placement that you name is tested: --placement PLACEMENT"
        raise StudyError(f"{why}{way_out}")
    number = 1 + len(families(opened.store))
    bare = TestedNetwork(plan.resolved(BARE).key, BARE, "none")
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
    row = METRICS.get(metric)
    exact = row is not None and row.guess != "" and recipe.training.evaluator is None
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


def _finalists(answer: Answer, plan: Plan, asked: ValidationRequest) -> list[TestedNetwork]:
    """Those that every test compares, if anything is recommended, then the front's and the user's;
    each once.
    """
    now = answer.now
    networks = finalists(answer)
    front = [view for view in now.front if not view.is_bare]
    networks += [TestedNetwork(view.key, view.placement, "front") for view in front[: asked.front]]
    named = [plan.resolved(parse(notation(now, text))) for text in asked.placements]
    networks += [TestedNetwork(network.key, network.placement, "named") for network in named]
    return once_each(networks)


def check_test_split(recipe: Recipe) -> None:
    """Raises DataError if there is no test split to read; says how to add one."""
    missing = reading_of(recipe).missing_test(recipe)
    if missing:
        raise DataError(missing)


def begin(opened: OpenStudy, family: Family) -> None:
    """Writes the family down, before its first run."""
    with opened.database.creating():
        keep_family(opened.store, family)


def family_runs(family: Family) -> list[Run]:
    """All runs of a family, block by block."""
    return [
        Run(
            network.key,
            network.placement,
            seed=family.first_seed + block,
            backbone=0,
            protocol=TARGET_PROTOCOL,
            purpose=VALIDATE,
            priority=VALIDATE_PRIORITY,
            round=family.number,
        )
        for block in range(family.blocks)
        for network in family.networks
    ]


class Validation(TaskSource):
    purpose = VALIDATE

    @override
    def want(self, lease: Lease) -> bool:
        runs = [run for family in families(self.store) for run in family_runs(family)]
        return self.enter(runs, protocol=TARGET_PROTOCOL)

    @override
    def trained(self, row: RunRow, model: nn.Module, lease: Lease) -> None:
        """Scores the run on the test split, once."""
        bench = self.worker.benches.of_run(row.run)
        bench.test(row.run, model, lease=lease)
        bench.keep_weights(row.run.files, model, lease)

    @override
    def ended(self, row: RunRow, lease: Lease) -> None:
        # any process may have begun it, at any time
        (family,) = (f for f in families(self.store) if f.number == row.run.round)
        runs = {run.identity for run in family_runs(family)}
        done = sum(
            r.run.identity in runs and r.state not in ("waiting", "withdrawn")
            for r in self.queue.rows(protocol=TARGET_PROTOCOL)
        )
        block = row.run.seed - family.first_seed + 1
        which = f"test {family.number}, run {done}/{len(runs)}, block {block}"
        self.worker.say(f"{which}: {row.run.placement}{how_it_ended(row)}")


# largest share of the remaining time for a test
CAUTION = 0.85


class Testing(Validation):
    """At the end of a search with a time limit: tests what the answer takes, in as many blocks as
    the time that is left allows, unless this comparison was made before.
    """

    @override
    def want(self, lease: Lease) -> bool:
        if not _has_test(self.store):
            family = test_in_time(self.worker)
            if family is not None:
                begin(self.worker.opened, family)
        return super().want(lease)


def _has_test(store: StudyStore) -> bool:
    """Whether the end of a search's time has its test: none follows it."""
    begins_at = store.settings.test_from or 0.0
    rows = store.queue.rows(state="done", purposes=[VALIDATE])
    return bool(unfinished(store)) or any((row.finished_at or 0.0) > begins_at for row in rows)


def test_in_time(worker: Worker) -> Family | None:
    """The test for which the rest of a search's time is enough. None if there is none, nothing to
    test (any more), no test split, or no run yet.
    """
    opened = worker.opened
    ends_at = worker.store.settings.ends_at
    epoch_s = seconds_per_epoch(worker.store)
    try:
        check_test_split(opened.recipe)
        family = family_of(
            opened, answer(worker.store), study_plan(opened.store), ValidationRequest()
        )
    except (DataError, StudyError):
        return None
    tested = any(family.comparisons[0] in before.comparisons for before in families(worker.store))
    if ends_at is None or epoch_s is None or tested:
        return None
    each_s = [
        seconds_per_epoch(worker.store, network.key) or epoch_s for network in family.networks
    ]
    block_s = sum(each_s) * family.epochs / worker.store.workers.at_once()
    left_s = CAUTION * (ends_at - opened.database.now())
    blocks = min(MOST_BLOCKS, int(left_s / block_s))
    return replace(family, blocks=blocks) if blocks >= FEWEST_BLOCKS else None


def is_test_due(worker: Worker) -> bool:
    """Whether further seeds end here, in a search with a time: the time of its test has come, and
    one fits into what is left; or hardly anything does.
    """
    settings = worker.store.settings
    now = worker.opened.database.now()
    if settings.ends_at is None or settings.test_from is None or now < settings.test_from:
        return False
    left_s = settings.ends_at - now
    hardly_any = left_s < (settings.ends_at - settings.test_from) * LAST_SHARE / TESTING
    return hardly_any or _has_test(worker.store) or test_in_time(worker) is not None
