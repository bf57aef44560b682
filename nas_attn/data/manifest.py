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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_attn.errors import several


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

    def as_json(self) -> dict[str, Any]:
        """In JSON's types."""
        return {
            "labels": self.labels.tolist(),
            "names": None if self.names is None else self.names.tolist(),
            "content": None if self.content is None else self.content.astype("<i8").tobytes().hex(),
            "boxed": self.boxed,
        }


@dataclass(frozen=True, eq=False)
class Manifest:
    """The images of a data set."""

    classes: tuple[str, ...]
    # name of a split -> its images, which decide the digest
    splits: Mapping[str, Listing]
    # names and classes of images that were not read: those of the test. They do not decide the
    # digest, but without them an image that came from there would count as added.
    unread: Listing | None = None

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
        content = {
            "classes": self.classes,
            "splits": {split: listing.as_json() for split, listing in self.splits.items()},
            "unread": None if self.unread is None else self.unread.as_json(),
        }
        return base64.b85encode(zlib.compress(json.dumps(content).encode())).decode()

    def described_changes(self, kept: str) -> str:
        """Says what differs from the `text` of an earlier manifest: `2 images added, 1 changed`."""
        before, after = (
            json.loads(zlib.decompress(base64.b85decode(text))) for text in (kept, self.text)
        )
        then, now = map(_known, (before, after))
        counts = {
            "added": len(now.keys() - then),
            "removed": len(then.keys() - now),
            "changed": sum(_differ(then[key], now[key]) for key in then.keys() & now),
        }
        parts = [f"{several(count, 'image')} {how}" for how, count in counts.items() if count]
        if before["classes"] != after["classes"]:
            parts.append(
                f"classes {', '.join(self.classes)} instead of {', '.join(before['classes'])}"
            )
        return ", ".join(parts) or "the same images in another order, or in other splits"


def _known(manifest: Mapping[str, Any]) -> dict[object, tuple[str, str]]:
    """The name of an image, and how many were called so before it; without a name its content ->
    its class or the checksum of its boxes, and its content, empty if it was not read. Of all
    splits: a folder that is divided by chance is divided otherwise when images are added.
    """
    known: dict[object, tuple[str, str]] = {}
    alike = Counter[str]()
    classes = manifest["classes"]
    unread = manifest["unread"]
    for row in [*manifest["splits"].values(), *([unread] if unread else [])]:
        content = row["content"] or ""
        for at, label in enumerate(row["labels"]):
            # classes may have got other numbers
            is_class = 0 <= label < len(classes) and not row["boxed"]
            # 8 bytes in hexadecimal digits
            own = content[16 * at : 16 * at + 16]
            key = row["names"][at] if row["names"] else own
            known[key, alike[key]] = (classes[label] if is_class else str(label), own)
            alike[key] += 1
    return known


def _differ(old: tuple[str, str], new: tuple[str, str]) -> bool:
    """Whether an image is another one now, as far as both are known."""
    return old[0] != new[0] or (old[1] != new[1] and "" not in (old[1], new[1]))


def checksum(contents: Iterable[bytes]) -> int:
    """Returns a checksum of contents, one after the other: 64 bits, signed."""
    digest = hashlib.blake2b(digest_size=8)
    for content in contents:
        digest.update(content)
    return int.from_bytes(digest.digest(), "little", signed=True)
