"""`nas-attn fidelity`."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from nas_attn.cli.common import (
    DEFAULT_STORAGE,
    AsJson,
    Device,
    Mps,
    Orders,
    PerGpu,
    ReportPath,
    Sharing,
    Storage,
    StorageWait,
    Threads,
    Verbose,
    Workers,
    console,
    page_path,
    print_json,
    quiet_optuna,
    table,
)
from nas_attn.cli.recipe_lines import as_lines, changed
from nas_attn.errors import RecipeError, StudyError
from nas_attn.paths import output_path, user_path

if TYPE_CHECKING:
    from nas_attn.analysis.fidelity import Fidelity
    from nas_attn.recipe import Recipe
    from nas_attn.study.fidelity import FidelityStudy
    from nas_attn.study.fidelity_plan import FidelityPlan
    from nas_attn.study.searching import Options

T = TypeVar("T", int, float, str)


def fidelity(
    what: Annotated[str, typer.Argument(metavar="STUDY|RECIPE", help="A study of the database, or a recipe.")],
    placements: Annotated[int, typer.Option("--placements", min=4, help="Placements: baselines and random ones.")] = 12,
    seeds: Annotated[int, typer.Option("--seeds", min=2, help="Runs of each placement in each setting.")] = 4,
    reference_epochs: Annotated[
        int | None, typer.Option("--reference-epochs", min=1, help="Length of the reference; default: by the recipe.")
    ] = None,
    reference_start: Annotated[
        str | None, typer.Option("--reference-start", help="scratch, backbone or pretrained.")
    ] = None,
    epochs: Annotated[str, typer.Option("--epochs", help="Lengths of cheap runs, one run each for all.")] = "1,2,4",
    starts: Annotated[
        str | None, typer.Option("--starts", help="Starts of cheap runs; default: backbone,scratch.")
    ] = None,
    subsets: Annotated[
        str | None, typer.Option("--subsets", help="Shares of the training images; default: 1,0.5.")
    ] = None,
    storage: Storage = DEFAULT_STORAGE,
    workers: Workers = None,
    threads: Threads = None,
    device: Device = "auto",
    mps: Mps = True,
    report: ReportPath = None,
    write: Annotated[
        str | None, typer.Option("--write", help="Write the recipe with the recommended setting to this file.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")] = False,
    storage_wait: StorageWait = None,
    verbose: Verbose = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    as_json: AsJson = False,
    sharing: Sharing = 1,
    per_gpu: PerGpu = 1,
    orders: Orders = None,
    name: Annotated[str, typer.Option("--name", hidden=True)] = "",
) -> None:
    """Trains a spread of placements long and in cheap settings, and says how far these rank alike. Goes on when repeated."""
    page_path(report)
    recipe, text = _found(what, storage)
    target = _target(write, what, text)
    from nas_attn.study.fidelity_plan import make_fidelity_plan

    plan = make_fidelity_plan(
        recipe,
        placements=placements,
        seeds=seeds,
        reference_start=reference_start,
        reference_epochs=reference_epochs,
        epochs=_numbers(epochs, int, "--epochs"),
        starts=None if starts is None else _numbers(starts, str, "--starts"),
        subsets=None if subsets is None else _numbers(subsets, float, "--subsets"),
    )
    if dry_run:
        _show_plan(plan, workers, threads, device, as_json)
        return
    from nas_attn.records import Share
    from nas_attn.study.searching import Options

    def say(line: str) -> None:
        if not quiet and not as_json:
            print(f"{name}: {line}" if name else line, file=sys.stderr, flush=True)

    share = Share(max(sharing, per_gpu), per_gpu)
    options = Options(device=device, threads=threads, say=say, share=share, mps=mps, verbose=verbose)
    study = _run(plan, what, storage, options, workers, orders)
    if orders is None:
        _tell(study, report, target, text, as_json)


def _tell(study: FidelityStudy, report: str | None, target: Path | None, text: str | None, as_json: bool) -> None:
    """Writes the page and the changed recipe, and prints what was found."""
    found = study.result()
    from nas_attn.report.fidelity import write_fidelity_report

    base = study.database.path.parent if study.database.path else Path.cwd()
    path = write_fidelity_report(
        found, study.recipe.name, Path(report) if report else base / f"{study.recipe.name}.fidelity.html"
    )
    chosen = found.advice.setting
    changes = study.changes(chosen) if chosen else {}
    if target is not None and text is not None and changes:
        _write(target, changed(text, changes))
    if as_json:
        print_json({"study": study.recipe.name, **asdict(found), "changes": changes, "report": str(path)})
        return
    _show(found)
    typer.echo(f"\nReport    {path}")
    if changes:
        typer.echo(f"Recipe    {target}" if target else f"\nFor the recipe (or --write FILE):\n{as_lines(changes)}")
    elif chosen is not None:
        typer.echo("Recipe    has this setting already")
    elif target is not None:
        typer.echo(f"{target} was not written, as nothing is recommended")


def _found(what: str, storage: str) -> tuple[Recipe, str | None]:
    """The recipe that is meant, and its text where it comes from a file."""
    from nas_attn.recipe_reading import frozen_recipe, load_recipe, shipped
    from nas_attn.storage import Database

    path = user_path(what, what="recipe file", error=RecipeError)
    if path.is_file():
        return load_recipe(what), path.read_text("utf-8")
    if path.suffix != ".toml" and len(path.parts) == 1:
        try:
            database = Database(storage, must_exist=True)
        except StudyError:  # no database yet: it can only be a recipe
            database = None
        if database is not None and what in [study.name for study in database.studies()]:
            return frozen_recipe(database.study(what).recipe, where=f"study '{what}'"), None
    return load_recipe(what), shipped("studies")[what]


def _target(write: str | None, what: str, text: str | None) -> Path | None:
    """Where the changed recipe goes: asked before hours of training."""
    if write is None:
        return None
    if text is None:
        raise StudyError(
            f"'{what}' is a study, which has no file to change: leave --write out and paste what is printed"
        )
    target = output_path(write, what="--write", error=RecipeError).absolute()
    if target.exists() and target != Path(what).expanduser().absolute():
        raise RecipeError(f"--write '{write}' exists already: give another file, or the recipe itself")
    if not target.parent.is_dir():
        raise RecipeError(f"--write '{write}': there is no folder '{target.parent}'")
    return target


def _write(target: Path, text: str) -> None:
    """Writes a recipe once it is known to be one where it will lie."""
    from nas_attn.recipe_reading import load_recipe

    draft = target.with_name(f".{target.stem}-draft.toml")
    try:
        draft.write_text(text, "utf-8")
        load_recipe(str(draft))
        draft.replace(target)
    except OSError as error:
        raise RecipeError(f"--write '{target}' cannot be written: {error.strerror}") from None
    finally:
        draft.unlink(missing_ok=True)


def _numbers(text: str, kind: type[T], option: str) -> list[T]:
    """`1,2,4` as a list."""
    try:
        return [kind(part.strip()) for part in text.split(",")]
    except ValueError:
        raise RecipeError(f"{option} '{text}' is no list like 1,2,4") from None


def _show_plan(plan: FidelityPlan, workers: int | None, threads: int | None, device: str, as_json: bool) -> None:
    from nas_attn.study.fidelity_plan import arms, epochs_in_all, networks
    from nas_attn.study.forecast import forecast
    from nas_attn.study.progress import duration
    from nas_attn.study.searching import default_workers, plan_recipe

    quiet_optuna()
    plan = replace(plan, placements=len(networks(plan, plan_recipe(plan.recipe).space)))
    workers = workers or default_workers(device)
    reference, cheap = arms(plan)
    runs, epochs = plan.placements * plan.seeds * (1 + len(cheap)), epochs_in_all(plan)
    epoch_s = forecast(plan.recipe, device=device, threads=threads).epoch_s
    facts: dict[str, Any] = {"placements": plan.placements, "seeds": plan.seeds, "runs": runs, "epochs": epochs}
    facts |= {"reference": str(reference), "cheap": [str(arm) for arm in cheap], "epoch_s": epoch_s}
    facts |= {"workers": workers, "total_s": None if epoch_s is None else epoch_s * epochs / workers}
    if as_json:
        print_json(facts)
        return
    typer.echo(f"{plan.placements} placements, {plan.seeds} seeds each: {runs} runs, {epochs:.0f} epochs in all")
    typer.echo(f"reference: {reference}\ncheap:     " + "\n           ".join(facts["cheap"]))
    if epoch_s is not None:
        typer.echo(
            f"one epoch takes about {epoch_s:.1f} s here: about {duration(facts['total_s'])} in all with {workers} "
            f"worker{'' if workers == 1 else 's'}"
        )


def _run(
    plan: FidelityPlan, what: str, storage: str, options: Options, workers: int | None, orders: int | None
) -> FidelityStudy:
    """Does what is left of the runs, in this process or in several.

    Args:
        orders: where the process that this one works for says when to stop.

    Raises:
        typer.Exit: with 130 where it was interrupted.
    """
    from nas_attn.cli.running import INTERRUPTED
    from nas_attn.study.fidelity import FidelityStudy
    from nas_attn.study.local import run_processes
    from nas_attn.study.searching import check_here, default_workers
    from nas_attn.study.stopping import interruptible

    quiet_optuna()
    check_here(plan.recipe, device=options.device)
    workers = 1 if orders is not None else workers or default_workers(options.device)
    with interruptible(options.stop, options.say, orders):
        try:
            study = FidelityStudy(plan, storage, options)
            done, total = study.progress()
            if workers > 1 and done < total:
                run_processes(_command(plan, what), storage, min(workers, total - done), options)
            ended = study.train() if orders is not None else study.work()
        except KeyboardInterrupt:  # the second Ctrl-C
            os._exit(INTERRUPTED)
    if ended == "stopped":
        done, total = study.progress()
        typer.echo(f"stopped after {done} of {total} runs; the same command goes on", err=True)
        raise typer.Exit(INTERRUPTED)
    return study


def _command(plan: FidelityPlan, what: str) -> list[str]:
    """The command with which another process shares the work."""
    numbers = {"placements": plan.placements, "seeds": plan.seeds, "reference-epochs": plan.reference_epochs}
    lists = {"epochs": plan.epochs, "starts": plan.starts, "subsets": plan.subsets}
    words = {name: ",".join(map(str, values)) for name, values in lists.items()}
    words |= {name: str(number) for name, number in numbers.items()} | {"reference-start": plan.reference_start}
    return ["fidelity", what, *(part for name, word in words.items() for part in (f"--{name}", word))]


def _show(found: Fidelity) -> None:
    """The table by the reference's metric, with one seed and with all, then the recommendation."""
    from nas_attn.report.fidelity import COLUMNS, cells, explanation

    shown = {1, max(row.setting.seeds for row in found.rows)}
    rows = [["noise floor: " + cells(found.floor)[0], *cells(found.floor)[1:]]]
    for row in found.rows:
        mine = row.setting.metric == found.floor.setting.metric and row.setting.seeds in shown
        if mine or row.setting == found.advice.setting:
            rows.append(cells(row))
    out = console()
    title = "How far cheap settings rank placements as the reference does"
    out.print(table(title, COLUMNS, rows, right=[name for name in COLUMNS if name not in ("setting", "metric")]))
    for sentence in explanation(found):
        out.print(sentence, markup=False)
    out.print()
    for sentence in found.advice.sentences:
        out.print(sentence, markup=False)
