"""Each module against outputs and gradients of its authors' code (shared/data/goldens), in float64 to 1e-10."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nas_attn import attention

FOLDER = Path(__file__).parents[2].parent / "shared" / "data" / "goldens"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no reference outputs in {FOLDER}")

CBAM = {
    "ChannelGate.mlp.1": "channel.reduce",
    "ChannelGate.mlp.3": "channel.expand",
    "SpatialGate.spatial.conv": "spatial.conv",
    "SpatialGate.spatial.bn": "spatial.norm",
}
SE = {"fc.0": "reduce", "fc.2": "expand"}
COORD = {"conv1": "reduce", "bn1": "norm", "conv_h": "expand_h", "conv_w": "expand_w"}
ELA = {"con1": "conv_h", "GN": "norm_h"}

CASES: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {
    "se_c64_r16_nobias": ("se", {"reduction": 16, "bias": False}, SE),
    "se_c32_r4_bias": ("se", {"reduction": 4}, SE),
    "eca_c64_k3": ("eca", {"kernel_size": 3}, {"conv": "conv"}),
    "cbam_c64_r16": ("cbam", {}, CBAM),
    "cbam_c32_r4_nospatial": ("cbam", {"reduction": 4, "gates": "channel"}, CBAM),
    "ca_c64_r32_mip8": ("coord", {}, COORD),
    "ela_T_c32": ("ela", {"variant": "T"}, ELA),
    "ela_B_c64": ("ela", {"variant": "B"}, ELA),
    "ela_S_c32": ("ela", {"variant": "S"}, ELA),
    "ela_L_c64": ("ela", {"variant": "L"}, ELA),
    "simam_lam1e-4": ("simam", {}, {}),
}
"""File -> module, knobs, the authors' layer name -> ours."""


class Golden:
    """One file, and the module that it is about with the authors' weights in it."""

    def __init__(self, name: str) -> None:
        type_, knobs, self.layers = CASES[name]
        self.data = dict(np.load(FOLDER / f"{name}.npz", allow_pickle=False))
        channels, height, width = self.data["x"].shape[1:]
        self.module = attention.create(type_, channels, height=height, width=width, **knobs).double().eval()
        state = self.module.state_dict()
        given = {self.ours(key[2:]): value for key, value in self.data.items() if key.startswith("p:")}
        for key, value in given.items():
            state[key].copy_(torch.from_numpy(value).reshape(state[key].shape))
        counters = {key for key in state if key.endswith("num_batches_tracked")}
        assert set(given) | counters == set(state)

    def ours(self, official: str) -> str:
        """Our name of one of the authors' parameters: the longest layer name that it begins with, replaced."""
        layer = max((layer for layer in self.layers if official.startswith(layer)), key=len)
        return self.layers[layer] + official[len(layer) :]

    def tensor(self, key: str) -> Tensor:
        return torch.from_numpy(self.data[key]).double()


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual.reshape(expected.shape), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients_agree(name: str) -> None:
    golden = Golden(name)
    x = golden.tensor("x").requires_grad_()
    y = golden.module(x)
    (y * golden.tensor("w")).sum().backward()
    close(y, golden.tensor("y"))
    assert x.grad is not None
    close(x.grad, golden.tensor("gx"))
    gradients = {key: p.grad for key, p in golden.module.named_parameters()}
    checked = 0
    for key in golden.data:
        kind, _, official = key.partition(":")
        if kind not in ("g", "gs"):
            continue
        gradient = gradients[golden.ours(official)]
        assert gradient is not None
        close(gradient if kind == "g" else torch.stack((gradient.sum(), gradient.norm())), golden.tensor(key))
        checked += 1
    assert checked == len(gradients)


@pytest.mark.parametrize("name", CASES)
def test_training_mode_agrees(name: str) -> None:
    golden = Golden(name)
    if "y_train" not in golden.data:
        pytest.skip("the file has no training-mode output")
    close(golden.module.train()(golden.tensor("x")), golden.tensor("y_train"))
    state = golden.module.state_dict()
    for key in golden.data:
        if key.startswith("after:"):
            close(state[golden.ours(key[6:])], golden.tensor(key))


@pytest.mark.parametrize("name", CASES)
def test_parameter_count_agrees(name: str) -> None:
    golden = Golden(name)
    official = json.loads(str(golden.data["meta"]))["params"]
    assert sum(p.numel() for p in golden.module.parameters()) == official
