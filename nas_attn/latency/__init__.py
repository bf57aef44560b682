"""Latency: paired sessions, the machine's fingerprint, and a lock so that only one process
measures.
"""

from nas_attn.latency.locks import DeviceLock, lock_directory
from nas_attn.latency.machine import fingerprint
from nas_attn.latency.nets import Net
from nas_attn.latency.paired import MAX_CANDIDATES
from nas_attn.latency.session import measure, run_session

__all__ = [
    "MAX_CANDIDATES",
    "DeviceLock",
    "Net",
    "fingerprint",
    "lock_directory",
    "measure",
    "run_session",
]
