"""Files that someone is given or has collected, spoiled: images, masks, labels, annotations,
groups, exported networks and their cards.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from slips import SPACE, Case, flipped, letters, spoiled

TESTS = Path(__file__).resolve().parents[1]
RECIPE = """name = "received"
space = "mine_space.toml"
objectives = ["accuracy", "params"]
backbone = { name = "resnet8", width = 4 }
data = { name = "folder:photos", size = 12 }
search = { trials = 4, baselines = "bare", confirm_seeds = 0 }
[training]
start = "scratch"
rungs = [1]
batch_size = 8
"""
LOOK = ["search", "received.toml", "--dry-run"]
STRANGE: tuple[Any, ...] = (
    *(None, "", "x", -1, 0, 2**62, 1e308, float("nan"), True, [], {}, [[]]),
    *("9" * 5000, "../../x", "os:system", "é\x1b[2J"),
)


def _files(**more: bytes) -> dict[str, bytes]:
    return {
        "received.toml": RECIPE.encode(),
        "mine_space.toml": SPACE.replace("exclude", "# exclude").encode(),
        **more,
    }


@cache
def picture(number: int, form: str = "PNG", mode: str = "RGB", *, masked: bool = False) -> bytes:
    """A small image, or a mask of two classes, as the bytes of its file."""
    noise = np.random.default_rng(number).integers(
        0, 2 if masked else 256, (14, 13 + number % 3, 3), dtype=np.uint8
    )
    image = Image.fromarray(noise[..., 0]) if masked else Image.fromarray(noise).convert(mode)
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


def _bomb_png(side: int) -> bytes:
    """A black image of `side` x `side` pixels in a small file."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + name
            + content
            + struct.pack(">I", zlib.crc32(name + content))
        )

    packer = zlib.compressobj(9)
    row = bytes(1 + side // 8)
    rows = b"".join(packer.compress(row) for _ in range(min(side, 20_000))) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@cache
def _bomb_gzip() -> bytes:
    """2.5 GB of zeros, as someone might send them for a data set."""
    return gzip.compress(bytes(2**26)) * 40


def _spoiled_image(rng: random.Random, blob: bytes) -> bytes:
    what = rng.randrange(8)
    if what < 4:
        return flipped(rng, blob)
    if what == 4:
        return rng.choice(
            (
                b"",
                b"no image\n",
                b"GIF89a",
                b"\xff\xd8\xff",
                b"BM" + bytes(60),
                b"<svg/>",
                bytes(3000),
            )
        )
    if what == 5:
        return _bomb_png(rng.choice((9_000, 12_000, 30_000, 60_000)))
    form, mode = rng.choice(
        (
            ("JPEG", "CMYK"),
            ("GIF", "P"),
            ("TIFF", "F"),
            ("PNG", "I;16"),
            ("PNG", "1"),
            ("WEBP", "RGBA"),
        )
    )
    return picture(7, form, mode if mode != "I;16" else "L")


def images(rng: random.Random) -> Case:
    photos = {f"photos/{name}/{i}.png": picture(i) for name in ("cat", "dog") for i in range(9)}
    for name in rng.sample(sorted(photos), rng.choice((1, 1, 3))):
        blob = photos.pop(name)
        new_name = name
        if rng.random() < 0.2:
            folder = rng.choice(("cat", "new", ".hidden", "a b", "cat/deeper"))
            new_name = f"photos/{folder}/{rng.choice(('é.png', ' .jpg', 'x.PNG'))}"
        photos[new_name] = _spoiled_image(rng, blob)
    skip = ["--set", "data.broken_images=skip"] if rng.random() < 0.3 else []
    if rng.random() < 0.3:
        return Case(["init", "new.toml", "--data", "folder:photos"], _files(**photos))
    return Case([*LOOK, *skip], _files(**photos))


def groups(rng: random.Random) -> Case:
    photos = {f"photos/{name}/{i}.png": picture(i) for name in ("cat", "dog") for i in range(9)}
    lines = [
        "image,group",
        *(f"{name.removeprefix('photos/')},{'abcdef'[i % 6]}" for i, name in enumerate(photos)),
    ]
    table = spoiled(rng, "\n".join(lines))
    return Case(
        [*LOOK, "--set", 'data.groups={file="groups.csv"}'],
        _files(**photos, **{"groups.csv": table}),
    )


def masks(rng: random.Random) -> Case:
    files = {"roads/classes.txt": b"ground\nroad\n"}
    for i in range(14):
        files |= {
            f"roads/images/{i}.png": picture(i),
            f"roads/masks/{i}.png": picture(i, masked=True),
        }
    what, name = rng.randrange(4), f"roads/masks/{rng.randrange(14)}.png"
    if what == 0:
        files["roads/classes.txt"] = rng.choice(
            (b"", b"one\n", b"a\na\n", b"\xff\xfe", b"\n".join([b"x"] * 300), spoiled(rng, "a\nb"))
        )
    elif what == 1:
        del files[name]
    else:
        files[name] = rng.choice(
            (
                picture(3),
                picture(3, mode="P"),
                picture(4, mode="L"),
                _spoiled_image(rng, files[name]),
            )
        )
    options = {
        "task.name": "segmentation",
        "objectives": '["mean_iou", "params"]',
        "backbone.name": "segmenter:build",
        "data.name": "folder:roads",
    }
    files["segmenter.py"] = (TESTS / "segmenter.py").read_bytes()
    files["received.toml"] = RECIPE.replace(", width = 4", "").encode()
    return Case([*LOOK, *_set(options)], {**_files(), **files})


def _set(options: dict[str, str]) -> list[str]:
    return [part for name, value in options.items() for part in ("--set", f"{name}={value}")]


def published(rng: random.Random) -> Case:
    files = {}
    for part, count in (("train", 40), ("t10k", 10)):
        for what, shape in (("images-idx3", (count, 12, 12)), ("labels-idx1", (count,))):
            content = (
                np.random.default_rng(count).integers(0, 256, shape)
                if what[0] == "i"
                else np.arange(count) % 10
            )
            head = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">i4").tobytes()
            files[f"{part}-{what}-ubyte"] = head + content.astype(np.uint8).tobytes()
    name = rng.choice(("train-images-idx3-ubyte", "train-labels-idx1-ubyte"))
    change = rng.randrange(4)
    if change == 0:
        files[f"{name}.gz"] = rng.choice(
            (_bomb_gzip(), files[name], b"\x1f\x8b", flipped(rng, gzip.compress(files[name])))
        )
        del files[name]
    elif change == 1:
        sizes = [rng.choice((-1, 0, 1, 40, 2**31 - 1)) for _ in range(rng.choice((0, 1, 3, 200)))]
        files[name] = (
            bytes([0, 0, 8, len(sizes)]) + np.array(sizes, ">i4").tobytes() + files[name][16:]
        )
    else:
        files[name] = flipped(rng, files[name])
    inside = {f"idx/{name}": blob for name, blob in files.items()}
    return Case([*LOOK, *_set({"data.name": "mnist", "data.root": "idx"})], _files(**inside))


def annotated(rng: random.Random) -> Case:
    files = {
        "detector.py": (TESTS / "detector.py").read_bytes(),
        "received.toml": RECIPE.replace(", width = 4", "").encode(),
    }
    for split, count in (("train", 10), ("val", 4)):
        files |= {f"things/{split}/{i}.png": picture(i) for i in range(count)}
        seen = [
            {"id": i, "file_name": f"{i}.png", "width": 13 + i % 3, "height": 14}
            for i in range(count)
        ]
        boxes = [
            {
                "id": i,
                "image_id": i,
                "category_id": 3 + i % 2,
                "bbox": [1, 2, 8, 9],
                "area": 72,
                "iscrowd": 0,
            }
            for i in range(count)
        ]
        content = {
            "images": seen,
            "annotations": boxes,
            "categories": [{"id": 3, "name": "a"}, {"id": 4, "name": "b"}],
        }
        text = spoiled_json(rng, content) if split == "train" else json.dumps(content).encode()
        files[f"things/annotations/instances_{split}.json"] = text
    options = {
        "task.name": "detection",
        "objectives": '["map50_95", "params"]',
        "backbone.name": "detector:build",
        "data.name": "coco:things",
        "data.size": "32",
    }
    return Case([*LOOK, *_set(options)], {**_files(), **files})


def cards(rng: random.Random, files: Sequence[str] = ("received.pt",)) -> Case:
    """An exported network whose card or file is not as we wrote it."""
    seed, part, file = rng.getrandbits(64), rng.random(), rng.choice(files)

    def spoil(folder: Path) -> None:
        own, path, card = random.Random(seed), folder / file, folder / f"{file}.json"
        if part < 0.75:
            card.write_bytes(spoiled_json(own, json.loads(card.read_text("utf-8"))))
            return
        path.write_bytes(flipped(own, path.read_bytes()))
        facts = json.loads(card.read_text("utf-8"))
        card.write_text(
            json.dumps({**facts, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}), "utf-8"
        )

    return Case(["validate-export", file], base="exported", spoil=spoil, damaged=True)


def spoiled_json(rng: random.Random, content: Any) -> bytes:
    """A JSON file after a mishap or two."""
    if rng.random() < 0.15:
        return rng.choice(
            (
                b"",
                b"[]",
                b"{}",
                b"null",
                b"[" * 100_000,
                b"\xff\xfe{",
                flipped(rng, json.dumps(content).encode()),
            )
        )
    content = json.loads(json.dumps(content))
    for _ in range(rng.choice((1, 1, 2))):
        places = list(_places(content))
        inside, key = rng.choice(places)
        if (what := rng.random()) < 0.25:
            del inside[key]
        elif what < 0.4 and isinstance(inside, dict):
            inside[letters(rng, key)] = inside.pop(key)
        else:
            inside[key] = rng.choice(STRANGE)
        content = content or {"": 0}
    return json.dumps(content).encode()


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    """(dict or list, key) of everything in it, at any depth."""
    for key, value in content.items() if isinstance(content, dict) else enumerate(content):
        yield content, key
        if isinstance(value, dict | list):
            yield from _places(value)


KINDS: dict[str, Callable[[random.Random], Case]] = {
    "image": images,
    "groups": groups,
    "masks": masks,
    "published": published,
    "card": cards,
}
if find_spec("pycocotools"):
    KINDS["annotations"] = annotated
