"""A user's command, and ONNX Runtime: they run before OpenVINO is loaded, as a process may
crash after that.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nas_attn import attachment, backbones
from nas_attn.errors import MeasurementError, Unmeasurable
from nas_attn.latency.nets import command_words, run_command
from nas_attn.latency.runtime_files import opened, write_onnx
from nas_attn.latency.session import run_session
from nas_attn.recipe.recipe import BackboneSection, LatencySection
from nas_attn.space import search_space

SHAPE = (3, 16, 16)


def test_a_command_prints_one_number_or_many() -> None:
    for printed, values in (("1.5", [1.5]), ("1 2,3", [1, 2, 3]), ("1e1\\n2.5\\n", [10, 2.5])):
        assert run_command(["printf", printed], 60) == values


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("sh -c 'echo 3 fast'", "must print milliseconds, one number or several, not '3 fast'"),
        ("true", "must print milliseconds, one number or several, not ''"),
        ("echo -1", "must print milliseconds"),
        ("echo inf", "must print milliseconds"),
        ("sh -c 'echo no phone >&2; exit 3'", "'sh' ended with status 3: no phone"),
        ("false", "ended with status 1: nothing on standard error"),
        ("./no-such-program", "cannot be started: No such file"),
        ("sh -c 'exec sleep 9'", "took longer than 0.3 s"),
        ("sh -c 'open", "cannot be split into words: No closing quotation"),
    ],
)
def test_a_command_that_fails_says_how(command: str, says: str) -> None:
    with pytest.raises(MeasurementError) as error:
        run_command(command_words(command, Path("model.onnx")), 0.3 if "sleep" in command else 60)
    assert says in str(error.value)


def test_the_onnx_file_goes_where_the_command_wants_it() -> None:
    assert command_words("adb push {onnx} /tmp", Path("/m.onnx")) == [
        "adb",
        "push",
        "/m.onnx",
        "/tmp",
    ]
    assert command_words("measure --fast", Path("/m.onnx")) == ["measure", "--fast", "/m.onnx"]
    assert command_words("measure 'a b' --model={onnx}", Path("/m n.onnx")) == [
        "measure",
        "a b",
        "--model=/m n.onnx",
    ]


@pytest.mark.parametrize(
    ("battery", "kind"),
    [("full", Unmeasurable), pytest.param("empty", MeasurementError, marks=pytest.mark.slow)],
)
def test_a_network_is_to_blame_only_where_the_command_still_takes_the_backbone(
    tmp_path: Path, battery: str, kind: type[MeasurementError]
) -> None:
    """A wide network is refused by the device, which may also be gone from then on."""
    pytest.importorskip("onnxscript")
    script = tmp_path / "measure.sh"
    script.write_text(
        f"size=$(wc -c < $1)\ntest -e {tmp_path}/gone && echo 'no device' >&2 && exit 1\nif test"
        f" $size -gt 9000; then test {battery} = empty && touch {tmp_path}/gone; echo 'too wide'"
        " >&2; exit 1; fi\necho 1.5\n"
    )
    settings = LatencySection(mode="command", command=f"sh {script}")
    wide = nn.Conv2d(3, 4000, 1)
    with pytest.raises(
        MeasurementError, match="too wide" if battery == "full" else "no device"
    ) as error:
        run_session(
            settings,
            reference=nn.Conv2d(3, 4, 1),
            candidates={"w": wide},
            input_shape=(3, 4, 4),
            seed=0,
        )
    assert type(error.value) is kind
    if isinstance(error.value, Unmeasurable):
        assert error.value.network == "w"


def bare() -> nn.Module:
    torch.manual_seed(0)
    model = backbones.build(BackboneSection(name="resnet8"), input_shape=SHAPE, classes=10)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # so that folding has something to fold
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model.eval()


def test_onnx_runtime_says_what_a_gpu_needs(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("ONNX Runtime has CUDA here")
    section = LatencySection(mode="onnxruntime", device="cuda")
    with pytest.raises(MeasurementError, match="install onnxruntime-gpu"):
        opened(section, np.zeros((1, *SHAPE), np.float32), tmp_path / "model.onnx")


def test_onnx_runtime_folds_batchnorm_and_keeps_attention(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    placement = search_space.resolve(
        search_space.parse("*=se(reduction=4)"), attachment.find_sites(bare(), SHAPE), init="paper"
    )
    model, x = (
        attachment.attach(bare(), placement).eval(),
        torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(1)),
    )
    write_onnx(model, x, tmp_path / "model.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(tmp_path / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    [result] = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    kinds = {node.op_type for node in onnx.load(str(tmp_path / "optimized.onnx")).graph.node}
    assert "BatchNormalization" not in kinds
    with torch.inference_mode():
        torch.testing.assert_close(torch.from_numpy(result), model(x), rtol=1e-3, atol=1e-4)
        assert not torch.allclose(model(x), bare()(x), atol=1e-2)
