"""Artifacts in an S3 bucket."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Any, BinaryIO

from nas_attn.errors import StudyError, shorten
from nas_attn.storage.artifacts import checked_name
from nas_attn.system.importing import installing

SCHEME = "s3://"
_ADDRESS = re.compile(
    r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>[^\s?#]*))?"
)


class BucketArtifacts:
    """The objects of an S3 bucket whose keys begin with a prefix; boto3 finds credentials, region
    and endpoint.
    """

    def __init__(self, address: str) -> None:
        """Raises StudyError if the address is wrong, or boto3 is not installed."""
        match = _ADDRESS.fullmatch(address)
        if match is None:
            raise StudyError(
                f"artifacts '{shorten(address)}' has no bucket: give s3://BUCKET/PREFIX or a folder"
            )
        if find_spec("boto3") is None:
            raise StudyError(f"artifacts '{address}' needs boto3: {installing('s3')}")
        import boto3
        from optuna.artifacts import Boto3ArtifactStore

        self._bucket = match["bucket"]
        prefix = (match["prefix"] or "").strip("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._client: Any = boto3.client("s3")
        self._objects = Boto3ArtifactStore(self._bucket, self._client)

    def open_reader(self, artifact_id: str) -> BinaryIO:
        return self._objects.open_reader(self._prefix + checked_name(artifact_id))

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        self._objects.write(self._prefix + checked_name(artifact_id), content_body)

    def remove(self, artifact_id: str) -> None:
        self._objects.remove(self._prefix + checked_name(artifact_id))

    def sizes(self, beginning: str = "") -> dict[str, int]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix + beginning
        )
        return {
            entry["Key"].removeprefix(self._prefix): entry["Size"]
            for page in pages
            for entry in page.get("Contents", [])
        }

    def check(self) -> None:
        """Raises StudyError if the bucket is not there, or may not be used; says why."""
        try:
            self._client.head_bucket(Bucket=self._bucket)
        except Exception as error:
            # botocore has many kinds
            problem = (
                f"artifacts '{SCHEME}{self._bucket}/{self._prefix}' cannot be used"
                f" ({shorten(str(error), 160)})"
            )
            keys = "credentials as boto3 takes them (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL)"
            raise StudyError(f"{problem}: create the bucket, and give {keys}") from None
