"""The stores of objects that one suite of tests runs over."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cachekeep.blob.local import LocalBlobs
from cachekeep.blob.memory import MemoryBlobs
from cachekeep.blob.s3 import S3Blobs

if TYPE_CHECKING:
    from cachekeep.domain.blobs import BlobStore

_buckets = count(1)


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that speaks S3, of this test run's own."""
    pytest.importorskip("moto.server")
    log = tmp_path_factory.mktemp("s3") / "server.log"
    script = (
        "from moto.server import *; from werkzeug.serving import make_server\n"
        "server = make_server('127.0.0.1', 0, DomainDispatcherApplication(create_backend_app), threaded=True)\n"
        "print(server.port, flush=True); server.serve_forever()"
    )
    with log.open("wb") as errors:
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=errors)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.strip().isdigit(), log.read_text()
        yield f"http://127.0.0.1:{int(line)}"
    finally:
        process.terminate()
        process.wait(10)
        if process.stdout:
            process.stdout.close()


@pytest.fixture
def s3_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of nobody, and nothing else from the environment."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDNOBODY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-show-this")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")


@pytest.fixture
def s3_bucket(s3_endpoint: str, s3_credentials: None) -> str:
    name = f"bucket-{next(_buckets)}-{time.monotonic_ns()}"
    with urllib.request.urlopen(urllib.request.Request(f"{s3_endpoint}/{name}", method="PUT"), timeout=10) as answer:
        assert answer.status == 200
    return name


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
