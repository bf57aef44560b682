"""Publishing for optuna-dashboard, which one worker does for all, and the report with images of the
study's own data.
"""

from __future__ import annotations

import base64
import io
import math
import os
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from made_study import IMAGES, recipe, usual
from PIL import Image

from nas_attn.answer import reading
from nas_attn.answer.answer import answer_of
from nas_attn.recipe import tasks
from nas_attn.recipe.purposes import SEARCH
from nas_attn.recipe.reading import load_recipe
from nas_attn.report import publishing
from nas_attn.report.pictures import PICTURE_SIDE, pictures
from nas_attn.searching import keeping
from nas_attn.searching.prepare import beginning
from nas_attn.searching.run import taking_part
from nas_attn.space.notation import parse
from nas_attn.storage import opening
from nas_attn.storage.artifacts import keep_labels
from nas_attn.training.tasks.data import data_of


@pytest.fixture
def opened(table: Path) -> Iterator[opening.OpenStudy]:
    study = opening.create_study(load_recipe("table.toml"), "sqlite:///nas_attn.db")
    yield study
    study.book.close()
    study.database.close()


def claim(opened: opening.OpenStudy, trial: int) -> None:
    lease = opened.store.acquire(f"trial/{trial}", owner="test", ttl_s=600)
    assert lease is not None
    assert opened.book.ask({}).number == trial
    opened.store.claim(
        f"key{trial}", placement=parse("stage1=eca"), trial=trial, baseline=None, lease=lease
    )


def published(opened: opening.OpenStudy) -> str:
    return opened.store.settings.published or ""


def impatient(opened: opening.OpenStudy) -> publishing.Publisher:
    """A worker's that has not published for long."""
    found = publishing.Publisher(opened)
    found._last = -math.inf
    return found


def test_what_one_worker_has_published_no_other_draws_up_again(opened: opening.OpenStudy) -> None:
    assert publishing.Publisher(opened).changed() is not None
    assert publishing.Publisher(opened).changed() is None
    claim(opened, 0)
    assert publishing.Publisher(opened).changed() is not None


def test_workers_take_turns_until_it_is_due_again(opened: opening.OpenStudy) -> None:
    impatient(opened).maybe()
    before = published(opened)
    claim(opened, 0)
    impatient(opened).maybe()
    assert published(opened) == before, "not due yet: another worker has just done it"
    opened.store.set(publish_at=(opened.database.now() - 1))
    impatient(opened).maybe()
    assert published(opened) != before


def test_a_clock_that_was_a_day_ahead_does_not_stop_publishing(opened: opening.OpenStudy) -> None:
    opened.store.set(publish_at=(opened.database.now() + 86_400))
    impatient(opened).maybe()
    assert published(opened)


def test_the_weights_of_a_study_are_swept_once(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"search.trials": 2, "search.confirm_seeds": 0, "storage.keep_weights": "front"}
    begun = beginning.begin(load_recipe("table.toml", overrides=changes), "sqlite:///nas_attn.db")
    swept: list[int] = []
    real = taking_part.sweep_weights
    monkeypatch.setattr(
        taking_part, "sweep_weights", lambda *given: (swept.append(1), real(*given))
    )
    for _ in range(2):
        assert taking_part.work(begun, taking_part.Options(say=lambda line: None)) == "complete"
    assert swept == [1]


def test_a_search_adds_one_optuna_study_and_leaves_the_users_alone(table: Path) -> None:
    """A study `table~answer` is the user's, or of an earlier nas_attn, which put its answer
    there.
    """
    url = "sqlite:///nas_attn.db"
    own = optuna.create_study(study_name="table~answer", storage=url)
    own.optimize(lambda trial: trial.suggest_float("mine", 0, 1), n_trials=2)
    changes = {"search.trials": 3, "search.confirm_seeds": 0}
    begun = beginning.begin(load_recipe("table.toml", overrides=changes), url)
    assert taking_part.work(begun, taking_part.Options(say=lambda line: None)) == "complete"
    publishing.Publisher(begun).current()
    assert sorted(optuna.get_all_study_names(url)) == ["table", "table~answer"]
    trials = optuna.load_study(study_name="table~answer", storage=url).trials
    assert [list(trial.params) for trial in trials] == [["mine"], ["mine"]]


def test_processes_that_end_together_leave_one_answer(table: Path) -> None:
    url = "sqlite:///nas_attn.db"
    changes = {"search.trials": 3, "search.confirm_seeds": 0}
    begun = beginning.begin(load_recipe("table.toml", overrides=changes), url)
    assert taking_part.work(begun, taking_part.Options(say=lambda line: None)) == "complete"
    barrier = threading.Barrier(4)

    def end() -> None:
        opened = opening.open_study("table", url)
        barrier.wait()
        publishing.Publisher(opened).current()
        opened.book.close()
        opened.database.close()

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(end) for _ in range(4)]:
            future.result()
    only = optuna.load_study(study_name=None, storage=url)
    assert only.study_name == "table"
    (link,) = optuna.artifacts.get_all_artifact_meta(only)
    kept = optuna.artifacts.FileSystemArtifactStore("nas_attn.artifacts")
    with kept.open_reader(link.artifact_id) as reader:
        assert len(reader.read().splitlines()) == 1 + 3, "a head, and a line for each candidate"
    keeping.clean(begun)
    hour_ago = time.time() - 2 * keeping.YOUNG_S
    os.utime(table / "nas_attn.artifacts" / link.artifact_id, (hour_ago, hour_ago))
    keeping.clean(begun)
    assert (table / "nas_attn.artifacts" / link.artifact_id).is_file(), "no stray"


DATA = {"name": "digits", "options": {"train": 200, "validation": 2000, "test": 100, "size": 20}}


@pytest.mark.parametrize(("data", "shown"), [(DATA, True), ({"name": "folder:gone"}, False)])
def test_the_report_shows_images_that_the_networks_classify_differently(
    tmp_path: Path, data: dict[str, object], shown: bool
) -> None:
    made = usual(tmp_path, recipe(data=data))
    keep_labels(made.store, SEARCH, torch.arange(IMAGES) % 4, ("ant", "bee", "<cat>", "dog"))
    now = reading.snapshot(made.store)
    opened = opening.OpenStudy(made.database.url, made.database, made.store, made.recipe, tmp_path)
    page = publishing.write_study_report(opened, answer_of(now)).read_text("utf-8")
    assert "recommended − runner-up" in page
    assert "&lt;cat&gt;" in page
    found = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="Image \d[^"]*"', page)
    assert len(found) == (10 if shown else 0)
    for png in found:
        assert max(Image.open(io.BytesIO(base64.b64decode(png))).size) <= PICTURE_SIDE


def test_a_picture_is_the_image_of_its_number() -> None:
    made = recipe(data=DATA)
    dataset = data_of(tasks.of(made)).load(made, device="cpu")
    found = pictures(made, [7, 3])
    assert list(found) == [3, 7]
    assert found[7][0].label == dataset.classes[int(dataset.validation.labels[7])]
    pixels = list(Image.open(io.BytesIO(found[7][0].png)).tobytes())
    assert pixels == dataset.validation.first(8)[7, 0].flatten().tolist()
    assert pictures(made, []) == {}


class Finds(torch.nn.Module):
    """Class 2 on the left half of each image, as a mask or in a box."""

    def forward(self, x: Any) -> object:
        if isinstance(x, list):
            box = torch.tensor([[0.0, 0.0, 8.0, 15.0]])
            return [{"boxes": box, "labels": torch.tensor([2]), "scores": torch.tensor([0.9])}]
        return (
            torch.where(torch.arange(32) < 16, 1.0, -1.0) * torch.eye(11)[2][:, None, None] + 0 * x
        )


@pytest.mark.parametrize(
    ("task", "backbone"), [("segmentation", "resnet8"), ("detection", "torchvision:ssd300_vgg16")]
)
def test_masks_and_boxes_are_drawn_over_the_image(task: str, backbone: str) -> None:
    data = {
        "name": "digits",
        "options": dict.fromkeys(("train", "validation", "test"), 60) | {"size": 32},
    }
    tables = {
        "task": {"name": task},
        "backbone": {"name": backbone},
        "training": {"start": "scratch"},
    }
    ((true, half),) = pictures(
        recipe(data=data, objectives=["params"], **tables), [4], {"half": Finds()}
    ).values()
    assert [true.label, half.label] == ["true", "half"]
    pixels = np.asarray(Image.open(io.BytesIO(half.png)).convert("RGB"), int)
    coloured = pixels.max(2) - pixels.min(2) > 20
    assert coloured[2, :4].all() if task == "segmentation" else coloured[2, 0]
    assert not coloured[:, pixels.shape[1] // 2 + 4 :].any()
    assert half.png != true.png
