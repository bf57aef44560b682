"""`nas-attn validate`."""

from __future__ import annotations

import math
from dataclasses import asdict, astuple
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas_attn.cli.common import at_storage, console, echo, print_json, study_named
from nas_attn.cli.options import AsJson, DryRun, Effort, Storage, StudyName, grouped
from nas_attn.cli.running import INTERRUPTED, do_runs
from nas_attn.errors import RecipeError, StudyError
from nas_attn.paths import DEFAULT_URL

if TYPE_CHECKING:
    from nas_attn.analysis.snapshot import Snapshot
    from nas_attn.analysis.validation import Family


@grouped
def validate(
    effort: Effort,
    study: StudyName = None,
    storage: Storage = DEFAULT_URL,
    blocks: Annotated[
        int | None, typer.Option("--seeds", min=2, help="New runs of every network; default: the target's.")
    ] = None,
    front: Annotated[int, typer.Option("--front", min=0, help="Also compare this many members of the front.")] = 0,
    placements: Annotated[
        list[str] | None, typer.Option("--placement", help="Also compare this placement; repeatable.")
    ] = None,
    margin: Annotated[
        float | None, typer.Option("--margin", help="Loss that is acceptable (accuracy: 0.005 is half a point).")
    ] = None,
    difference: Annotated[
        float | None, typer.Option("--difference", help="Say how many seeds are needed to show this difference.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Start another validation, with new runs.")] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Tests what a search recommends: trained as the target says, in fresh blocks, on the test split. Goes on when repeated."""
    if margin is not None and not (math.isfinite(margin) and margin > 0):
        raise RecipeError(f"--margin {margin} must be above 0, in the metric's unit")
    from nas_attn.study import searching, target_runs
    from nas_attn.study.publishing import Publisher
    from nas_attn.study.reading import snapshot, unfinished

    opened = study_named(study, storage)
    now = snapshot(opened.store)
    asked = target_runs.Asked(blocks, front, tuple(placements or ()), margin)
    begun = next(iter(unfinished(opened.store)), None)
    if not begun and now.validations and not again and not dry_run:
        _show(now, as_json)
        return
    if begun and any(astuple(asked)):
        raise StudyError(
            f"validation {begun.number} has begun with a fixed comparison: continue it without these options"
        )
    family = begun or target_runs.family_of(opened, now, opened.plan, asked)
    target_runs.check_test_split(opened.recipe)
    searching.check_here(opened.recipe, device=effort.device)
    searching.check_start(opened)
    forecast = _forecast(now, family)
    if not as_json and not effort.quiet:
        _announce(family, forecast, difference)
    if dry_run:
        if as_json:
            print_json({"family": asdict(family), **forecast})
        return
    target_runs.begin(opened, family)
    goes_on = f"nas-attn validate {opened.store.name}{at_storage(storage)}"
    do_runs(opened, goes_on, effort, only=target_runs.PURPOSE, quiet=as_json)
    now = Publisher(opened).current()
    _show(now, as_json)
    if not now.validations[family.number - 1].complete:
        echo(f"stopped before the end; go on with: {goes_on}", err=True)
        raise typer.Exit(INTERRUPTED)


def _announce(family: Family, forecast: dict[str, Any], difference: float | None) -> None:
    """What is compared, what it can show, what it costs: before the first run."""
    from nas_attn.analysis.units import duration, size
    from nas_attn.analysis.validation import blocks_for
    from nas_attn.report.verdicts import name

    pairs = "; ".join(f"{name(family, a)} against {name(family, b)}" for a, b in family.comparisons)
    seconds = "" if forecast["total_s"] is None else f", about {duration(forecast['total_s'])} of training in all"
    low, high = (size(family.metric, forecast[key]) for key in ("detectable_low", "detectable_high"))
    known = f"from {forecast['noise_blocks']} earlier blocks" if forecast["noise_blocks"] else "from the search's runs"
    lines = [
        f"Validation {family.number}: {pairs}",
        f"{family.blocks} blocks of {len(family.networks)} networks, each trained for {family.epochs} epochs{seconds}; each "
        "run reads the test images once, and this is logged",
        f"A true difference of {low} to {high} would be shown with 80 % (a range, since the noise is known only {known})",
    ]
    if difference is not None:
        spreads = (forecast["sd_low"], forecast["sd_high"])
        needed = [blocks_for(len(family.comparisons), sd, difference) for sd in spreads]
        said = " to ".join("over 256" if n is None else str(n) for n in needed)
        lines.append(f"To show {size(family.metric, difference)}, {said} blocks are needed: --seeds")
    console().print("\n".join(lines), markup=False)


def _forecast(now: Snapshot, family: Family) -> dict[str, Any]:
    """What the blocks can show and cost; standard deviations of one block's difference.

    These come from validations before, else from the search's noise.
    """
    from nas_attn.analysis.choosing import training_s
    from nas_attn.analysis.validation import block_noise, detectable
    from nas_attn.study.planning import TYPICAL_SEED_SD

    measured = block_noise([result for result in now.validations if result.family.metric == family.metric])
    if measured is None:
        floor = now.noise.get(family.metric)
        seed_sd = (floor.seed_sd if floor else None) or TYPICAL_SEED_SD
        measured = 0.7 * seed_sd, 2**0.5 * seed_sd, 0  # runs of one block correlated by three quarters, and not at all
    low, high, blocks = measured
    comparisons = len(family.comparisons)
    fresh = now.recipe.target_training.backbone_epochs if family.fresh_backbones else 0
    return {
        "sd_low": low,
        "sd_high": high,
        "noise_blocks": blocks,
        "comparisons": comparisons,
        "detectable_low": detectable(comparisons, family.blocks, low),
        "detectable_high": detectable(comparisons, family.blocks, high),
        "total_s": training_s(now, family.blocks * (len(family.networks) * family.epochs + fresh)),
    }


def _show(now: Snapshot, as_json: bool) -> None:
    from nas_attn.cli.showing import show_validation

    if as_json:
        results = [{**asdict(result), "complete": result.complete} for result in now.validations]
        print_json({"study": now.study, "validations": results})
        return
    for result in now.validations:
        show_validation(console(), result, now)
