"""The stores of objects that one suite of tests runs over."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cachekeep.blob.local import LocalBlobs
from cachekeep.blob.memory import MemoryBlobs
from cachekeep.blob.s3 import S3Blobs

if TYPE_CHECKING:
    from cachekeep.domain.blobs import BlobStore


@pytest.fixture(params=["memory", "folder", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    match request.param:
        case "memory":
            return MemoryBlobs()
        case "folder":
            return LocalBlobs(tmp_path / "not" / "there" / "yet")
        case _:
            bucket = request.getfixturevalue("s3_bucket")
            return S3Blobs(bucket, "some/prefix", endpoint=request.getfixturevalue("s3_endpoint"), timeout_s=20)
