"""Runs the exported network beside this file on images: the validation images of its study, or
yours.

    # the validation images that the card names: the study's accuracy
    python NAME.score.py
    # the folder of photographs, if it has moved
    python NAME.score.py --root FOLDER
    # their classes
    python NAME.score.py a.jpg b.jpg
    # batches on standard input, answers on standard output
    python NAME.score.py --stream FORMAT FILE

Needs numpy, Pillow, and onnxruntime or torch by the network's format. nas_attn is not needed. In a
stream, a batch is a line with its shape and kind, then its bytes; so is an answer.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
BATCH = 64
# times the shorter side; what lies beyond it is never seen
LONGEST_STRIP = 16
# outside an image: the mean colour of photographs
PADDING_GREY = (124, 116, 104)


def send(pipe: IO[bytes], array: Array) -> None:
    """Writes an array; numpy's own format needs a seekable file."""
    pipe.write(
        json.dumps([array.shape, array.dtype.str]).encode()
        + b"\n"
        + np.ascontiguousarray(array).tobytes()
    )
    pipe.flush()


def receive(pipe: IO[bytes]) -> Array | None:
    """Reads an array; None at the end."""
    head = pipe.readline()
    if not head:
        return None
    shape, kind = json.loads(head)
    kind = np.dtype(kind)
    return np.frombuffer(pipe.read(int(np.prod(shape)) * kind.itemsize), kind).reshape(shape).copy()


def _onnx(path: str) -> Callable[[Array], Array]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]


def _program(path: str) -> Callable[[Array], Array]:
    import torch

    return runner(torch.export.load(path).module())


def runner(network: Any) -> Callable[[Array], Array]:
    """A torch network as a function of arrays."""
    import torch

    def run(x: Array) -> Array:
        with torch.no_grad():
            answer = network(torch.from_numpy(x))
        if isinstance(answer, list):
            return boxes(answer)
        output: Array = (answer["out"] if isinstance(answer, dict) else answer).numpy()
        return output

    return run


def boxes(answers: Any) -> Array:
    """A torchvision detector's boxes of N images: (N, K, 6), left, top, right, bottom, score,
    class; zeros if there are fewer.
    """
    rows = [np.hstack([o["boxes"], o["scores"][:, None], o["labels"][:, None]]) for o in answers]
    table = np.zeros((len(rows), max(map(len, rows)), 6), np.float32)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return table


RUNNERS = {
    "onnx": _onnx,
    "onnx-int8": _onnx,
    "torch": _program,
}


def decode(
    path: Path,
    size: tuple[int, int],
    bits: int = 16,
    resize: int | None = None,
    interpolation: str = "bilinear",
    fit: str = "cut",
) -> Any:
    """Reads one photograph as the study did.

    Args:
        path: of the photograph.
        size: height and width of the result in pixels.
        bits: how many are used of images with 16.
        resize: length of the scaled shorter side of a cut square in pixels; None: `size`.
        interpolation: one of Pillow's, `bilinear`.
        fit: cut, resize or letterbox.

    Returns:
        uint8 (3, height, width).
    """
    from PIL import Image, ImageOps

    longest = 2 * max(resize or 0, *size)
    how = Image.Resampling[interpolation.partition("-")[0].upper()]
    with Image.open(path) as opened:
        opened.draft("RGB", (longest, longest))
        image = ImageOps.exif_transpose(opened)
        if image.mode.startswith("I;16"):
            image = Image.fromarray(_as_bytes(np.asarray(image), bits))
        elif bits < 16 and (lower := _lower_bytes(path)) is not None:
            upper = np.asarray(image).astype(np.uint16)
            image = Image.fromarray(_as_bytes(upper << 8 | lower, bits))
        elif image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("RGB")
    image = _fitted(image, size, fit, resize, how)
    return np.asarray(image).transpose(2, 0, 1)


def _fitted(image: Any, size: tuple[int, int], fit: str, resize: int | None, how: Any) -> Any:
    """The image as large as the network's input."""
    from PIL import Image

    if fit == "cut":
        image = _middle(image)
    width, height = image.size
    down = size[0] / height
    across = size[1] / width
    if fit == "resize":
        return image.resize((size[1], size[0]), how)
    if fit == "letterbox":
        scale = min(down, across)
        whole = Image.new("RGB", (size[1], size[0]), PADDING_GREY)
        scaled = (max(1, round(scale * width)), max(1, round(scale * height)))
        whole.paste(image.resize(scaled, how))
        return whole
    shorter = resize or size[0]
    if size[0] != size[1]:
        scale = max(down, across)
        scaled = (max(size[1], round(scale * width)), max(size[0], round(scale * height)))
    elif width <= height:
        scaled = (shorter, int(shorter * height / width))
    else:
        scaled = (int(shorter * width / height), shorter)
    image = image.resize(scaled, how)
    left = round((image.width - size[1]) / 2.0)
    top = round((image.height - size[0]) / 2.0)
    return image.crop((left, top, left + size[1], top + size[0]))


def _middle(image: Any) -> Any:
    """The middle of a very long image, which would need gigabytes when its shorter side is
    enlarged.
    """
    width, height = image.size
    most = LONGEST_STRIP * min(image.size)
    left = max(0, (width - most) // 2)
    top = max(0, (height - most) // 2)
    return image.crop((left, top, width - left, height - top)) if left or top else image


def _as_bytes(values: Array, bits: int) -> Array:
    return (np.minimum(values, (1 << bits) - 1) >> (bits - 8)).astype(np.uint8)


def _lower_bytes(path: Path) -> Array | None:
    """The lower bytes of a colour image of 16 bits, of which Pillow gives the upper ones, read in
    the other order of bytes; None: it has 8 bits.
    """
    from PIL import Image, ImageOps

    native = "L" if sys.byteorder == "little" else "B"
    other = {"RGB;16L": "RGB;16B", "RGB;16B": "RGB;16L"}
    with Image.open(path) as again:
        for number, tile in enumerate(again.tile):
            first, *rest = tile.args if isinstance(tile.args, tuple) else (tile.args,)
            mode = str(first).replace(";16N", f";16{native}")
            if mode not in other:
                return None
            args = (other[mode], *rest) if isinstance(tile.args, tuple) else other[mode]
            again.tile[number] = tile._replace(args=args)
        return np.asarray(ImageOps.exif_transpose(again))


def prepared(images: Any, given: dict[str, Any]) -> Any:
    """uint8 (N, C, H, W) as the network takes it."""
    if given["normalised_inside"]:
        return images
    mean, std = (np.array(given[name], np.float32).reshape(-1, 1, 1) for name in ("mean", "std"))
    return ((images.astype(np.float32) / 255 - mean) / std).astype(np.float32)


def score() -> int:
    """Prints how many images are correct, or the class of each one."""
    here = Path(__file__).resolve()
    target = here.with_name(here.name.removesuffix(".score.py"))
    card = json.loads(target.with_name(f"{target.name}.json").read_text("utf-8"))
    asked = _asked(target.name)
    files = _files(asked, card["data"])
    missing = [path for path in files if not path.is_file()]
    if missing:
        where = "give photographs, or only --root FOLDER" if asked.images else "give --root FOLDER"
        what = "is a folder" if missing[0].is_dir() else "is not there"
        print(
            f"'{missing[0]}' {what} ({len(missing)} of {len(files)} images): {where}",
            file=sys.stderr,
        )
        return 2
    answers = _answers(target, card, files)
    if asked.images:
        for path, answer in zip(files, answers, strict=True):
            print(f"{path}: {card['output']['classes'][answer]}")
        return 0
    labels = [label for _, label in card["data"]["files"]]
    right = sum(answer == label for answer, label in zip(answers, labels, strict=True))
    measured = card["here"] or card["training"]
    print(
        f"{right} of {len(files)} validation images right ({100 * right / len(files):.2f} %);"
        f" card: {measured['right']}"
    )
    return 0


def _asked(network: str) -> argparse.Namespace:
    reader = argparse.ArgumentParser(description=f"Runs {network} on images.")
    reader.add_argument(
        "images", nargs="*", type=Path, help="photographs; none: the study's validation images"
    )
    reader.add_argument(
        "--root", type=Path, default=None, help="where the study's folder of photographs is now"
    )
    return reader.parse_args()


def _files(asked: argparse.Namespace, data: dict[str, Any]) -> list[Path]:
    """The user's photographs, or the study's validation images."""
    if asked.images:
        return list(asked.images)
    root = asked.root or Path(data["folder"])
    return [root / name for name, _ in data["files"]]


def _answers(target: Path, card: dict[str, Any], files: list[Path]) -> Iterator[int]:
    """The number of the class that the network finds for each photograph."""
    run = RUNNERS[card["format"]](str(target))
    for start in range(0, len(files), BATCH):
        images = [_image(path, card) for path in files[start : start + BATCH]]
        scores = run(prepared(np.stack(images), card["input"]))
        yield from scores.argmax(1).tolist()


def _image(path: Path, card: dict[str, Any]) -> Array:
    """A photograph as the study had it."""
    data = card["data"]
    section = data.get("section", {})
    # of the study's: `resize` and `interpolation`
    cut = {"fit": section.get("fit", "cut"), **section.get("options", {})}
    height, width = card["input"]["shape"][2:]
    try:
        image: Array = decode(path, (height, width), data.get("bits", 16), **cut)
    except Exception as error:
        # Pillow raises many kinds
        sys.exit(f"'{path}' cannot be read as an image ({error}): leave it out")
    return image


def stream(format_: str, path: str) -> None:
    """Reads batches and writes their outputs, until the input ends."""
    sys.modules["nas_attn"] = None  # type: ignore[assignment]  # whoever imports it gets an error
    run = RUNNERS[format_](path)
    target = sys.stdout.buffer
    # a backbone's prints must not mix with the outputs
    sys.stdout = sys.stderr
    while (x := receive(sys.stdin.buffer)) is not None:
        send(target, run(x))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--stream"]:
        stream(*sys.argv[2:])
    else:
        sys.exit(score())
