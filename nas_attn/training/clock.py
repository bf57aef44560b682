"""What a training takes: wall and device seconds."""

from __future__ import annotations

import time

import torch


class Clock:
    """Wall and device seconds since it was made, and those before an interruption."""

    def __init__(self, device: torch.device, wall_s: float = 0.0, device_s: float = 0.0) -> None:
        """`wall_s`, `device_s`: before the interruption."""
        self._device = device
        self._wall = time.perf_counter() - wall_s
        self._processor = time.process_time() - device_s
        self._carried = device_s
        if device.type == "cuda":
            self._event = self._now()

    def read(self) -> tuple[float, float]:
        """(wall, device) seconds; waits for the device. On a CPU, device time is the process's time
        on all threads.
        """
        device = time.process_time() - self._processor
        if self._device.type == "cuda":
            now = self._now()
            now.synchronize()
            device = self._carried + self._event.elapsed_time(now) / 1000
        return time.perf_counter() - self._wall, device

    def _now(self) -> torch.cuda.Event:
        """An event on the device's own stream; the current device may be another one."""
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event
