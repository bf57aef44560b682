"""`nas-attn retrain`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from nas_attn.analysis.criteria import Criteria
from nas_attn.cli.common import at_storage, console, echo, print_json, study_named, table
from nas_attn.cli.options import AsJson, Effort, Storage, StudyName, grouped
from nas_attn.cli.running import INTERRUPTED, do_runs
from nas_attn.paths import DEFAULT_URL

if TYPE_CHECKING:
    from nas_attn.study.opening import OpenStudy
    from nas_attn.study.target_runs import Order


@grouped
def retrain(
    criteria: Criteria,
    effort: Effort,
    study: StudyName = None,
    also: Annotated[
        list[str] | None,
        typer.Option("--also", help="Also train this placement; `none` is the bare backbone; repeatable."),
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Epochs, instead of the target's.")] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Runs of each network.")] = 1,
    data: Annotated[str | None, typer.Option("--data", help="Another data set, or folder:PATH.")] = None,
    storage: Storage = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Trains a chosen network as the target says and keeps its weights for `export`. Goes on when repeated."""
    from nas_attn.analysis.validation import RETRAIN
    from nas_attn.evaluation.starts import check_weights
    from nas_attn.study import searching, target_runs
    from nas_attn.study.exporting import named
    from nas_attn.study.reading import snapshot

    opened = study_named(study, storage)
    plan, now = opened.plan, snapshot(opened.store)
    others = [Criteria(trial=int(text)) if text.isdecimal() else Criteria(placement=text) for text in also or ()]
    chosen = dict(named(opened, now, one) for one in (criteria, *others))
    searching.check_here(opened.recipe, device=effort.device)
    check_weights(plan)
    _check_data(opened, plan.input_shape[0], data)
    wanted = target_runs.order(opened, chosen, seeds=seeds, epochs=epochs, data=data)
    left = target_runs.open_runs(opened.store, wanted)
    target_runs.enter(opened.store, left)
    again = f"the same command{at_storage(storage)}"
    if left:
        workers = min(effort.workers or searching.default_workers(effort.device), len(left))
        do_runs(opened, again, effort, only=RETRAIN, quiet=as_json, workers=workers)
    _show(opened, wanted, as_json)
    if any(row.state == "waiting" for row in opened.store.queue.rows(way=wanted.way, purposes=[RETRAIN])):
        echo(f"stopped before the end; go on with: {again}", err=True)
        raise typer.Exit(INTERRUPTED)


def _check_data(opened: OpenStudy, channels: int, name: str | None) -> None:
    """Whether the data is there and fits the network: asked before anything is written."""
    if opened.recipe.data.name == "external":
        return
    from nas_attn import tasks
    from nas_attn.errors import RecipeError

    given = opened.recipe.data if name is None else opened.recipe.data.model_copy(update={"name": name})
    recipe = opened.recipe.model_copy(update={"data": given})
    found = tasks.of(recipe).load(recipe, device="cpu")
    if found is not None and found.input_shape[0] != channels:
        raise RecipeError(
            f"--data {name} has images of {found.input_shape[0]} channels, but the study's network takes {channels}"
        )


def _show(opened: OpenStudy, wanted: Order, as_json: bool) -> None:
    from nas_attn.evaluation.plan import TARGET
    from nas_attn.report import words
    from nas_attn.study.target_runs import results

    found = results(opened.store, wanted)
    scored = [(run, None if stored is None else dict(stored.score.metrics), reason) for run, stored, reason in found]
    if as_json:
        rows = [{**asdict(run), "metrics": metrics, "reason": reason} for run, metrics, reason in scored]
        print_json({"study": opened.store.name, "way": wanted.way, "runs": rows})
        return
    shown = [[str(r.seed), words.metrics(m) if m else why or "not finished", r.placement] for r, m, why in scored]
    out = console()
    how = "as the target says" if wanted.way == TARGET else "as the options say, not as the target says"
    out.print(table(f"Trained {how}; scored on the validation split", ["seed", "score", "placement"], shown))
    out.print("Only `nas-attn validate` reads the test images. `nas-attn export` takes the weights of the first seed.")
