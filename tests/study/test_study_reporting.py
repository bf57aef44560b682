"""The report with images of the study's own data."""

import base64
import io
import re
from pathlib import Path

import pytest
from made_study import recipe, usual
from PIL import Image

from nas_attn import tasks
from nas_attn.evaluation.starts import SIDE, pictures
from nas_attn.study.opening import OpenStudy
from nas_attn.study.publishing import write_study_report
from nas_attn.study.reading import snapshot

DATA = {"name": "digits", "options": {"train": 200, "validation": 2000, "test": 100, "size": 20}}


@pytest.mark.parametrize(("data", "shown"), [(DATA, True), ({"name": "folder:gone"}, False)])
def test_the_report_shows_images_that_the_two_networks_classify_differently(
    tmp_path: Path, data: dict[str, object], shown: bool
) -> None:
    made = usual(tmp_path, recipe(data=data))
    now = snapshot(made.store)
    assert now.examples is not None
    assert now.examples.better > now.examples.worse > 0
    opened = OpenStudy(made.database.url, made.database, made.store, made.recipe, tmp_path)
    page = write_study_report(opened, now).read_text("utf-8")
    assert f"more often on {now.examples.better} validation images" in page
    found = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="\d">', page)
    assert len(found) == (len(now.examples.gained) + len(now.examples.lost) if shown else 0)
    for png in found:
        assert max(Image.open(io.BytesIO(base64.b64decode(png))).size) <= SIDE


def test_a_picture_is_the_image_of_its_number() -> None:
    made = recipe(data=DATA)
    dataset = tasks.of(made).load(made, device="cpu")
    assert dataset is not None
    found = pictures(made, [7, 3])
    assert list(found) == [3, 7]
    assert found[7].label == dataset.classes[int(dataset.validation.labels[7])]
    pixels = list(Image.open(io.BytesIO(found[7].png)).tobytes())
    assert pixels == dataset.validation.first(8)[7, 0].flatten().tolist()
    assert pictures(made, []) == {}
