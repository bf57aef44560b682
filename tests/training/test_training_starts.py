"""What a target starts from by default."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest

from nas_attn.training.starts import no_weights


def test_weights_of_timm_that_cannot_be_downloaded_are_given_up_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a network, timm itself tries for a minute."""
    pytest.importorskip("timm")

    def away(*arguments: Any, **options: Any) -> socket.socket:
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", away)
    began = time.monotonic()
    lacking = no_weights("timm:test_byobnet.r160_in1k")
    assert time.monotonic() - began < 30
    assert "timm:test_byobnet.r160_in1k" in lacking
    assert "target.weights" in lacking
