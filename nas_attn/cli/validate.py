"""`nas-attn validate`."""

from __future__ import annotations

import math
from dataclasses import asdict, astuple
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
)
from nas_attn.cli.running import INTERRUPTED, Effort, do_runs
from nas_attn.errors import RecipeError, StudyError
from nas_attn.paths import DEFAULT_URL

if TYPE_CHECKING:
    from rich.console import Console

    from nas_attn.analysis.snapshot import Snapshot
    from nas_attn.analysis.validation import Family, ValidationResult
    from nas_attn.study.opening import OpenStudy
    from nas_attn.study.validating import Asked


def validate(
    study: StudyName = None,
    storage: Storage = DEFAULT_URL,
    blocks: Annotated[
        int | None,
        typer.Option(
            "--seeds", min=2, help="Number of blocks, each a new run of every network; default: the target's."
        ),
    ] = None,
    front: Annotated[int, typer.Option("--front", min=0, help="Also compare this many members of the front.")] = 0,
    placements: Annotated[
        list[str] | None, typer.Option("--placement", help="Also compare this placement; repeatable.")
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            "--margin", help="Loss that is acceptable, in the metric's unit (accuracy: 0.005 is half a point)."
        ),
    ] = None,
    difference: Annotated[
        float | None, typer.Option("--difference", help="Say how many blocks are needed to show this difference.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Start another validation, with new runs.")] = False,
    workers: Workers = None,
    threads: Threads = None,
    device: Device = "auto",
    time_limit: TimeLimit = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")] = False,
    storage_wait: StorageWait = None,
    verbose: Verbose = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    as_json: AsJson = False,
) -> None:
    """Tests what a search recommends: trained as the target says, in fresh blocks, on the test split. Goes on when repeated."""
    if margin is not None and not (math.isfinite(margin) and margin > 0):
        raise RecipeError(f"--margin {margin} must be above 0, in the metric's unit")
    from nas_attn.study import searching, validating
    from nas_attn.study.publishing import Publisher
    from nas_attn.study.reading import snapshot, unfinished

    opened = study_named(study, storage)
    now = snapshot(opened.store)
    asked = validating.Asked(blocks, front, tuple(placements or ()), margin)
    begun = unfinished(opened.store)
    if not begun and now.validations and not again and not dry_run:
        _show(now.validations, now, as_json)
        return
    family = _begun(begun[0], asked) if begun else validating.family_of(opened, now, opened.plan, asked)
    validating.check_test_split(opened.recipe)
    searching.check_here(opened.recipe, device=device)
    searching.check_start(opened)
    if not as_json and not quiet:
        _announce(console(), opened, now, family, difference)
    if dry_run:
        if as_json:
            print_json({"family": asdict(family), **_forecast(opened, now, family)})
        return
    validating.begin(opened, family)
    goes_on = f"nas-attn validate {opened.store.name}{at_storage(storage)}"
    effort = Effort(workers, threads, device, time_limit, quiet or as_json, verbose)
    do_runs(opened, goes_on, effort, only=validating.PURPOSE)
    now = Publisher(opened).current()
    _show(now.validations, now, as_json)
    if not now.validations[family.number - 1].complete:
        echo(f"stopped before the end; go on with: {goes_on}", err=True)
        raise typer.Exit(INTERRUPTED)


def _begun(family: Family, asked: Asked) -> Family:
    """The validation that is to be gone on with.

    Raises:
        StudyError: what is asked for would be another one.
    """
    if any(astuple(asked)):
        raise StudyError(
            f"validation {family.number} has begun with a fixed comparison: continue it without these options"
        )
    return family


def _announce(out: Console, opened: OpenStudy, now: Snapshot, family: Family, difference: float | None) -> None:
    """What is compared, what it can show, what it costs: before the first run."""
    from nas_attn.analysis.units import duration, size
    from nas_attn.analysis.verdict import blocks_for
    from nas_attn.report.verdicts import name

    found = _forecast(opened, now, family)
    pairs = "; ".join(f"{name(family, a)} against {name(family, b)}" for a, b in family.comparisons)
    out.print(f"Validation {family.number}: {pairs}", markup=False)
    seconds = "" if found["total_s"] is None else f", about {duration(found['total_s'])} of training in all"
    out.print(
        f"{family.blocks} blocks of {len(family.networks)} networks, each trained for {family.epochs} epochs{seconds}; each "
        "run reads the test images once, and this is logged",
        markup=False,
    )
    low, high = (size(family.metric, found[key]) for key in ("detectable_low", "detectable_high"))
    known = f"from {found['noise_blocks']} earlier blocks" if found["noise_blocks"] else "from the search's runs"
    out.print(
        f"A true difference of {low} to {high} would be shown with 80 % (a range, since the noise is known only {known})",
        markup=False,
    )
    if difference is not None:
        needed = [blocks_for(found["comparisons"], sd, difference) for sd in (found["sd_low"], found["sd_high"])]
        said = " to ".join("over 256" if n is None else str(n) for n in needed)
        out.print(f"To show {size(family.metric, difference)}, {said} blocks are needed: --seeds", markup=False)


def _forecast(opened: OpenStudy, now: Snapshot, family: Family) -> dict[str, Any]:
    """What the blocks can show and cost; standard deviations of one block's difference."""
    from nas_attn.analysis.verdict import detectable

    low, high, blocks = _block_noise(now, family)
    comparisons = len(family.comparisons)
    return {
        "sd_low": low,
        "sd_high": high,
        "noise_blocks": blocks,
        "comparisons": comparisons,
        "detectable_low": detectable(comparisons, family.blocks, low),
        "detectable_high": detectable(comparisons, family.blocks, high),
        "total_s": _seconds(opened, family),
    }


def _block_noise(now: Snapshot, family: Family) -> tuple[float, float, int]:
    """Low and high, and the blocks that they are known from: of validations before, else none: the search's own noise."""
    from nas_attn.analysis.validation import block_noise
    from nas_attn.study.forecast import TYPICAL_SEED_SD

    measured = block_noise([result for result in now.validations if result.family.metric == family.metric])
    if measured is not None:
        return measured
    floor = now.noise.get(family.metric)
    seed_sd = (floor.seed_sd if floor else None) or TYPICAL_SEED_SD
    return 0.7 * seed_sd, 2**0.5 * seed_sd, 0  # runs of one block correlated by three quarters, and not at all


def _seconds(opened: OpenStudy, family: Family) -> float | None:
    """Of training, from the pace of the search's runs."""
    scores = opened.store.scores(way="search")
    epochs: dict[tuple[str, int], int] = {}
    for stored in scores:
        run = (stored.key, stored.score.seed)
        epochs[run] = max(epochs.get(run, 0), stored.score.epochs)
    if not epochs:
        return None
    pace = sum(s.score.wall_s for s in scores) / sum(epochs.values())
    fresh = opened.recipe.target_training.backbone_epochs if family.fresh_backbones else 0
    return pace * family.blocks * (len(family.networks) * family.epochs + fresh)


def _show(results: tuple[ValidationResult, ...], now: Snapshot, as_json: bool) -> None:
    from nas_attn.cli.showing import show_validation

    if as_json:
        print_json(
            {"study": now.study, "validations": [{**asdict(result), "complete": result.complete} for result in results]}
        )
        return
    out = console()
    for result in results:
        show_validation(out, result, now)
