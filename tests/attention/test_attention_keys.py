"""Keys of placements are in databases: a network has the key that it had on the day it came."""

from __future__ import annotations

import pytest

from nas_attn.space.notation import parse
from nas_attn.space.placement import Point, Site
from nas_attn.space.search_space import resolve

KEYS = {
    "se": "fefae1d252007914",
    "eca": "46da537551b0659e",
    "ese": "d1eb37e57334d9eb",
    "nam": "d861a2a9fc10f29e",
    "srm": "d264e007279ae36b",
    "gct": "b1362b1a3f64aa0f",
    "fca": "231330542e1363b9",
    "grn": "6489b69305ab053f",
    "gc": "102a6fbef47e56ad",
    "cbam": "8a833f33b612fcb0",
    "bam": "d1349a483fc60924",
    "gam": "2b1cd343730d116c",
    "simam": "00931f7e84e98625",
    "sge": "d175fef7ad3084ec",
    "scse": "fada7c2a7d7276d0",
    "triplet": "6b70bb2859289707",
    "ema": "4bca0352bcd83ce2",
    "shuffle": "800d67d795a4b392",
    "mlca": "575bd7430e6a87d9",
    "psa": "4e30f9838543b770",
    "ge": "499d72470686e8c6",
    "lska": "bea87389006cd1d6",
    "msca": "57073ce0900c1161",
    "lsk": "2d1a04e4cb936560",
    "sk": "ccaeb8cd2c2d51c3",
    "caa": "c87557e3e1aa0f34",
    "cpca": "e4b5b93c92cd1eae",
    "coord": "5351b274c3a6b0f6",
    "ela": "824e30b81fe106cf",
    "scsa": "d4dc48c92c0ff8ae",
    "sdpa": "f1effcf874b6ca3c",
    "mhsa": "960d7b9e2c2c4e64",
    "mqa": "cfebaab692ec6f8c",
    "relu_linear": "e0a4eb34933dfccc",
    "c2psa": "9d37277c42f5411e",
    "area": "dd7c02267f2d3184",
    "dwconv": "a7bce05ee3f27ead",
    "conv": "15579c5e4f2507af",
}
"""Of the default at one place of 64 channels, as the knobs were when all of these were stored."""


@pytest.mark.parametrize("name", KEYS)
def test_a_module_keeps_its_key(name: str) -> None:
    site = Site("stage1", (("block", (Point("layer1", 64, 14, 14),)),))
    assert resolve(parse(f"stage1={name}"), [site], init="identity").key == KEYS[name]
