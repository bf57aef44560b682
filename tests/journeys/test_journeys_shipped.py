"""Every recipe and every search space that comes with the package, stopped once and taken up, on a
few images.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from answers import DIGITS, TINY, finished, kept_files, settings
from materials import fashion_mnist, photographs
from shell import Shell

from nas_attn.recipe.reading import shipped

pytestmark = pytest.mark.slow


def images_for_fashion_mnist(shell: Shell) -> str:
    fashion_mnist(shell.folder / "data")
    return settings(TINY, data__validation="40", data__train_subset="60")


def images_for_cifar10(shell: Shell) -> str:
    photographs(
        shell.folder / "photos", side=32
    )  # torchvision takes the published files of CIFAR-10 only
    return settings(TINY, data__name="folder:photos", data__size="32", data__validation="0.3")


RECIPES: dict[str, Callable[[Shell], str]] = {
    "digits": lambda shell: settings(DIGITS),
    "cued-digits": lambda shell: settings(TINY, data__options="{train=60,validation=40,test=20}"),
    "fashion-mnist": images_for_fashion_mnist,
    "cifar10-resnet20": images_for_cifar10,
}


def stopped_once(shell: Shell, recipe: str, tiny: str, workers: int) -> None:
    """A search over baselines and more candidates."""
    trials = 12
    forecast = shell.types(f"search {recipe} --dry-run --json {tiny} --trials {trials}").json
    command = f"search {recipe} --workers {workers} --threads 1 --trials {trials} {tiny}"
    search = shell.begins(command).until(r"trial 1 \(uniform")
    study = forecast["study"]
    assert f"nas-attn resume {study}" in search.ctrl_c().ends(130).err
    before = shell.types(f"show {study} --json").json
    done = {
        c["trial"]: c["scores"][0]["metrics"]
        for c in before["candidates"]
        if c["state"] == "scored"
    }
    assert done
    shell.types(f"resume {study} --workers {workers} --threads 1")
    answer = finished(shell, study, trials=trials)
    after = {c["trial"]: c for c in answer["candidates"]}
    assert all(after[trial]["scores"][0]["metrics"] == metrics for trial, metrics in done.items())
    baselines = [c["baseline"] for c in answer["candidates"] if c["baseline"]]
    assert len(set(baselines)) == forecast["queued"]
    kept_files(shell, answer)
    assert (
        f"nas-attn resume {study} --trials {2 * trials}"
        in shell.types(f"resume {study} --workers 1").out
    )
    assert (
        "<svg" in shell.types(f"report {study}").out
        or (shell.folder / f"{study}.html").stat().st_size > 10_000
    )


def test_there_is_a_journey_for_every_recipe() -> None:
    assert set(RECIPES) == set(shipped("studies"))


@pytest.mark.parametrize("recipe", RECIPES)
def test_each_shipped_recipe(shell: Shell, recipe: str) -> None:
    stopped_once(shell, recipe, RECIPES[recipe](shell), workers=2)


@pytest.mark.parametrize("space", shipped("search_spaces"))
def test_each_shipped_space(shell: Shell, space: str) -> None:
    stopped_once(shell, "digits", settings(DIGITS, space=space), workers=1)


def test_a_space_by_block_with_all_positions_and_restrictions(shell: Shell) -> None:
    (shell.folder / "blocks.toml").write_text("""
name = "blocks"
[sites]
granularity = "block"
positions = ["residual", "block"]
exclude = ["stage1*"]
[choices]
mhsa = { heads = [2], downsample = [2, 1] }
gam = { reduction = [4, 2], groups = [2] }
ela = [{ variant = ["T"] }, { norm_groups = [1], kernel_size = [3, 5], groups = [1] }]
[per_site."stage2.*"]
choices = ["none", "gam"]
[limits]
max_modules = 2
""")
    stopped_once(shell, "digits", settings(DIGITS, space="blocks.toml"), workers=2)
    both = (  # which a search hardly tries itself
        "stage2.block1@block=gam(reduction=2, groups=2) stage3.block1=gam(groups=2)"
    )
    assert "@block=gam(" in shell.types(f"resume digits --try '{both}' --workers 1 --threads 1").err
