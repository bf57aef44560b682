"""Photographs as people have them: of all formats, in folders of all kinds, some of them broken."""

from __future__ import annotations

from pathlib import Path

import pytest
from answers import TINY, finished, settings
from materials import photographs
from PIL import Image
from shell import Shell

pytestmark = pytest.mark.slow
SMALL = settings(TINY, data__size="16", space="small", search__trials="8")


def search(shell: Shell, data: str, more: str = "", warns: tuple[str, ...] = ()) -> None:
    """What `init` writes for a folder, searched with two workers."""
    shell.types(f"init study.toml --data '{data}' --backbone resnet8 --yes")
    shell.types(f"search study.toml --workers 2 --threads 1 {SMALL} {more}", warns=warns)
    finished(shell, "study", trials=8)


def in_other_formats(folder: Path) -> None:
    """Rewrites one photograph of each class in each of the formats that people have."""
    for classes in folder.iterdir():
        files = sorted(classes.glob("*.jpg"))
        kinds = [("L", ".png"), ("P", ".gif"), ("RGBA", ".webp"), ("CMYK", ".jpeg"), ("1", ".bmp"), ("I;16", ".tiff")]
        for (mode, suffix), path in zip(kinds, files, strict=False):
            with Image.open(path) as photograph:
                gray = photograph.convert("L") if mode == "I;16" else photograph
                gray.convert(mode).save(path.with_suffix(suffix))
            path.unlink()


def test_all_formats_in_a_folder_with_blanks_and_umlauts(shell: Shell) -> None:
    folder = shell.folder / "meine Fotos (größer)"
    photographs(folder)
    in_other_formats(folder)
    search(shell, f"folder:{folder.name}")


def test_broken_images_are_refused_or_left_out_with_one_warning(shell: Shell) -> None:
    photographs(shell.folder / "photos")
    whole = (shell.folder / "photos" / "cat" / "000.jpg").read_bytes()
    (shell.folder / "photos" / "cat" / "torn.jpg").write_bytes(whole[: len(whole) // 2])
    (shell.folder / "photos" / "dog" / "text.jpg").write_text("no photograph")
    shell.types("init study.toml --data folder:photos --backbone resnet8 --yes")
    error = shell.types(f"search study.toml --workers 2 {SMALL}", status=2).error
    assert "torn.jpg" in error or "text.jpg" in error
    assert "nas_attn.db" not in shell.files()
    shell.types("init --force study.toml --data folder:photos --backbone resnet8 --yes")
    shell.types(f"search study.toml --workers 2 --threads 1 {SMALL} --set data.broken_images=skip", warns=["torn.jpg"])
    finished(shell, "study", trials=8)
