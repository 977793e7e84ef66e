"""A server behind S3Blobs that refuses, fails, is slow or is not there: one sentence each, in bounded time."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cachekeep.blob.handoff import consume_elsewhere
from cachekeep.blob.s3 import S3Blobs
from cachekeep.domain.blobs import BlobError, BlobFault

SECRET = "do-not-show-this"
KEY_ID = "AKIDNOBODY"


class Faulty(ThreadingHTTPServer):
    """Answers every request the same way, and counts them."""

    daemon_threads = True
    status, code, headers, wait_s = 500, "InternalError", dict[str, str](), 0.0
    requests: list[str]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gave up is what some tests want."""


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Faulty

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append(self.command)
        time.sleep(self.server.wait_s)
        body = (
            f"<Error><Code>{self.server.code}</Code><Message>m</Message><AWSAccessKeyId>{KEY_ID}</AWSAccessKeyId>"
            f"<StringToSign>{SECRET}</StringToSign></Error>"
        ).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _answer

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Faulty]:
    faulty = Faulty(("127.0.0.1", 0), Answer)
    faulty.requests = []
    thread = threading.Thread(target=faulty.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield faulty
    faulty.shutdown()
    thread.join()
    faulty.server_close()


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def calls(blobs: S3Blobs) -> list[Callable[[], object]]:
    return [
        lambda: blobs.put("a/b", b"x"),
        lambda: blobs.put("a/b", b"x", new=True),
        lambda: blobs.put("a/b", (b"x" * (9 << 20) for _ in range(2))),
        lambda: blobs.get("a/b"),
        lambda: list(blobs.open("a/b")),
        blobs.list,
        lambda: blobs.delete("a/b"),
        lambda: blobs.exists("a/b"),
    ]


def trouble(call: Callable[[], object]) -> BlobError:
    with pytest.raises(BlobError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    assert SECRET not in text
    assert KEY_ID not in text
    assert re.search(r"s3://bucket/some/prefix.* at http://127\.0\.0\.1:\d+.*; \w+", text), text
    # Nothing of the server's answer travels along in the traceback of the error either.
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    return caught.value


@pytest.mark.parametrize(
    ("status", "code", "fault", "words"),
    [
        (403, "AccessDenied", BlobFault.FORBIDDEN, "look whether the credentials"),
        (403, "SignatureDoesNotMatch", BlobFault.FORBIDDEN, "look whether the credentials"),
        (401, "Unauthorized", BlobFault.FORBIDDEN, "look whether the credentials"),
        (400, "AuthorizationHeaderMalformed", BlobFault.FORBIDDEN, "region"),
        (500, "InternalError", BlobFault.UNREACHABLE, "the server answers 500"),
        (503, "SlowDown", BlobFault.UNREACHABLE, "the server answers 503"),
        (507, "XMinioStorageFull", BlobFault.FULL, "make room"),
    ],
)
def test_every_answer_has_its_sentence(server: Faulty, status: int, code: str, fault: BlobFault, words: str) -> None:
    server.status, server.code = status, code
    blobs = S3Blobs("bucket", "some/prefix", endpoint=f"http://127.0.0.1:{server.server_port}", retries=1)
    for call in calls(blobs):
        error = trouble(call)
        assert error.fault is fault, error
        assert words in str(error)


def test_a_bucket_that_is_not_there(server: Faulty) -> None:
    server.status, server.code = 404, "NoSuchBucket"
    blobs = S3Blobs("bucket", "some/prefix", endpoint=f"http://127.0.0.1:{server.server_port}")
    for call in (lambda: blobs.put("a", b"x"), lambda: blobs.get("a"), blobs.list):
        assert "there is no such bucket; create it" in str(trouble(call))


def test_retries_are_bounded(server: Faulty) -> None:
    blobs = S3Blobs("bucket", "some/prefix", endpoint=f"http://127.0.0.1:{server.server_port}", retries=2)
    trouble(lambda: blobs.get("a"))
    assert server.requests == ["GET"] * 3


def test_a_server_that_does_not_answer_is_given_up(server: Faulty) -> None:
    server.wait_s = 1.5
    blobs = S3Blobs(
        "bucket", "some/prefix", endpoint=f"http://127.0.0.1:{server.server_port}", timeout_s=0.3, retries=1
    )
    for call in calls(blobs)[:2] + calls(blobs)[3:6]:
        begun = time.monotonic()
        error = trouble(call)
        assert error.fault is BlobFault.UNREACHABLE
        assert "did not answer in time" in str(error)
        assert time.monotonic() - begun < 2.5


def test_nothing_listens_there(free_port: int) -> None:
    blobs = S3Blobs("bucket", "some/prefix", endpoint=f"http://127.0.0.1:{free_port}", timeout_s=2, retries=1)
    for call in calls(blobs):
        error = trouble(call)
        assert error.fault is BlobFault.UNREACHABLE
        assert "cannot be reached" in str(error)


def test_no_credentials(server: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    blobs = S3Blobs("bucket", "some/prefix", endpoint=f"http://127.0.0.1:{server.server_port}", retries=1)
    error = trouble(lambda: blobs.get("a"))
    assert "no credentials are found; set AWS_ACCESS_KEY_ID" in str(error)
    assert server.requests == []


def test_an_endpoint_that_was_asked_for_wins_over_the_environment(
    server: Faulty, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_port}")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port}")
    blobs = S3Blobs("bucket", "some/prefix", endpoint=f"http://127.0.0.1:{server.server_port}", retries=0)
    trouble(lambda: blobs.get("a"))
    assert server.requests == ["GET"]


def test_what_the_parts_raise_is_raised_and_the_consumer_never_sees_an_end() -> None:
    class OurOwnError(Exception):
        pass

    seen: list[bytes] = []
    ended = threading.Event()

    def parts() -> Iterator[bytes]:
        yield from (b"1", b"2", b"3")
        raise OurOwnError

    def consume(offered: Iterator[bytes]) -> None:
        seen.extend(offered)
        ended.set()

    with pytest.raises(OurOwnError):
        consume_elsewhere(parts(), consume)
    assert seen == [b"1", b"2", b"3"]
    assert not ended.is_set()


def test_a_consumer_that_gives_up_ends_the_parts() -> None:
    taken: list[int] = []

    def parts() -> Iterator[bytes]:
        for number in range(1000):
            taken.append(number)
            yield b"x"

    def consume(offered: Iterator[bytes]) -> None:
        next(offered)
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        consume_elsewhere(parts(), consume)
    assert len(taken) < 10
