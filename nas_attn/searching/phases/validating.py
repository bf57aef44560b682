"""Runs of `nas-attn test`, which tests what a search recommends.

A validation's family of comparisons is written down before the first run. A block trains every
network of the family with one fresh seed; each finished run reads the test split once.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from typing_extensions import override

from nas_attn.answer.answer import Answer
from nas_attn.answer.choosing import notation
from nas_attn.answer.headline import nothing_recommended
from nas_attn.answer.reading import families, keep_family
from nas_attn.answer.validation import Family, TestedNetwork
from nas_attn.answer.validation_forecast import finalists, once_each
from nas_attn.errors import DataError, StudyError
from nas_attn.recipe import tasks
from nas_attn.recipe.purposes import TARGET_PROTOCOL, VALIDATE
from nas_attn.recipe.recipe import Recipe
from nas_attn.recipe.tables import METRICS
from nas_attn.searching.worker.worker import TaskSource, how_it_failed
from nas_attn.space.notation import parse
from nas_attn.space.placement import BARE
from nas_attn.storage.opening import OpenStudy
from nas_attn.storage.rows import Lease, Run, RunRow
from nas_attn.training.plan import Plan
from nas_attn.training.tasks.data import data_of

VALIDATE_PRIORITY = 60
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
    best = answer.best
    networks = [] if best is None else finalists(now, best)
    front = [view for view in now.front if not view.is_bare]
    networks += [TestedNetwork(view.key, view.placement, "front") for view in front[: asked.front]]
    named = [plan.resolved(parse(notation(now, text))) for text in asked.placements]
    networks += [TestedNetwork(network.key, network.placement, "named") for network in named]
    return once_each(networks)


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
    runs = []
    for block in range(family.blocks):
        for network in family.networks:
            runs.append(
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
            )
    return runs


class Validation(TaskSource):
    purpose = VALIDATE

    @override
    def want(self, lease: Lease) -> bool:
        # Read before the families: who ends a test with fewer blocks shortens its family, and then
        # withdraws the rest. One that is withdrawn and in its family, it needs still.
        there = {
            row.run.identity
            for row in self.queue.rows(protocol=TARGET_PROTOCOL)
            if row.state != "withdrawn"
        }
        missing = []
        for family in families(self.store):
            for run in family_runs(family):
                if run.identity not in there:
                    missing.append(run)
        self.queue.want(missing)
        return bool(missing)

    @override
    def trained(self, row: RunRow, model: nn.Module, lease: Lease) -> None:
        """Scores the run on the test split, once."""
        bench = self.worker.benches.of(row.run.protocol)
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
        self.worker.say(f"{which}: {row.run.placement}{how_it_failed(row)}")
