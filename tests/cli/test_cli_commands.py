"""What the commands print, in words and as JSON."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from materials import coco, photographs

from nas_attn import backbones
from nas_attn.attachment import survey
from nas_attn.recipe.reading import backbone_section, load_recipe

PROGRAM = [sys.executable, "-m", "nas_attn.cli.main"]


def test_a_search_says_how_it_goes_and_what_came_out(table: Path, nas) -> None:
    """Progress on standard error in plain lines, as there is no terminal; the answer on standard
    output.
    """
    ended = nas(
        "search", "table.toml", "--workers", "1", "--trials", "5", "--set", "search.confirm_seeds=0"
    )
    assert ended.status == 0
    assert "\x1b" not in ended.out + ended.err
    assert "\r" not in ended.err
    trials = [line for line in ended.err.splitlines() if "trial " in line]
    assert [line.split("]")[0] for line in trials][-1].startswith("[5/5 candidates")
    assert "trial " not in ended.out
    for said in ("Report ", "Database ", "optuna-dashboard sqlite"):
        assert said in ended.out
    assert "Study table: 5/5 candidates" in nas("status", "table").out
    assert "Studies in sqlite:///nas_attn.db" in nas("status").out
    shown = nas("show").out
    assert "the front (*)" in shown
    assert any(word in shown for word in ("Take ", "Keep the bare backbone", "Train "))
    status = nas("status", "table", "--json").json
    assert (status["finished"], status["running"], status["leases"], status["constants"]) == (
        5,
        0,
        [],
        [],
    )
    assert status["next"].startswith("nas-attn ")
    assert status["next"] in nas("status", "table").out
    assert nas("status", "--json").json[0]["name"] == "table"
    assert nas("show", "--json").json["study"] == "table"
    report = nas("report", "--json", "-o", "out.html").json
    assert (table / report["report"]).read_text().startswith("<!doctype html>")
    assert "'score'" in nas("effects", "--of", "scor").error
    again = nas("resume", "--trials", "6", "--workers", "1", "--json")
    assert (again.json["study"], again.json["ended"]) == ("table", "complete"), "JSON alone"
    assert Path(again.json["report"]).is_file()


def test_a_dry_run_writes_nothing(table: Path, nas) -> None:
    before = sorted(path.name for path in table.iterdir() if path.name != "__pycache__")
    assert "14 of 125 placements, 4 " in nas("search", "table.toml", "--dry-run").out
    few = nas("search", "table.toml", "--dry-run", "--trials", "3").out
    assert "--trials 8" in few
    found = nas("search", "table.toml", "--dry-run", "--json").json
    assert (found["placements"], found["trials"]) == (125, 14)
    assert sorted(path.name for path in table.iterdir() if path.name != "__pycache__") == before


def test_modules(nas) -> None:
    listed = nas("modules", "--json").json["modules"]
    assert {"se", "eca", "cbam", "coord", "ela", "simam"} <= {module["name"] for module in listed}
    assert all(module["name"] in nas("modules").out for module in listed[:3])
    found = nas(
        "modules", "se", "--channels", "64", "--size", "8", "--set", "reduction=8", "--json"
    ).json
    assert found["resolved"]["reduction"] == 8
    assert found["parameters"] >= 2 * 64 * 8
    assert "se(reduction=8" in nas("modules", "se", "--channels", "64", "--set", "reduction=8").out


def test_modules_lists_what_installed_packages_offer(
    nas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "strange_attention-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strange-attention\nVersion: 1.2\n")
    points = [
        "strange = strange_attention:Strange",
        "gone = strange_attention:Gone",
        "se = strange_attention:Strange",
    ]
    (info / "entry_points.txt").write_text("\n".join(["[nas_attn.attention]", *points]))
    (tmp_path / "strange_attention.py").write_text(
        "from torch import nn\n\n"
        "class Strange(nn.Module):\n"
        '    """A strange attention.\n\n    More about it."""\n\n'
        "    def __init__(self, channels: int, *, squeeze: int = 4) -> None:\n"
        "        super().__init__()\n"
        "        self.mix = nn.Conv2d(channels, channels, 1, bias=False)\n\n"
        "    def forward(self, x):\n"
        "        return x * self.mix(x)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    found = nas("modules", "--channels", "8", "--size", "4", "--json").json
    (strange,) = [module for module in found["modules"] if module["name"] == "strange"]
    assert strange["title"] == "A strange attention. (strange-attention 1.2)"
    assert [knob["name"] for knob in strange["knobs"]] == ["squeeze"]
    assert (strange["parameters"], strange["macs"]) == (64, 64 * 16)
    reasons = {module["name"]: module["reason"] for module in found["unusable"]}
    assert "has no 'Gone'" in reasons["gone"]
    assert "the same name" in reasons["se"]
    shown = nas("modules").out
    assert "A strange attention. (strange-attention 1.2)" in shown
    assert "gone (strange-attention 1.2)" in shown


def test_sites(nas) -> None:
    asked = ("sites", "resnet8", "--input", "3x32x32")
    found = nas(*asked, "--json").json
    assert [site["site"] for site in found["sites"]][:3] == ["stage1", "stage2", "stage3"]
    assert found["notes"] == []
    assert "stage2.block1" in nas(*asked).out
    assert "\x1b" not in nas(*asked).out


def test_sites_of_a_segmenter_have_the_shares_of_its_usual_classes(nas) -> None:
    """Enlarging a map for each of a thousand classes would be half of such a network's MACs."""
    name = "torchvision:lraspp_mobilenet_v3_large"
    found = nas("sites", name, "--input", "3x64x64", "--json").json
    shares = {site["site"]: site["macs_share"] for site in found["sites"]}
    model = backbones.build(backbone_section(name), input_shape=(3, 64, 64), classes=21)
    surveyed = survey(model, (3, 64, 64))
    assert shares == {site.name: pytest.approx(site.macs_share) for site in surveyed.sites}


def test_doctor_shows_versions_devices_threads_and_optional_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nas
) -> None:
    monkeypatch.chdir(tmp_path)
    found = nas("doctor", "--json").json
    assert found["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert found["device"] == "cpu"
    assert int(found["threads"]) == torch.get_num_threads()
    assert {"optuna-dashboard", "timm", "onnxruntime", "psycopg"} <= found.keys()
    shown = nas("doctor").out
    assert all(name in shown for name in found)
    assert not list(tmp_path.iterdir())


def test_doctor_names_each_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nas, stub) -> None:
    monkeypatch.chdir(tmp_path)
    assert stub.name in nas("doctor", "--json").json["device"]


def test_init_writes_a_recipe_that_fits_a_small_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nas
) -> None:
    monkeypatch.chdir(tmp_path)
    photographs(tmp_path / 'my "images"', of_each=20)
    options = ["--data", 'folder:my "images"', "--trials", "7", "--max-latency-ratio", "1.25"]
    ended = nas("init", "my own.toml", *options)
    assert ended.status == 0, ended.err
    assert "nas-attn search 'my own.toml' --dry-run" in ended.out
    recipe, text = load_recipe("my own.toml"), (tmp_path / "my own.toml").read_text()
    assert (recipe.name, recipe.data.name, recipe.search.trials) == (
        "my-own",
        'folder:my "images"',
        7,
    )
    assert recipe.backbone.name == "torchvision:resnet18"
    assert recipe.limits.max_latency_ratio == 1.25
    assert (recipe.training.batch_size, recipe.target.start) == (16, "scratch")
    assert recipe.target_is_open, "nobody knows beforehand how long it must be trained"
    assert (recipe.data.size, recipe.data.broken_images) == (32, "skip")
    assert sum("#" in line for line in text.splitlines()) > 10
    for asked in (
        "validation = 0.2",
        "broken_images",
        "size = 32",
        'weights = "default"',
        "groups =",
    ):
        assert asked in text


def test_init_fits_a_detectors_training_to_its_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nas
) -> None:
    """Hundreds of steps whatever the folder's size, and digits as large as the anchors that are to
    find them.
    """
    monkeypatch.chdir(tmp_path)
    coco(tmp_path / "things", train=100, val=30)
    network = ["--task", "detection", "--backbone", "torchvision:ssdlite320_mobilenet_v3_large"]
    assert nas("init", "own.toml", *network, "--data", "coco:things").status == 0
    training, size = load_recipe("own.toml").training, load_recipe("own.toml").data.size
    assert (training.batch_size, training.start, training.rungs, size) == (
        16,
        "scratch",
        [240],
        320,
    )
    network[-1] = "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn"
    assert nas("init", "made.toml", *network, "--data", "digits").status == 0
    made = load_recipe("made.toml")
    digits: dict[str, Any] = made.data.options
    assert 8 * made.data.size / digits["size"] == 32
    assert made.training.rungs[-1] * digits["train"] / made.training.batch_size > 1000
    pytest.importorskip("yaml", reason="ultralytics, which brings it, is not installed")
    Path("things/annotations/data.yaml").write_text(
        "path: ..\ntrain: train\nval: val\nnames: [thing]\n"
    )
    network[-1] = "ultralytics:yolo11n.yaml"
    assert (
        nas("init", "yolo.toml", *network, "--data", "yolo:things/annotations/data.yaml").status
        == 0
    )
    assert load_recipe("yolo.toml").training.rungs == [240]


def test_init_overwrites_only_when_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nas
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("study.toml").write_text("mine")
    ended = nas("init")
    assert ended.status == 2
    assert "'study.toml' " in ended.error
    assert "--force" in ended.error
    assert Path("study.toml").read_text() == "mine"
    assert nas("init", "--force").status == 0
    assert load_recipe("study.toml").name == "study"


def test_the_target_is_a_start_and_a_number_of_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nas
) -> None:
    monkeypatch.chdir(tmp_path)
    assert nas("init", "--target", "37", "--target", "scratch").status == 0
    recipe = load_recipe("study.toml")
    assert (recipe.target.start, recipe.target.epochs) == ("scratch", 37)
    assert recipe.training.rungs == [37]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--name", "a b"], "name: string should match pattern"),
        (
            ["--max-latency-ratio", "-1"],
            "limits.max_latency_ratio: input should be greater than 0, not -1.0",
        ),
        (["--space", "smal"], "unknown search space 'smal': did you mean 'small'?"),
        (["--data", "mnits"], "'mnits'"),
        (["--target", "nothing.pt"], "target 'nothing.pt'"),
        (["--target", "weights"], "resnet8"),
        (["--target", "0"], "--target 0"),
        (["--target", "10", "--target", "20"], "'10'"),
    ],
)
def test_init_writes_no_wrong_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nas, options: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = nas("init", *options)
    assert ended.status == 2
    assert words in ended.error
    assert not list(tmp_path.iterdir())


def test_init_says_how_a_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nas
) -> None:
    monkeypatch.chdir(tmp_path)
    photographs(tmp_path / "cats", of_each=2)
    assert "folder:cats" in nas("init", "--data", "cats").error


def test_latency_compares_placements_and_other_backbones(nas) -> None:
    quick = ("--set", "session_seconds=0.2", "--set", "tolerance=0.9")
    options = ("--input", "1x16x16", *quick)
    words = ("resnet8(width=8)", "*=simam", "resnet8(width=32)", "none")
    found = nas("measure", *words, *options, "--json").json
    assert found["backbone"] == "resnet8(width=8)"
    rows = {row["placement"]: row for row in found["candidates"]}
    assert rows.keys() == {"*=simam", "resnet8(width=32)", "none"}
    assert rows["resnet8(width=32)"]["ratio"] > 1.2
    assert all(row["low"] <= row["ratio"] <= row["high"] for row in rows.values())
    assert found["conditions"]["batch_size"] == 1
    recipe = nas("measure", "digits", "simam", *quick, "--json").json
    assert [row["placement"] for row in recipe["candidates"]] == ["simam"]
    assert "simam" in recipe["candidates"][0]["resolved"]
    assert "'digits'" in nas("measure", "digits", *quick).error
    alone = nas("measure", "resnet8")
    assert alone.status == 2
    assert "'resnet8'" in alone.error
    wrong = nas("measure", "resnet8", "resnt14")
    assert wrong.status == 2
    assert "'resnet14'" in wrong.err
