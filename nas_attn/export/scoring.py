"""Runs the exported network beside this file on images: those that scored it in its study, or yours.

    python NAME.score.py                      # the validation images that the card names: the study's accuracy
    python NAME.score.py --root FOLDER        # where the folder of photographs lies now
    python NAME.score.py a.jpg b.jpg          # what they are

Needs numpy, Pillow, and onnxruntime or torch by the network's format. nas_attn is not needed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

BATCH = 64


def decode(path: Path, size: int) -> Any:
    """One photograph as the study saw it: uint8 (3, size, size), the shorter side scaled to `size`, the middle cut out."""
    with Image.open(path) as opened:
        opened.draft("RGB", (2 * size, 2 * size))
        image = ImageOps.exif_transpose(opened)
        if image.mode.startswith("I;16"):
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        elif image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("RGB")
    width, height = image.size
    if width <= height:
        image = image.resize((size, int(size * height / width)), Image.Resampling.BILINEAR)
    else:
        image = image.resize((int(size * width / height), size), Image.Resampling.BILINEAR)
    left, top = round((image.width - size) / 2.0), round((image.height - size) / 2.0)
    return np.asarray(image.crop((left, top, left + size, top + size))).transpose(2, 0, 1)


def prepared(images: Any, given: dict[str, Any]) -> Any:
    """uint8 (N, C, H, W) as the network takes it."""
    if given["normalised_inside"]:
        return images
    mean, std = (np.array(given[name], np.float32).reshape(-1, 1, 1) for name in ("mean", "std"))
    return ((images.astype(np.float32) / 255 - mean) / std).astype(np.float32)


def network(path: Path, format_: str) -> Callable[[Any], Any]:
    """What takes a batch and gives the classes' scores."""
    if format_ == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return lambda x: session.run(None, {session.get_inputs()[0].name: x})[0]
    import torch

    if format_ == "torch":
        model = torch.export.load(path).module()
    else:
        spec = importlib.util.spec_from_file_location("exported", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        model = module.load()

    def run(x: Any) -> Any:
        with torch.no_grad():
            return model(torch.from_numpy(np.ascontiguousarray(x))).numpy()

    return run


def main() -> int:
    """Prints what was right, or what each image is."""
    here = Path(__file__).resolve()
    target = here.with_name(here.name.removesuffix(".score.py"))
    card = json.loads(target.with_name(f"{target.name}.json").read_text("utf-8"))
    reader = argparse.ArgumentParser(description=f"Runs {target.name} on images.")
    reader.add_argument("images", nargs="*", type=Path, help="photographs; none: the study's validation images")
    reader.add_argument("--root", type=Path, default=None, help="where the study's folder of photographs lies now")
    asked = reader.parse_args()
    root = asked.root or Path(card["data"]["folder"])
    named = [(path, -1) for path in asked.images] or [(root / name, label) for name, label in card["data"]["files"]]
    missing = [path for path, _ in named if not path.is_file()]
    if missing:
        where = "name photographs, or none and --root FOLDER" if asked.images else "give --root FOLDER"
        what = "is a folder" if missing[0].is_dir() else "is not there"
        print(f"'{missing[0]}' {what} ({len(missing)} of {len(named)} images): {where}", file=sys.stderr)
        return 2
    run, size, classes = network(target, card["format"]), card["input"]["shape"][2], card["output"]["classes"]
    right = 0
    for start in range(0, len(named), BATCH):
        batch = named[start : start + BATCH]
        found = run(prepared(np.stack([decode(path, size) for path, _ in batch]), card["input"])).argmax(1)
        right += sum(int(answer == label) for answer, (_, label) in zip(found, batch, strict=True))
        for answer, (path, _) in zip(found, batch, strict=True):
            if asked.images:
                print(f"{path}: {classes[answer]}")
    if not asked.images:
        known = card["here"] or card["training"]
        print(
            f"{right} of {len(named)} validation images right ({100 * right / len(named):.2f} %); card: {known['right']}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
