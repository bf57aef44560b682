"""Artifacts in an S3 bucket."""

from __future__ import annotations

import io
import re
from importlib.util import find_spec
from typing import Any

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

        self._bucket = match["bucket"]
        prefix = (match["prefix"] or "").strip("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._client: Any = boto3.client("s3")

    def read(self, name: str) -> bytes:
        content: bytes = self._client.get_object(**self._object(name))["Body"].read()
        return content

    def write(self, name: str, content: bytes) -> None:
        # unlike put_object without a limit of size
        self._client.upload_fileobj(io.BytesIO(content), **self._object(name))

    def remove(self, name: str) -> None:
        self._client.delete_object(**self._object(name))

    def _object(self, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + checked_name(name)}

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
