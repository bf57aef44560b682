"""What twice the epochs have brought: the package ships what the table says."""

from __future__ import annotations

from nas_attn.answer.length import doublings
from research.length.usual import known, pools


def test_the_package_ships_what_the_table_says() -> None:
    assert list(doublings()) == pools(known())
