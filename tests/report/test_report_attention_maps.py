"""What the report shows of attention: where it is strong, beside class activation maps."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from command_line import Nas
from table_study import begin_in
from torch import Tensor, nn

import nas_attn as na
from nas_attn.answer.reading import answer
from nas_attn.report.pictures import class_activation, last_map, maps
from nas_attn.storage import opening

DIGITS = {"train": 60, "validation": 40, "test": 20, "size": 12}
STIRS = """

looks_up = evaluate

def evaluate(model, run):
    for name, parameter in model.named_parameters():
        if "nas_attn" in name:
            parameter.data += 1
    return looks_up(model, run)
"""


class Pooled(nn.Module):
    """A network that ends in pooling and a linear classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.stem(x)).mean((2, 3)))


def test_behind_pooling_and_a_linear_classifier_it_is_the_class_activation_map() -> None:
    torch.manual_seed(0)
    model = Pooled().eval()
    x = torch.randn(3, 3, 10, 14)
    labels = torch.tensor([4, 0, 2])
    point = last_map(na.find_sites(model, (3, 10, 14)))
    assert point is not None
    heat = class_activation(model, point, x, labels)
    maps = model.block(model.stem(x))
    by_hand = (model.head.weight[labels][:, :, None, None] * maps).sum(1).relu()
    torch.testing.assert_close(heat, by_hand / by_hand.amax((1, 2), keepdim=True))
    # without classes, the strongest output counts
    strongest = model(x).argmax(1)
    torch.testing.assert_close(
        class_activation(model, point, x, None),
        class_activation(model, point, x, strongest),
    )


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search in which attention wins, on digits."""
    folder = tmp_path_factory.mktemp("searched")
    changes = {"data": {"name": "digits", "options": DIGITS}, "space.choices": {"eca": {}}}
    with pytest.MonkeyPatch.context() as patch:
        begin_in(folder, patch)
        with (folder / "table_evaluator.py").open("a") as file:
            # untrained attention does nothing
            file.write(STIRS)
        na.search("table.toml", trials=8, overrides=changes, say=lambda line: None)
    return folder


@pytest.fixture
def study(searched: Path, table: Path) -> opening.OpenStudy:
    shutil.copytree(searched, table, dirs_exist_ok=True)
    return opening.open_study("table", "sqlite:///nas_attn.db")


@pytest.mark.usefixtures("study")
def test_the_report_shows_where_attention_is_strong(nas: Nas) -> None:
    assert nas("report", "--output", "first.html").status == 0
    first = Path("first.html").read_text("utf-8")
    section = first[first.index('id="maps"') : first.index('id="candidates"')]
    assert section.count("<img") == section.count("data:image/png;base64,") >= 4 * 3
    for line in ("class<br>", ": eca<br>"):
        assert section.count(line) >= 4


def test_where_the_weights_are_not_kept_it_says_how_to_get_them(
    study: opening.OpenStudy, nas: Nas
) -> None:
    assert nas("clean", "--keep", "none").status == 0
    assert nas("report").status == 0
    page = Path("table.html").read_text("utf-8")
    assert "nas-attn retrain table" in page[page.index('id="maps"') : page.index('id="candidates"')]
    assert nas("retrain", "--epochs", "1", "--threads", "1", "--workers", "1").status == 0
    now = answer(study.store)
    taken = now.now.find(now.taken_key or "")
    assert taken is not None
    found = maps(study, taken)
    assert not found.missing
    assert [row[1].lines for row in found.images] == [["class"]] * 4
