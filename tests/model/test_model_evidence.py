"""What may be said of placements from their runs."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import runs_made as made

from nas_attn.model import TARGET_RUNG, WITNESS, Beforehand, Evidence, ScoredRun, fit
from nas_attn.model.coding import Floats
from nas_attn.model.hypotheses import Draws
from nas_attn.model.new_images import noise_floor
from nas_attn.model.variances import Algebra, forget
from nas_attn.space.notation import parse
from nas_attn.space.placement import BARE, Placement


@pytest.mark.parametrize(("harm", "most"), [(0.0, 5), (0.02, 12)])
def test_where_none_is_better_nothing_is_almost_surely_better(harm: float, most: int) -> None:
    rng, sure, taken = np.random.default_rng(2), 0, 0
    for _ in range(20):
        texts = made.placements(20, rng)
        effects = {key: -harm * (i % 3 == 1) for i, key in enumerate(texts)}
        runs = made.runs(effects, rng, noise=0.004, seeds=1)
        runs += made.runs(dict(list(effects.items())[:4]), rng, noise=0.004, seeds=4, first_seed=1)
        best = max(
            gain.probability for gain in fit(runs, texts, metric="score").gains("k000").values()
        )
        sure, taken = sure + (best > 0.95), taken + (best > 0.7)
    assert sure <= most // 4
    assert taken <= most


def some_study(
    seed: int = 3, rungs: int = 1
) -> tuple[dict[str, Placement], dict[str, float], list[ScoredRun]]:
    rng = np.random.default_rng(seed)
    texts = made.placements(14, rng)
    effects = made.additive(texts, rng, 0.01)
    runs = made.runs(effects, rng, noise=0.006, level=0.01)
    runs += made.runs(
        dict(list(effects.items())[:4]), rng, noise=0.006, level=0.01, seeds=3, first_seed=1
    )
    for rung in range(1, rungs):
        runs += made.runs(dict(list(effects.items())[:6]), rng, noise=0.006, seeds=2, rung=rung)
    return texts, effects, runs


@pytest.mark.parametrize("rungs", [1, 2])
def test_a_seed_that_moves_all_placements_alike_changes_no_comparison(rungs: int) -> None:
    means = []
    probabilities = []
    # of several studies, as one sampling of the variances may be off by more
    for study in range(3, 8):
        texts, _, runs = some_study(study, rungs)
        shifted = [
            dataclasses.replace(run, value=run.value + 0.05 * (run.seed == 1)) for run in runs
        ]
        before = fit(runs, texts, metric="score").gains("k001")
        after = fit(shifted, texts, metric="score").gains("k001")
        del before["k001"]
        means.append([(after[key].mean - gain.mean) / gain.sd for key, gain in before.items()])
        probabilities.append(
            [after[key].probability - gain.probability for key, gain in before.items()]
        )
    assert np.abs(np.mean(means, axis=0)).max() < 0.3
    assert np.abs(np.mean(probabilities, axis=0)).max() < 0.15


def test_what_another_arithmetic_moves_changes_no_comparison() -> None:
    """Each placement has runs in both, by chance; bfloat16 costs 2 points here."""
    rng = np.random.default_rng(5)
    texts = made.placements(10, rng)
    effects = made.additive(texts, rng, 0.01)
    runs = made.runs(effects, rng, noise=0.003, seeds=4)
    low = [
        dataclasses.replace(run, value=run.value - 0.02, arithmetic="bfloat16")
        if number % 3 == 0
        else dataclasses.replace(run, arithmetic="float32")
        for number, run in enumerate(runs)
    ]
    unmarked = [dataclasses.replace(run, arithmetic="") for run in low]

    def error(some: list[ScoredRun]) -> float:
        gains = fit(some, texts, metric="score").gains("k000")
        return max(abs(gain.mean - effects[key] + effects["k000"]) for key, gain in gains.items())

    assert error(low) < 1.5 * error(runs)
    assert error(unmarked) > 2 * error(runs), "as one block, the precision is taken for a gain"


def test_a_metric_in_another_unit_and_direction_says_the_same() -> None:
    texts, _, runs = some_study()
    other = [dataclasses.replace(run, value=4.0 - 100 * run.value) for run in runs]
    one, turned = (
        fit(runs, texts, metric="score"),
        fit(other, texts, metric="error", lower_is_better=True),
    )
    assert turned.noise.paired_sd == pytest.approx(100 * one.noise.paired_sd)
    for key in texts:
        a, b = one.gain(key, "k000"), turned.gain(key, "k000")
        assert (b.probability, b.worse) == pytest.approx((a.probability, a.worse), abs=1e-6)
        assert (b.mean, b.low, b.high) == pytest.approx(
            (100 * a.mean, 100 * a.low, 100 * a.high), abs=1e-6
        )
        assert turned.estimates[key].mean == pytest.approx(4.0 - 100 * one.estimates[key].mean)
        assert turned.estimates[key].low == pytest.approx(
            4.0 - 100 * one.estimates[key].high, abs=1e-6
        )


def test_the_order_of_the_evidence_does_not_matter() -> None:
    texts, _, runs = some_study()
    backwards = dict(reversed(texts.items()))
    one, other = fit(runs, texts, metric="score"), fit(runs[::-1], backwards, metric="score")
    assert one.gains("k000") == other.gains("k000")
    assert one.estimates == other.estimates


def test_more_runs_make_intervals_narrower_and_pull_less_towards_the_others() -> None:
    rng, widths, errors = np.random.default_rng(4), np.zeros((2, 3)), np.zeros(3)
    for _ in range(4):
        texts = made.placements(10, rng)
        effects = {key: 0.01 * float(rng.standard_normal()) for key in texts}
        runs = made.runs(effects, rng, noise=0.01, seeds=8)
        for i, seeds in enumerate((1, 3, 8)):
            model = fit([run for run in runs if run.seed < seeds], texts, metric="score")
            gain = model.gains("k000")["k007"]
            widths[:, i] += (
                gain.high - gain.low,
                model.estimates["k007"].high - model.estimates["k007"].low,
            )
            errors[i] += abs(gain.mean - effects["k007"] + effects["k000"])
    assert widths[0, 0] > widths[0, 1] > widths[0, 2]
    assert widths[1, 0] > widths[1, 1] > widths[1, 2]
    assert errors[0] > errors[2]


def test_a_gain_repeated_in_hundreds_of_rounds_is_believed() -> None:
    rng = np.random.default_rng(2)
    texts = {"k00": BARE} | {
        f"k{i:02}": parse(f"stage{i % 3}=se(reduction={i // 3 + 2})") for i in range(1, 450)
    }
    pairs = [(key, seed) for seed in range(3, 400) for key in ("k00", "k01")]
    runs = [
        ScoredRun(key, s, 0, 0.48 + 0.008 * (key == "k01") + rng.normal(0, 0.01))
        for key, s in pairs
    ]
    runs += [ScoredRun(key, i % 3, 0, 0.48 + rng.normal(0, 0.01)) for i, key in enumerate(texts)]
    assert fit(runs, texts, metric="accuracy").gain("k01", "k00").probability > 0.95


def test_untried_placements_are_valued_by_what_their_parts_did_elsewhere() -> None:
    rng = np.random.default_rng(5)
    texts = made.placements(70, rng)
    effects = made.additive(texts, rng, 0.02)
    tried, untried = dict(list(effects.items())[:45]), list(effects)[45:]
    runs = made.runs(tried, rng, noise=0.004, seeds=2)
    model = fit(runs, texts, metric="score")
    assert (
        np.corrcoef([effects[k] for k in untried], [model.estimates[k].mean for k in untried])[0, 1]
        > 0.8
    )
    wide = [model.gains("k000")[k].sd for k in untried]
    narrow = [model.gains("k000")[k].sd for k in tried if k != "k000"]
    assert np.mean(wide) > 1.2 * np.mean(narrow)
    assert model.estimates[untried[0]].seeds == 0
    predicted = fit(runs, {key: texts[key] for key in tried}, metric="score").about(texts).estimates
    assert predicted.keys() == set(texts)
    assert (
        np.corrcoef([effects[k] for k in untried], [predicted[k].mean for k in untried])[0, 1] > 0.8
    )


def rungs_study(
    rng: np.random.Generator, *, same: bool, luck: float
) -> tuple[dict[str, Placement], dict[str, float], list[ScoredRun]]:
    """All at the first rung, the best third of them at the second; `luck`: share of a run's luck
    that it keeps.
    """
    texts = made.placements(45, rng)
    effects = made.additive(texts, rng, 0.012) if same else dict.fromkeys(texts, 0.0)
    first = {key: effects[key] + 0.006 * float(rng.standard_normal()) for key in texts}
    best = sorted(texts, key=lambda key: -first[key])[:15]
    runs = [ScoredRun(key, 0, 0, 0.5 + first[key]) for key in texts]
    for key in ["k000", *best]:
        own = luck * (first[key] - effects[key]) + 0.006 * np.sqrt(1 - luck**2) * float(
            rng.standard_normal()
        )
        runs.append(ScoredRun(key, 0, 1, 0.6 + effects[key] + own))
    return texts, effects, runs


def test_what_a_rung_below_is_worth_is_learned() -> None:
    """Where it ranks as the last one does, pruned placements are valued by it; where it is luck,
    nobody gains by it.
    """
    rng = np.random.default_rng(6)
    texts, effects, runs = rungs_study(rng, same=True, luck=0.3)
    model = fit(runs, texts, metric="score")
    pruned = [key for key in texts if not model.estimates[key].seeds]
    assert len(pruned) >= 25
    assert (
        np.corrcoef([effects[k] for k in pruned], [model.estimates[k].mean for k in pruned])[0, 1]
        > 0.7
    )
    assert model.noise.correlation > 0.5
    sure, rng = 0, np.random.default_rng(77)
    for _ in range(8):
        texts, _, runs = rungs_study(rng, same=False, luck=0.9)
        gains = fit(runs, texts, metric="score").gains("k000")
        sure += max(gain.probability for gain in gains.values()) > 0.95
    assert sure <= 1


def test_a_gain_on_one_backbone_is_no_gain_on_the_next() -> None:
    rng = np.random.default_rng(7)
    texts = made.placements(12, rng)
    nothing, runs = dict.fromkeys(texts, 0.0), []
    for backbone in range(3):
        effects = nothing | {"k007": 0.03 * (backbone == 1)}
        runs += made.runs(
            effects, rng, noise=0.003, seeds=3, backbone=backbone, first_seed=10 * backbone
        )
    several = fit(runs, texts, metric="score")
    alone = fit([run for run in runs if run.backbone == 1], texts, metric="score")
    assert alone.gain("k007", "k000").probability > 0.99
    assert several.gain("k007", "k000").probability < 0.97
    assert (several.backbones, alone.backbones) == (3, 1)


def test_a_network_that_does_not_train_does_not_hide_the_differences_of_the_others() -> None:
    rng = np.random.default_rng(8)
    texts = made.placements(20, rng)
    effects = made.additive(texts, rng, 0.01)
    sound = made.runs(effects, np.random.default_rng(9), noise=0.003, seeds=3)
    broken = [dataclasses.replace(run, value=0.1) if run.key == "k013" else run for run in sound]
    one, other = fit(sound, texts, metric="score"), fit(broken, texts, metric="score")
    assert other.noise.between_sd < 2 * one.noise.between_sd
    assert other.estimates["k013"].mean == pytest.approx(0.1, abs=0.02)
    assert other.gain("k013", "k000").probability < 0.001
    assert 1 >= other.gain("k013", "k000").worse > 0.999


def test_images_are_a_floor_of_the_noise() -> None:
    rng = np.random.default_rng(10)
    texts = made.placements(8, rng)
    runs = made.with_images(made.additive(texts, rng, 0.01), rng, seeds=3)
    model, floor = fit(runs, texts, metric="accuracy"), noise_floor(runs)
    assert floor == pytest.approx(np.sqrt(2 * 0.04 * 0.96 / 2000 / 2), rel=0.25)
    assert model.noise.paired_sd > 0.85 * floor


def test_accuracies_of_few_images_that_repeat_exactly_are_not_exact() -> None:
    texts = made.placements(6, np.random.default_rng(12))
    for scored in ({"k000": 21, "k001": 22}, dict.fromkeys(["k000", "k001"], 21)):
        runs = [
            ScoredRun(key, seed, 0, right / 29, examples=29)
            for key, right in scored.items()
            for seed in range(3)
        ]
        model = fit(runs, texts, metric="accuracy")
        assert model.noise.paired_sd > 0.5 / 29
        assert 0.05 < model.gain("k001", "k000").probability < 0.95


def test_the_noise_is_found_again_and_it_is_said_how() -> None:
    rng = np.random.default_rng(11)
    texts = made.placements(30, rng)
    effects = {key: 0.02 * float(rng.standard_normal()) for key in texts}
    runs = made.runs(effects, rng, noise=0.01, level=0.03, seeds=6)
    noise = fit(runs, texts, metric="score").noise
    assert noise.paired_sd == pytest.approx(0.01, rel=0.15)
    assert noise.between_sd == pytest.approx(0.02, rel=0.35)
    assert 0.015 < noise.seed_sd < 0.08
    assert (noise.source, noise.repeated, noise.runs) == ("seeds", 30, 180)
    assert noise.reliability(3) > noise.reliability(1) > 0.5
    once = fit([run for run in runs if run.seed == 0], texts, metric="score").noise
    assert (once.source, once.repeated) == ("assumed", 0)


def one_metric(values: dict[str, float], **more: Any) -> Evidence | None:
    runs = [ScoredRun(key, 0, 0, value) for key, value in values.items()]
    return fit(
        runs,
        {"a": BARE, "b": parse("stage1=se"), "c": parse("stage2=se")},
        metric="accuracy",
        **more,
    )


def test_where_nothing_can_be_said_it_is_said() -> None:
    assert fit([], {"a": BARE}, metric="accuracy") is None
    assert one_metric({"a": float("nan")}) is None
    assert one_metric({"a": 0.7}, rung=1) is None
    single = one_metric({"a": 0.7})
    assert single.estimates["a"].mean == pytest.approx(0.7)
    assert single.gain("b", "a") is None
    assert (single.noise.source, single.noise.paired_sd, single.noise.reliability()) == (
        "none",
        None,
        None,
    )
    equal = one_metric({"a": 0.7, "b": 0.7, "c": 0.7})
    assert equal.gain("b", "a").mean == pytest.approx(0.0, abs=1e-6)
    assert equal.gain("b", "a").probability <= 0.5
    assert equal.gain("b", "stranger") is None


def test_seeds_that_no_two_placements_share_are_compared_all_the_same() -> None:
    rng = np.random.default_rng(13)
    texts = made.placements(10, rng)
    effects = {key: 0.03 * float(rng.standard_normal()) for key in texts}
    shared = made.runs(effects, rng, noise=0.01, seeds=3)
    runs = [dataclasses.replace(run, seed=100 * int(run.key[1:]) + run.seed) for run in shared]
    model = fit(runs, texts, metric="score")
    assert np.corrcoef(list(effects.values()), [model.estimates[k].mean for k in texts])[0, 1] > 0.9
    assert model.noise.paired_sd == pytest.approx(0.01, rel=0.4)


def test_a_module_that_fails_on_some_backbones_hides_nobody_elses_gain() -> None:
    """Cued digits' runs lie at two values, far apart: attention that sees the cue, and networks
    that do not.
    """
    se, eca, ela = (
        " ".join(f"stage{i}={name}" for i in (1, 2, 3)) for name in ("se", "eca", "ela")
    )
    both = "stage1=eca stage2=se"
    values = {
        "none": {0: 0.515, 1: 0.53, 2: 0.53, 3: 0.521, 4: 0.523, 5: 0.522, 6: 0.52},
        se: {1: 0.906, 3: 0.934, 4: 0.938, 5: 0.527, 6: 0.509},
        eca: {2: 0.942, 0: 0.917, 1: 0.93},
        ela: {0: 0.937},
        "stage2=eca": {2: 0.537, 0: 0.936, 1: 0.901},
        both: {1: 0.923, 0: 0.926, 3: 0.937, 4: 0.935, 5: 0.925, 6: 0.917},
        "stage1=eca stage2=ela": {
            2: 0.945,
            0: 0.932,
            1: 0.937,
            3: 0.928,
            4: 0.935,
            5: 0.936,
            6: 0.719,
        },
    }
    texts = {key: parse(key) for key in values}
    runs = [
        ScoredRun(
            key, backbone, rung, value if rung else 0.5 + 0.3 * (value - 0.5), backbone, None, 2000
        )
        for key, found in values.items()
        for backbone, value in found.items()
        for rung in (0, 1)
    ]
    model = fit(runs, texts, metric="accuracy", rung=1)
    assert model.gain(both, "none").probability > 0.98
    assert model.gain(both, "none").mean == pytest.approx(0.4, abs=0.1)
    assert model.gain(se, "none").mean > 0.1
    assert model.estimates["none"].mean == pytest.approx(0.52, abs=0.06)


def test_a_bare_backbone_that_does_not_train_hides_no_gain_and_no_accuracy_exceeds_100_percent() -> (
    None
):
    rng = np.random.default_rng(4)
    texts = made.placements(20, rng)
    effects = {key: 0.25 - 0.35 * (key == "k000") for key in texts}
    runs = [
        ScoredRun(run.key, run.seed, 0, min(run.value, 1.0))
        for run in made.runs(effects, rng, noise=0.03)
    ]
    model = fit(runs, texts, metric="accuracy")
    gains = list(model.gains("k000").values())[1:]
    assert np.mean([gain.mean for gain in gains]) == pytest.approx(0.35, abs=0.05)
    assert all(gain.low < gain.mean - 0.03 and gain.mean + 0.03 < gain.high for gain in gains)
    assert all(0 <= estimate.low <= estimate.high <= 1 for estimate in model.estimates.values())
    runs += [
        ScoredRun(f"k{i:03}", seed, TARGET_RUNG, value)
        for i, value in enumerate((0.5, 0.95, 0.6))
        for seed in (0, 1)
    ]
    model = fit(runs, texts, metric="accuracy")
    bare = model.estimates["k000"]
    gains = list(model.gains("k000").values())
    assert all(-bare.high <= gain.low <= gain.high <= 1 - bare.low for gain in gains), (
        "a gain that cannot be"
    )


def test_draws_have_the_moments_that_are_stated() -> None:
    texts, _, runs = some_study(rungs=2)
    model = fit(runs, texts, metric="score")
    drawn = model.draw(np.random.default_rng(0), 4000)
    over = list(model.keys).index("k001")
    for i, key in enumerate(model.keys):
        if key == "k001":
            continue
        gain, differences = model.gain(key, "k001"), drawn[:, i] - drawn[:, over]
        assert differences.mean() == pytest.approx(gain.mean, abs=0.1 * gain.sd)
        assert differences.std() == pytest.approx(gain.sd, rel=0.15)


def covariance_at(algebra: Algebra, draws: Draws, i: int) -> Floats:
    """(runs, runs) at one draw: the algebra fills what a root reads."""
    lower = np.tril(algebra.covariances(draws.some(slice(i, i + 1)))[0])
    return lower + np.tril(lower, -1).T


def test_every_node_is_what_plain_algebra_says() -> None:
    """The mean and variance of a difference by the textbook's formula for jointly normal variables,
    the means' prior flat.
    """
    texts, _, runs = some_study(rungs=2)
    model = fit(runs, texts, metric="score")
    means, variances, before = model._effects.marginals(over=model._index["k001"])
    solution, data = model._solution, model._solution.data
    draws = solution.nodes.draws
    for i in range(0, len(solution.nodes.weight), 7):
        square = solution.nodes.noise[i] ** 2
        shape, top = solution.nodes.shapes[draws.shape[i]], draws.spread[i, -1]
        flat = 1e7 * (data.rung[:, None] == data.rung)
        covariance = square * covariance_at(solution.algebra, draws, i) + flat * square
        kernel = data.coding.kernel(shape, data.codes, data.codes) + shape.own * np.eye(
            len(data.codes)
        )
        toward = (
            kernel[:, data.place]
            * top
            * draws.spread[i, data.rung]
            * draws.rho[i, 1, data.rung]
            * square
        )
        differences = toward - toward[model._index["k001"]]
        prior = top**2 * square * (np.diag(kernel) + kernel[1, 1] - 2 * kernel[1])
        expected = differences @ np.linalg.solve(covariance, data.value)
        variance = prior - np.einsum(
            "tn,nt->t", differences, np.linalg.solve(covariance, differences.T)
        )
        assert means[i] == pytest.approx(expected, abs=1e-5)
        assert variances[i] == pytest.approx(variance, abs=1e-4 * prior.max() + 1e-12)
        assert before[i] == pytest.approx(prior, abs=1e-12)


@pytest.mark.parametrize("at_once", [1, 10**9])
def test_a_likelihood_is_what_plain_algebra_says(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    texts, _, runs = some_study(rungs=2)
    solution = fit(runs, texts, metric="score")._solution
    algebra = solution.algebra
    eta = solution.nodes.draws.eta.copy()
    # no correlation
    eta[3, 0, 1] = eta[3, 1, 0] = 50.0
    draws = dataclasses.replace(solution.nodes.draws, eta=eta)
    monkeypatch.setattr("nas_attn.model.variances.AT_ONCE", at_once)
    sizes, squares = algebra.sums(draws)
    assert sizes[3] == np.inf
    for i in (0, 2, 4, len(sizes) - 1):
        inverse = np.linalg.inv(covariance_at(algebra, draws, i))
        both = np.column_stack((algebra.data.value, algebra.means))
        square = both.T @ inverse @ both
        assert squares[i] == pytest.approx(1 / np.linalg.inv(square)[0, 0], rel=1e-6)
        logs = np.linalg.slogdet(square[1:, 1:])[1] - np.linalg.slogdet(inverse)[1]
        assert sizes[i] == pytest.approx(logs / 2, abs=1e-5)


@pytest.mark.parametrize(
    ("metric", "jitter", "exact"),
    [("size", 0.0, True), ("size", 1.0, False), ("accuracy", 0.0, False)],
)
def test_what_comes_out_the_same_each_time_is_taken_as_it_is(
    metric: str, jitter: float, exact: bool
) -> None:
    """A share of images may come out the same by chance; the size of a network does because it is
    the same.
    """
    texts = made.placements(12, np.random.default_rng(3))
    values = {
        key: (0.4 if metric == "accuracy" else 6000.0) + 0.01 * i for i, key in enumerate(texts)
    }
    runs = [ScoredRun(key, 0, 0, value) for key, value in values.items()]
    runs += [
        ScoredRun(key, seed, 0, values[key] + jitter * seed)
        for key in list(texts)[:2]
        for seed in (1, 2)
    ]
    found = (model := fit(runs, texts, metric=metric, lower_is_better=metric == "size")).estimates
    assert {found[key].sd == 0.0 for key in values} == {exact}
    if exact:
        assert [found[key].mean for key in values] == list(values.values()), "to the last bit"
        assert (model.gain("k003", "k003").probability, model.gain("k003", "k003").worse) == (
            0.0,
            0.0,
        )
        assert min(model.gain("k002", "k003").probability, model.gain("k003", "k002").worse) > 0.99


def test_another_backbone_may_differ_much_and_is_never_equal() -> None:
    rng, held, texts = (
        np.random.default_rng(5),
        0,
        {"none": BARE, "other": parse("backbone=resnet8(width=10)")},
    )
    for _ in range(60):
        gain = rng.normal(0.01, 0.02)
        runs = made.runs({"none": 0.0, "other": gain}, rng, noise=0.01, seeds=2)
        found = fit(runs, texts, metric="accuracy", beforehand=Beforehand(unlike=True)).gain(
            "other", "none"
        )
        assert found.probability + found.worse == pytest.approx(1)
        held += found.low <= gain <= found.high
        expected = fit(
            runs, texts, metric="accuracy", beforehand=Beforehand(unlike=True, larger=["other"])
        ).gain("other", "none")
        assert 0 <= expected.probability - found.probability + 1e-9 < 2 * found.probability, (
            "runs decide"
        )
    assert held >= 52


def witnessed(
    rng: np.random.Generator, effects: dict[str, float], confidence: float
) -> tuple[list[ScoredRun], list[ScoredRun]]:
    """Runs with an accuracy, and their second scores, which vary less by chance: they follow the
    effects, and a confidence of each placement's own.
    """
    own = confidence * rng.standard_normal(len(effects))
    accuracies, others = [], []
    for seed in range(3):
        level = 0.02 * rng.standard_normal(2)
        for number, (key, effect) in enumerate(effects.items()):
            luck = rng.standard_normal(2)
            value = 0.6 + effect + level[0] + 0.02 * luck[0]
            other = -0.5 + effect + own[number] + level[1] + 0.003 * (luck[0] + luck[1])
            accuracies.append(ScoredRun(key, seed, 0, value))
            others.append(ScoredRun(key, seed, WITNESS, other))
    return accuracies, others


def test_a_second_witness_is_believed_as_far_as_the_study_shows_it_to_be_right() -> None:
    errors = np.zeros(2)
    taken = np.zeros(2)
    for number in range(12):
        rng = np.random.default_rng(number)
        texts = made.placements(12, rng)
        effects = dict(zip(texts, 0.012 * rng.standard_normal(12), strict=True))
        accuracies, others = witnessed(rng, effects, 0.0)
        for at, runs in enumerate((accuracies, accuracies + others)):
            gains = fit(runs, texts, metric="accuracy").gains("k000")
            errors[at] += sum(abs(g.mean - effects[k] + effects["k000"]) for k, g in gains.items())
        equal = dict.fromkeys(texts, 0.0)
        accuracies, others = witnessed(rng, equal, 0.02)
        for at, runs in enumerate((accuracies, accuracies + others)):
            gains = fit(runs, texts, metric="accuracy").gains("k000")
            taken[at] += max(gain.probability for gain in gains.values()) > 0.7
    assert errors[1] < 0.8 * errors[0]
    assert taken[1] <= taken[0] + 1, "a network that is only more confident is not better"


def test_equal_runs_are_not_solved_twice_and_other_runs_are() -> None:
    texts, _, runs = some_study()
    nodes = fit(runs, texts, metric="score")._solution.nodes
    again = fit([dataclasses.replace(run) for run in runs], dict(texts), metric="score")
    assert again._solution.nodes is nodes
    other = [dataclasses.replace(runs[0], value=runs[0].value + 0.01), *runs[1:]]
    assert fit(other, texts, metric="score")._solution.nodes is not nodes
    forget()
    solved = fit(runs, texts, metric="score")._solution.nodes
    assert solved is not nodes
    assert np.array_equal(solved.noise, nodes.noise)
