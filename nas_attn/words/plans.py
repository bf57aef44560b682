"""What a search would cost and show, what it does with its time, and what an extension changes."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from nas_attn.answer.plans import Budget, Extension, FolderLook, Forecast, Timetable
from nas_attn.errors import few, several
from nas_attn.recipe.recipe import TrainingSection
from nas_attn.recipe.tables import LAYER_NORM_PRESET
from nas_attn.recipe.units import duration
from nas_attn.system.wrapping import Line

DAY_S = 86_400.0


def forecast_lines(forecast: Forecast) -> list[Line]:
    """Size, cost and resolving power of a search, in a few sentences."""
    lines = [_size(forecast)]
    if forecast.trials <= forecast.queued and forecast.trials < forecast.placements:
        lines.append(
            f"nothing is searched for: {forecast.queued} placements are tried first and take all"
            f" {forecast.trials} trials; give more ({2 * forecast.queued} trials) or fewer"
            " baselines (search.baselines)"
        )
    if forecast.guess is not None:
        lines.append(
            "target: as long as the bare network needs, which is found first: it is trained for"
            f" {forecast.guess} epochs, {2 * forecast.guess} … until twice as long is not clearly"
            f" better; what follows holds if {forecast.guess} will do"
        )
    if forecast.epoch_s is not None and forecast.total_s is not None:
        lines.append(_times(forecast, forecast.epoch_s, forecast.total_s))
    if forecast.target_s is not None and forecast.validation_s is not None:
        lines.append(
            "training the winner as the target says takes about"
            f" {duration(forecast.target_s)}; nas-attn test, which tests the answer, about"
            f" {duration(forecast.validation_s)} with one worker"
        )
    if forecast.smallest_difference is not None:
        points = 100 * forecast.smallest_difference
        lines.append(
            f"differences in accuracy above about {points:.1f} points could be shown between two"
            " confirmed candidates; smaller ones are noise at this budget"
        )
    return [Line(line) for line in lines]


def timetable_lines(table: Timetable) -> list[Line]:
    """What a recipe's search does with its time, and what that can show."""
    lines = [Line(f"{duration(table.seconds)}: {_timetable(table)}", "plan")]
    if table.enough_s is None and table.smallest_difference is not None:
        lines.append(Line(_shown(table.smallest_difference), "shows"))
    return lines


def _optimizer(training: TrainingSection) -> str:
    """`, trained by AdamW`, where the network needs another optimizer than most; else empty."""
    if training.preset != LAYER_NORM_PRESET:
        return ""
    return f", trained by {training.optimizer}"


def budget_lines(budget: Budget, to_change: str = "") -> list[Line]:
    """The search of a folder of images, in five lines. `to_change`: what to do for another
    target.
    """
    recipe = budget.recipe
    if budget.known:
        candidates = several(budget.known, "candidate")
        return [
            Line(f"study {recipe.name} goes on for {duration(budget.seconds)}; it has {candidates}")
        ]
    side = f" at {recipe.data.size} × {recipe.data.size} pixels" if recipe.data.size else ""
    pace = f"{budget.epoch_s:.2g} s an epoch, {budget.workers} at a time"
    optimizer = _optimizer(recipe.target_training)
    target = _target(budget, recipe.target_training)
    gains = _shown(budget.smallest_difference)
    one_image = f"1 of {budget.images} validation images is {100 / budget.images:.1f} points"
    return [
        Line(look_text(budget.look), "images"),
        Line(f"{recipe.backbone.name}{side}{optimizer}: {pace}", "backbone"),
        Line(f"{target}{to_change}", "target"),
        Line(f"{duration(budget.seconds)}: {_budget(budget)}", "plan"),
        Line(f"{gains}; {one_image}", "shows"),
    ]


def look_text(look: FolderLook) -> str:
    """`10 classes, 12,000 images, 3 unreadable (left out)`."""
    left_out = f", {look.unreadable} unreadable (left out)" if look.unreadable else ""
    return f"{look.classes} classes, {look.images:,} images{left_out}"


def budget_as_json(budget: Budget) -> dict[str, Any]:
    """The search of a folder of images in JSON's types."""
    recipe = budget.recipe
    target = budget.recipe.target_training
    is_known = not recipe.target_is_open
    return {
        "study": recipe.name,
        "trials": recipe.search.trials,
        "start": target.start,
        "epochs": target.rungs[-1] if is_known else None,
        "usual_epochs": budget.usual,
        "searched_epochs": recipe.training.rungs[-1] if is_known else None,
        "enough_seconds": budget.enough_s,
        "longer": None if budget.longer is None else asdict(budget.longer),
        "backbone": recipe.backbone.name,
        "size": recipe.data.size,
        "seconds": budget.seconds,
        "workers": budget.workers,
        "epoch_s": budget.epoch_s,
        "blocks": budget.blocks,
        "images": budget.images,
        "known": budget.known,
    }


def extension_lines(extension: Extension) -> list[Line]:
    """What another search space changes."""
    before, after = extension.placements
    change = f"{before:,} -> {after:,} placements"
    lines = [f"study {extension.study}, search space {extension.space}: {change}"]
    for sign, values in (("+", extension.added), ("-", extension.removed)):
        lines += [f"  {sign} {site}: {few(names, quote='')}" for site, names in values.items()]
    kept = several(extension.inside + extension.outside, "candidate")
    lines.append(
        f"kept: {kept} with {several(extension.runs, 'run')}; {extension.outside} of them are"
        " outside the new space, and samplers do not learn from them"
    )
    if extension.baselines:
        lines.append(f"new baselines, which come first: {few(extension.baselines, quote='')}")
    trials_before, trials = extension.trials
    lines.append(f"candidates in all: {trials_before} -> {trials}")
    return [Line(line) for line in lines]


def _size(forecast: Forecast) -> str:
    inside = forecast.trials - forecast.outside
    outside = f" and {forecast.outside} outside the search space" if forecast.outside else ""
    own = f", {forecast.tried} your own" if forecast.tried else ""
    return (
        f"study {forecast.study}: {inside} of {forecast.placements:,} placements{outside},"
        f" {forecast.baselines} of them baselines{own}"
    )


def _times(forecast: Forecast, epoch_s: float, total_s: float) -> str:
    epoch = f"{epoch_s:.1f} s" if epoch_s < 10 else duration(epoch_s)
    pruning = "pruning and " if forecast.pruned else ""
    shorter = ""
    if total_s > DAY_S:
        shorter = "; a limit on its time ends it earlier, fewer trials or epochs shorten it"
    return (
        f"one epoch takes about {epoch} here; the whole search about {duration(total_s)} with one"
        f" worker, less with {pruning}more workers{shorter}"
    )


def _timetable(table: Timetable) -> str:
    if table.enough_s is not None:
        return (
            "too short to compare anything, it holds little but baselines;"
            f" --minutes {math.ceil(table.enough_s / 60)} would do"
        )
    many = several(table.trials, "candidate")
    if table.trials < table.stated:
        many = f"{table.trials} of the recipe's {several(table.stated, 'candidate')}"
    guess = f" (if {table.guess} epochs will do)" if table.guess is not None else ""
    return (
        f"{many}{guess}, {_uniform(few=table.few)} of them uniform; then more seeds for the best;"
        f" {_test(table.blocks)}"
    )


def _test(blocks: int) -> str:
    if blocks:
        return f"tested with {several(blocks, 'seed')}"
    return "no time for a test: nas-attn test does it later"


def _target(budget: Budget, target: TrainingSection) -> str:
    """How long the target trains, and how it starts."""
    starts = {None: "from random weights", "default": "from the published weights"}
    start = starts.get(target.weights, f"from {target.weights}")
    if budget.no_weights:
        start += f" ({budget.no_weights})"
    if not budget.recipe.target_is_open:
        return f"{several(target.rungs[-1], 'epoch')} with attention {start}"
    return (
        f"as long as the bare network needs {start}: it is trained for {budget.usual} epochs,"
        f" {2 * budget.usual} … until twice as long is not clearly better"
    )


def _budget(budget: Budget) -> str:
    """What the search does with its time."""
    if budget.enough_s is not None:
        return (
            "too short for a recommendation. Candidates are trained more briefly than the target,"
            " which shows what learns early, and each one's latency;"
            f" --minutes {math.ceil(budget.enough_s / 60)} would do"
        )
    recipe = budget.recipe
    uniform = _uniform(few=budget.pool is not None)
    return (
        f"{several(recipe.search.trials, 'candidate')}{_guess(budget)}, {uniform} of them uniform,"
        f" trained as the target says; then more seeds for the best; {_test(budget.blocks)}"
    )


def _guess(budget: Budget) -> str:
    """On which length of the target the plan rests."""
    if not budget.recipe.target_is_open:
        return ""
    will_do = f"if {budget.usual} epochs will do"
    if budget.longer is None:
        return f" ({will_do})"
    minutes = math.ceil(budget.longer.seconds / 60)
    return f" ({will_do}; for {budget.longer.epochs}, which are often needed: --minutes {minutes})"


def _shown(gain: float) -> str:
    return f"this search can show a gain of about {100 * gain:.1f} points"


def _uniform(*, few: bool) -> str:
    """How many of the candidates are uniform."""
    return "up to two thirds" if few else "at most a third"
