"""What exchanging the validation images would add, where each seed draws its own."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from nas_attn.model import ScoredRun, fit
from nas_attn.model.new_images import NewImages, noise_floor
from nas_attn.space.notation import parse


def divided(lasting: float, seeds: int, rng: np.random.Generator) -> list[ScoredRun]:
    """Two placements on divisions of 400 images, 100 of which are for validation: of the second,
    each image's odds differ in every run by as much as in its own way with `lasting`.
    """
    own = lasting * rng.standard_normal(400)
    ease = rng.standard_normal(400)
    runs = []
    for seed in range(seeds):
        images = np.sort(rng.permutation(400)[:100])
        for key, way in (("k000", np.zeros(400)), ("k001", own)):
            right = (ease + way + 0.3 * rng.standard_normal(400))[images] > 0
            runs.append(
                ScoredRun(
                    key,
                    seed,
                    0,
                    float(right.mean()),
                    correct=np.packbits(right).tobytes(),
                    examples=100,
                    images=images,
                    divided=400,
                )
            )
    return runs


def test_the_same_images_come_back_in_other_divisions_so_their_luck_never_averages_out() -> None:
    texts = {"k000": parse("none"), "k001": parse("stage1=se")}

    def width(lasting: float, seeds: int) -> float:
        """Of several studies, as one sampling of the variances may be off by more."""
        widths = []
        for study in range(4, 9):
            runs = divided(lasting, seeds, np.random.default_rng(study))
            widths.append(fit(runs, texts, metric="accuracy").gain("k001", "k000").sd)
        return float(np.mean(widths))

    assert width(0.0, 40) < width(0.0, 8) < 0.007
    # images that are right with every seed of one network only: 400 of them leave about a point
    assert width(0.6, 40) > 0.01


def test_where_divisions_share_few_images_two_seeds_are_taken_to_share_their_luck() -> None:
    runs = divided(0.0, 2, np.random.default_rng(4))
    shared = NewImages(runs).gain("k001", "k000")
    assert shared == pytest.approx(2 * noise_floor(runs) ** 2 * 100 / 300)


def test_images_that_count_the_same_in_all_runs_tell_of_no_floor() -> None:
    """Scores of a mean over labels that are all perfect."""

    def perfect() -> NDArray[np.float32]:
        return np.ones(100, np.float32)

    runs = [
        ScoredRun(key, seed, 0, 1.0, examples=100, contributions=perfect)
        for key in ("k000", "k001")
        for seed in range(3)
    ]
    assert noise_floor(runs, steps=False) is None
    texts = {"k000": parse("none"), "k001": parse("stage1=se")}
    assert fit(runs, texts, metric="mean_ap").gain("k001", "k000").mean == pytest.approx(
        0, abs=1e-6
    )
