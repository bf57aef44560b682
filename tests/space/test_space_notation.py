import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_attn.attention.choice import Choice
from nas_attn.errors import PlacementError
from nas_attn.space.notation import parse
from nas_attn.space.placement import POSITIONS, Assignment, Placement

words = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True).filter(
    lambda w: w not in ("none", "true", "false")
)
values = st.one_of(
    st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), words
)
choices = st.one_of(
    st.just(Choice("none")),
    st.builds(
        Choice,
        st.one_of(words, st.builds(lambda a, b, c: f"{a}.{b}:{c}", words, words, words)),
        st.dictionaries(words, values, max_size=4).map(lambda knobs: tuple(knobs.items())),
    ),
)
sites = st.one_of(
    st.builds(lambda n: f"stage{n}", st.integers(1, 12)),
    st.builds(lambda n, m: f"stage{n}.block{m}", st.integers(1, 12), st.integers(1, 30)),
)
assignments = st.builds(
    Assignment, sites, choices, st.one_of(st.none(), st.sampled_from(POSITIONS))
)
placements = st.builds(Placement, st.lists(assignments, max_size=6).map(tuple))


@given(placements)
def test_a_placement_survives_being_written_and_read(placement: Placement) -> None:
    assert parse(str(placement)) == placement


def test_the_documented_example_reads_as_meant() -> None:
    text = (
        "stage1=none stage2=se(reduction=8) stage3@stage=ela(variant=B)"
        " stage4.block2@block=cbam(reduction=16)"
    )
    third = parse(text).assignments[2]
    assert (third.site, third.position, third.choice) == (
        "stage3",
        "stage",
        Choice("ela", (("variant", "B"),)),
    )
    assert str(parse(text)) == text


@pytest.mark.parametrize("text", ["", "none", "  "])
def test_nothing_is_the_bare_backbone(text: str) -> None:
    assert parse(text) == Placement()
    assert parse(str(Placement())) == Placement()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("stage2", "cannot read 'stage2'"),
        ("stage2=se(reduction=8", "cannot read 'stage2=se(reduction=8'"),
        ("stage2@blok=se", "unknown position 'blok' at stage2: did you mean 'block'?"),
        ("stage2=se(8)", "cannot read the knob '8' of se at stage2"),
        ("stage2=se(reduction=8, reduction=4)", "knob 'reduction' of se at stage2 is given twice"),
        ("stage2=se(reduction=8!)", "cannot read the value '8!' of knob 'reduction' at stage2"),
        ("stage2=none(x=1)", "'none' at stage2 takes no knobs"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, told: str) -> None:
    with pytest.raises(PlacementError) as error:
        parse(text)
    assert told in str(error.value)
