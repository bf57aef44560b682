"""One workbench per way of training of a study, made when its first run is taken; data that is the same is loaded once."""

from __future__ import annotations

from dataclasses import dataclass, field

from nas_attn import tasks
from nas_attn.data import Dataset
from nas_attn.evaluation.artifact_stores import ArtifactStore
from nas_attn.evaluation.evaluators import Evaluator
from nas_attn.evaluation.plan import Build
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
    build: Build | None = None
    """Replaces the recipe's backbone (a Python object given to `na.search`)."""
    evaluator: Evaluator | None = None
    """Replaces the recipe's evaluator, likewise."""
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
            self._made[way] = Workbench(
                recipe,
                self.store,
                self.artifacts,
                self.host,
                build=self.build,
                evaluator=self.evaluator,
                way=way,
                dataset=self._loaded(recipe),
            )
        return self._made[way]

    def _loaded(self, recipe: Recipe) -> Dataset | None:
        section = tasks.of(recipe).data_section(recipe)
        same = (b for b in self._made.values() if b.task.data_section(b.recipe) == section)
        return next((bench.dataset for bench in same), None)
