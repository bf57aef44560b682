"""Files that are written whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas_attn.paths import write_whole


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
