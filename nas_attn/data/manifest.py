"""What the images of a study are: their names, classes and contents, by which a later command tells
whether they have changed, and what has.

Nothing here depends on the folder's place or on the times of its files.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nas_attn.errors import several

# examples of each kind of change
SHOWN_NAMES = 3


@dataclass(frozen=True, eq=False)
class Listing:
    """The images of one split, in order."""

    # (N,): index into the classes, or a checksum of the image's boxes
    labels: NDArray[np.int64]
    # (N,): path below the data's folder, with `/`; None: the images have no names
    names: NDArray[np.str_] | None = None
    # (N,): checksum of each image and its mask; None: not read, or another one at each reading
    content: NDArray[np.int64] | None = None
    # whether the labels are checksums of boxes
    boxed: bool = False

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class _Image:
    split: str
    label: str
    content: int | None


@dataclass(frozen=True)
class Changes:
    """How the images of a data set differ from earlier ones: names, or numbers without names."""

    added: Sequence[str] = ()
    removed: Sequence[str] = ()
    # same name, other content
    rewritten: Sequence[str] = ()
    # same image, another class
    relabelled: Sequence[str] = ()
    # same image, other boxes
    boxed: Sequence[str] = ()
    renamed: Sequence[str] = ()
    # same image, in another split now, as when images are added to a folder that is divided by
    # chance
    moved: Sequence[str] = ()
    # before and now, if they differ
    classes: tuple[Sequence[str], Sequence[str]] | None = None

    def text(self) -> str:
        """`2 images added ('cat/1.png', 'cat/2.png'), 1 removed ('dog/7.png')`."""
        kinds = {
            "added": self.added,
            "removed": self.removed,
            "with another content": self.rewritten,
            "moved to another class": self.relabelled,
            "with other boxes": self.boxed,
            "renamed": self.renamed,
            "in another split": self.moved,
        }
        parts = [_counted(names, what) for what, names in kinds.items() if names]
        if self.classes is not None:
            before, now = self.classes
            parts.append(f"classes {', '.join(now)} instead of {', '.join(before)}")
        return ", ".join(parts) or "the same images in another order"


def _counted(names: Sequence[str], what: str) -> str:
    named = [name for name in names if name]
    examples = ", ".join(f"'{name}'" for name in named[:SHOWN_NAMES])
    if len(named) > SHOWN_NAMES:
        examples += ", …"
    return f"{several(len(names), 'image')} {what}" + (f" ({examples})" if examples else "")


@dataclass(frozen=True, eq=False)
class Manifest:
    """The images of a data set."""

    classes: tuple[str, ...]
    # name of a split -> its images, which decide the digest
    splits: Mapping[str, Listing]
    # names and classes of images that were not read: those of the test. They do not decide the
    # digest, but without them an image that came from there would count as added.
    unread: Listing | None = field(default=None)

    @property
    def digest(self) -> str:
        """Equal for equal images, classes and splits."""
        hashed = hashlib.blake2b(digest_size=16)
        hashed.update(json.dumps(self.classes).encode())
        for split, listing in self.splits.items():
            hashed.update(f"{split} {len(listing)}".encode())
            hashed.update(listing.labels.astype("<i8").tobytes())
            if listing.names is not None:
                hashed.update(json.dumps(listing.names.tolist()).encode())
            if listing.content is not None:
                hashed.update(listing.content.astype("<i8").tobytes())
        return hashed.hexdigest()

    @property
    def has_content(self) -> bool:
        """Whether each image can be told from another one in its place."""
        return all(listing.content is not None for listing in self.splits.values())

    @property
    def text(self) -> str:
        """As compressed JSON, in letters."""
        rows = {split: _as_json(listing) for split, listing in self.splits.items()}
        content = {
            "classes": self.classes,
            "splits": rows,
            "unread": None if self.unread is None else _as_json(self.unread),
        }
        return base64.b85encode(zlib.compress(json.dumps(content).encode())).decode()

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The manifest of a `text`. Raises ValueError: it is damaged."""
        try:
            content = json.loads(zlib.decompress(base64.b85decode(text)))
            unread = content["unread"]
            return cls(
                tuple(content["classes"]),
                {split: _listing(row) for split, row in content["splits"].items()},
                None if unread is None else _listing(unread),
            )
        except (zlib.error, KeyError, TypeError) as error:
            raise ValueError(f"no manifest: {error}") from None

    def changes(self, before: Manifest) -> Changes:
        """What is different from the images of before."""
        then = _images(before)
        now = _images(self)
        gone = {key: then[key] for key in then if key not in now}
        come = {key: now[key] for key in now if key not in then}
        relabelled: list[str] = []
        renamed: list[str] = []
        for old, new in _pairs(gone, come):
            (relabelled if gone[old].label != come[new].label else renamed).append(_name(new))
            del gone[old], come[new]
        rewritten: list[str] = []
        moved: list[str] = []
        boxed: list[str] = []
        for key in then.keys() & now.keys():
            old_image = then[key]
            new_image = now[key]
            if old_image.label != new_image.label:
                (boxed if new_image.label.isdecimal() else relabelled).append(_name(key))
            if _differ(old_image.content, new_image.content):
                rewritten.append(_name(key))
            elif old_image.split != new_image.split:
                moved.append(_name(key))
        others = None
        if before.classes != self.classes:
            others = (before.classes, self.classes)
        return Changes(
            added=sorted(map(_name, come)),
            removed=sorted(map(_name, gone)),
            rewritten=sorted(rewritten),
            relabelled=sorted(relabelled),
            boxed=sorted(boxed),
            renamed=sorted(renamed),
            moved=sorted(moved),
            classes=others,
        )


# A name, or the content of an image without a name; and how often it was there before.
_Key = tuple[str, int]


def _name(key: _Key) -> str:
    return "" if key[0].startswith("\0") else key[0]


def _differ(one: int | None, other: int | None) -> bool:
    return one is not None and other is not None and one != other


def _images(manifest: Manifest) -> dict[_Key, _Image]:
    """All images. Those without a name are told apart by their content."""
    listings = dict(manifest.splits)
    if manifest.unread is not None:
        listings["test"] = manifest.unread
    images: dict[_Key, _Image] = {}
    seen: Counter[str] = Counter()
    for split, listing in listings.items():
        for number, label in enumerate(listing.labels.tolist()):
            content = None
            if listing.content is not None:
                content = int(listing.content[number])
            if listing.names is None:
                name = f"\0{content}"
            else:
                name = str(listing.names[number])
            is_class = 0 <= label < len(manifest.classes) and not listing.boxed
            called = f"class {manifest.classes[label]}" if is_class else str(label)
            images[name, seen[name]] = _Image(split, called, content)
            seen[name] += 1
    return images


def _pairs(gone: Mapping[_Key, _Image], come: Mapping[_Key, _Image]) -> Iterator[tuple[_Key, _Key]]:
    """Names before and now of images that were moved: those of the same content; if one of the two
    was not read, those of the same file name.
    """
    left = {key: image for key, image in come.items() if _name(key)}
    by_content: dict[int, list[_Key]] = {}
    for key, image in left.items():
        if image.content is not None:
            by_content.setdefault(image.content, []).append(key)
    unpaired = []
    pairs = []
    for key, image in gone.items():
        same = None
        if image.content is not None:
            same = by_content.get(image.content)
        if same and _name(key):
            pairs.append((key, same.pop(0)))
            del left[pairs[-1][1]]
        else:
            unpaired.append(key)
    by_file: dict[str, list[_Key]] = {}
    for key in left:
        by_file.setdefault(_name(key).rpartition("/")[2], []).append(key)
    for key in unpaired:
        for other in by_file.get(_name(key).rpartition("/")[2], ()) if _name(key) else ():
            if gone[key].content is None or come[other].content is None:
                pairs.append((key, other))
                by_file[_name(key).rpartition("/")[2]].remove(other)
                break
    yield from pairs


def _as_json(listing: Listing) -> dict[str, Any]:
    names = listing.names
    content = listing.content
    return {
        "labels": listing.labels.tolist(),
        "names": None if names is None else names.tolist(),
        "content": None if content is None else content.astype("<i8").tobytes().hex(),
        "boxed": listing.boxed,
    }


def _listing(row: Mapping[str, Any]) -> Listing:
    content = row["content"]
    return Listing(
        np.array(row["labels"], np.int64),
        None if row["names"] is None else np.array(row["names"], np.str_),
        None if content is None else np.frombuffer(bytes.fromhex(content), "<i8"),
        bool(row["boxed"]),
    )


def checksum(contents: Iterable[bytes]) -> int:
    """Of the contents of files, one after the other; 64 bits, signed."""
    digest = hashlib.blake2b(digest_size=8)
    for content in contents:
        digest.update(content)
    return int.from_bytes(digest.digest(), "little", signed=True)
