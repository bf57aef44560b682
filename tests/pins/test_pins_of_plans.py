"""What is said of a search before it begins: estimates and plans."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from made_study import recipe
from pinned import as_json, check

from nas_attn.recipe.recipe import Recipe
from nas_attn.searching.prepare.estimate import (
    ImageCounts,
    SearchEstimate,
    TimedSearch,
    TimeUse,
    estimate_as_json,
    estimate_lines,
)
from nas_attn.searching.prepare.fitting import Speed
from nas_attn.searching.prepare.image_folder import (
    FolderSearch,
    folder_as_json,
    folder_lines,
)
from nas_attn.system.wrapping import Line

USUAL = SearchEstimate(
    study="s",
    placements=1200,
    pruned=True,
    trials=20,
    outside=0,
    baselines=4,
    tried=0,
    queued=4,
    epoch_s=2.5,
    total_s=5400.0,
    target_s=600.0,
    validation_s=3600.0,
    smallest_difference=0.021,
    guess=None,
    time=None,
)
USE = TimeUse(900.0, 2, 20, 12, None)
SHORT = TimeUse(60.0, 2, 20, 3, 700.0)
ESTIMATES = (
    USUAL,
    replace(USUAL, trials=4, outside=2, tried=1, queued=5, total_s=400000.0, guess=10),
    replace(
        USUAL,
        epoch_s=None,
        total_s=None,
        target_s=None,
        validation_s=None,
        smallest_difference=None,
    ),
    replace(USUAL, time=USE),
    replace(USUAL, time=replace(USE, trials=20, few=True), guess=10),
    replace(USUAL, time=SHORT),
)


def folders() -> list[tuple[FolderSearch, SearchEstimate | None]]:
    made = recipe(training={"rungs": [10]}, target={"epochs": 10})
    weights = {"start": "pretrained", "weights": "default", "epochs": 5}
    sized = recipe(target=weights, data={"name": "folder:x", "size": 96})
    left_open = recipe(target={"epochs": "auto"}, training={})

    def search(recipe: Recipe, guess: int | None = None, **more: Any) -> FolderSearch:
        timed = TimedSearch(recipe, guess, Speed(2.5, 2, 1.0), ImageCounts(575.0, 144.0, few=True))
        return FolderSearch(recipe=recipe, seconds=900.0, workers=2, timed=timed, **more)

    used = replace(USUAL, time=USE)
    large = recipe(target=weights, data={"name": "folder:x", "size": 224})
    whole = TimedSearch(large, None, Speed(2.5, 2, 1.0), ImageCounts(575.0, 144.0, few=True))
    # the shortest time of it
    vars(whole)["least_s"] = 8000.0
    return [
        (search(made, no_weights="no connection"), used),
        (search(sized, whole=whole), used),
        (search(left_open, 20), replace(used, guess=20)),
        (FolderSearch(recipe=made, seconds=600.0, workers=2, known=7), None),
    ]


def lines(several: list[Line]) -> str:
    return "\n".join(map(str, several))


def test_what_is_said_of_plans_is_as_it_was(renew: bool) -> None:
    texts = [lines(estimate_lines(estimate)) for estimate in ESTIMATES]
    texts += [as_json(estimate_as_json(estimate)) for estimate in (USUAL, ESTIMATES[3])]
    for search, estimate in folders():
        texts.append(lines(folder_lines(search, estimate, "; --target changes it")))
        texts.append(as_json(folder_as_json(search, estimate)))
    check("plans.txt", "\n\n".join(texts), renew=renew)
