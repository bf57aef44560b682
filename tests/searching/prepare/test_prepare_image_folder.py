"""The search of a folder of images: which network, at which size, for how long."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from materials import photographs

from nas_attn.backbones import create
from nas_attn.errors import BackboneError, DataError
from nas_attn.recipe.recipe import Recipe
from nas_attn.recipe.sections import height_and_width
from nas_attn.searching.prepare import beginning, image_folder
from nas_attn.searching.prepare.estimate import SearchEstimate, estimate
from nas_attn.searching.prepare.fitting import (
    FEWEST,
)
from nas_attn.searching.prepare.image_folder import (
    FolderRequest,
    FolderSearch,
    folder_lines,
    plan_folder,
)
from nas_attn.searching.prepare.search_plan import SearchPlan

URL = "sqlite:///nas_attn.db"
SMALL = {"backbone.name": "resnet8", "target.start": "scratch"}
NET = "torchvision:mobilenet_v3_small"
# of the weights of most networks
OWN_SIDE = 224


def planned(folder: Path, seconds: float, **settings: object) -> FolderSearch:
    return plan_folder(
        FolderRequest(
            folder=str(folder),
            seconds=seconds,
            storage=URL,
            workers=2,
            device="cpu",
            settings=settings,
        )
    )


def estimated(search: FolderSearch, trials: int | None = None) -> SearchEstimate:
    plan = SearchPlan(search.recipe, URL, device="cpu")
    return estimate(plan, workers=2, seconds=search.seconds, trials=trials, timed=search.timed)


def said(search: FolderSearch) -> str:
    return "\n".join(map(str, folder_lines(search, estimated(search))))


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    photographs(tmp_path / "photos", of_each=20)
    monkeypatch.chdir(tmp_path)
    return Path("photos")


@pytest.fixture
def epoch_s(monkeypatch: pytest.MonkeyPatch):
    """A function that gives this machine a speed: seconds of an epoch by a recipe."""

    def runs_at(seconds: Any) -> None:
        monkeypatch.setattr(image_folder, "_epoch_s", lambda recipe, folder: seconds(recipe))

    return runs_at


@pytest.fixture
def weights(tmp_path: Path) -> str:
    """A file with weights of the network."""
    path = tmp_path / "weights.pt"
    torch.save(create(NET).state_dict(), path)
    return str(path)


def by_pixels(recipe: Recipe) -> float:
    """Seconds of an epoch that takes a minute at the size of the weights."""
    height, width = height_and_width(recipe.data.size or OWN_SIDE)
    return 60.0 * height * width / OWN_SIDE**2


def test_more_time_is_used_for_more_candidates_and_too_little_is_said(
    photos: Path, epoch_s: Any
) -> None:
    epoch_s(lambda recipe: 1.0)
    short = planned(photos, 2400, **SMALL)
    long = planned(photos, 36_000, **SMALL)
    assert FEWEST <= short.recipe.search.trials < long.recipe.search.trials
    assert short.recipe.target_training.rungs == long.recipe.target_training.rungs
    with pytest.raises(DataError, match="photos") as told:
        planned(photos, 60, **SMALL)
    found = re.search(r"--time (\d+)m", str(told.value))
    assert found is not None
    assert planned(photos, 60 * int(found[1]), **SMALL).recipe.search.trials >= FEWEST


def test_published_weights_that_are_not_there_are_refused_before_there_is_a_plan(
    photos: Path,
) -> None:
    published = {"target.start": "pretrained", "target.weights": "default"}
    with pytest.raises(BackboneError, match="resnet8"):
        planned(photos, 1200, **published, **{"backbone.name": "resnet8"})


@pytest.mark.parametrize("given", ["a file", "published"])
def test_images_are_as_large_as_those_of_the_weights_and_shrink_only_for_lack_of_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch_s: Any, weights: str, given: str
) -> None:
    monkeypatch.chdir(tmp_path)
    photographs(Path("photos"), of_each=4, side=288)
    epoch_s(by_pixels)
    named = {"backbone.name": NET}
    if given == "a file":
        named["target.weights"] = weights
    else:
        monkeypatch.setattr(image_folder, "no_weights", lambda backbone: "")
    small = planned(Path("photos"), 9000.0, **named)
    assert small.whole is not None
    whole_s = small.whole.least_s
    shares = (0.3, 0.4, 0.6, 1.01)
    found = [planned(Path("photos"), share * whole_s, **named) for share in shares]
    sides = [search.recipe.data.size for search in found]
    assert sides == [96, 128, 160, OWN_SIDE]
    assert all(search.recipe.target.start == "pretrained" for search in found)
    assert found[-1].whole is None
    assert not found[-1].no_weights
    for search in found[:-1]:
        whole = search.whole
        assert whole is not None
        assert whole.recipe.data.size == OWN_SIDE
        assert whole.least_s == pytest.approx(whole_s, rel=0.01)
        assert f"--time {math.ceil(whole.least_s / 60)}m" in said(search)
    with pytest.raises(DataError, match="too much"):
        planned(Path("photos"), 0.1 * whole_s, **named)


def test_from_trained_weights_pixels_come_before_a_length_of_its_own(
    photos: Path, epoch_s: Any, weights: str
) -> None:
    epoch_s(by_pixels)
    named = {"backbone.name": NET, "target.weights": weights}
    short = planned(photos, 6000.0, **named)
    long = planned(photos, 60_000.0, **named)
    assert short.recipe.data.size == long.recipe.data.size
    assert long.recipe.target_is_open
    assert not long.has_usual_length
    assert short.has_usual_length
    assert short.timed is not None
    assert long.timed is not None
    assert short.recipe.target.epochs == long.timed.guess
    stated = planned(photos, 6000.0, **named, **{"target.epochs": 7})
    assert stated.recipe.target.epochs == 7
    assert not stated.has_usual_length


def test_small_images_are_enlarged_to_half_the_size_of_the_weights_at_most(
    photos: Path, epoch_s: Any, weights: str
) -> None:
    epoch_s(by_pixels)
    search = planned(photos, 36_000, **{"backbone.name": NET, "target.weights": weights})
    assert search.recipe.data.size == 128
    assert search.whole is None


def test_a_stated_size_stays_and_is_timed_once(photos: Path, epoch_s: Any, weights: str) -> None:
    seen = []

    def seconds(recipe: Recipe) -> float:
        seen.append(recipe.data.size)
        return 1e4

    epoch_s(seconds)
    named = {"backbone.name": NET, "target.weights": weights, "data.size": 48}
    with pytest.raises(DataError, match="too much"):
        planned(photos, 3600, **named)
    assert seen == [48]


def test_from_random_weights_it_is_the_largest_network_that_fits_and_the_reason_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch_s: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    photographs(Path("photos"), of_each=20, side=100)
    away = "the weights are away: connect"
    monkeypatch.setattr(image_folder, "no_weights", lambda backbone: away)

    def seconds(recipe: Recipe) -> float:
        side, _ = height_and_width(recipe.data.size or 0)
        return side / 100 * (10 if recipe.backbone.name.endswith("resnet18") else 1)

    epoch_s(seconds)
    found = [planned(Path("photos"), 3600.0 * hours) for hours in (2, 8, 12)]
    taken = [(search.recipe.backbone.name, search.recipe.data.size) for search in found]
    assert taken == [
        ("resnet8", 32),
        ("torchvision:resnet18", 64),
        ("torchvision:resnet18", 96),
    ]
    assert all("the weights are away" in said(search) for search in found)
    asked = planned(Path("photos"), 7200, **{"target.start": "scratch"})
    assert "published" not in said(asked).lower(), "who wants random weights is not told of others"


def test_networks_with_layer_norms_get_an_optimizer_that_teaches_them(
    photos: Path, epoch_s: Any
) -> None:
    epoch_s(lambda recipe: 0.1)
    layer_norms = {"backbone.name": "torchvision:convnext_tiny", "target.start": "scratch"}
    training = planned(photos, 3600, **layer_norms).recipe.training
    assert (training.optimizer, training.learning_rate) == ("AdamW", 0.001)
    asked = planned(photos, 3600, **layer_norms, **{"training.optimizer": "SGD"}).recipe.training
    assert (asked.optimizer, asked.learning_rate) == ("SGD", 0.1), "what is asked for stays whole"
    assert planned(photos, 3600, **SMALL).recipe.training.optimizer == "SGD"


def test_on_few_images_the_time_goes_into_seeds_rather_than_a_deeper_network(
    photos: Path, epoch_s: Any
) -> None:
    seconds = {"resnet8": 0.4, "resnet20": 1.0, "torchvision:resnet18": 1000.0}
    epoch_s(lambda recipe: seconds[recipe.backbone.name])
    search = planned(photos, 36_000, **{"target.start": "scratch"})
    assert search.recipe.backbone.name == "resnet8"


def test_a_time_never_shortens_the_training_that_the_user_states(
    photos: Path, epoch_s: Any
) -> None:
    epoch_s(lambda recipe: 0.5)
    for epochs in (7, 40):
        recipe = planned(photos, 900, **SMALL, **{"target.epochs": epochs}).recipe
        assert recipe.target_training.rungs == [epochs]
        assert recipe.training.rungs == [epochs]


def test_the_training_that_will_run_is_the_one_that_is_timed(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float32 and the usual order in memory, a step of a GPU takes twice as long."""
    seen = set[tuple[bool, torch.dtype]]()
    build = image_folder.build

    def look(module: torch.nn.Module, given: tuple[torch.Tensor], answer: torch.Tensor) -> None:
        in_order = given[0].is_contiguous(memory_format=torch.channels_last)
        seen.add((in_order, answer.dtype))

    def watched(*arguments: Any, **options: Any) -> torch.nn.Module:
        model = build(*arguments, **options)
        model.register_forward_hook(look)
        return model

    monkeypatch.setattr(image_folder, "build", watched)
    planned(photos, 360_000, **SMALL, **{"training.precision": "bfloat16"})
    assert seen == {(True, torch.bfloat16)}


def test_what_is_given_is_kept_and_the_folder_is_one_of_a_study_begun_before(photos: Path) -> None:
    settings = {**SMALL, "search.trials": 11, "data.size": 16, "name": "mine"}
    search = planned(photos, 360_000, **settings)
    recipe = search.recipe
    assert (recipe.name, recipe.search.trials, recipe.data.size, recipe.backbone.name) == (
        "mine",
        11,
        16,
        "resnet8",
    )
    assert search.timed is not None
    assert search.timed.speed.epoch_s > 0
    assert estimated(search, trials=11).trials == 11
    beginning.begin(recipe, URL)
    again = planned(photos, 60, name="mine")
    assert again.timed is None
    assert again.recipe.search == recipe.search
    assert beginning.begin(again.recipe, URL).trials == 11
