"""The posterior's shortcuts against plain Gaussian algebra."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist
from types import SimpleNamespace

import evidence_made as made
import numpy as np
import pytest

from nas_attn.analysis.evidence import fit, fitting
from nas_attn.analysis.evidence.data import Data, Points
from nas_attn.analysis.evidence.kernels import KERNELS, Likeness
from nas_attn.analysis.evidence.normal import cdf, interval
from nas_attn.analysis.evidence.posterior import Posterior
from nas_attn.analysis.evidence.priors import Priors
from nas_attn.analysis.evidence.rung import Lower, Rung, interaction_share
from nas_attn.analysis.evidence.wide import plugged

Array = np.ndarray
FLAT = 1e5
"""Variance of a level that nothing is known about, in units of the noise's."""


def conditioned(prior: Array, cross: Array, data: Array, y: Array, mean: Array) -> tuple[Array, Array]:
    """Mean and covariance of a normal vector of prior covariance `prior` given y, of covariance `data`."""
    gain = np.linalg.solve(data, cross).T
    return gain @ (y - mean), prior - gain @ cross


def same(block: Array) -> Array:
    return (block[:, None] == block).astype(float)


def one_rung(rng: np.random.Generator, backbones: int) -> tuple[Data, Likeness]:
    texts = list(made.placements(9, rng).values())
    placement = np.concatenate([np.arange(8), [0, 3, 5], [0, 3]])
    block = np.array([0] * 8 + [1] * 3 + [2] * 2)
    points = Points.of(placement, block % backbones, 9)
    point = points.find(placement, block % backbones)
    value = 0.02 * rng.standard_normal(len(point)) + 0.1 * block
    return Data(points, point, block, value, np.full(len(point), np.nan)), Likeness(texts[:8], texts[8:])


@pytest.mark.parametrize("backbones", [1, 2])
def test_every_node_is_what_plain_algebra_says_with_levels_that_nothing_is_known_about(backbones: int) -> None:
    data, likeness = one_rung(np.random.default_rng(3), backbones)
    rung = Rung(data, likeness, Priors(None, None, 0.02))
    reference = np.zeros(len(data.points))
    reference[2] = 1.0
    means, variances = Posterior(rung).moments(reference, np.arange(9))
    for node in range(0, len(rung.nodes.weight), 7):
        part = rung.parts[rung.nodes.part[node]]
        if part.kernel is None:
            continue
        everywhere, share = np.arange(len(data.points)), interaction_share(part.tangent)
        prior = data.points.covariance(likeness.matrix(part.kernel), share, everywhere, everywhere)
        prior = rung.nodes.own_size[node] ** 2 * prior
        noise = rung.nodes.noise[node] ** 2
        inner = prior[np.ix_(data.point, data.point)] + noise * (np.eye(len(data.point)) + FLAT * same(data.block))
        mean, covariance = conditioned(prior, prior[data.point], inner, data.value, np.zeros(len(data.value)))
        contrast = np.eye(len(data.points))[:9] - reference
        assert means[node] == pytest.approx(contrast @ mean, abs=2e-6)
        assert variances[node] == pytest.approx(np.diag(contrast @ covariance @ contrast.T), rel=1e-3, abs=1e-9)


def test_sums_of_shared_effects_are_what_plain_algebra_says() -> None:
    rng = np.random.default_rng(9)
    texts = list(made.placements(8, rng).values())
    total = [("stage1=se stage2=eca", 0.5), ("stage1=ela", 0.5), ("none", -1.0)]
    apart = [text for text, _ in total]
    likeness, plain = Likeness(texts, sums=[total]), Likeness(texts, apart)
    block = np.array([0] * 8 + [1] * 3)
    point = np.array([*range(8), 0, 3, 5])
    value = 0.02 * rng.standard_normal(11) + 0.1 * block
    data = Data(Points.of(point, 0 * point, 9), point, block, value, np.full(11, np.nan))
    rung = Rung(data, likeness, Priors(None, None, 0.02))
    means, variances = Posterior(rung).moments(np.zeros(9), np.array([8]))
    checked = 0
    for node in range(0, len(rung.nodes.weight), 7):
        kernel = rung.parts[rung.nodes.part[node]].kernel
        if kernel is None:
            continue
        weights = np.append(np.zeros(8), [weight for _, weight in total])
        shared = plain.matrix(kernel) - kernel.own * np.eye(11)
        size, noise = rung.nodes.own_size[node] ** 2, rung.nodes.noise[node] ** 2
        inner = size * plain.matrix(kernel)[np.ix_(point, point)] + noise * (np.eye(11) + FLAT * same(block))
        toward = size * (shared[point] @ weights)[:, None]
        mean, left = conditioned(size * (weights @ shared @ weights)[None, None], toward, inner, value, np.zeros(11))
        assert means[node] == pytest.approx(mean, abs=2e-6)
        assert variances[node] == pytest.approx(left[0], rel=1e-3, abs=1e-9)
        checked += 1
    assert checked > 20


def log_density(values: Array, covariance: Array) -> float:
    return -0.5 * float(np.linalg.slogdet(covariance)[1] + values @ np.linalg.solve(covariance, values))


def test_the_weight_of_a_node_is_the_density_of_the_contrasts_within_blocks() -> None:
    data, likeness = one_rung(np.random.default_rng(4), 1)
    rung = Rung(data, likeness, Priors(None, None, 0.02))
    contrasts = np.linalg.svd(same(data.block))[2][3:]
    part = next(p for p in rung._parts() if p.kernel is KERNELS[1])
    matrix = likeness.matrix(part.kernel)[np.ix_(data.point, data.point)]
    noises, sizes = np.array([0.01, 0.02]), np.array([0.5, 2.0])
    found = rung.log_likelihood(part, np.zeros(1), noises, sizes)[0]
    plain = np.array(
        [
            [
                log_density(contrasts @ data.value, s**2 * (contrasts @ (np.eye(13) + x**2 * matrix) @ contrasts.T))
                for x in sizes
            ]
            for s in noises
        ]
    )
    assert found - found[0, 0] == pytest.approx(plain - plain[0, 0], abs=1e-8)


def test_a_rung_below_counts_as_if_both_were_conditioned_on_together() -> None:
    """The difference of a run's two scores takes its luck out; what is left must be the joint model's posterior."""
    rng = np.random.default_rng(5)
    texts = list(made.placements(8, rng).values())
    likeness = Likeness(texts)
    block = np.array([0] * 8 + [1] * 3)
    point = np.array([*range(8), 0, 2, 4])
    going = np.array([0, 1, 2, 4, 8, 9, 10])
    first = 0.02 * rng.standard_normal(11) + 0.05 * block
    second = 0.02 * rng.standard_normal(7)
    kernel = KERNELS[1]
    matrix = likeness.matrix(kernel)
    size1, noise1 = 0.013, 0.011
    inner1 = size1**2 * matrix[np.ix_(point, point)] + noise1**2 * (np.eye(11) + FLAT * same(block))
    mean1, covariance1 = conditioned(size1**2 * matrix, size1**2 * matrix[point], inner1, first, np.zeros(11))
    lower = Lower(mean1 / size1, covariance1 / size1**2, size1, noise1)
    data = Data(Points.of(point, 0 * point, 8), point[going], block[going], second, first[going])
    rung = Rung(data, likeness, Priors(None, 0.02, 0.02), lower)
    reference = np.eye(8)[0]
    means, variances = Posterior(rung).moments(reference, np.arange(8))
    seen = set()
    for node in range(len(rung.nodes.weight)):
        part = rung.parts[rung.nodes.part[node]]
        t, s, rho, eta = (float(x[node]) for x in (rung.nodes.spread, rung.nodes.noise, rung.nodes.rho, rung.nodes.eta))
        if part.kernel is not kernel or (part.ratio, eta) in seen:
            continue
        seen.add((part.ratio, eta))
        crossed = rho * t * size1 * matrix[np.ix_(point, point[going])]
        crossed = crossed + eta * s * noise1 * np.eye(11)[:, going]
        inner2 = t**2 * matrix[np.ix_(point[going], point[going])] + s**2 * (np.eye(7) + FLAT * same(block[going]))
        both = np.block([[inner1, crossed], [crossed.T, inner2]])
        toward = np.concatenate([rho * t * size1 * matrix[point], t**2 * matrix[point[going]]])
        mean, covariance = conditioned(t**2 * matrix, toward, both, np.concatenate([first, second]), np.zeros(18))
        contrast = np.eye(8) - reference
        assert means[node] == pytest.approx(contrast @ mean, abs=3e-6)
        assert variances[node] == pytest.approx(np.diag(contrast @ covariance @ contrast.T), rel=2e-3, abs=1e-9)
    assert len(seen) >= 5


def test_draws_have_the_moments_that_are_stated() -> None:
    rng = np.random.default_rng(6)
    texts = made.placements(10, rng)
    found = fit(made.runs(made.additive(texts, rng, 0.02), rng, noise=0.01, seeds=3), texts, metric="score")
    drawn = found.draw(np.random.default_rng(0), 20_000)
    over = drawn - drawn[:, [found.keys.index("k002")]]
    for i, key in enumerate(found.keys):
        gain = found.gain(key, "k002")
        assert over[:, i].mean() == pytest.approx(gain.mean, abs=0.0005)
        assert over[:, i].std() == pytest.approx(gain.sd, abs=0.0006)
        assert drawn[:, i].mean() == pytest.approx(found.estimates[key].mean, abs=0.0005)
        assert (over[:, i] > 0).mean() == pytest.approx(gain.probability, abs=0.03)


@pytest.mark.parametrize(("rungs", "backbones"), [(1, 1), (2, 1), (1, 3), (2, 3)])
def test_the_wide_solution_agrees_with_the_exact_one(
    rungs: int, backbones: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all placements in the part that the variances are learned from, little but their uncertainty is different."""
    rng = np.random.default_rng(7)
    texts = made.placements(24, rng)
    effects = made.additive(texts, rng, 0.02)
    runs = []
    for seed in range(5):
        some = effects if seed < 2 else dict(list(effects.items())[:8])
        for rung in range(rungs):
            keys = some if rung == 0 else dict(list(some.items())[:16])
            runs += made.runs(keys, rng, noise=0.008, rung=rung, backbone=seed % backbones, first_seed=seed)
    exact = fit(runs, texts, metric="score")
    assert exact.estimates
    monkeypatch.setattr(fitting, "AFFORDABLE", 1.0)
    monkeypatch.setattr(fitting, "PART", 1e15)
    wide = fit(runs, texts, metric="score")
    assert type(wide._posterior).__name__ == "Wide"
    for key in texts:
        a, b = exact.gain(key, "k000"), wide.gain(key, "k000")
        assert b.mean == pytest.approx(a.mean, abs=0.25 * a.sd + 1e-9)
        assert b.sd == pytest.approx(a.sd, rel=0.25)
        assert wide.estimates[key].mean == pytest.approx(exact.estimates[key].mean, abs=0.002)
    sums = {kind: [(f"stage1={kind}", 1.0), ("none", -1.0)] for kind in ("se", "eca")}
    for name, a in exact.effects(sums).items():
        b = wide.effects(sums)[name]
        assert b.mean == pytest.approx(a.mean, abs=0.3 * a.sd + 1e-9)
        assert b.sd == pytest.approx(a.sd, rel=0.35)
    drawn = wide.draw(np.random.default_rng(0), 4000)
    assert drawn.mean(axis=0) == pytest.approx([wide.estimates[k].mean for k in wide.keys], abs=0.001)


def test_an_interaction_that_is_all_of_the_effect_is_no_more_than_all() -> None:
    """Weights that add up to a little over one gave `math domain error` at a search's end."""
    weights = next(w for n in range(3, 200) if (w := np.ones(n) / n) @ np.ones(n) > 1 or (w / w.sum()) @ np.ones(n) > 1)
    count = len(weights)
    nodes = SimpleNamespace(
        weight=weights,
        spread=np.ones(count),
        part=np.zeros(count, dtype=int),
        own_size=np.ones(count),
        own_noise=np.ones(count),
    )
    step = SimpleNamespace(
        nodes=nodes,
        rung=SimpleNamespace(parts=[SimpleNamespace(tangent=math.inf, kernel=None)]),
        data=SimpleNamespace(points=SimpleNamespace(backbones=3)),
        lower=None,
    )
    assert plugged([step]).interaction.tolist() == [1.0]


def test_a_rung_at_which_nearly_all_score_the_same_does_not_blow_up_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """As at chance: a noise of next to nothing there left equations without a solution, and accuracies of 57 % where all had 10."""
    rng = np.random.default_rng(11)
    texts = made.placements(200, rng, sites=8)
    runs = []
    for backbone, keys in enumerate(np.array_split(list(texts), 3)):
        low = dict.fromkeys(keys.tolist(), 0.0)
        first = made.runs(low, rng, noise=0.0, backbone=backbone, base=0.05 + 0.02 * backbone)
        runs += [replace(run, value=0.1) if n % 23 == 5 else run for n, run in enumerate(first)]
        last = made.runs(low, rng, noise=0.0, rung=1, backbone=backbone, base=0.1)
        runs += [replace(run, value=0.1 - 0.01 * (n % 4)) if backbone == 2 else run for n, run in enumerate(last)]
    monkeypatch.setattr(fitting, "AFFORDABLE", 2e7)
    found = fit(runs, texts, metric="accuracy", rung=1)
    assert type(found._posterior).__name__ == "Wide"
    assert all(0.05 < estimate.mean < 0.12 for estimate in found.estimates.values())


def test_thousands_of_placements_are_answered_for() -> None:
    rng = np.random.default_rng(8)
    texts = made.placements(900, rng, sites=8)
    effects = made.additive(texts, rng, 0.01)
    found = fit(made.runs(effects, rng, noise=0.02), texts, metric="score")
    assert type(found._posterior).__name__ == "Wide"
    truth = np.array([effects[key] for key in found.keys])
    means = np.array([found.estimates[key].mean for key in found.keys])
    raw = np.array([found.estimates[key].raw_mean for key in found.keys])
    assert np.corrcoef(means, truth)[0, 1] > np.corrcoef(raw, truth)[0, 1] + 0.05
    covered = [g.low <= effects[key] - effects["k000"] <= g.high for key, g in found.gains("k000").items()]
    assert np.mean(covered) > 0.9


def test_the_normal_distribution() -> None:
    z = np.concatenate([np.random.default_rng(0).uniform(-9, 9, 500), [-np.inf, np.inf, 0.0]])
    assert cdf(z) == pytest.approx([NormalDist().cdf(x) for x in z], abs=3e-7)


def test_intervals_of_mixtures() -> None:
    weights = np.array([0.5, 0.5])
    low, high = interval(weights, np.array([[0.0, -1.0], [0.0, 1.0]]), np.array([[1.0, 0.1], [1.0, 0.1]]))
    assert (low[0], high[0]) == pytest.approx((-1.96, 1.96), abs=0.02)
    edge = 1 + 0.1 * NormalDist().inv_cdf(0.95)
    assert (low[1], high[1]) == pytest.approx((-edge, edge), abs=0.02)
    low, high = interval(np.array([0.99, 0.01]), np.array([[0.0], [5.0]]), np.zeros((2, 1)))
    assert abs(low[0]) < 0.01
    assert abs(high[0]) < 0.01
    assert math.isfinite(float(interval(np.ones(1), np.zeros((1, 1)), np.zeros((1, 1)))[1][0]))
