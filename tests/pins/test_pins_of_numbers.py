"""Kept texts are compared up to how processors round, and no further."""

from __future__ import annotations

from pathlib import Path

import pinned
import pytest

KEPT = '{"gain": 0.0196161, "low": -0.00898195, "sd": 9.26175e-08}\n4 seeds'


@pytest.mark.parametrize(
    ("now", "same"),
    [
        (KEPT, True),
        (KEPT.replace("0.00898195", "0.00898191"), True),
        (KEPT.replace("9.26175e-08", "9.26178e-08"), True),
        (KEPT.replace("0.0196161", "0.0196261"), False),
        (KEPT.replace("-0.00898195", "0.00898195"), False),
        (KEPT.replace("gain", "loss"), False),
        (KEPT.replace("4", "5"), False),
        (f"{KEPT}\nmore", False),
    ],
)
def test_only_rounding_is_overlooked(
    now: str, same: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pinned, "KEPT", tmp_path)
    pinned.check("text.txt", KEPT, renew=True)
    if same:
        pinned.check("text.txt", now, renew=False)
    else:
        with pytest.raises(AssertionError):
            pinned.check("text.txt", now, renew=False)
