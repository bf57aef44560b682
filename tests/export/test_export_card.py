"""What a card tells people who have only its files."""

from __future__ import annotations

from nas_attn.export.card import in_folder, without_folders
from nas_attn.recipe.recipe import DataSection
from nas_attn.recipe.sections import CocoSection, GroupsSection


def test_a_card_has_no_folder_of_the_machine_that_searched() -> None:
    section = DataSection(
        name="folder:/home/mara/clinic/scans",
        root="/home/mara/data",
        size=64,
        groups=GroupsSection(file="/home/mara/patients.csv"),
    )
    recipe = {
        "data": section.model_dump(mode="json"),
        "coco": CocoSection(train="/home/mara/labels.json").model_dump(mode="json"),
        "training": {"weights": "/home/mara/own.pt"},
        "backbone": {"name": "ultralytics:/home/mara/patients/best.pt"},
        "sources": [{"title": "own.py:net"}, {"paper": "https://arxiv.org/abs/1709.01507"}],
        "target": {"weights": "~/mara/own.pt", "evaluator": "../mara/trained.py:score"},
    }
    shown = without_folders(recipe)
    assert "mara" not in str(shown)
    assert (shown["data"]["name"], shown["data"]["root"]) == ("folder:scans", "data")
    assert (shown["coco"]["train"], shown["data"]["size"]) == ("labels.json", 64)
    assert shown["training"]["weights"] == "own.pt"
    assert shown["backbone"]["name"] == "ultralytics:best.pt"
    assert shown["sources"] == recipe["sources"]
    assert shown["target"] == {"weights": "own.pt", "evaluator": "trained.py:score"}
    given = DataSection(name="folder:scans").model_dump(mode="json")
    assert without_folders(given) == given


def test_the_folder_that_a_person_names_is_where_the_images_are() -> None:
    assert in_folder(DataSection(name="folder:scans"), "/data/scans").name == "folder:/data/scans"
    assert in_folder(DataSection(name="coco:scans"), "there").name == "coco:there"
    moved = in_folder(DataSection(name="cifar10"), "there")
    assert (moved.name, moved.root) == ("cifar10", "there")
