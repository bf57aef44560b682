"""Which recipe goes on with a study that exists."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nas_attn.recipe.reading import load_recipe
from nas_attn.storage.opening import create_study

URL = "sqlite:///nas_attn.db"


def test_an_older_study_of_a_detector_keeps_the_norms_that_it_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    changes = {
        "task": {"name": "detection"},
        "objectives": ["map50_95", "params"],
        "backbone": {"name": "torchvision:retinanet_resnet50_fpn"},
        "data": {"name": "digits", "size": 64},
        "target": {"weights": "default", "epochs": 1},
        "training": {},
    }
    recipe = load_recipe("digits", overrides=changes)
    opened = create_study(recipe, URL)
    assert opened.recipe.network.norms == "frozen"
    older = json.loads(opened.store.recipe)
    del older["backbone"]["norms"]
    opened.store.set(recipe=json.dumps(older))
    again = create_study(recipe, URL)
    assert again.recipe.network.norms == "as_built"
