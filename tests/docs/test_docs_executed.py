"""The reader follows each page step by step, in a folder with the files that the page mentions."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from documented import ROOT
from materials import MODEL, coco, digits_with_boxes, masks, photographs
from shell import FOREIGN, Ended, Running, Shell, patience
from steps import MARK, RUN, Step, steps

HOUR_S = 3600.0
PORT = 8080  # Where dashboards listen unless told otherwise
RECIPE = """\
name = "NAME"
space = "plug_and_play"
backbone = { name = "resnet8", width = 8 }
data = { name = "digits", options = { train = 120, validation = 40, test = 60, size = 12 } }
latency = { session_seconds = 0.1, tolerance = 0.9 }
target = { epochs = 2 }
[training]
backbone_epochs = 2
rungs = [1, 2]
batch_size = 16
[search]
trials = 12
baselines = "all"
pruner = "none"
confirm_seeds = 1
"""
"""Pages call any recipe RECIPE and any study NAME; these files have these names."""


def with_photographs(shell: Shell) -> None:
    photographs(shell.folder / "photos", of_each=22, side=64, misleading=0.4)


def with_a_recipe(shell: Shell) -> None:
    (shell.folder / "RECIPE").write_text(RECIPE, "utf-8")
    (shell.folder / "my_models.py").write_text(MODEL, "utf-8")


def with_a_study(shell: Shell) -> None:
    with_a_recipe(shell)
    shell.types("search RECIPE --workers 1 --threads 1")


def with_photographs_and_a_recipe(shell: Shell) -> None:
    with_photographs(shell)
    with_a_recipe(shell)


def with_photographs_and_a_study(shell: Shell) -> None:
    with_photographs(shell)
    with_a_study(shell)


def with_masks(shell: Shell) -> None:
    masks(shell.folder / "roads", side=64)
    shutil.copy(ROOT / "tests" / "segmenter.py", shell.folder / "my_segmenter.py")


def with_boxes(shell: Shell) -> None:
    for package in ("pycocotools", "onnx", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    coco(shell.folder / "drones")


def with_boxes_and_masks(shell: Shell) -> None:
    with_boxes(shell)
    with_masks(shell)


def with_yolo(shell: Shell) -> None:
    """A data YAML, and a `.pt` as ultralytics writes it, which is nowhere to be had here but from
    its own YAML.
    """
    shell.variables |= {
        "YOLO_CONFIG_DIR": str(shell.logs),
        "YOLO_AUTOINSTALL": "false",
        "YOLO_OFFLINE": "true",
        "PYTHONWARNINGS": "ignore::FutureWarning",  # its exporter's, of torch.jit.trace
        "XDG_CACHE_HOME": str(shell.logs / "cache"),
    }
    digits = digits_with_boxes(shell.folder / "digits", size=64, train=40, validation=20, test=20)
    shutil.copy(digits, shell.folder / "data.yaml")
    made = shell.runs([sys.executable, "-c", YOLO], "what a user of YOLO has").ended(HOUR_S)
    assert made.status == 0, made


YOLO = """
from pathlib import Path

from ultralytics import YOLO

from nas_attn.ultralytics.yolo_export import write_pt

write_pt(YOLO("yolo11n.yaml").model, Path("yolo11n.pt"), [str(digit) for digit in range(10)], 64)
"""
# pages whose steps need what only some users have
NEEDED = {
    "docs/how-to/yolo.md": ("ultralytics", "onnx", "onnxruntime", "openvino", "ncnn", "pnnx"),
    "docs/how-to/phone-and-board.md": ("onnxscript", "onnxruntime", "openvino", "ncnn", "pnnx"),
    "docs/how-to/other-tools.md": (
        "transformers",
        "webdataset",
        "onnxslim",
        "onnxscript",
        "onnxruntime",
    ),
    "docs/how-to/see-attention.md": ("pytorch_grad_cam",),
}
PREPARED: dict[str, Callable[[Shell], None]] = {
    "README.md": with_photographs,
    "docs/get-started/quickstart.md": with_photographs,
    "docs/how-to/data.md": with_photographs_and_a_recipe,
    "docs/how-to/own-model.md": with_photographs_and_a_recipe,
    "docs/how-to/spaces.md": with_a_study,
    "docs/how-to/run-anywhere.md": with_a_study,
    "docs/how-to/test-and-export.md": with_a_study,
    "docs/how-to/other-tools.md": with_a_study,
    "docs/how-to/phone-and-board.md": with_photographs_and_a_study,
    "docs/how-to/detectors.md": with_boxes_and_masks,
    "docs/how-to/yolo.md": with_yolo,
}


@pytest.mark.parametrize("page", RUN)
def test_every_mark_stands_at_a_step_and_gives_a_reason(page: str) -> None:
    marks = MARK.findall((ROOT / page).read_text("utf-8"))
    reasons = {step.reason for step in steps(page) if step.reason}
    assert {reason for _, reason in marks} == reasons
    assert all(len(reason.split()) >= 3 for reason in reasons)
    assert (ROOT / page).read_text("utf-8").count("<!--") == len(marks)


def test_pieces_of_files_are_on_the_page_whose_test_puts_them_into_their_files() -> None:
    pages = {step.page for page in RUN for step in steps(page) if step.kind == "excerpt"}
    assert all(page.startswith("docs/contributing/") for page in pages)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    at = Shell.under(tmp_path)
    yield at
    at.leaves()


@pytest.mark.slow
@pytest.mark.timeout(2 * HOUR_S)
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.extras(*NEEDED[page])] if page in NEEDED else [])
        for page in RUN
        if any(not step.reason for step in steps(page))
    ],
)
def test_each_page_can_be_followed(page: str, shell: Shell, request: pytest.FixtureRequest) -> None:
    if page == "CONTRIBUTING.md" or page.startswith("docs/contributing/"):
        copy: Path = request.getfixturevalue("contributed")
        shell.variables["PYTHONPATH"] = str(copy)
        shell.folder = copy
    PREPARED.get(page, lambda shell: None)(shell)
    for step in steps(page):
        if not step.reason:
            take(shell, step)


def take(shell: Shell, step: Step) -> None:
    """Takes one step, and looks whether something came that a reader would wonder at."""
    if step.kind == "file":
        path = shell.folder / step.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(step.text, "utf-8")
    if step.kind == "python" or (
        step.kind == "file" and step.name.endswith(".py") and "/" not in step.name
    ):
        path = shell.folder / (step.name or "pasted.py")
        path.write_text(step.text, "utf-8")
        ended = shell.runs([sys.executable, path.name], str(step)).ended(HOUR_S)
        assert ended.status == 0, ended
        assert not FOREIGN.search(ended.out + ended.err), ended
    elif step.kind == "command":
        _command(shell, step)


def _command(shell: Shell, step: Step) -> None:
    if step.text.startswith("optuna-dashboard"):
        _look_at_a_dashboard(shell, step)
        return
    running = shell.runs(["bash", "-c", f"{step.text}\n"], str(step))
    if re.match(
        r"nas-attn search study\.toml(?! --)", step.text
    ):  # `Ctrl-C stops it`, both pages say
        running.until("trial 0 ").ctrl_c()
        assert "nas-attn resume study" in running.ended(HOUR_S).check(130).err
        return
    done: Ended = running.ended(HOUR_S)
    done.check(0)


def _look_at_a_dashboard(shell: Shell, step: Step) -> None:
    """Waits until it answers, then ends it with Ctrl-C."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", PORT)) == 0:
            return  # another program has the port, which the reader would see
    running: Running = shell.runs(["bash", "-c", f"exec {step.text}"], str(step))
    for _ in patience(str(step)):
        assert running.process.poll() is None, running.said()
        try:
            page = urllib.request.urlopen(f"http://127.0.0.1:{PORT}/dashboard").read()
            break
        except urllib.error.URLError:
            continue
    assert b"<html" in page.lower()
    running.ctrl_c(signal.SIGINT)
    running.ended()


@pytest.fixture(scope="module", autouse=True)
def bash() -> None:
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
