"""`nas-attn retrain`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from nas_attn.analysis.criteria import Criteria
from nas_attn.cli.choosing import choosing, criteria_for
from nas_attn.cli.common import (
    AsJson,
    Device,
    Storage,
    StorageWait,
    StudyName,
    Threads,
    TimeLimit,
    Verbose,
    Workers,
    at_storage,
    console,
    echo,
    print_json,
    study_named,
    table,
)
from nas_attn.cli.running import INTERRUPTED, Effort, do_runs
from nas_attn.paths import DEFAULT_URL

if TYPE_CHECKING:
    from nas_attn.evaluation.plan import Plan
    from nas_attn.study.opening import OpenStudy
    from nas_attn.study.retraining import Order


@choosing
def retrain(
    criteria: Criteria,
    study: StudyName = None,
    also: Annotated[
        list[str] | None,
        typer.Option("--also", help="Also train this placement; `none` is the bare backbone; repeatable."),
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Epochs, instead of the target's.")] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Runs of each network.")] = 1,
    data: Annotated[str | None, typer.Option("--data", help="Another data set, or folder:PATH.")] = None,
    storage: Storage = DEFAULT_URL,
    workers: Workers = None,
    threads: Threads = None,
    device: Device = "auto",
    time_limit: TimeLimit = None,
    storage_wait: StorageWait = None,
    verbose: Verbose = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    as_json: AsJson = False,
) -> None:
    """Trains a chosen network as the target says and keeps its weights for `export`. Goes on when repeated."""
    from nas_attn.analysis.retrained import PURPOSE
    from nas_attn.evaluation.starts import check_weights
    from nas_attn.study import retraining, searching
    from nas_attn.study.reading import snapshot
    from nas_attn.study.trained import named

    opened = study_named(study, storage)
    plan = opened.plan
    now = snapshot(opened.store)
    chosen = dict(named(opened, now, one) for one in (criteria, *map(criteria_for, also or ())))
    searching.check_here(opened.recipe, device=device)
    check_weights(plan)
    _check_data(opened, plan, data)
    wanted = retraining.order(opened, chosen, seeds=seeds, epochs=epochs, data=data)
    left = retraining.open_runs(opened.store, wanted)
    retraining.enter(opened.store, left)
    if left:
        count = min(workers or searching.default_workers(device), len(left))
        effort = Effort(count, threads, device, time_limit, quiet or as_json, verbose)
        do_runs(opened, f"the same command{at_storage(storage)}", effort, only=PURPOSE)
    _show(opened, wanted, as_json)
    if any(row.state == "waiting" for row in opened.store.queue.rows(way=wanted.way, purposes=[PURPOSE])):
        echo(f"stopped before the end; run the same command again to continue{at_storage(storage)}", err=True)
        raise typer.Exit(INTERRUPTED)


def _check_data(opened: OpenStudy, plan: Plan, name: str | None) -> None:
    """Whether the data is there and fits the network: asked before anything is written."""
    if opened.recipe.data.name == "external":
        return
    from nas_attn import tasks
    from nas_attn.errors import RecipeError

    given = opened.recipe.data if name is None else opened.recipe.data.model_copy(update={"name": name})
    recipe = opened.recipe.model_copy(update={"data": given})
    found = tasks.of(recipe).load(recipe, device="cpu")
    if found is not None and found.input_shape[0] != plan.input_shape[0]:
        raise RecipeError(
            f"--data {name} has images of {found.input_shape[0]} channels, but the study's network takes {plan.input_shape[0]}"
        )


def _show(opened: OpenStudy, wanted: Order, as_json: bool) -> None:
    from nas_attn.analysis import units
    from nas_attn.evaluation.protocols import TARGET
    from nas_attn.study.retraining import results

    found = results(opened.store, wanted)
    if as_json:
        rows = [
            {**asdict(run), "metrics": None if stored is None else dict(stored.score.metrics), "reason": reason}
            for run, stored, reason in found
        ]
        print_json({"study": opened.store.name, "way": wanted.way, "runs": rows})
        return
    shown = [
        [
            str(run.seed),
            reason or "not finished"
            if stored is None
            else ", ".join(
                f"{units.title(name)} {units.value(name, value)}"
                for name, value in stored.score.metrics.items()
                if name != "train_loss_sum"
            ),
            run.placement,
        ]
        for run, stored, reason in found
    ]
    out = console()
    how = "as the target says" if wanted.way == TARGET else "as the options say, not as the target says"
    out.print(table(f"Trained {how}; scored on the validation split", ["seed", "score", "placement"], shown))
    out.print("Only `nas-attn validate` reads the test images. `nas-attn export` takes the weights of the first seed.")
