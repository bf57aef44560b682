"""Which studies begin on images whose labels contradict each other, and which go on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas_attn.data import masks
from nas_attn.errors import DataError, NasAttnWarning
from nas_attn.recipe.reading import recipe_from
from nas_attn.recipe.recipe import Recipe
from nas_attn.searching.prepare import beginning, checks
from nas_attn.searching.prepare.search_plan import SearchPlan
from nas_attn.storage.opening import open_study

URL = "sqlite:///nas_attn.db"
COLOURS = [(0, 0, 0), (128, 64, 128)]


@pytest.fixture
def roads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """A recipe for masks whose palettes number the classes in two orders."""
    monkeypatch.chdir(tmp_path)
    for folder in ("roads/images", "roads/masks"):
        Path(folder).mkdir(parents=True)
    Path("roads/classes.txt").write_text("ground\nroad\n")
    for number in range(12):
        mask = np.zeros((16, 16), np.uint8)
        mask[:, :6] = 1
        Image.fromarray(200 * mask).save(f"roads/images/{number}.png")
        image = Image.fromarray(mask).convert("P")
        image.putpalette([part for colour in COLOURS[:: (-1) ** number] for part in colour])
        image.save(f"roads/masks/{number}.png")
    table = {
        "name": "roads",
        "task": {"name": "segmentation"},
        "objectives": ["mean_iou", "params"],
        "space": {"name": "small", "choices": {"eca": {}}},
        "backbone": {"name": "segmenter:build"},
        "data": {"name": "folder:roads", "size": 16},
        "training": {"start": "scratch", "rungs": [1]},
    }
    return recipe_from(table, where="the test")


def test_a_new_study_does_not_begin_on_them(roads: Recipe) -> None:
    with pytest.raises(DataError, match="means two classes"):
        beginning.begin(roads, URL)
    assert not Path("nas_attn.db").exists()


def test_a_study_from_before_this_was_checked_goes_on_and_says_so(
    roads: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr(masks, "palettes_problem", lambda root, files: "")
        beginning.begin(roads, URL).book.close()
    with pytest.warns(NasAttnWarning, match=r"means two classes.*goes on"):
        checks.images(SearchPlan(roads, URL, study=open_study("roads", URL)))
    NasAttnWarning.said.clear()
    with pytest.warns(NasAttnWarning, match=r"means two classes.*goes on"):
        again = beginning.begin(roads, URL)
    assert again.store.name == "roads"
