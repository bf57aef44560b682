"""Image files are opened as by Pillow alone, whatever other packages have put in the place of its
function.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from nas_attn.data.decoding import Cut, Source, decode_all
from nas_attn.data.image_file import opened_image
from nas_attn.data.looks import look_at

KINDS = ("avif", "bmp", "gif", "ico", "jpg", "pcx", "pgm", "png", "tga", "tif", "webp")
FOREIGN = """
from pathlib import Path
import ultralytics
import PIL.Image
import nas_attn.data.decoding as decoding
assert PIL.Image.open.__module__ == "ultralytics.utils.patches"
(read,) = decoding.decode_all([decoding.Source(Path("notes.jpg"))], decoding.Cut(8, 8))
print(read[2])
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A photograph of each kind, and broken files."""
    noise = np.random.default_rng(0).integers(0, 256, (9, 12, 3)).astype(np.uint8)
    for kind in KINDS:
        image = Image.fromarray(noise).resize((40, 30))
        image.convert("L" if kind == "pgm" else "RGB").save(tmp_path / f"photo.{kind}")
    (tmp_path / "misnamed.jpg").write_bytes((tmp_path / "photo.png").read_bytes())
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "notes.jpg").write_text("bread, milk\n")
    for kind in ("jpg", "png", "gif", "tif", "webp"):
        whole = (tmp_path / f"photo.{kind}").read_bytes()
        (tmp_path / f"head.{kind}").write_bytes(whole[:20])
        (tmp_path / f"half.{kind}").write_bytes(whole[: len(whole) // 2])
    return tmp_path


def read(path: Path, opener: object) -> tuple[object, ...]:
    """Format, mode, size and pixels, or the error."""
    try:
        with opener(path) as image:  # type: ignore[operator]
            pixels = np.asarray(image.convert("RGB")).tobytes()
            return image.format, image.mode, image.size, image.filename, pixels
    except (OSError, SyntaxError) as error:
        return type(error), str(error)


@pytest.mark.filterwarnings("ignore")  # Pillow's, of broken files
def test_files_are_read_as_by_pillow(folder: Path) -> None:
    files = sorted(folder.iterdir())
    assert len(files) == 24
    for file in files:
        assert read(file, opened_image) == read(file, Image.open), file.name


def test_an_image_beyond_pillows_limit_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(Image.DecompressionBombError), opened_image(folder / "photo.png"):
        pass


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another package's function in the place of Pillow's."""

    def theirs(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'pi_heif'")

    monkeypatch.setattr(Image, "open", theirs)


def test_why_a_file_is_not_read_is_its_own_fault(folder: Path, replaced: None) -> None:
    files = [Source(folder / "notes.jpg"), Source(folder / "photo.png")]
    for reasons in (
        [why for _, _, why in decode_all(files, Cut(8, 8))],
        [one.why for one in look_at(folder, files)],
    ):
        assert reasons == ["no image of a kind that is known here", ""]
    with pytest.raises(UnidentifiedImageError), opened_image(files[0].image):
        pass


@pytest.mark.extras("ultralytics")
def test_why_a_file_is_not_read_is_the_same_beside_ultralytics(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FOREIGN], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done
    assert done.stdout.splitlines()[-1] == "no image of a kind that is known here"
