"""Checks of a machine with a GPU, for `nas-attn doctor --gpu` and `tools/gpu_check.sh`: is what
nas_attn needs of it there, right, and fast? `docs/gpu.md` says what is normal.
"""

from nas_attn.checkup.findings import Finding, append_line
from nas_attn.checkup.parts import CHECKED_PARTS, QUICK

__all__ = ["CHECKED_PARTS", "QUICK", "Finding", "append_line"]
