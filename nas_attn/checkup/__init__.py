"""Checks of a machine with a GPU, for `nas-attn doctor --gpu` and `tools/gpu_check.sh`: is what
nas_attn needs of it there, right, and fast? `docs/gpu.md` says what is normal.

Each file checks one thing, and yields a `Finding` for each result; `parts` lists them. What a
finding has found is a fact of `findings`. `nas_attn.words.checkup` has the sentence for each fact.
"""

from nas_attn.checkup.findings import Finding, append_line

__all__ = ["Finding", "append_line"]
