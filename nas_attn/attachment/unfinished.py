"""Convolutions in 16 bits that oneDNN never finishes on some CPUs: an error in place of a wait
without end.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from nas_attn.attention.gates import is_wide_of_few_channels
from nas_attn.errors import BackboneError

LEAST_WIDTH = 31
"""Width of the result from which such a convolution is never finished."""
VARIABLE = "ONEDNN_MAX_CPU_ISA"
WITHOUT_BF16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE")
SAFE_BF16 = (*WITHOUT_BF16, "AVX512_CORE_VNNI")
AFFECTED = {
    torch.float16: ("avx512_fp16", (*SAFE_BF16, "AVX512_CORE_BF16")),
    torch.bfloat16: ("avx512_bf16", SAFE_BF16),
}
"""Dtype -> the capability of the processors that are affected, and the limits of oneDNN's
instructions with which they are not.
"""


@contextmanager
def refusing_unfinished(
    model: nn.Module, capabilities: Mapping[str, Any] | None = None
) -> Iterator[None]:
    """Refuses, inside, each convolution of the model that would never come back.

    Attention modules of this package compute theirs in float32, and are not refused.

    Args:
        capabilities: of the processor, as `torch.cpu.get_capabilities()` names them; None: this
            one's.

    Raises:
        BackboneError: the model calls such a convolution.
    """
    if capabilities is None:
        capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    with ExitStack() as hooks:
        for path, module in model.named_modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d) and is_wide_of_few_channels(module):
                hook = partial(_refuse, path, capabilities)
                hooks.enter_context(module.register_forward_pre_hook(hook))
        yield


def _refuse(
    path: str, capabilities: Mapping[str, Any], conv: nn.Conv1d | nn.Conv2d, given: tuple[Any, ...]
) -> None:
    x = given[0] if given else None
    if not isinstance(x, Tensor) or x.device.type != "cpu":
        return
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    capability, safe = AFFECTED.get(dtype, ("", ()))
    if not capabilities.get(capability) or os.environ.get(VARIABLE, "").upper() in safe:
        return
    channels_last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    if dtype == torch.bfloat16 and not channels_last:
        return
    beside = conv._reversed_padding_repeated_twice[:2]
    if x.shape[-1] + sum(beside) - conv.kernel_size[-1] + 1 < LEAST_WIDTH:
        return
    raise BackboneError(
        f"'{path}' is a depth-wise convolution of {conv.groups} channels with a kernel"
        f" {conv.kernel_size[-1]} wide, which oneDNN never finishes on this processor in"
        f" {str(dtype).removeprefix('torch.')}: keep the network in float32, or set"
        f" {VARIABLE}=AVX512_CORE_VNNI before Python starts"
    )
