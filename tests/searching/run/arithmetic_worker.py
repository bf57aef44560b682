"""A worker process of the study `mixed`, for the tests: `python arithmetic_worker.py URL CHOICE`.

CHOICE is what this machine would decide by itself: `bfloat16` or `float32`.
"""

from __future__ import annotations

import sys

import torch

from nas_attn.searching.run import taking_part
from nas_attn.storage.opening import open_study
from nas_attn.training import numerics


def work(url: str, choice: str) -> None:
    """Decides what it is told to; prints what the worker says and warns."""
    torch.cpu.get_capabilities = lambda: {"avx512_bf16": True}  # type: ignore[assignment]
    numerics.cpu_name = lambda: "AMD" if choice == "bfloat16" else "Intel"
    torch.set_num_threads(1)
    print(taking_part.work(open_study("mixed", url), taking_part.Options(device="cpu", threads=1)))


if __name__ == "__main__":
    work(*sys.argv[1:])
