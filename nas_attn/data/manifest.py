"""What the images of a study are: their names, classes and contents, by which a later command tells
whether they have changed, and what has.

Nothing here depends on the folder's place or on the times of its files.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from nas_attn.errors import several

# of changes, in the order in which they are said
KINDS = (
    "added",
    "removed",
    "with another content",
    "moved to another class",
    "with other boxes",
    "renamed",
    "in another split",
)
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


class _Image(NamedTuple):
    """One image, to be compared."""

    split: str
    # of its class, or of its boxes
    label: str
    content: int | None


# a name (empty: the image has none), and how often it or its content was there before
_Key = tuple[str, int | None, int]


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

    def changes(self, before: Manifest) -> dict[str, list[str]]:
        """Returns what differs from the images of before: kind of change -> names of images, empty
        for images without names. Images of the same content under two names are one.
        """
        then = before._images()
        now = self._images()
        removed = {key: then[key] for key in then if key not in now}
        old_names = {image.content: key for key, image in removed.items() if image.content}
        changes: defaultdict[str, list[str]] = defaultdict(list)
        for key, image in now.items():
            old_name = key if key in then else old_names.pop(image.content or 0, None)
            if old_name is None:
                changes["added"].append(key[0])
                continue
            removed.pop(old_name, None)
            for kind in _differences(then[old_name], image, renamed=old_name != key):
                changes[kind].append(key[0])
        changes["removed"] = [key[0] for key in removed]
        return {kind: sorted(changes[kind]) for kind in KINDS if changes[kind]}

    def described_changes(self, kept: str) -> str:
        """Says what differs from the `text` of an earlier manifest: `2 images added ('cat/1.png',
        'cat/2.png'), 1 image removed ('dog/7.png')`.
        """
        before = Manifest.from_text(kept)
        parts = []
        for kind, names in self.changes(before).items():
            named = [f"'{name}'" for name in names if name]
            shown = ", ".join([*named[:SHOWN_NAMES], *["…"][: len(named) - SHOWN_NAMES]])
            parts.append(f"{several(len(names), 'image')} {kind}{f' ({shown})' if shown else ''}")
        if before.classes != self.classes:
            parts.append(
                f"classes {', '.join(self.classes)} instead of {', '.join(before.classes)}"
            )
        return ", ".join(parts) or "the same images in another order"

    def _images(self) -> dict[_Key, _Image]:
        """All images; those without a name are told apart by their content."""
        listings = dict(self.splits)
        if self.unread is not None:
            listings["test"] = self.unread
        images: dict[_Key, _Image] = {}
        seen: Counter[tuple[str, int | None]] = Counter()
        for split, listing in listings.items():
            nothing = [None] * len(listing)
            contents = nothing if listing.content is None else listing.content.tolist()
            names = [""] * len(listing) if listing.names is None else listing.names.tolist()
            for name, label, content in zip(names, listing.labels.tolist(), contents, strict=True):
                # classes may have got other numbers
                is_class = 0 <= label < len(self.classes) and not listing.boxed
                called = self.classes[label] if is_class else f"\0{label}"
                key = (name, None if name else content)
                images[(*key, seen[key])] = _Image(split, called, content)
                seen[key] += 1
        return images


def _differences(old: _Image, new: _Image, *, renamed: bool) -> Iterator[str]:
    """The kinds of change of one image."""
    if old.label != new.label:
        yield "with other boxes" if new.label.startswith("\0") else "moved to another class"
    elif renamed:
        yield "renamed"
    if None not in (old.content, new.content) and old.content != new.content:
        yield "with another content"
    elif old.split != new.split and not renamed:
        # as when images are added to a folder that is divided by chance
        yield "in another split"


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
    """Returns a checksum of contents, one after the other: 64 bits, signed."""
    digest = hashlib.blake2b(digest_size=8)
    for content in contents:
        digest.update(content)
    return int.from_bytes(digest.digest(), "little", signed=True)
