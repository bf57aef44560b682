"""The Python interface: what the command line does, for programs and notebooks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from nas_attn import attachment
from nas_attn.analysis.additive import AdditiveModel
from nas_attn.analysis.effects import fit_effects
from nas_attn.analysis.snapshot import CandidateView, Snapshot, snapshot
from nas_attn.errors import RecipeError, StudyError
from nas_attn.evaluation.evaluators import Evaluator
from nas_attn.evaluation.plan import both_granularities
from nas_attn.importing import PYTHON
from nas_attn.recipe import Recipe, load_recipe, recipe_from
from nas_attn.records import Placement, Site
from nas_attn.report import write_report
from nas_attn.space import parse, resolve
from nas_attn.study import searching
from nas_attn.study.local import interruptible, run_workers
from nas_attn.study.opening import DEFAULT_URL, OpenStudy, create_study
from nas_attn.study.opening import open_study as _open

__all__ = ["Study", "attach", "detach", "find_sites", "load_recipe", "open_study", "search"]


# ------------------------------------------------------------------------------------------- models


def find_sites(model: nn.Module, input_shape: tuple[int, int, int] = (3, 224, 224)) -> tuple[Site, ...]:
    """Where attention may go in a model: its stages, then its blocks.

    Args:
        model: any CNN-like module; it is not changed.
        input_shape: (channels, height, width) of one image.

    Raises:
        BackboneError: the model has no 4-D feature maps to put attention on.
    """
    return both_granularities(model, input_shape)


def attach(
    model: nn.Module,
    placement: str | Placement,
    *,
    input_shape: tuple[int, int, int] = (3, 224, 224),
    init: str = "identity",
) -> nn.Module:
    """Puts attention into a model, in place.

    The model's own parameters, their names and its code stay as they are; the new modules' parameters join the
    state_dict. New weights are drawn from torch's global generator.

    Args:
        placement: notation, `"stage2=ela(variant=B) stage3=se(reduction=16)"`.
        input_shape: (channels, height, width) of one image, to find the sites.
        init: `identity`: outputs are at first those of the bare model; `paper`: the modules' published form.

    Returns:
        The same model.

    Raises:
        PlacementError: the notation is wrong or does not fit the model.
        BackboneError: the model has no sites, or has attention attached already.
    """
    typed = parse(placement) if isinstance(placement, str) else placement
    return attachment.attach(model, resolve(typed, find_sites(model, input_shape), init=init))


def detach(model: nn.Module) -> nn.Module:
    """Takes all attention out that `attach` put in, in place; returns the same model."""
    return attachment.detach(model)


# ------------------------------------------------------------------------------------------- studies


class Study:
    """A study and its answer so far. Reads the database anew at each call."""

    def __init__(self, opened: OpenStudy) -> None:
        self._opened = opened

    @property
    def name(self) -> str:
        """The study's name."""
        return self._opened.store.name

    @property
    def recipe(self) -> Recipe:
        """The recipe, as frozen at creation."""
        return self._opened.recipe

    def snapshot(self) -> Snapshot:
        """All that is known now."""
        return snapshot(self._opened.store)

    def front(self) -> tuple[CandidateView, ...]:
        """Candidates not dominated in the current estimates, the best in the first objective first."""
        return self.snapshot().front

    def candidates(self) -> tuple[CandidateView, ...]:
        """All candidates, by trial."""
        return self.snapshot().candidates

    def best(self, *, max_latency_ratio: float | None = None) -> CandidateView | None:
        """The front's best in the first objective, within a latency if one is given; None where there is none."""

        def fits(view: CandidateView) -> bool:
            return max_latency_ratio is None or (view.latency is not None and view.latency.ratio <= max_latency_ratio)

        return next(filter(fits, self.front()), None)

    def effects(self, what: str = "accuracy") -> AdditiveModel | None:
        """What each choice adds at each site, to `latency` or to a metric: `.table()`, `.predict(…)`, `.cv_error`.

        None with fewer than eight candidates that have it.
        """
        return fit_effects(self.snapshot(), what)

    def report(self, path: str | Path | None = None) -> Path:
        """Writes the self-contained HTML report; returns its path."""
        return write_report(self.snapshot(), Path(path) if path else searching.report_path(self._opened))


def open_study(storage: str = DEFAULT_URL, name: str | None = None) -> Study:
    """A study in a database.

    Args:
        storage: `sqlite:///nas_attn.db`, `postgresql+psycopg://…`.
        name: may be left out where the database holds just one.

    Raises:
        StudyError: there is no such study, or several and none is named.
    """
    return Study(_open(name or only_study(storage), storage))


def only_study(storage: str) -> str:
    """The name of a database's only study.

    Raises:
        StudyError: it holds none, or several.
    """
    from nas_attn.storage import Database, shown_url

    names = [study.name for study in Database(storage, must_exist=True).studies()]
    if len(names) != 1:
        held = (
            f"the studies {', '.join(names)}: name one of them"
            if names
            else "no study: start one with `nas-attn search`"
        )
        raise StudyError(f"'{shown_url(storage)}' holds {held}")
    return names[0]


def search(
    recipe: str | Recipe | None = None,
    *,
    model: str | Callable[[], nn.Module] | None = None,
    data: str | None = None,
    space: str | None = None,
    evaluator: str | Evaluator | None = None,
    input_shape: tuple[int, int, int] | None = None,
    name: str | None = None,
    trials: int | None = None,
    objectives: Sequence[str] | None = None,
    overrides: dict[str, Any] | None = None,
    storage: str = DEFAULT_URL,
    workers: int = 1,
    threads: int | None = None,
    device: str = "auto",
    try_placements: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> Study:
    """Runs a search, or goes on with the one of the same name and recipe; blocks until it is complete.

    Give a recipe (shipped name, path or object), or at least `model` and `data`.

    Args:
        model: a backbone's name, or a function of no arguments that builds one.
        data: a data set's name, `folder:PATH`, or `external` where the evaluator brings its own.
        space: a search space's shipped name or path; default `plug_and_play`.
        evaluator: `package.module:function` or a function (see `nas_attn.evaluation.evaluators`).
        input_shape: for `external` data: (channels, height, width) of the model's input.
        overrides: dotted keys of the recipe -> values, `{"training.rungs": [1, 3]}`.
        workers: processes on this machine; a function as model or evaluator needs 1.
        threads: intra-op threads of each; None: the recipe's, else the cores shared out.
        say: told one line per event.

    Raises:
        UserError: something asked for cannot be; see its message.
        OperationError: something outside the input failed; the study can be resumed by calling again.
    """
    build = model if callable(model) else None
    judge = evaluator if callable(evaluator) else None
    given = {
        "name": name,
        "backbone.name": _named(model),
        "data.name": data,
        "data.input_shape": input_shape,
        "training.evaluator": _named(evaluator),
        "search.trials": trials,
        "objectives": None if objectives is None else list(objectives),
    }
    changes = {key: value for key, value in given.items() if value is not None} | (overrides or {})
    made = _recipe(recipe, changes, space)
    if (build or judge) and workers > 1:
        raise RecipeError(
            "workers > 1 needs a model and an evaluator by name, 'package.module:function', not as objects"
        )
    searching.check_here(made, device=device, build=build, evaluator=judge)
    plan = searching.plan_recipe(made, build=build)  # before the database: a wrong recipe must leave nothing behind
    own = searching.ideas(plan, try_placements)
    opened = create_study(made, storage)
    stop = threading.Event()
    options = searching.Options(device=device, threads=threads, say=say, stop=stop, build=build, evaluator=judge)
    searching.enqueue_baselines(opened, plan)
    for idea in own:
        searching.enqueue(opened, idea)
    with interruptible(stop, say):
        run_workers(opened, workers, options)
    return Study(opened)


def _named(thing: str | Callable[..., Any] | None) -> str | None:
    if thing is None or isinstance(thing, str):
        return thing
    return f"{PYTHON}{getattr(thing, '__module__', '?')}.{getattr(thing, '__qualname__', type(thing).__name__)}"


def _recipe(recipe: str | Recipe | None, changes: dict[str, Any], space: str | None) -> Recipe:
    if isinstance(recipe, str):
        return load_recipe(recipe, overrides=changes if space is None else {**changes, "space": space})
    table: dict[str, Any] = {"name": "search", "space": "plug_and_play"} if recipe is None else recipe.model_dump()
    if space is not None:
        table["space"] = space
    for key, value in changes.items():
        section, _, setting = key.rpartition(".")
        (table.setdefault(section, {}) if section else table)[setting] = value
    return recipe_from(table, where="the arguments of na.search")
