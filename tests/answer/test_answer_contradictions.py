"""What would contradict the card: a front that leaves out what beats it, and sums whose parts are not known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import made_study
import pytest
from made_study import everywhere, usual

from nas_attn.answer.answer import answer_of
from nas_attn.answer.effects import fit_effects, together_of
from nas_attn.answer.effects_text import effect_sentences
from nas_attn.answer.means import recommended
from nas_attn.answer.reading import snapshot
from nas_attn.answer.snapshot import Means, Snapshot


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


def test_a_sum_whose_parts_are_not_known_is_said_to_be_one(now: Snapshot) -> None:
    effects = fit_effects(answer_of(now), "accuracy")
    assert effects is not None
    assert effects.together is None, "here, single choices are known to help"
    wide = tuple(
        replace(row, low=-1.0, high=1.0, better=0.6, worse=0.3, alone=None, beside=None)
        for row in effects.rows
    )
    best = recommended(now)
    apart = replace(effects, rows=wide, together=together_of(now.find(best.key), "accuracy", wide))
    assert apart.together is not None
    assert apart.together.gain.mean == pytest.approx(best.against_none.gain.mean)
    assert [choice.site for choice in apart.together.choices] == ["stage1", "stage2", "stage3"]
    assert apart.informative("choice") == ()
    first, *others = effect_sentences(apart)
    assert "cannot separate" in first
    assert not any("stage1" in sentence for sentence in others)
