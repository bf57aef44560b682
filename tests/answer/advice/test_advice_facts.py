"""What the advice looks at, what it knows, and that it ends in time."""

from __future__ import annotations

import functools
import time
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from nas_attn import backbones
from nas_attn.answer.advice.advice_text import (
    AdvisedCommands,
    advice_as_json,
    after_table,
    before_table,
    rows,
)
from nas_attn.answer.advice.advising import advise
from nas_attn.answer.advice.costing import CostMeasurement
from nas_attn.answer.advice.facts import Advice, Question
from nas_attn.answer.advice.shortlist import (
    MODULES_LOOKED_AT,
    advised_modules,
    large_sites,
    other_settings,
    searched_modules,
    shortlist,
)
from nas_attn.answer.advice.step_timing import training_image_s
from nas_attn.attachment import survey
from nas_attn.attention.channel import SqueezeExcitation
from nas_attn.model.published_gains import Situation, pooled
from nas_attn.recipe.reading import backbone_section
from nas_attn.recipe.recipe import LatencySection
from nas_attn.recipe.units import NO_VALUE
from nas_attn.searching.prepare.planning import (
    OF_A_CANDIDATE_S,
    Speed,
    found_length_s,
    search_power,
)
from nas_attn.space.placement import Survey
from nas_attn.training.numerics import cores_for, intra_op_threads

SHAPE = (3, 16, 16)
SCRATCH = Situation("classification", "backbone", "scratch", "random", "")
COMMANDS = AdvisedCommands(recipe="nas-attn init study.toml", search=None)
BRIEF = LatencySection(session_seconds=0.05, tolerance=0.9)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return backbones.build(backbone_section("resnet8", width=8), input_shape=SHAPE, classes=10)


@pytest.fixture(scope="module")
def surveyed(network: nn.Module) -> Survey:
    return survey(network, SHAPE)


@pytest.fixture(scope="module")
def advised(network: nn.Module) -> Advice:
    """Of a small network from scratch."""
    return advise(network, question(SCRATCH), until=time.monotonic() + 60)


def question(setting: Situation, section: LatencySection = BRIEF) -> Question:
    return Question("resnet8", SHAPE, setting, section)


def test_modules_of_which_there_are_rows_come_first(surveyed: Survey) -> None:
    sites = large_sites(surveyed.sites)
    assert [site.name for site in sites] == ["stage1", "stage2", "stage3"]
    found = shortlist(pooled(), sites, SCRATCH, searched_modules("classification"))
    assert len({one.situation.module for one in found}) == MODULES_LOOKED_AT
    of_task = {
        module
        for one in pooled().fitted
        if one.setting.task == "classification"
        for module in one.modules
    }
    known = [one.situation.module in of_task for one in found]
    assert known == sorted(known, reverse=True)
    gains = [one.predicted for one in found if one.gain is not None]
    assert gains == sorted(gains, reverse=True)
    assert {"se", "eca", "cbam"} <= {one.situation.module for one in found}


def test_where_no_row_is_like_it_no_gain_is_given(surveyed: Survey) -> None:
    """No detector was trained from scratch with and without attention."""
    scratch = replace(SCRATCH, task="detection")
    sites = large_sites(surveyed.sites)
    found = shortlist(pooled(), sites, scratch, searched_modules("detection"))
    assert {one.gain for one in found} == {None}
    others = other_settings(pooled(), scratch)
    assert {(one.situation.start, one.situation.form) for one in others} == {
        ("pretrained", "random"),
        ("pretrained", "identity"),
    }


@pytest.mark.parametrize(
    "setting",
    [
        replace(SCRATCH, task=task, start=start, form=form)
        for task in ("classification", "detection", "segmentation")
        for start in ("scratch", "pretrained")
        for form in ("identity", "random")
    ],
    ids=lambda setting: f"{setting.task}-{setting.start}-{setting.form}",
)
def test_a_module_has_a_gain_only_where_rows_have_it(surveyed: Survey, setting: Situation) -> None:
    sites = large_sites(surveyed.sites)
    chosen = shortlist(pooled(), sites, setting, advised_modules(pooled(), setting))
    rows = {fitted.setting: fitted.modules for fitted in pooled().fitted}
    for one in chosen:
        own = rows.get(one.situation.setting, {}).get(one.situation.module)
        assert (one.gain is None) == (own is None)
        if one.gain is not None and own is not None:
            assert one.gain.own_module == own.rows
            assert one.gain.own_sources == own.sources
    known = [one.gain is not None for one in chosen]
    assert known == sorted(known, reverse=True), "what is known comes first"


def test_what_is_said_of_modules_without_rows(network: nn.Module) -> None:
    """Detectors have rows of GC as the identity, and of no module that is usually searched."""
    setting = Situation("detection", "backbone", "pretrained", "identity", "")
    advice = advise(network, question(setting), until=time.monotonic() + 60)
    assert advice.gain is not None
    power = search_power("detection", "resnet8", image_s=1e-4, images=1000, pretrained=True)
    told = advice_as_json(advice, power, COMMANDS)
    by_module = {entry["placement"].split("=")[-1]: entry for entry in told["latency"]}
    assert by_module["gc"]["gain"]["pairs"] == by_module["gc"]["pairs_of_module"] == 30
    assert by_module["gc"]["sources"]
    without = [entry for module, entry in by_module.items() if module != "gc"]
    assert without
    for entry in without:
        assert (entry["gain"], entry["probability"], entry["sources"]) == (None, None, [])
    assert told["gain"]["modules"][0] == "gc"
    shown = {row.placement.split("=")[-1]: row.cells for row in rows(advice)}
    named = [line.text for line in after_table(advice, power, COMMANDS) if line.label == "unknown"]
    for module in by_module.keys() - {"gc"}:
        assert shown[module][2:] == (NO_VALUE, NO_VALUE, NO_VALUE, "0", "0")
        assert all(module in text for text in named)
    assert len(named) == 1


def test_the_advice_has_latencies_gains_and_sources(advised: Advice) -> None:
    assert len(advised.measured) >= 4
    for one in advised.measured:
        assert one.latency.low < one.latency.ratio < one.latency.high
    assert advised.gain is not None
    assert len(advised.gain.sources) == 5
    power = search_power("classification", "resnet8", image_s=1e-4, images=1000, pretrained=False)
    told = advice_as_json(advised, power, COMMANDS)
    assert {"latency", "gain", "probability", "sources"} <= told.keys()
    assert told["gain"]["mean"] == advised.gain.mean
    assert len(told["latency"]) == len(advised.measured) == len(rows(advised))
    assert any("45 pairs" in line.text for line in before_table(advised))
    assert any(
        "nas-attn init study.toml" in line.text for line in after_table(advised, power, COMMANDS)
    )


def test_the_fastest_of_the_most_likely_is_tried_first(advised: Advice) -> None:
    likely = advised.most_likely
    assert likely is not None
    ratios: dict[str, list[float]] = {}
    for one in advised.measured:
        if one.candidate.gain is not None:
            percent = f"{one.candidate.gain.probability:.2f}"
            ratios.setdefault(percent, []).append(one.latency.ratio)
    assert likely.latency.ratio == min(ratios[max(ratios)])
    unknown = replace(
        advised,
        measured=tuple(
            replace(one, candidate=replace(one.candidate, gain=None)) for one in advised.measured
        ),
    )
    assert unknown.most_likely is None


# another whole advice; the next test has a segmenter
@pytest.mark.slow
def test_segmentation_is_not_known_and_its_latencies_are_measured(network: nn.Module) -> None:
    setting = replace(SCRATCH, task="segmentation")
    advice = advise(network, question(setting), until=time.monotonic() + 60)
    assert not advice.known
    assert advice.gain is None
    assert advice.others == ()
    assert advice.measured
    assert any("nothing known" in line.text for line in before_table(advice))
    (seen,) = advice.seen
    assert seen.setting.place == "head"
    power = search_power("segmentation", "resnet8", image_s=1e-4, images=1000, pretrained=False)
    told = advice_as_json(advice, power, COMMANDS)
    assert told["gain"] is None
    assert [one["pairs"] for one in told["seen"]] == [seen.rows.rows]


def test_the_places_and_modules_of_a_single_source_are_looked_at_first() -> None:
    """All published segmenters have their attention in the head."""
    shape = (3, 64, 64)
    name = "torchvision:lraspp_mobilenet_v3_large"
    segmenter = backbones.build(backbone_section(name), input_shape=shape, classes=21)
    setting = Situation("segmentation", "backbone", "pretrained", "identity", "")
    advice = advise(segmenter, Question(name, shape, setting, BRIEF), until=time.monotonic() + 1)
    assert "head1" in {site.name for site in advice.sites}
    assert advice.gain is None
    measured = [placement.candidate for placement in advice.measured]
    looked_at = {*measured, *advice.unmeasured, *advice.too_slow}
    placements = {str(candidate.placement) for candidate in looked_at}
    assert "head1=gc" in placements
    assert {candidate.gain for candidate in looked_at} == {None}


def test_it_stops_in_time_even_with_a_slow_network() -> None:
    class Slow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, 2))

        def forward(self, x: Tensor) -> Tensor:
            time.sleep(0.3)
            return self.layers(x)

    # fitted once in a process
    pooled()
    began = time.monotonic()
    advice = advise(Slow(), question(SCRATCH), until=began + 2)
    assert time.monotonic() - began < 12, "the survey and the first passes take some time, too"
    assert advice.measured == ()
    assert advice.unmeasured


def test_a_network_that_is_far_slower_holds_up_no_session(
    network: nn.Module, surveyed: Survey
) -> None:
    sites = large_sites(surveyed.sites)
    slow, *others = shortlist(pooled(), sites, SCRATCH, ["mhsa", "eca"])
    dear = [one for one in (slow, *others) if "mhsa" in str(one.placement)]
    cheap = [one for one in (slow, *others) if "eca" in str(one.placement)]
    section = BRIEF.model_copy(update={"batch_size": 64})
    costs = CostMeasurement(network, surveyed.sites, question(SCRATCH, section))
    costs.measure([*dear, *cheap], time.monotonic() + 60)
    assert dear[0] in costs.too_slow
    assert {one.candidate for one in costs.found(cheap)} == set(cheap)


def test_what_grows_with_the_square_of_the_pixels_is_not_tried_on_whole_images(
    network: nn.Module, surveyed: Survey
) -> None:
    bare = _parameters(network)
    tried: list[tuple[int, bool]] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        tried.append((inputs[0].shape[-1], _parameters(module) > bare))

    sites = large_sites(surveyed.sites)
    dear = [
        one
        for one in shortlist(pooled(), sites, SCRATCH, ["mhsa"])
        if str(one.placement).startswith("stage1")
    ]
    handle = network.register_forward_pre_hook(note)
    costs = CostMeasurement(
        network, surveyed.sites, replace(question(SCRATCH), input_shape=(3, 128, 128))
    )
    costs.measure(dear, time.monotonic() + 20)
    handle.remove()
    assert costs.too_slow == dear
    assert max(side for side, attention in tried if not attention) == 128
    assert 0 < max(side for side, attention in tried if attention) < 128


def test_time_that_other_programs_take_makes_no_module_too_slow(
    network: nn.Module, surveyed: Survey
) -> None:
    bare = _parameters(network)

    def wait(module: nn.Module, _inputs: tuple[Tensor, ...]) -> None:
        if _parameters(module) > bare:
            time.sleep(0.05)

    sites = large_sites(surveyed.sites)
    (candidate, *_) = shortlist(pooled(), sites, SCRATCH, ["eca"])
    handle = network.register_forward_pre_hook(wait)
    costs = CostMeasurement(network, surveyed.sites, question(SCRATCH))
    costs.measure([candidate], time.monotonic() + 20)
    handle.remove()
    assert costs.too_slow == []


# each is an advice of its own, told alike
@pytest.mark.parametrize(
    "deployed",
    [pytest.param(False, marks=pytest.mark.slow), True],
    ids=["first-look", "session"],
)
def test_a_placement_that_does_not_run_is_told_with_the_reason(
    network: nn.Module, deployed: bool
) -> None:
    """Sessions time networks without BatchNorm, which the first look does not."""

    def refuse(module: nn.Module, _inputs: tuple[Tensor, ...]) -> None:
        parts = list(module.modules())
        folded = not any(isinstance(part, nn.BatchNorm2d) for part in parts)
        if folded == deployed and any(isinstance(part, SqueezeExcitation) for part in parts):
            raise RuntimeError("this runtime has no squeezing")

    handle = network.register_forward_pre_hook(refuse)
    advice = advise(network, question(SCRATCH), until=time.monotonic() + 60)
    handle.remove()
    refused = {str(one.candidate.placement) for one in advice.refused}
    assert refused == {"stage1=se stage2=se stage3=se", "stage3=se"}
    assert advice.measured
    assert advice.unmeasured == ()
    power = search_power("classification", "resnet8", image_s=1e-4, images=1000, pretrained=False)
    told = advice_as_json(advice, power, COMMANDS)
    assert {entry["placement"] for entry in told["refused"]} == refused
    assert all("no squeezing" in entry["reason"] for entry in told["refused"])
    (line,) = [
        line.text for line in after_table(advice, power, COMMANDS) if line.label == "refused"
    ]
    assert "no squeezing" in line
    assert all(placement in line for placement in refused)
    assert not any("no time" in line.text for line in after_table(advice, power, COMMANDS))


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_timing_a_training_step_changes_nothing(network: nn.Module) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert 0 < training_image_s(network, SHAPE, 16) < 1
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_training_step_is_timed_in_the_training_s_batch() -> None:
    """In a batch of two, a small network's step takes ten times as long for each image."""
    shape = (3, 8, 8)
    small = backbones.build(backbone_section("resnet20"), input_shape=shape, classes=10)
    batch = torch.rand(64, *shape)
    steps_s: list[float] = []
    with intra_op_threads(1):
        for _ in range(4):
            began = time.thread_time()
            small.train()(batch).sum().backward()
            steps_s.append(time.thread_time() - began)
    image_s = min(steps_s) / len(batch)
    told_s = training_image_s(small, shape, len(batch)) * cores_for()
    assert image_s / 2 < told_s < 2 * image_s


def test_a_batch_that_does_not_fit_leaves_the_smaller_one_s_time() -> None:
    class Cramped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 8, 3)

        def forward(self, x: Tensor) -> Tensor:
            if len(x) > 8:
                raise torch.OutOfMemoryError("no memory for so many images")
            assert self.training, "a forward pass is timed only where no step can be"
            return self.layer(x)

    assert training_image_s(Cramped(), SHAPE, 64) > 0


def test_a_slow_step_is_timed_in_no_large_batch() -> None:
    batches: list[int] = []

    class Slow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 8, 3)

        def forward(self, x: Tensor) -> Tensor:
            batches.append(len(x))
            time.sleep(0.3 * len(x))
            return self.layer(x)

    training_image_s(Slow(), SHAPE, 64)
    assert max(batches) == 2


def test_more_images_show_smaller_gains_and_slow_networks_need_more_time() -> None:
    few = search_power("classification", "resnet8", image_s=1e-4, images=500, pretrained=False)
    many = search_power("classification", "resnet8", image_s=1e-4, images=5000, pretrained=False)
    assert few.smallest_gain is not None
    assert many.smallest_gain is not None
    assert few.smallest_gain > many.smallest_gain > 0
    slow = search_power("classification", "resnet8", image_s=1.0, images=5000, pretrained=False)
    assert slow.smallest_gain is None
    assert slow.candidates == 0
    assert slow.enough_s is not None
    assert slow.enough_s > slow.seconds
    speed = Speed(slow.epoch_s, workers=1, session_s=OF_A_CANDIDATE_S)
    assert slow.enough_s == pytest.approx(found_length_s(speed, slow.epochs, slow.epochs))
    boxes = search_power(
        "detection", "torchvision:fcos_resnet50_fpn", image_s=1e-5, images=None, pretrained=True
    )
    assert boxes.smallest_gain is None, "the noise of mAP is not known"
    assert boxes.images_assumed


def test_from_random_weights_the_usual_length_is_often_too_short() -> None:
    """Of many images: of few, the usual length is as long as is needed."""
    power = functools.partial(search_power, "classification", "torchvision:resnet18")
    many = power(image_s=5e-4, images=4000, pretrained=False)
    assert many.longer is not None
    assert many.longer.epochs > many.epochs
    assert many.longer.seconds > many.seconds
    assert power(image_s=5e-4, images=4000, pretrained=True).longer is None
    assert power(image_s=5e-4, images=400, pretrained=False).longer is None
    fast = power(image_s=1e-6, images=4000, pretrained=False)
    assert fast.longer is None, "it fits into the time, too"
