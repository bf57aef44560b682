"""What would contradict the card: a front that leaves out what beats it."""

from __future__ import annotations

from pathlib import Path

import made_study
import pytest
from made_study import everywhere, usual

from nas_attn.answer.reading import snapshot
from nas_attn.answer.snapshot import Means


def test_a_control_that_beats_placements_is_on_the_front_in_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(made_study.TRUE_GAIN, "dwconv", 0.03)
    monkeypatch.setitem(made_study.TRUE_COST, "dwconv", 0.02)
    now = snapshot(usual(tmp_path).store)
    first = now.front[0]
    assert str(first.placement) == everywhere("dwconv")
    assert first.means is Means.LARGER
    beaten = [view for view in now.candidates if view.on_front_of_placements and not view.on_front]
    assert beaten, "the placements' own front is kept, for attention's own choice"
    for view in beaten:
        assert not view.control
        assert any(
            one.values[0] >= view.values[0] and one.values[1] <= view.values[1] for one in now.front
        )
