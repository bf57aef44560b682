"""What would contradict the card: controls beyond the front, and sums whose parts are not known."""

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
from nas_attn.answer.reasons import beyond_front, remarks
from nas_attn.answer.snapshot import Snapshot


def test_a_control_that_beats_a_member_of_the_front_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(made_study.TRUE_GAIN, "dwconv", 0.03)
    monkeypatch.setitem(made_study.TRUE_COST, "dwconv", 0.02)
    study = usual(tmp_path)
    now = snapshot(study.store)
    views = {view.label: view for view in now.candidates}
    controls = list(beyond_front(now))
    first = views[controls[0]]
    assert str(first.placement) == everywhere("dwconv")
    for label in beyond_front(now)[controls[0]]:
        member = views[label]
        assert member.on_front
        assert first.values[0] > member.values[0]
        assert first.values[1] < member.values[1]
    assert len(controls) > 1
    (sentence,) = (sentence for sentence in remarks(answer_of(now)) if "the front" in sentence)
    assert all(label in sentence for label in controls), "all of them are explained once"


def test_without_such_a_control_nothing_is_explained(now: Snapshot) -> None:
    assert beyond_front(now) == {}


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
