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
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, Self

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


# an image: its name (empty: it has none), and without one its content; how many alike were before
_Key = tuple[str, int | None, int]
# its class, or the checksum of its boxes; its content, None: not read
_Digest = tuple[str, int | None]


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

    def described_changes(self, kept: str) -> str:
        """Says what differs from the `text` of an earlier manifest: `2 images added, 1 changed`."""
        before = Manifest.from_text(kept)
        then = before._digests()
        now = self._digests()
        counts = {
            "added": len(now.keys() - then),
            "removed": len(then.keys() - now),
            "changed": sum(_differ(then[key], now[key]) for key in then.keys() & now),
        }
        parts = [f"{several(count, 'image')} {how}" for how, count in counts.items() if count]
        if before.classes != self.classes:
            parts.append(
                f"classes {', '.join(self.classes)} instead of {', '.join(before.classes)}"
            )
        return ", ".join(parts) or "the same images in another order, or in other splits"

    def _digests(self) -> dict[_Key, _Digest]:
        """What is known of each image, whichever its split: a folder that is divided by chance is
        divided otherwise when images are added.
        """
        digests: dict[_Key, _Digest] = {}
        alike: Counter[tuple[str, int | None]] = Counter()
        unread = [] if self.unread is None else [self.unread]
        for listing in [*self.splits.values(), *unread]:
            contents = repeat(None) if listing.content is None else listing.content.tolist()
            names = repeat("") if listing.names is None else listing.names.tolist()
            for label, name, content in zip(listing.labels.tolist(), names, contents):  # noqa: B905 - without an end
                # classes may have got other numbers
                is_class = 0 <= label < len(self.classes) and not listing.boxed
                key = (name, None if name else content)
                label_text = self.classes[label] if is_class else str(label)
                digests[(*key, alike[key])] = (label_text, content)
                alike[key] += 1
        return digests


def _differ(old: _Digest, new: _Digest) -> bool:
    """Whether an image is another one now, as far as both are known."""
    same_content = None in (old[1], new[1]) or old[1] == new[1]
    return old[0] != new[0] or not same_content


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
