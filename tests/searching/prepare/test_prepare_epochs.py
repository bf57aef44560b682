"""For how many epochs a search trains, and that attention and the bare backbone keep half of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from nas_attn.answer import rounds
from nas_attn.model.features import is_control
from nas_attn.recipe.purposes import LENGTH
from nas_attn.recipe.reading import load_recipe
from nas_attn.searching.phases import length
from nas_attn.searching.prepare import beginning
from nas_attn.searching.prepare.fitting import ATTENTION, Speed, whole_s
from nas_attn.searching.run import taking_part


@pytest.mark.slow
def test_a_search_in_which_each_means_may_be_the_best_trains_as_long_as_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(length, "UNLIKELY", -1.0)
    monkeypatch.setattr(length, "SURE_ENOUGH", 2.0)
    monkeypatch.setattr(rounds, "IN_PLAY", -1.0)
    monkeypatch.setattr(rounds, "SETTLED", -1.0)
    recipe = load_recipe(
        "digits",
        overrides={
            "data.options": {"train": 96, "validation": 64, "test": 60, "size": 12},
            "target.epochs": 2,
            "search.trials": 10,
            "search.confirm_seeds": 1,
            "latency.session_seconds": 0.02,
            "latency.tolerance": 0.9,
        },
    )
    opened = beginning.begin(recipe, "sqlite:///nas_attn.db")
    options = taking_part.Options(say=lambda line: None, device="cpu", threads=1)
    assert taking_part.work(opened, options) == "complete"
    epochs = Counter[str]()
    for row in opened.store.queue.rows(state="done"):
        if row.run.purpose == LENGTH:
            epochs["longer"] += 4
        else:
            epochs["others" if is_control(row.run.placement) else "attention"] += 2
    # seconds are epochs
    speed = Speed(epoch_s=1 / ATTENTION, workers=1, session_s=0.0)
    assert epochs.total() == pytest.approx(whole_s(recipe, None, speed, 10, None), rel=0.25)
    assert epochs["attention"] >= epochs.total() / 2
