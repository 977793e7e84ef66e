"""Bodies that come slowly, never end, or break off."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, cast

import pytest

from cachekeep.api import http
from cachekeep.api.dispatch import Dispatcher
from cachekeep.codec.query import MAX_BODY_BYTES

Message = MutableMapping[str, Any]


def ask(receive: Callable[[], Awaitable[Message]]) -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, headers and body of the answer to a POST whose body `receive` gives. Nothing may reach the dispatcher."""
    application = http.build(cast(Dispatcher, None), "0", {})
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Message = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "headers": [],
    }
    asyncio.run(application(scope, receive, send))
    start, body = sent
    return start["status"], dict(start["headers"]), body["body"]


def test_a_body_that_does_not_arrive_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "BODY_DEADLINE_S", 0.01)

    async def receive() -> Message:
        await asyncio.sleep(60)
        raise AssertionError

    status, headers, body = ask(receive)
    assert (status, headers[b"connection"]) == (408, b"close")
    assert b"<Code>RequestTimeout</Code>" in body


def test_of_an_endless_body_only_so_much_is_read() -> None:
    part = b"x" * 65536
    read = 0

    async def receive() -> Message:
        nonlocal read
        read += len(part)
        return {"type": "http.request", "body": part, "more_body": True}

    status, headers, body = ask(receive)
    assert (status, headers[b"connection"]) == (413, b"close")
    assert b"<Code>RequestEntityTooLarge</Code>" in body
    assert read < http.MAX_DRAIN_BYTES + MAX_BODY_BYTES + 2 * len(part)


def test_an_endless_trickle_ends_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "DRAIN_DEADLINE_S", 0.05)
    first = True

    async def receive() -> Message:
        nonlocal first
        size, first = (MAX_BODY_BYTES + 1 if first else 1), False
        await asyncio.sleep(0.001)
        return {"type": "http.request", "body": b"x" * size, "more_body": True}

    assert ask(receive)[0] == 413


def test_a_client_that_is_gone_is_no_error() -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    assert ask(receive)[0] == 400
