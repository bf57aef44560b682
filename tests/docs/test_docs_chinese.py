"""The Chinese pages say as much as the English ones: the same sections, the same code, the same
pictures.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from documented import FENCE, ROOT

PAGES = (("docs/get-started/quickstart.md", "docs/zh/quickstart.md"),)


def outline(text: str) -> list[tuple[str, list[str], list[str]]]:
    """(level, what its blocks of code do, what else is code in it) of each section."""
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    found = []
    for part in re.split(
        r"^(?=#+ )",
        FENCE.sub(lambda block: block[0].replace("\n#", "\n\0"), text),
        flags=re.MULTILINE,
    )[1:]:
        code = [re.sub(r"\s*[#\0].*", "", block) for _, block in FENCE.findall(part)]
        inline = (
            " ".join(words.split()) for words in re.findall(r"`([^`]+)`", FENCE.sub("", part))
        )
        found.append((part.split(" ")[0], code, sorted(inline)))
    return found


@pytest.mark.parametrize(("english", "chinese"), PAGES)
def test_sections_code_and_pictures_are_those_of_the_english_page(
    english: str, chinese: str
) -> None:
    ours, theirs = ((ROOT / page).read_text("utf-8") for page in (chinese, english))
    assert outline(ours) == outline(theirs), f"{chinese} is not up to date with {english}"
    pictures = [
        [Path(name).name for name in re.findall(r"!\[.+?\]\((.+?)\)", text)]
        for text in (ours, theirs)
    ]
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize("page", [chinese for _, chinese in PAGES])
def test_it_is_written_in_chinese(page: str) -> None:
    text = FENCE.sub("", (ROOT / page).read_text("utf-8"))
    assert {"注意力", "主干网络", "消融实验", "延迟"} <= set(
        re.findall("注意力|主干网络|消融实验|延迟", text)
    )
    paragraphs = [
        part
        for part in text.split("\n\n")
        if len(part) > 80 and not part.startswith(("!", "|", "<!--"))
    ]
    assert all(re.search(r"[\u4e00-\u9fff]{5}", part) for part in paragraphs)
