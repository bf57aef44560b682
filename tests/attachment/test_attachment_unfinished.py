"""A network's own convolution that oneDNN never finishes in 16 bits is refused before it is called.

The processors are made up: none of these convolutions is affected on the test's own, or the test
would wait without end.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import nn

import nas_attn as na
from nas_attn import attention
from nas_attn.attachment.unfinished import refusing_unfinished
from nas_attn.errors import BackboneError, MeasurementError
from nas_attn.latency.nets import prepare
from nas_attn.recipe.recipe import LatencySection

FP16 = {"avx512_fp16": True, "avx512_bf16": True}
BF16 = {"avx512_fp16": False, "avx512_bf16": True}


class Stopped(Exception):
    """The convolution would have been called."""


def network(**settings: int) -> nn.Sequential:
    chosen = {"groups": 8, "kernel_size": 15, "padding": 7, **settings}
    conv = nn.Conv2d(8, 8, **chosen)  # type: ignore[arg-type]
    return nn.Sequential(nn.Conv2d(3, 8, 1), nn.Sequential(conv))


def outcome(
    model: nn.Module, capabilities: Mapping[str, bool], dtype: torch.dtype, *, ordered: bool = False
) -> str:
    """What the wide convolution meets: the sentence, or an empty text if it is called."""

    def stop(*_: object) -> None:
        raise Stopped

    x = torch.zeros(1, 8, 32, 32, dtype=dtype)
    if not ordered:
        x = x.contiguous(memory_format=torch.channels_last)
    wide = model[1]  # type: ignore[index]
    try:
        with refusing_unfinished(wide, capabilities):
            wide[0].register_forward_pre_hook(stop)
            wide(x)
    except BackboneError as error:
        return str(error)
    except Stopped:
        return ""
    raise AssertionError


@pytest.fixture(autouse=True)
def _no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)


def test_the_sentence_names_the_place_and_a_way_out() -> None:
    said = outcome(network(), FP16, torch.float16)
    assert "'0'" in said
    assert "float16" in said
    assert "ONEDNN_MAX_CPU_ISA" in said


@pytest.mark.parametrize(
    ("capabilities", "dtype", "ordered", "refused"),
    [
        (FP16, torch.float16, True, True),
        (FP16, torch.float32, False, False),
        (BF16, torch.float16, False, False),
        (BF16, torch.bfloat16, False, True),
        (BF16, torch.bfloat16, True, False),
        ({}, torch.bfloat16, False, False),
    ],
)
def test_only_affected_processors_refuse(
    capabilities: dict[str, bool], dtype: torch.dtype, ordered: bool, refused: bool
) -> None:
    assert bool(outcome(network(), capabilities, dtype, ordered=ordered)) is refused


@pytest.mark.parametrize(
    ("limit", "float16", "bfloat16"),
    [
        ("AVX512_CORE_VNNI", False, False),
        ("avx512_core_bf16", False, True),
        ("AVX512_CORE_FP16", True, True),
    ],
)
def test_a_limit_of_the_instructions_counts(
    limit: str, float16: bool, bfloat16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert bool(outcome(network(), FP16, torch.float16)) is float16
    assert bool(outcome(network(), FP16, torch.bfloat16)) is bfloat16


@pytest.mark.parametrize(
    "settings",
    [
        {"groups": 4},
        {"kernel_size": 13, "padding": 6},
        {"stride": 2},
        {"dilation": 2, "padding": 14},
        {"padding": 0},
    ],
)
def test_what_comes_back_is_called(settings: dict[str, int]) -> None:
    assert outcome(network(**settings), FP16, torch.float16) == ""


def test_its_own_modules_are_called() -> None:
    module = attention.create("cpca", 8, height=32, width=32).half().eval()
    with torch.no_grad(), refusing_unfinished(module, FP16):
        module(torch.zeros(1, 8, 32, 32, dtype=torch.float16))


def test_checking_and_measuring_say_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: FP16, raising=False)
    with pytest.raises(BackboneError, match=r"'1\.0'"):
        na.check(network().half(), (3, 32, 32))
    settings = LatencySection(dtype="bfloat16", channels_last=True)
    x = torch.zeros(1, 3, 32, 32, dtype=torch.bfloat16).contiguous(
        memory_format=torch.channels_last
    )
    with pytest.raises(MeasurementError, match=r"'1\.0'"):
        prepare(network(), settings, x)
