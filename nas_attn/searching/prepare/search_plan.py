"""What a search is asked to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nas_attn.data.dataset import Dataset
from nas_attn.recipe.recipe import Recipe
from nas_attn.storage.opening import OpenStudy, begun_study
from nas_attn.training.evaluators import Evaluator
from nas_attn.training.plan import Build, Plan, plan_for, study_plan
from nas_attn.training.tasks.data import reading_of
from nas_attn.training.trainer import check_trainings


@dataclass
class SearchPlan:
    """What a search is asked to do, and with what: made once, checked before anything is written
    (`checks.check`), then carried out.
    """

    recipe: Recipe
    url: str
    """Of the database."""
    study: OpenStudy | None = None
    """The study that goes on; None: the one of the recipe's name, which may not be there yet."""
    tried: Sequence[str] = ()
    """Placements that the user names."""
    device: str = "auto"
    """Of the trainings."""
    artifacts: Path | str | None = None
    """The folder or bucket of a new study's checkpoints; None: beside the database."""
    build: Build | None = None
    """Makes the backbone, if a function does."""
    evaluator: Evaluator | None = None
    """Trains candidates, if a function does."""
    source: OpenStudy | None = None
    """The study from which a new one takes over; None: it begins empty."""

    @cached_property
    def is_new(self) -> bool:
        """Whether the study must be created."""
        return self.study is None and begun_study(self.recipe.name, self.url) is None

    @cached_property
    def dataset(self) -> Dataset | None:
        """The images; None: an evaluator reads them."""
        return reading_of(self.recipe).load(self.recipe, device="cpu")

    @cached_property
    def networks(self) -> Plan:
        """The backbone, its sites and the search space."""
        if self.study is not None:
            return study_plan(self.study.store)
        check_trainings(self.recipe, self.dataset)
        return plan_for(self.recipe, self.dataset, build=self.build)

    def free_images(self) -> None:
        """Frees the images: the workers read them anew."""
        self.__dict__.pop("dataset", None)
