"""`nas-attn validate`: what a search recommends, trained as the target says in fresh blocks, and tested.

The family of comparisons is written down before the first run. A block is one fresh seed on one fresh backbone (where
the study trains it), with every network of the family in it; the test split is read once per finished run. A later
validation takes fresh runs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from torch import nn

from nas_attn import tasks
from nas_attn.analysis.choosing import nothing_recommended
from nas_attn.analysis.snapshot import CandidateView, Snapshot
from nas_attn.analysis.validation import Family, Network, family_name
from nas_attn.errors import DataError, StudyError
from nas_attn.evaluation.plan import TARGET, Plan
from nas_attn.recipe import Recipe
from nas_attn.storage import Lease, Run, RunRow
from nas_attn.study.opening import OpenStudy
from nas_attn.study.reading import families
from nas_attn.study.worker import TaskSource, Worker

PURPOSE = "validate"
PRIORITY = 60
FIRST_SEED = 1_000_000
"""Seeds of the n-th validation begin at n times this above the search's."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a user asks of a validation."""

    blocks: int | None = None
    """None: the target's seeds."""
    front: int = 0
    """Further members of the front."""
    placements: tuple[str, ...] = ()
    """Further placements, also untried ones."""
    margin: float | None = None
    """What may be lost, in the metric's unit."""


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
            PRIORITY,
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
