"""One workbench per way of training of a study, made when its first run is taken; data that is the same is loaded once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from nas_attn import tasks
from nas_attn.data import Dataset
from nas_attn.evaluation.artifact_stores import ArtifactStore
from nas_attn.evaluation.devices import pick_device
from nas_attn.evaluation.evaluators import Evaluator
from nas_attn.evaluation.kept_sites import kept_sites, plan_for
from nas_attn.evaluation.plan import Plan
from nas_attn.evaluation.ways import way_recipe
from nas_attn.evaluation.workbench import Host, Workbench
from nas_attn.recipe import Recipe
from nas_attn.storage import SEARCH, StudyStore


@dataclass
class Benches:
    """The workbenches of one worker."""

    store: StudyStore
    artifacts: ArtifactStore
    host: Host
    plan: Plan
    """Of the study's own recipe."""
    evaluator: Evaluator | None = None
    """Replaces the recipe's evaluator (a Python object given to `na.search`)."""
    _made: dict[str, Workbench] = field(default_factory=dict, init=False)

    @property
    def search(self) -> Workbench:
        """The bench of the search's own way, which also counts and measures."""
        return self.of(SEARCH)

    def of(self, way: str) -> Workbench:
        """The bench that trains in this way.

        Raises:
            UserError: the data, the backbone or the space cannot be had.
            MeasurementError: the study's latencies belong to another machine.
        """
        if way not in self._made:
            recipe = way_recipe(self.store, way)
            dataset, plan = self._dataset(recipe), replace(self.plan, recipe=recipe)
            if recipe.data != self.plan.recipe.data:
                plan = plan_for(recipe, dataset, build=self.plan.own_build, kept=kept_sites(self.store))
            self._made[way] = Workbench(
                plan, dataset, self.store, self.artifacts, self.host, evaluator=self.evaluator, way=way
            )
        return self._made[way]

    def _dataset(self, recipe: Recipe) -> Dataset | None:
        task = tasks.of(recipe)
        section = task.data_section(recipe)
        for bench in self._made.values():
            if bench.task.data_section(bench.recipe) == section and bench.dataset is not None:
                return bench.dataset
        return task.load(recipe, device=pick_device(self.host.device), share=self.host.share)
