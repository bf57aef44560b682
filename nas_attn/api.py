"""The Python interface, for programs and notebooks. `nas_attn.__all__` lists what of it, and of
what it imports, is public.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from nas_attn import attachment
from nas_attn.answer.answer import Answer
from nas_attn.answer.answer_text import answer_lines
from nas_attn.answer.as_json import answer_as_json
from nas_attn.answer.choosing import chosen
from nas_attn.answer.criteria import Criteria
from nas_attn.answer.effects import Effects, average_effects
from nas_attn.answer.reading import answer, mistakes, snapshot
from nas_attn.answer.snapshot import CandidateView, Snapshot
from nas_attn.attachment import detach as detach
from nas_attn.attachment.gate_readings import Gates as Gates
from nas_attn.attachment.gate_readings import gates as gates
from nas_attn.attachment.own_loop import (
    freeze_all_but_attention as freeze_all_but_attention,
)
from nas_attn.attachment.own_loop import parameter_groups as parameter_groups
from nas_attn.attachment.participation import Participation
from nas_attn.errors import PlacementError, RecipeError
from nas_attn.recipe.reading import load_recipe, recipe_from
from nas_attn.recipe.reading import load_space as load_space
from nas_attn.recipe.recipe import Recipe
from nas_attn.report import columns
from nas_attn.report.figures import all_figures
from nas_attn.report.figures.curves import learning_curves
from nas_attn.report.figures.effect_map import effect_map
from nas_attn.report.figures.files import write_figures
from nas_attn.report.figures.front import front_figures
from nas_attn.report.figures.style import titled
from nas_attn.report.html import summary
from nas_attn.report.publishing import write_study_report
from nas_attn.searching.prepare import beginning
from nas_attn.searching.prepare.checks import check as check_plan
from nas_attn.searching.prepare.search_plan import SearchPlan
from nas_attn.searching.propose.halving import ParetoHalving as ParetoHalving
from nas_attn.searching.propose.placement_sampler import PlacementSampler as PlacementSampler
from nas_attn.searching.run import taking_part
from nas_attn.searching.run.asking import ASKING, Asked, Asker
from nas_attn.searching.run.local import run_workers
from nas_attn.searching.worker.stopping import interruptible
from nas_attn.space.notation import parse
from nas_attn.space.placement import Placement, Site
from nas_attn.space.schema import SpaceSpec as SpaceSpec
from nas_attn.space.search_space import resolve
from nas_attn.storage.opening import OpenStudy, only_study, renewed
from nas_attn.storage.opening import open_study as _open
from nas_attn.storage.urls import shown_url
from nas_attn.system.importing import PYTHON
from nas_attn.system.paths import DEFAULT_URL
from nas_attn.training.evaluators import Evaluator
from nas_attn.training.evaluators import EvaluatorRun as EvaluatorRun
from nas_attn.training.tasks.data import reading_of

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def find_sites(
    model: nn.Module,
    input_shape: tuple[int, int, int] = (3, 224, 224),
    *,
    granularity: attachment.Granularity = "both",
    custom: Mapping[str, Sequence[str]] | None = None,
    heads: bool = False,
) -> tuple[Site, ...]:
    """Finds where attention can go in a model: its stages, then its blocks. Does not change the
    model.

    Args:
        input_shape: (channels, height, width) of one image.
        granularity: `stage`, `block` or `both`.
        custom: further sites, name -> globs over module paths, `{"fpn": ["fpn.layer_blocks.0"]}`.
        heads: also list layers that only lead to outputs.

    Raises:
        BackboneError: the model has no 4-D feature maps, or a custom site matches no module.
    """
    originals = granularity != "block"
    return attachment.find_sites(
        model, input_shape, granularity=granularity, custom=custom, originals=originals, heads=heads
    )


def attach(  # noqa: PLR0913 - a public function spells its arguments
    model: nn.Module,
    placement: str | Placement,
    *,
    input_shape: tuple[int, int, int] = (3, 224, 224),
    init: str = "identity",
    granularity: attachment.Granularity = "both",
    custom: Mapping[str, Sequence[str]] | None = None,
    heads: bool = False,
    key: str | None = None,
) -> nn.Module:
    """Puts attention into a model, in place; returns the same model.

    The model's own parameters, their names and its code stay as they are; the new modules'
    parameters are added to the state_dict. New weights are drawn from torch's global generator.

    Args:
        placement: notation, `"stage2=ela(variant=B) stage3=se(reduction=16)"`.
        init: `identity`: the outputs are at first those of the bare model; `paper`: the modules'
            published form, which costs accuracy in trained weights (`docs/benchmarks/start.md`).
        input_shape, granularity, custom, heads: which sites the placement can name, as in
            `find_sites`.
        key: the expected key of the network, as in a study (its candidates' `.key`).

    Raises:
        PlacementError: the network does not have this key, or the notation is wrong or does not fit
            the model.
        BackboneError: the model has no sites, or already has attention attached; or it computes
            something else with attention that begins as the identity, since its code looks at the
            classes of its modules. The model is then as before.
    """
    typed = parse(placement) if isinstance(placement, str) else placement
    sites = find_sites(model, input_shape, granularity=granularity, custom=custom, heads=heads)
    resolved = resolve(typed, sites, init=init)
    if resolved.other is not None and not resolved.modules:
        raise PlacementError(
            f"'{typed}' is another backbone, not attention: build it with backbones.create"
        )
    if key is not None and resolved.key != key:
        raise PlacementError(
            f"'{typed}' builds another network here (key {resolved.key}) than the study's (key"
            f" {key}): use the study's model, input_shape, init and version of nas_attn"
        )
    return attachment.attach_compared(model, resolved, input_shape)


def check(
    model: nn.Module,
    input_shape: tuple[int, int, int] = (3, 224, 224),
    *,
    expected: nn.Module | None = None,
) -> tuple[Participation, ...]:
    """Checks for each attached module whether it runs, whether the model's output depends on it,
    and whether it learns: whether a gradient arrives in training.

    The model stays as it is. Check the network that you deploy after anything that rebuilds
    networks: fusing, quantising, another library's trainer, loading a checkpoint. If all attention
    was lost, the answer is empty. So give the network as it was before these steps as `expected`:
    attention that it has and `model` lacks is then listed as `lost`.

    Raises:
        BackboneError: the model cannot process such an image; or it is a traced or exported copy,
            where attention is no module any more: check the network before, and compare the outputs
            of both.
    """
    return attachment.check(model, input_shape, expected=expected)


class Study:
    """A study and its answer so far. Each call reads the database again."""

    def __init__(self, opened: OpenStudy) -> None:
        self._opened = opened
        self._asker: Asker | None = None

    def ask(self, *, device: str = "auto", say: Callable[[str], None] = print) -> Asked | None:
        """The next run for your own training loop, its attention attached; None when the study
        (`na.begin`) is complete.

        Train `run.model` for `run.epochs` epochs. Call `run.report(epoch, score)` after each (stop
        if it returns True), or `run.tell(score)` at the end.

        Raises:
            StudyError: the score of the last run has not been told.
            UserError, OperationError: what stopped the study; ask again to resume it.
        """
        if self._asker is None or self._asker.over:
            self._asker = Asker(self._opened, taking_part.Options(device=device, say=say))
        return self._asker.ask()

    @property
    def _answer(self) -> Answer:
        return answer(self._opened.store)

    @property
    def name(self) -> str:
        """The study's name."""
        return self._opened.store.name

    @property
    def recipe(self) -> Recipe:
        """The recipe, as frozen at creation."""
        return self._opened.recipe

    def snapshot(self) -> Snapshot:
        """All results so far, as one immutable object."""
        return snapshot(self._opened.store)

    def answer(self) -> list[str]:
        """The card of the study, line by line: what to do, what that brings and costs, how sure it
        is, and the next command.
        """
        return answer_lines(self._answer)

    def as_dict(self) -> dict[str, Any]:
        """All results so far in JSON's types, as `nas-attn show --json` prints them."""
        return answer_as_json(self._answer)

    def front(self) -> tuple[CandidateView, ...]:
        """Candidates that no other dominates by the current estimates; the best in the primary
        metric comes first.
        """
        return self.snapshot().front

    def candidates(self) -> tuple[CandidateView, ...]:
        """All candidates, by trial."""
        return self.snapshot().candidates

    def best(
        self,
        *,
        max_latency_ratio: float | None = None,
        max_latency_ms: float | None = None,
        min_accuracy: float | None = None,
        trial: int | None = None,
        placement: str | None = None,
        attention: bool = False,
    ) -> CandidateView:
        """What the answer takes, by whichever means, or one that you choose.

        Give limits, which combine, or one of `trial` and `placement`: the same criteria as
        of `nas-attn show`.

        Args:
            max_latency_ratio: the best with at most this many times the bare backbone's latency.
            max_latency_ms: the best with at most this many ms on the machine that measured.
            min_accuracy: the fastest with at least this accuracy (0.7); with a limit on latency,
                the best within it.
            trial: the candidate of this trial.
            placement: the candidate with this placement, in notation or by its label.
            attention: only networks with attention, alone or with limits.

        Raises:
            UserError: more than one criterion (limits can be combined).
            StudyError: no candidate meets it; the message names the nearest.
        """
        criteria = Criteria(
            max_latency_ratio=max_latency_ratio,
            max_latency_ms=max_latency_ms,
            min_accuracy=min_accuracy,
            trial=trial,
            placement=placement,
            attention=attention,
        )
        return chosen(self._opened, self._answer, criteria).view

    def effects(self, what: str | None = None) -> Effects | None:
        """What each choice adds at each site, to `latency` or to a metric, by default the study's
        own: `.rows`, `.at("type")`; `nas_attn.answer.effects_text.effects_message` says the same in
        plain words.

        None if fewer than eight candidates have it.
        """
        now = self._answer.now
        return average_effects(now, what or now.metric)

    # Figures are plotly's: `.show()`, `.write_html(path)`; `write_figures` makes files of them.

    def plot_front(self) -> Figure:
        """The first objective against the second (or the trial), with 95 % intervals; metrics as
        gains over the bare backbone.
        """
        return titled(front_figures(self._answer)[0])

    def plot_curves(self) -> Figure | None:
        """Learning curves, one line per run; None if there are none yet."""
        figure = learning_curves(self._answer)
        return None if figure is None else titled(figure)

    def plot_effects(self, of: str | None = None) -> Figure | None:
        """A map of what each choice adds at each site to a metric (default: the primary one) or to
        `latency`.
        """
        now = self._answer.now
        effects = average_effects(now, of or now.primary or "latency")
        if effects is None or not effects.at("choice"):
            return None
        return titled(effect_map(effects))

    def rows(self, what: str = "trials") -> list[dict[str, Any]]:
        """Results as plain rows, `pandas.DataFrame(study.rows())`: `trials`, `front`, `scores`,
        `effects` or `latencies`.
        """
        return columns.rows(self._answer, what)

    def write_figures(self, folder: str | Path, format: str = "svg") -> list[Path]:
        """All figures as files: svg, pdf or png. Needs a Chrome or Chromium.

        Raises:
            UserError: the format is unknown.
            OperationError: there is no browser, or the files cannot be written.
        """
        return write_figures(all_figures(self._answer), Path(folder), format)

    def __repr__(self) -> str:
        return f"Study({self.name!r}, storage={shown_url(self._opened.url)!r})"

    def _repr_html_(self) -> str:
        """The answer so far, the front as a table, and what the networks get wrong, for a notebook;
        `plot_front()` draws it.
        """
        now = self._answer
        return summary(now, mistakes(self._opened.store, now))

    def report(self, path: str | Path | None = None) -> Path:
        """Writes the self-contained HTML report; returns its absolute path."""
        return write_study_report(self._opened, self._answer, Path(path) if path else None)


def open_study(storage: str = DEFAULT_URL, name: str | None = None) -> Study:
    """Opens a study in a database, `sqlite:///nas_attn.db` or `postgresql+psycopg://…`; the only
    one there is without a name.

    Raises:
        StudyError: the study does not exist, or there are several and no name is given.
    """
    return Study(_open(name or only_study(storage), storage))


def begin(
    recipe: str | Recipe | None = None,
    *,
    model: Callable[[], nn.Module] | None = None,
    overrides: dict[str, Any] | None = None,
    storage: str = DEFAULT_URL,
    try_placements: Sequence[str] = (),
) -> Study:
    """Begins a study, or takes up the one with the same name and recipe, for a training loop of
    your own: `Study.ask`.

    Args:
        model: the function that builds the backbone; None: the recipe's.
        recipe, overrides, storage, try_placements: as in `search`.

    Raises:
        UserError: an argument is wrong.
    """
    given = {"training.evaluator": ASKING, "backbone.name": _named(model)}
    opened = beginning.begin(
        _recipe(recipe, given, overrides),
        storage,
        tried=try_placements,
        build=model,
        # the loop is to come
        evaluator=lambda _network, _run: {},
    )
    return Study(opened)


def search(  # noqa: PLR0913 - a public function spells its arguments
    recipe: str | Recipe | None = None,
    *,
    model: str | Callable[[], nn.Module] | None = None,
    data: str | None = None,
    space: str | None = None,
    evaluator: str | Evaluator | None = None,
    input_shape: tuple[int, int, int] | None = None,
    name: str | None = None,
    take_over: str | None = None,
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
    """Runs a search, or continues one with the same name and recipe; returns when it is complete.

    Give a recipe (shipped name, path or object), or at least `model` and `data`.

    Args:
        model: a backbone's name, or a function of no arguments that builds one.
        data: a data set's name, `folder:PATH`, or `external` if the evaluator brings its own.
        space: a search space's shipped name or path; default `plug_and_play`.
        evaluator: `package.module:function` or a function (see `nas_attn.training.evaluators`).
        input_shape: for `external` data: (channels, height, width) of the model's input.
        take_over: a study of the same database, whose runs of equal networks, seeds and trainings
            the new one gets; it stays as it is.
        overrides: dotted keys of the recipe -> values, `{"training.rungs": [1, 3]}`.
        workers: processes on this machine; a function as model or evaluator needs 1.
        threads: intra-op threads of each; None: the fastest number.

    Raises:
        UserError: an argument is wrong.
        OperationError: something else failed; call again to resume the study.
    """
    given = {
        "name": name,
        "space": space,
        "backbone.name": _named(model),
        "data.name": data,
        "data.input_shape": input_shape,
        "training.evaluator": _named(evaluator),
        "search.trials": trials,
        "objectives": None if objectives is None else list(objectives),
    }
    build = model if callable(model) else None
    judge = evaluator if callable(evaluator) else None
    if workers > 1 and (build or judge):
        raise RecipeError(
            "workers > 1 needs the model and the evaluator as names ('package.module:function')"
        )
    plan = SearchPlan(
        _recipe(recipe, given, overrides),
        storage,
        tried=try_placements,
        device=device,
        build=build,
        evaluator=judge,
        source=None if take_over is None else _open(take_over, storage),
    )
    opened = _begun(plan, say)
    options = taking_part.Options(device=device, threads=threads, say=say, evaluator=judge)
    with interruptible(options.stop, say):
        run_workers(opened, workers, options)
    return Study(renewed(opened))


def _begun(plan: SearchPlan, say: Callable[[str], None]) -> OpenStudy:
    """The study of a search, after it was said what its images are."""
    recipe = plan.recipe
    inventory = reading_of(recipe).inventory(recipe.data)
    if inventory is not None:
        lines = "\n".join(inventory.described())
        say(f"{recipe.data.name}: {lines}")
    check_plan(plan)
    return beginning.create(plan, say=say)


def _named(thing: str | Callable[..., Any] | None) -> str | None:
    if thing is None or isinstance(thing, str):
        return thing
    module = getattr(thing, "__module__", "?")
    name = getattr(thing, "__qualname__", type(thing).__name__)
    return f"{PYTHON}{module}.{name}"


def _recipe(
    recipe: str | Recipe | None, given: dict[str, Any], overrides: dict[str, Any] | None = None
) -> Recipe:
    changes = {key: value for key, value in given.items() if value is not None}
    changes |= overrides or {}
    if isinstance(recipe, str):
        return load_recipe(recipe, overrides=changes)
    table: dict[str, Any] = {"name": "search", "space": "plug_and_play"}
    if recipe is not None:
        table = recipe.model_dump()
        if recipe.target_is_open and recipe.starts_alike:
            # they come with the length that the study finds
            del table["training"]["rungs"]
    return recipe_from(table, where="the arguments of na.search", overrides=changes)
