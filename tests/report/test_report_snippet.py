"""The lines that a study prints for one's own code are run as they stand, and build just the
candidate's network.
"""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import pytest
import torch
from plans_made import plan_recipe
from torch import Tensor, nn
from torch.nn import functional
from typer.testing import CliRunner

import nas_attn as na
from nas_attn.answer.answer import answer_of
from nas_attn.answer.choosing import chosen
from nas_attn.answer.criteria import Criteria
from nas_attn.cli.main import app
from nas_attn.recipe.reading import recipe_from
from nas_attn.report import write_report
from nas_attn.searching.prepare import beginning
from nas_attn.space.notation import parse
from nas_attn.storage.opening import OpenStudy
from nas_attn.storage.records import Score
from nas_attn.storage.rows import Run

RESNET = {"name": "resnet8", "width": 8}
CUSTOM = {"first": ["conv1"]}


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = (
            nn.Sequential(nn.Conv2d(c, 8, 3, padding=1), nn.BatchNorm2d(8)) for c in (1, 8)
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.two(functional.relu(self.one(x)))).mean((2, 3))


def judge(model: nn.Module, run: object) -> dict[str, float]:
    return {"accuracy": 0.5}


def begun(
    folder: Path, backbone: dict[str, Any], sites: dict[str, Any], build: Any = None
) -> OpenStudy:
    table = {
        "name": "pasted",
        "objectives": ["accuracy", "params"],
        "space": {
            "name": "pasted",
            "sites": sites,
            "choices": {"eca": {}, "se": {"reduction": [4]}},
        },
        "backbone": backbone,
        "data": {"name": "external", "input_shape": [1, 16, 16], "classes": 7},
        "training": {"evaluator": f"{__name__}:judge", "start": "scratch", "rungs": [1]},
    }
    return beginning.begin(
        recipe_from(table, where="here"), f"sqlite:///{folder / 'nas_attn.db'}", build=build
    )


def candidate(opened: OpenStudy, placement: str, build: Any = None) -> tuple[str, nn.Module]:
    """A scored trial with this placement: its snippet, and its network as a worker builds it."""
    plan = plan_recipe(opened.recipe, build=build, store=opened.store)
    resolved = plan.resolved(parse(placement))
    store = opened.store
    lease = store.acquire("trial", owner="test")
    assert lease is not None
    store.claim(resolved.key, placement=resolved.placement, trial=0, baseline=None, lease=lease)
    store.set_cost(resolved.key, plan.cost(resolved), lease)
    store.add_score(
        Run(resolved.key, resolved.placement, 0), Score(0, 0, 1, {"accuracy": 0.5}), lease=lease
    )
    store.end_candidate(resolved.key, state="scored", reason="", lease=lease)
    return na.open_study(opened.url).best(trial=0).snippet, plan.network(resolved, 4)


def pasted(snippet: str) -> nn.Module:
    names: dict[str, Any] = {}
    exec(compile(snippet, "pasted.py", "exec"), names)
    model = names["model"]
    assert isinstance(model, nn.Module)
    return model


def same(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks are the same function, given the same weights."""
    one.load_state_dict(other.state_dict())
    x = torch.rand(2, 1, 16, 16)
    return torch.equal(one.eval()(x), other.eval()(x))


@pytest.mark.parametrize(
    ("placement", "sites"),
    [
        ("stage1=se(reduction=4) stage3@stage=eca stage2.block1@block=ela(variant=B)", {}),
        ("first=se(reduction=2) stage2=eca", {"custom": CUSTOM, "heads": True}),
        ("none", {}),
    ],
)
def test_pasted_lines_build_the_candidate(
    tmp_path: Path, placement: str, sites: dict[str, Any]
) -> None:
    snippet, network = candidate(begun(tmp_path, RESNET, sites), placement)
    assert same(pasted(snippet), network)


def test_a_network_that_was_given_as_an_object_is_imported(tmp_path: Path) -> None:
    opened = begun(
        tmp_path, {"name": f"python:{__name__}.Two"}, {"positions": ["block"]}, build=Two
    )
    snippet, network = candidate(opened, "stage1@block=eca", build=Two)
    assert f"from {__name__} import Two" in snippet
    assert same(pasted(snippet), network)


def test_it_is_printed_and_in_the_report(tmp_path: Path) -> None:
    opened = begun(tmp_path, RESNET, {})
    snippet, _ = candidate(opened, "stage1=se(reduction=4)")
    printed = CliRunner().invoke(
        app, ["show", "pasted", "--storage", opened.url, "--placement", "0"]
    )
    assert snippet in printed.output
    now = na.open_study(opened.url).snapshot()
    page = write_report(
        answer_of(now), tmp_path / "report.html", chosen(opened, answer_of(now), Criteria(trial=0))
    ).read_text("utf-8")
    assert snippet in html.unescape(page)
