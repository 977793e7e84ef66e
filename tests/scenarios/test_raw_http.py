"""HTTP itself: bodies, paths and connections that make no sense are refused, and the service goes on."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .calm import VALUE
from .conftest import Service
from .test_authentication import DESCRIBE, FORM, Reply, send, signed_request


def signed_body(service: Service, body: bytes, content_type: str | None = FORM) -> Reply:
    headers = {"Content-Type": content_type} if content_type else {}
    return send(service, signed_request(service, body, headers=headers))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "MissingAction"),
        (b"garbage", "MissingAction"),
        (b"\x00\xff\xfe", "MalformedQueryString"),
        (b"Action=%", "MalformedQueryString"),
        (b"Action=%zz", "MalformedQueryString"),
        (b"Action=%ff", "MalformedQueryString"),
        (b"Action=Describe%00ReplicationGroups", "MalformedQueryString"),
        (b'{"Action": "DescribeReplicationGroups"}', "MissingAction"),
        (b"Version=2015-02-02", "MissingAction"),
        (b"Action=DescribeReplicationGroups", "InvalidAction"),
        (b"Action=DescribeReplicationGroups&Version=2014-09-30", "InvalidAction"),
        (b"Action=describereplicationgroups&Version=2015-02-02", "InvalidAction"),
        (b"Action=__class__&Version=2015-02-02", "InvalidAction"),
        (b"Action=RunInstances&Version=2015-02-02", "InvalidAction"),
        (DESCRIBE + b"&Action=DescribeReplicationGroups", "MalformedQueryString"),
        (DESCRIBE + b"&Marker=a&Marker=b", "MalformedQueryString"),
        (DESCRIBE + b"&=x", "MalformedQueryString"),
        (DESCRIBE + b"".join(b"&F%d=1" % n for n in range(6000)), "MalformedQueryString"),
        (DESCRIBE + b"&ReplicationGroupId" + b".a" * 50 + b"=1", "MalformedQueryString"),
        (DESCRIBE + b"&MaxRecords.member.1=1", VALUE),
    ],
)
def test_bodies_that_make_no_sense(unchanged: Service, body: bytes, code: str) -> None:
    reply = signed_body(unchanged, body)
    assert (reply.status, reply.code) == (400, code), reply.text
    assert reply.headers["content-type"].startswith("text/xml")


def test_the_content_type_does_not_matter(calm: Service) -> None:
    for content_type in (None, "application/json", "text/plain", "multipart/form-data; boundary=x"):
        assert signed_body(calm, DESCRIBE, content_type).status == 200
    assert signed_body(calm, b'{"ReplicationGroupId": "grp"}', "application/x-amz-json-1.1").status == 400


def test_get_with_a_query(calm: Service) -> None:
    asked = signed_request(calm, b"", method="GET", path="/?" + DESCRIBE.decode(), headers={})
    assert send(calm, asked).status == 200
    asked = signed_request(calm, b"", method="GET", path="/?Action=DescribeReplicationGroups&Version=%25", headers={})
    assert send(calm, asked).status == 400


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("POST", "/a/b/c", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/%2e%2e/%00", 404),
        ("PUT", "/", 405),
        ("DELETE", "/", 405),
        ("OPTIONS", "/", 405),
        ("POST", "/healthz", 405),
        ("POST", "/_cachekeep/status", 405),
    ],
)
def test_other_paths_and_methods(unchanged: Service, method: str, path: str, status: int) -> None:
    assert send(unchanged, signed_request(unchanged, method=method, path=path)).status == status


def memory_peak(service: Service, *, reset: bool = False) -> int:
    """The most memory that the service held at once since the last reset, in bytes."""
    assert service.process is not None
    folder = Path(f"/proc/{service.process.pid}")
    if not folder.exists():
        pytest.skip("needs /proc")
    if reset:
        (folder / "clear_refs").write_text("5")
    found = re.search(r"VmHWM:\s+(\d+) kB", (folder / "status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def exchange(service: Service, parts: Iterator[bytes] | list[bytes], deadline_s: float = 15.0) -> bytes:
    """Send until all is sent or the other side has had enough; then what it answered."""
    received = b""
    with socket.create_connection(("127.0.0.1", service.port), deadline_s) as link:
        try:
            for part in parts:
                link.sendall(part)
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            while not _whole(received) and (more := link.recv(65536)):
                received += more
        except ConnectionResetError:
            pass
    return received


def _whole(received: bytes) -> bool:
    head, end, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    return bool(end) and length is not None and len(body) >= int(length[1])


def test_a_body_of_ten_megabytes_is_not_kept(unchanged: Service) -> None:
    before = memory_peak(unchanged, reset=True)
    began = time.monotonic()
    reply = signed_body(unchanged, b"Action=" + b"x" * (10 << 20))
    assert (reply.status, reply.code) == (413, "RequestEntityTooLarge")
    assert time.monotonic() - began < 5
    assert memory_peak(unchanged) - before < 8 << 20


def test_a_body_without_end_is_cut_off(unchanged: Service) -> None:
    before = memory_peak(unchanged, reset=True)

    def endless() -> Iterator[bytes]:
        yield b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        for _ in range(4096):  # 256 MiB
            yield chunk
        raise AssertionError("the service reads for ever")

    began = time.monotonic()
    exchange(unchanged, endless())
    assert time.monotonic() - began < 15
    assert memory_peak(unchanged) - before < 8 << 20


@pytest.mark.parametrize(
    "request_",
    [
        b"\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"POST / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nA: " + b"x" * 300_000 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nA\x00B: c\r\n\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # the beginning of TLS
    ],
)
def test_what_is_hardly_http(unchanged: Service, request_: bytes) -> None:
    # The first and the last are the beginning of something: they are cut short, or both sides would wait.
    cut = request_.strip() == b"" or request_.startswith(b"\x16")
    answer = _cut(unchanged, request_) if cut else exchange(unchanged, [request_], 5.0)
    assert answer == b"" or re.match(rb"HTTP/1.1 4\d\d ", answer), answer[:200]
    assert b"Traceback" not in answer
    assert send(unchanged, signed_request(unchanged)).status == 200


def _cut(service: Service, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", service.port), 3) as link:
        link.sendall(request)
        link.shutdown(socket.SHUT_WR)
        return link.recv(65536)


def test_a_client_that_leaves_in_the_middle(unchanged: Service) -> None:
    """The end of the module looks whether the log has an error."""
    for request in (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nAction=",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n" + b"x" * (2 << 20),
        b"POST / HTTP/1.1\r\nHos",
    ):
        with socket.create_connection(("127.0.0.1", unchanged.port), 3) as link:
            link.sendall(request)
    assert send(unchanged, signed_request(unchanged)).status == 200


def _bytes(request: Any) -> bytes:
    """A signed request as it goes over the wire."""
    headers = {"Host": request.url.split("/")[2], **dict(request.headers.items())}
    body = request.data or b""
    lines = [f"{request.method} / HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items()), f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def test_a_connection_goes_on_after_a_refusal(unchanged: Service) -> None:
    """One after the other, and all at once (pipelined)."""
    good = _bytes(signed_request(unchanged))
    bad = _bytes(signed_request(unchanged, b"Action=Nothing&Version=2015-02-02"))
    unsigned = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na=b"
    expected = [b"400", b"200", b"403", b"200"]
    for pipelined in (False, True):
        with socket.create_connection(("127.0.0.1", unchanged.port), 10) as link:
            received = b""
            for number, request in enumerate([bad, good, unsigned, good], 1):
                link.sendall(request)
                while not pipelined and received.count(b"</RequestId>") < number:
                    received += link.recv(65536)
            while received.count(b"</RequestId>") < 4:
                more = link.recv(65536)
                assert more, received
                received += more
        assert re.findall(rb"HTTP/1.1 (\d\d\d) ", received) == expected
