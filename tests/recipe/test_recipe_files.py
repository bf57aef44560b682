"""Files: written whole or not at all; tables written as TOML read as they were."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_attn.errors import RecipeError
from nas_attn.recipe.reading import frozen_recipe, load_recipe, read_toml, shipped, write_toml
from nas_attn.system.paths import write_whole

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
VALUES = st.recursive(
    st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(TEXTS, VALUES, max_size=5))
def test_what_is_written_reads_as_it_was(table: dict[str, object]) -> None:
    assert read_toml(write_toml(table), "this") == table


@pytest.mark.parametrize(("begin", "end"), [("[", "]"), ("{ a = ", " }")])
def test_what_is_nested_too_deeply_is_one_sentence(begin: str, end: str) -> None:
    with pytest.raises(RecipeError, match=r"^this .*nested"):
        read_toml(f"x = {begin * 5000}{'1' if 'a' in begin else ''}{end * 5000}", "this")


def test_none_is_left_out_at_any_depth() -> None:
    table = {"a": None, "b": {"c": None, "d": {"e": None, "f": 1}}, "g": "x"}
    assert read_toml(write_toml(table), "this") == {"b": {"d": {"f": 1}}, "g": "x"}


def test_a_file_has_the_rights_of_a_new_one_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    for text in ("first", "ä second"):
        write_whole(tmp_path / "file.md", text)
        assert (tmp_path / "file.md").read_text("utf-8") == text
    assert (tmp_path / "file.md").stat().st_mode == (tmp_path / "usual").stat().st_mode
    assert {path.name for path in tmp_path.iterdir()} == {"file.md", "usual"}


def test_what_cannot_be_written_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    write_whole(tmp_path / "file.md", "whole")
    with pytest.raises(UnicodeEncodeError):
        write_whole(tmp_path / "file.md", "half \ud800")
    assert (tmp_path / "file.md").read_text("utf-8") == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["file.md"]


def test_a_recipe_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    text = shipped("studies")["digits"]
    (tmp_path / "mine.toml").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert load_recipe(str(tmp_path / "mine.toml")) == load_recipe("digits")
    (tmp_path / "wide.toml").write_bytes(text.encode("utf-16"))
    with pytest.raises(RecipeError, match="UTF-8"):
        load_recipe(str(tmp_path / "wide.toml"))


@pytest.mark.parametrize("path", [r"C:\Users\new\photos", r"D:\photos", r"C:\new\temp"])
def test_a_path_with_backslashes_is_explained(tmp_path: Path, path: str) -> None:
    text = shipped("studies")["digits"].replace(
        '[data]\nname = "digits"', f'[data]\nname = "folder:{path}"'
    )
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(RecipeError, match=r"a backslash begins an escape.*single quotes"):
        load_recipe(str(tmp_path / "mine.toml"))


def test_a_study_that_had_a_prior_opens_without_it_and_no_new_one_has_it() -> None:
    recipe = load_recipe("digits")
    kept = json.loads(recipe.to_json())
    kept["search"]["prior"] = "published"
    assert frozen_recipe(json.dumps(kept), where="a study").model_dump() == recipe.model_dump()
    with pytest.raises(RecipeError, match=r"unknown key 'search\.prior'"):
        load_recipe("digits", overrides={"search.prior": "published"})


@pytest.mark.parametrize("name", ["flops", "GFLOPs"])
def test_who_asks_for_operations_is_told_of_multiplications(name: str) -> None:
    with pytest.raises(RecipeError, match=f"unknown objective '{name}': did you mean 'macs'"):
        load_recipe("digits", overrides={"objectives": ["accuracy", name]})
