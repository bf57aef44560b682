"""What attaching leaves alone in ultralytics, and what its user asks for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

BEGIN = """
import warnings
import nas_attn as na
from nas_attn.ultralytics import keep_attention
from ultralytics.engine import model
from ultralytics.nn import tasks

def theirs():
    load, train = tasks.BaseModel.load, model.Model.train
    return tasks.parse_model, tasks.initialize_weights, load, train

def attached():
    network = tasks.DetectionModel("yolov8n.yaml", verbose=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        na.attach(network, "stage3@stage=se", input_shape=(3, 64, 64))
    ours = [one for one in caught if one.category.__name__ == "NasAttnWarning"]
    assert all(one.filename == "<string>" for one in ours), ours
    return network, [str(one.message) for one in ours]

def carries(network):
    return any(".nas_attn." in name for name, _ in network.named_modules())

before = theirs()
network, said = attached()
"""
READING = """
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel
network = YOLO("attended.pt").model
again = DetectionModel(network.yaml, verbose=False)
assert any(".nas_attn." in name for name, _ in again.named_modules())
"""
Script = Callable[..., None]
pytestmark = pytest.mark.extras("ultralytics")


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """Runs lines of Python in a process of their own."""
    monkeypatch.chdir(tmp_path)

    def run(*lines: str, begin: str = BEGIN) -> None:
        command = [sys.executable, "-c", begin + "\n".join(lines)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    return run


def test_attaching_changes_nothing_of_theirs_and_says_what_training_needs(script: Script) -> None:
    script(
        "import copy",
        "copy.deepcopy(network)",
        "assert theirs() == before",
        "assert len(said) == 1 and 'keep_attention()' in said[0], said",
        "assert carries(network)",
    )


def test_one_call_keeps_attention_in_networks_that_they_build_anew(script: Script) -> None:
    script(
        "keep_attention()",
        "wrapped = theirs()",
        "assert not set(wrapped) & set(before)",
        "keep_attention()",
        "assert theirs() == wrapped",
        "assert not attached()[1]",
        "assert carries(tasks.DetectionModel(network.yaml, verbose=False))",
    )


def test_a_process_that_only_reads_the_file_keeps_its_attention(script: Script) -> None:
    """As those do that ultralytics starts for several GPUs."""
    script(
        "from pathlib import Path",
        "from nas_attn.ultralytics.yolo_export import write_pt",
        "write_pt(network, Path('attended.pt'), [str(k) for k in range(80)], 64)",
        "assert theirs() == before",
    )
    script(begin=READING)


def test_attention_of_its_own_is_kept_replaced_or_removed(script: Script) -> None:
    script(
        "import torch",
        "import nas_attn as na",
        "from nas_attn.attachment import attached_modules, find_sites",
        "from nas_attn.ultralytics import keep_attention",
        "from ultralytics.nn.tasks import DetectionModel",
        "shape = (3, 64, 64)",
        "network = DetectionModel('yolo11n.yaml', verbose=False).eval()",
        "own = [site for site in find_sites(network, shape, originals=True) if site.original]",
        "assert [point.path for site in own[:1] for point in site.at('block')] "
        "== ['model.10.m.0.attn'], own",
        "block, x = network.model[10].m[0], torch.rand(1, 128, 2, 2)",
        "na.attach(network, 'stage6.original=none', input_shape=shape)",
        "assert torch.equal(block(x), x + block.ffn(x))",
        "keep_attention()",
        "again = DetectionModel(network.yaml, verbose=False).eval()",
        "assert torch.equal(again.model[10].m[0].attn(x), torch.zeros_like(x))",
        "na.detach(network)",
        "na.attach(network, 'stage6.original=eca', input_shape=shape)",
        "assert list(attached_modules(network)) == ['model.10.m.0.attn.nas_attn.0']",
        begin="",
    )
