"""`tools/gpu_check.sh`: what a cut run leaves, and the packed images."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from nas_attn.recipe.recipe import DataSection

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.delenv("GPU_CHECK_DATA", raising=False)
    return importlib.import_module("gpu_check.images")


@pytest.fixture
def driver(images: ModuleType) -> ModuleType:
    return importlib.import_module("gpu_check.steps")


def results(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def test_a_packed_part_is_read_as_it_was(
    images: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setattr(images, "PART", 100)
    monkeypatch.setattr(images, "IMAGES", 300)
    pixels, labels = images.noise(100, seed=3)
    (tmp_path / "data_batch_1.xz").write_bytes(images.pack(pixels, labels))
    monkeypatch.setenv("GPU_CHECK_DATA", str(tmp_path))
    read, numbers = images.training_images()
    assert np.array_equal(read, pixels)
    assert np.array_equal(numbers, labels)
    section = DataSection(name="gpu_check.images:cifar")
    parts = images.cifar(section)
    assert len(parts.train.labels) == 300
    assert "100 training images" in images.described()


def test_what_was_found_before_a_step_is_cut_off_is_kept(
    driver: ModuleType, tmp_path: Path
) -> None:
    check = driver.Check(tmp_path, seconds=100)
    words = ["-c", "import time; print('a result', flush=True); time.sleep(60)"]
    assert check.run(driver.Step("slow", words, most_s=1, needed_s=0)) is None
    assert check.run(driver.Step("failing", ["-c", "raise SystemExit(3)"], 30, 0)) == 3
    assert check.run(driver.Step("late", ["-c", "pass"], 30, needed_s=1000)) is None
    ended = {line["subject"]: line["ended"] for line in results(tmp_path)}
    assert ended == {"slow": "cut off", "failing": "status 3", "late": "not run"}
    assert "a result" in (tmp_path / "log.txt").read_text()


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
def test_the_script_ends_within_its_time_and_says_what_it_did_not_do(tmp_path: Path) -> None:
    script = str(ROOT / "tools" / "gpu_check.sh")
    environment = {**os.environ, "DEVICE": "cpu", "PYTHON": sys.executable}
    done = subprocess.run(
        [script, str(tmp_path / "out"), "--seconds", "4"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = results(tmp_path / "out")
    assert lines[0]["part"] == "data"
    assert {line["ended"] for line in lines if line["part"] == "step"} <= {
        "done",
        "not run",
        "cut off",
    }
    assert "not run" in done.stdout
    asked = subprocess.run([script, "--wheels", "/no/folder"], capture_output=True, check=False)
    assert asked.returncode == 2


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_a_step_that_hangs_takes_no_time_of_another(
    driver: ModuleType, tmp_path: Path, device: str
) -> None:
    steps = driver.steps(device, tmp_path / "results.jsonl")
    assert sum(step.most_s for step in steps) < 570
    assert all(step.needed_s <= step.most_s for step in steps)


@pytest.mark.parametrize(
    ("originals", "train", "epochs", "why"),
    [
        (50_000, 49_900, 16, ""),
        (None, 49_900, 16, ""),
        (10_000, 49_900, 16, "10,000 of CIFAR-10's 50,000"),
        (0, 49_900, 16, "0 of CIFAR-10's 50,000"),
        (50_000, 5000, 16, "trains on 5,100 of"),
        (50_000, 49_900, 1, "for 1 of 16 epochs"),
    ],
)
def test_airbench_is_run_on_all_of_cifar_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch, originals: int | None, train: int, epochs: int, why: str
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    airbench = importlib.import_module("benchmarks.airbench")
    dataset = SimpleNamespace(train=range(train), validation=range(100))
    arguments = SimpleNamespace(images=originals, epochs=epochs)
    found = airbench.why_not(arguments, dataset)
    assert (why in found) if why else (found == "")


@pytest.mark.slow
def test_airbench_says_that_it_did_not_run(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tools'}"}
    environment["GPU_CHECK_DATA"] = str(tmp_path)
    command = [sys.executable, "-m", "benchmarks.airbench", "--device", "cpu"]
    command += ["--subset", "64", "--batch-size", "32", "--epochs", "1", "--seeds", "1"]
    command += ["--data", "gpu_check.images:cifar", "--images", "0"]
    command += ["--results", str(tmp_path / "results.jsonl")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment
    )
    assert "0 of CIFAR-10's 50,000" in done.stdout
    (line,) = results(tmp_path)
    assert line["task"] == "not run"
    assert "accuracy" not in line
