"""What a card tells people who have only its files."""

from __future__ import annotations

from nas_attn.export.card import in_folder, without_folder
from nas_attn.recipe.recipe import DataSection


def test_a_card_has_no_folder_of_the_machine_that_searched() -> None:
    section = DataSection(name="folder:/home/mara/clinic/scans", root="/home/mara/data", size=64)
    shown = without_folder(section.model_dump(mode="json"))
    assert shown["name"] == "folder:scans"
    assert shown["root"] == "data"
    assert shown["size"] == 64
    given = DataSection(name="folder:scans").model_dump(mode="json")
    assert without_folder(given) == given


def test_the_folder_that_a_person_names_is_where_the_images_are() -> None:
    assert in_folder(DataSection(name="folder:scans"), "/data/scans").name == "folder:/data/scans"
    assert in_folder(DataSection(name="coco:scans"), "there").name == "coco:there"
    moved = in_folder(DataSection(name="cifar10"), "there")
    assert (moved.name, moved.root) == ("cifar10", "there")
