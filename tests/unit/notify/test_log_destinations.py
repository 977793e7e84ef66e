"""Destinations of logs: files of bounded size that lead nowhere else, and batches within CloudWatch's limits."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cachekeep.domain.log_delivery import DestinationType, LogDelivery, LogFormat, LogLine, LogType
from cachekeep.domain.log_ports import LogStream, TooMuch
from cachekeep.domain.ports import WorldError
from cachekeep.notify import log_destinations
from cachekeep.notify.cloudwatch_logs import (
    LONGEST_EVENT,
    MOST_BYTES,
    MOST_EVENTS,
    OVERHEAD_BYTES,
    CloudWatchLogs,
    batches,
)
from cachekeep.notify.firehose import FirehoseEndpoint
from cachekeep.notify.log_destinations import Destinations
from cachekeep.notify.log_files import OLD_FILES, LogFiles


def _stream(group: str = "caches", name: str = "elasticache/valkey/demo-001/0001/slow-log") -> LogStream:
    delivery = LogDelivery(LogType.SLOW, DestinationType.CLOUDWATCH_LOGS, group, LogFormat.JSON)
    return LogStream("us-east-1", delivery, name)


def _lines(*texts: str) -> list[LogLine]:
    return [LogLine(1, text) for text in texts]


def test_a_file_is_private_and_rotated_so_that_its_size_is_bounded(tmp_path: Path) -> None:
    files = LogFiles(tmp_path / "logs", file_bytes=100)
    for number in range(40):
        files.append(_stream(), _lines(f"line {number} " + "x" * 40))
    path = files.path(_stream())
    found = sorted(path.parent.iterdir())
    assert len(found) == 1 + OLD_FILES
    assert all(file.stat().st_size <= 100 and stat.S_IMODE(file.stat().st_mode) == 0o600 for file in found)
    assert "line 39" in path.read_text()
    assert "line 37" in path.with_name(path.name + ".1").read_text()
    folders = {folder for folder in path.parents if folder.is_relative_to(tmp_path / "logs")}
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o700}


@pytest.mark.parametrize("group", ["..", ".", "/aws/elasticache/demo", "../../etc", "a" * 512, "/" * 512])
def test_no_log_group_leads_out_of_the_folder_or_into_anothers(tmp_path: Path, group: str) -> None:
    root = tmp_path / "logs"
    files = LogFiles(root)
    files.append(_stream(group), _lines("hello"))
    path = files.path(_stream(group))
    assert path.resolve().is_relative_to(root.resolve())
    assert len(path.relative_to(root).parts) == 2 + 1 + 5
    assert path.read_text() == "hello\n"
    others = ["...", "/aws/elasticache/demo2", "a" * 511, "/" * 511]
    assert all(files.path(_stream(other)) != path for other in others)


def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    files = LogFiles(tmp_path / "logs")
    path = files.path(_stream())
    path.parent.mkdir(parents=True)
    precious = tmp_path / "precious"
    precious.write_text("mine")
    path.symlink_to(precious)
    with pytest.raises(WorldError, match="cannot write"):
        files.append(_stream(), _lines("hello"))
    assert precious.read_text() == "mine"


def test_a_batch_that_does_not_fit_leaves_nothing_of_it(tmp_path: Path) -> None:
    """The limit of this process's files stands for a full disk: a part is written, then it is refused."""
    files = LogFiles(tmp_path / "logs")
    files.append(_stream(), _lines("whole"))
    path = files.path(_stream())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(WorldError, match="cannot write"):
            files.append(_stream(), _lines("x" * 200))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_text() == "whole\n"
    files.append(_stream(), _lines("x" * 200))
    assert path.read_text() == "whole\n" + "x" * 200 + "\n"


def test_what_is_in_the_place_of_a_file_is_told_and_holds_nothing_up(tmp_path: Path) -> None:
    files = LogFiles(tmp_path / "logs")
    path = files.path(_stream())
    path.parent.mkdir(parents=True)
    in_the_way: list[Callable[[], None]] = [path.mkdir, lambda: os.mkfifo(path)]
    for put in in_the_way:
        put()
        with pytest.raises(WorldError, match="cannot write"):
            files.append(_stream(), _lines("hello"))
        path.rmdir() if path.is_dir() else path.unlink()
    files.append(_stream(), _lines("hello"))
    assert path.read_text() == "hello\n"


def test_a_line_that_a_kill_broke_off_does_not_take_the_next_one_with_it(tmp_path: Path) -> None:
    files = LogFiles(tmp_path / "logs")
    files.append(_stream(), _lines("whole"))
    path = files.path(_stream())
    path.write_text("whole\nhal")
    files.append(_stream(), _lines("next"))
    assert path.read_text() == "whole\nhal\nnext\n"


def test_no_batch_is_longer_than_a_day() -> None:
    hours = [LogLine(n * 3600_000, str(n)) for n in range(0, 200, 5)]
    found = list(batches(hours))
    assert [line for batch in found for line in batch] == hours
    assert max(batch[-1].at_ms - batch[0].at_ms for batch in found) < 24 * 3600_000


@contextmanager
def _endpoint(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Answers every connection so, once its request came."""
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as held:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    line = held.enter_context(server.accept()[0])
                    threading.Thread(target=_quietly, args=(answer, line), daemon=True).start()

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def _quietly(answer: Callable[[socket.socket], None], line: socket.socket) -> None:
    with suppress(OSError):
        line.recv(65536)
        answer(line)


def _trickle(line: socket.socket) -> None:
    for byte in b"HTTP/1.1 200 OK" + b" " * 10_000:
        line.send(bytes([byte]))
        threading.Event().wait(0.05)


def _to_http(answer: Callable[[socket.socket], None]) -> None:
    async def story(url: str) -> None:
        await FirehoseEndpoint(url, "0" * 12, deadline_s=0.5).post(_stream(), _lines("one", "two"))

    with _endpoint(answer) as url:
        asyncio.run(story(url))


def _say(text: bytes) -> Callable[[socket.socket], None]:
    def answer(line: socket.socket) -> None:
        line.sendall(text)
        line.close()

    return answer


def test_an_endpoint_that_takes_them_has_taken_them() -> None:
    _to_http(_say(b"HTTP/1.1 200 OK\r\n\r\n"))


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (lambda _: None, WorldError, "did not answer within 0.5 s"),
        (_trickle, WorldError, "did not answer within 0.5 s"),
        (_say(b""), WorldError, "cannot be reached"),
        (_say(b"SSH-2.0-x\r\n"), WorldError, "cannot be reached"),
        (_say(b"x" * 100_000), WorldError, "cannot be reached"),
        (_say(b"HTTP/1.1 500 Oh\r\n\r\n"), WorldError, "answered HTTP 500"),
        (_say(b"HTTP/1.1 301 There\r\nLocation: /\r\n\r\n"), WorldError, "answered HTTP 301"),
        (_say(b"HTTP/1.1 413 No\r\n\r\n"), TooMuch, "answered HTTP 413"),
    ],
)
def test_an_endpoint_that_does_not_is_told(answer: Any, kind: type[WorldError], says: str) -> None:
    with pytest.raises(kind, match=says):
        _to_http(answer)


_ANSWERS: list[tuple[bytes, bytes, int | type[WorldError]]] = [
    (b"200 OK", b"{}", 0),
    (b"200 OK", b"", 0),
    (b"200 OK", b'{"rejectedLogEventsInfo":{"tooNewLogEventStartIndex":1}}', 2),
    (b"200 OK", b'{"rejectedLogEventsInfo":{"tooOldLogEventEndIndex":1,"expiredLogEventEndIndex":2}}', 2),
    (b"200 OK", b'{"rejectedLogEventsInfo":{"tooOldLogEventEndIndex":3}}', 3),
    (b"413 No", b"<html>", TooMuch),
    (b"400 No", b'{"__type":"InvalidParameterException","message":"too long"}', TooMuch),
    (b"400 No", b'{"__type":"ThrottlingException"}', WorldError),
    (b"500 Oh", b"\xff\xfe", WorldError),
    (b"200 OK", b"\xff\xfe", WorldError),
    (b"200 OK", b"[1]", WorldError),
    (b"200 OK", b'{"rejectedLogEventsInfo":7}', WorldError),
    (b"200 OK", b'{"rejectedLogEventsInfo":{"tooNewLogEventStartIndex":"x"}}', WorldError),
]


def test_what_cloudwatch_does_not_keep_is_counted_and_what_it_should_never_answer_is_told() -> None:
    answers = iter(_ANSWERS)

    def answer(line: socket.socket) -> None:
        status, body, _ = next(answers)
        length = b"Connection: close\r\nContent-Length: %d" % len(body)
        _say(b"HTTP/1.1 %s\r\n%s\r\n\r\n%s" % (status, length, body))(line)

    with _endpoint(answer) as url:
        logs = CloudWatchLogs(url, ("AK", "the-secret"))
        for status, body, expected in _ANSWERS:
            if isinstance(expected, int):
                assert logs.put(_stream(), _lines("a", "b", "c")) == expected, body
            else:
                with pytest.raises(WorldError) as caught:
                    logs.put(_stream(), _lines("a", "b", "c"))
                assert type(caught.value) is expected, (status, body)


def test_a_cloudwatch_that_hangs_takes_nothing_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_destinations, "DEADLINE_S", 0.3)
    hose = replace(_stream(), delivery=replace(_stream().delivery, destination_type=DestinationType.FIREHOSE))

    async def story(url: str) -> None:
        files = LogFiles(tmp_path / "logs")
        destinations = Destinations(files, CloudWatchLogs(url, ("AK", "secret")), None)
        tries = [destinations.deliver(_stream(), _lines("a")) for _ in range(log_destinations.MOST_THREADS + 4)]
        failed = await asyncio.gather(*tries, return_exceptions=True)
        assert {type(one) for one in failed} == {WorldError}
        await destinations.deliver(hose, _lines("hello"))
        assert files.path(hose).read_text() == "hello\n"

    with _endpoint(_trickle) as url:
        asyncio.run(story(url))


def test_batches_keep_the_limits_and_the_order() -> None:
    lines = [LogLine(10 - n % 3, "é" * 1000) for n in range(2000)] + [LogLine(11, "z" * (LONGEST_EVENT + 5))]
    found = list(batches(lines))
    assert sum(len(batch) for batch in found) == len(lines)
    for batch in found:
        assert len(batch) <= MOST_EVENTS
        assert sum(len(line.text.encode()) + OVERHEAD_BYTES for line in batch) <= MOST_BYTES
        times = [line.at_ms for line in batch]
        assert times == sorted(times)
    assert len(list(batches([LogLine(1, "")] * (MOST_EVENTS + 1)))) == 2


def test_what_is_no_url_is_refused() -> None:
    with pytest.raises(ValueError, match="http"):
        FirehoseEndpoint("ftp://x", "000000000000")
