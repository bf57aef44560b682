"""Each module against outputs and gradients of its authors' code (shared/data/goldens), in float64
to 1e-12.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

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

GAM = {"channel_attention": "channel", "spatial_attention": "spatial"}
BAM = {
    **{
        f"channel_att.gate_c.gate_c_{n}": f"channel.{i}"
        for i, n in ((0, "fc_0"), (1, "bn_1"), (3, "fc_final"))
    },
    **{
        f"spatial_att.gate_s.gate_s_{n}": f"spatial.{i}"
        for i, n in (
            (0, "conv_reduce0"),
            (1, "bn_reduce0"),
            (3, "conv_di_0"),
            (4, "bn_di_0"),
            (6, "conv_di_1"),
            (7, "bn_di_1"),
            (9, "conv_final"),
        )
    },
}


def gc_layers(branch: str) -> dict[str, str]:
    return {
        "conv_mask": "mask",
        f"{branch}.0": "reduce",
        f"{branch}.1": "norm",
        f"{branch}.3": "expand",
    }


CASES: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {
    "se_c64_r16_nobias": ("se", {"reduction": 16}, SE),
    "se_c32_r4_bias": ("se", {"reduction": 4}, SE),
    "eca_c64_k3": ("eca", {"kernel_size": 3}, {"conv": "conv"}),
    "cbam_c64_r16": ("cbam", {}, CBAM),
    "cbam_c32_r4_nospatial": ("cbam", {"reduction": 4}, CBAM),
    "ca_c64_r32_mip8": ("coord", {}, COORD),
    "ela_T_c32": ("ela", {"variant": "T"}, ELA),
    "ela_B_c64": ("ela", {"variant": "B"}, ELA),
    "ela_S_c32": ("ela", {"variant": "S"}, ELA),
    "ela_L_c64": ("ela", {"variant": "L"}, ELA),
    "simam_lam1e-4": ("simam", {}, {}),
    "ese_c32": ("ese", {}, {"fc": "fc"}),
    "nam_c64": ("nam", {}, {"bn2": "norm"}),
    "srm_c32": ("srm", {}, {"cfc": "style", "bn": "norm"}),
    "gc_c64_r4_add": ("gc", {"reduction": 4}, gc_layers("channel_add_conv")),
    "gc_c32_r4_avg_mul": (
        "gc",
        {"reduction": 4},
        gc_layers("channel_mul_conv"),
    ),
    "bam_c64_r16": ("bam", {}, BAM),
    "gam_sigmoid_c16_r4": ("gam", {}, GAM),
    "gam_group_c32_r4_shuffle": ("gam", {"groups": 4}, GAM),
    "sge_c64_g8": ("sge", {"groups": 8}, {"": ""}),
    "triplet_c64": (
        "triplet",
        {},
        {
            f"{theirs}.conv.{layer}": f"gate_{ours}.{mine}"
            for theirs, ours in (("cw", "cw"), ("hc", "ch"), ("hw", "hw"))
            for layer, mine in (("conv", "conv"), ("bn", "norm"))
        },
    ),
    "ema_c64_g8": ("ema", {"groups": 8}, {"conv1x1": "strips", "gn": "norm", "conv3x3": "conv"}),
    "lska_c16_k11": (
        "lska",
        {},
        {
            "conv0h": "rows",
            "conv0v": "columns",
            "conv_spatial_h": "far_rows",
            "conv_spatial_v": "far_columns",
            "conv1": "mix",
        },
    ),
    "mhsa_c16_5x7": (
        "mhsa",
        {},
        {"qkv": "qkv", "pos_embed.height_rel": "row_table", "pos_embed.width_rel": "column_table"},
    ),
}
"""File -> module, knobs, the authors' layer name -> ours."""


def bam_by_product(module: Any, x: Tensor) -> Tensor:
    channel = module.channel[:4](x.mean((2, 3)))[:, :, None, None]
    return x + x * torch.sigmoid(channel * module.spatial[:10](x))


def ese_by_torch(module: Any, x: Tensor) -> Tensor:
    """In its gradient, torch's hardsigmoid takes 1/6 as float32 holds it, in float64, too."""
    y = x * functional.hardsigmoid(module.fc(x.mean((2, 3))))[:, :, None, None]
    close(module(x), y)
    return y


def gam_without_channel_sigmoid(module: Any, x: Tensor) -> Tensor:
    u = x * module.channel(x)
    return u * module.shuffle(torch.sigmoid(module.spatial(u)))


def gc_by_average_and_product(module: Any, x: Tensor) -> Tensor:
    hidden = module.norm(module.reduce(x.mean((2, 3)))).relu()
    return x * torch.sigmoid(module.expand(hidden))[:, :, None, None]


def nam_with_detached_weights(module: Any, x: Tensor) -> Tensor:
    size = module.norm.weight.detach().abs()
    z = nn.BatchNorm2d.forward(module.norm, x) * (size / size.sum())[:, None, None]
    return x * torch.sigmoid(z)


def mhsa_alone(module: Any, x: Tensor) -> Tensor:
    nn.init.dirac_(module.out.weight)
    return module(x) - x


FORMS: dict[str, tuple[str, Callable[[Any, Tensor], Tensor]]] = {
    "se_c64_r16_nobias": (r"\w+\.bias", lambda module, x: module(x)),
    "cbam_c32_r4_nospatial": (r"spatial\..*", lambda module, x: module.channel(x)),
    "bam_c64_r16": (r"(channel\.4|spatial\.10)\..*", bam_by_product),
    "ese_c32": ("", ese_by_torch),
    "gam_group_c32_r4_shuffle": ("", gam_without_channel_sigmoid),
    "gc_c32_r4_avg_mul": (r"mask\..*", gc_by_average_and_product),
    "nam_c64": ("", nam_with_detached_weights),
    "mhsa_c16_5x7": (r"out\.weight", mhsa_alone),
}
"""Files of a form that no knob gives, made of the module's own layers: what of the module it does
not use, which is zero, and the form.
"""


class Golden:
    """One file, and the module that it is about with the authors' weights in it."""

    def __init__(self, name: str) -> None:
        type_, knobs, self.layers = CASES[name]
        unused, self.form = FORMS.get(name, ("", lambda module, x: module(x)))
        self.data = dict(np.load(FOLDER / f"{name}.npz", allow_pickle=False))
        channels, height, width = self.data["x"].shape[1:]
        self.module = (
            attention.create(type_, channels, height=height, width=width, **knobs).double().eval()
        )
        state = self.module.state_dict()
        self.given = {
            self.ours(key[2:]): value for key, value in self.data.items() if key.startswith("p:")
        }
        for key, value in state.items():
            if key in self.given:
                value.copy_(torch.from_numpy(self.given[key]).reshape(value.shape))
            elif re.fullmatch(unused, key):
                value.zero_()
            else:
                assert key.endswith("num_batches_tracked")
        assert set(self.given) <= set(state)

    def ours(self, official: str) -> str:
        """Our name of one of the authors' parameters: the longest layer name that it begins with,
        replaced.
        """
        layer = max((layer for layer in self.layers if official.startswith(layer)), key=len)
        return self.layers[layer] + official[len(layer) :]

    def tensor(self, key: str) -> Tensor:
        return torch.from_numpy(self.data[key]).double()

    def parameters(self) -> dict[str, nn.Parameter]:
        """Those that the file is about."""
        return {name: p for name, p in self.module.named_parameters() if name in self.given}


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual.reshape(expected.shape), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients_agree(name: str) -> None:
    golden = Golden(name)
    count = sum(p.numel() for p in golden.parameters().values())
    assert count == json.loads(str(golden.data["meta"]))["params"]
    x = golden.tensor("x").requires_grad_()
    y = golden.form(golden.module, x)
    (y * golden.tensor("w")).sum().backward()
    close(y, golden.tensor("y"))
    assert x.grad is not None
    close(x.grad, golden.tensor("gx"))
    gradients = {key: p.grad for key, p in golden.parameters().items()}
    checked = 0
    for key in golden.data:
        kind, _, official = key.partition(":")
        if kind not in ("g", "gs"):
            continue
        gradient = gradients[golden.ours(official)]
        assert gradient is not None
        close(
            gradient if kind == "g" else torch.stack((gradient.sum(), gradient.norm())),
            golden.tensor(key),
        )
        checked += 1
    assert checked == len(gradients)


@pytest.mark.parametrize("name", ["gam_group_c32_r4_shuffle", "gam_sigmoid_c16_r4", "srm_c32"])
def test_training_mode_agrees(name: str) -> None:
    golden = Golden(name)
    golden.module.train()
    close(golden.form(golden.module, golden.tensor("x")), golden.tensor("y_train"))
    state = golden.module.state_dict()
    for key in golden.data:
        if key.startswith("after:"):
            close(state[golden.ours(key[6:])], golden.tensor(key))


def test_every_file_is_checked() -> None:
    assert {path.stem for path in FOLDER.glob("*.npz")} == set(CASES)


def test_nam_lets_the_gradient_into_its_weights() -> None:
    golden = Golden("nam_c64")
    (golden.module(golden.tensor("x")) * golden.tensor("w")).sum().backward()
    gradient = golden.module.norm.get_parameter("weight").grad
    assert gradient is not None
    close(gradient, golden.tensor("gfull:bn2.weight"))
