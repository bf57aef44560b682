"""What the advice looks at, what it knows, and that it ends in time."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from torch import Tensor, nn

from nas_attn import backbones
from nas_attn.answer.advising import (
    LOOKED_AT,
    Advice,
    Question,
    advice_as_json,
    advise,
    after_table,
    before_table,
    promising,
    rows,
)
from nas_attn.attention.channel import SqueezeExcitation
from nas_attn.model.published_gains import published_gains
from nas_attn.recipe.reading import backbone_section
from nas_attn.recipe.recipe import LatencySection
from nas_attn.recipe.units import NO_VALUE

SHAPE = (3, 16, 16)
BRIEF = LatencySection(session_seconds=0.05, tolerance=0.9)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return backbones.build(backbone_section("resnet8", width=8), input_shape=SHAPE, classes=10)


@pytest.fixture(scope="module")
def advised(network: nn.Module) -> Advice:
    """Of a small network from scratch."""
    return advise(network, SCRATCH, until=time.monotonic() + 60)


SCRATCH = Question("resnet8", SHAPE, "classification", "scratch", "paper", BRIEF)


@pytest.mark.parametrize("init", ["identity", "paper"])
@pytest.mark.parametrize("start", ["scratch", "pretrained"])
@pytest.mark.parametrize("task", ["classification", "detection", "segmentation"])
def test_a_module_has_a_gain_only_where_comparisons_have_it(
    task: str, start: str, init: str
) -> None:
    asked = replace(SCRATCH, task=task, start=start, init=init)
    chosen = promising(["stage1", "stage2", "stage3"], asked)
    assert len(chosen) == LOOKED_AT
    form = {"identity": "identity", "paper": "random"}[init]
    for one in chosen:
        module = one.placement.partition("=")[2].partition(" ")[0]
        assert one.gain == published_gains().get((task, "backbone", start, form, module))
    known = [one.gain is not None for one in chosen]
    assert known == sorted(known, reverse=True), "what is known comes first"
    gains = [one.gain.mean for one in chosen if one.gain is not None]
    assert gains == sorted(gains, reverse=True)


def test_the_advice_has_latencies_gains_and_sources(advised: Advice) -> None:
    assert advised.sites == ("stage1", "stage2", "stage3")
    assert len(advised.measured) == LOOKED_AT
    told = advice_as_json(advised)
    assert [one["placement"] for one in told["latency"]] == [
        one.placement for one in advised.measured
    ]
    assert told["gain"]["low"] < told["gain"]["mean"] < told["gain"]["high"]
    assert told["known"]
    assert len(told["sources"]) > 1
    table = rows(advised)
    assert all(cells[0].endswith("×") for cells in table)
    labels = [line.label for line in (*before_table(advised), *after_table(advised))]
    assert labels == ["for", "sites", "known", "latency"]
    likely = advised.most_likely
    assert likely is not None
    assert likely.gain is not None
    assert likely.gain.probability == max(
        one.gain.probability for one in advised.measured if one.gain is not None
    )


def test_segmentation_is_not_known_and_its_latencies_are_measured(network: nn.Module) -> None:
    found = advise(network, replace(SCRATCH, task="segmentation"), until=0.0)
    assert found.most_likely is None
    assert all(cells[2] == NO_VALUE for cells in rows(found))
    assert found.measured, "a session that has begun is ended"
    assert not advice_as_json(found)["known"]


def test_it_stops_in_time_though_no_interval_is_narrow(network: nn.Module) -> None:
    exact = LatencySection(session_seconds=0.05, tolerance=1e-6)
    began = time.monotonic()
    found = advise(network, replace(SCRATCH, section=exact), until=began + 2)
    assert found.measured
    assert found.seconds < 60


def test_a_placement_that_does_not_run_is_told_with_the_reason(
    network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(self: SqueezeExcitation, x: Tensor) -> Tensor:
        raise RuntimeError("this map is refused")

    monkeypatch.setattr(SqueezeExcitation, "forward", refuses)
    found = advise(network, SCRATCH, until=time.monotonic() + 20)
    (one,) = (placed for placed in found.placements if placed.refused)
    assert "se" in one.placement
    assert "refused" in one.refused
    assert len(found.measured) == LOOKED_AT - 1
    assert any(line.label == "refused" for line in after_table(found))
