"""One kept connection that asks one question at a time and gives the raw answer. Used by engine.meter and explorer.

An answer that does not come costs the connection: its late bytes would be taken for the next answer.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from libvalkey import ProtocolError, Reader

from cachekeep.codec.info_view import Layout
from cachekeep.codec.watched_answers import printable
from cachekeep.domain.metrics import Place
from cachekeep.domain.world import WorldError
from cachekeep.engine.access import OPEN, Access

ANSWER_LIMIT_BYTES = 4 << 20
_GONE_S = 1.0
# How OpenSSL names what is no TLS at all.
_NOT_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "UNEXPECTED_EOF_WHILE_READING")
# Looks at all bytes so far: the answer when it is whole, None when more has to come. Raises WorldError on nonsense.
Whole = Callable[[bytes], Any]


class MeterLine(asyncio.Protocol):
    """Open one with `connect`."""

    def __init__(self, place: Place) -> None:
        self._place = place
        # dropped: by the other end, and not by us for what it said or did not say.
        self.lost = self.dropped = False
        self.histogram_unknown = False
        self.settings: dict[str, str] = {}
        self.layout: Layout = {}
        self._transport: asyncio.WriteTransport | None = None
        self._data = b""
        self._whole: Whole | None = None
        self._waiting: asyncio.Future[Any] | None = None
        self._gone = asyncio.Event()

    @classmethod
    async def connect(cls, place: Place, timeout_s: float, access: Access = OPEN) -> MeterLine:
        """access: for own nodes. Raises WorldError with address and reason."""
        context, line = context_of(place, access), cls(place)
        try:
            async with asyncio.timeout(timeout_s):
                loop = asyncio.get_running_loop()
                plain, _ = await loop.create_connection(lambda: line, place.address.host, place.address.port)
                if context is not None:
                    # A step of its own, so that one can say whether it was TLS that failed.
                    name = place.server_name or place.address.host
                    secured = await loop.start_tls(plain, line, context, server_hostname=name)
                    line._transport = cast(asyncio.WriteTransport, secured)
        except asyncio.CancelledError:
            line.close()
            raise
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that cannot be looked up
            answered = line._transport is not None
            line.close()
            raise WorldError(_unconnected(place, error, timeout_s, answered=answered)) from error
        return line

    async def ask(self, request: bytes, whole: Whole, timeout_s: float) -> Any:  # noqa: ANN401  # what whole makes
        """Raises WorldError. The line is lost after a deadline or a cancellation."""
        if self.lost or self._transport is None:
            raise WorldError(f"{self._place.address} dropped the connection")
        loop = asyncio.get_running_loop()
        self._data, self._whole = b"", whole
        self._waiting = loop.create_future()
        # A handle instead of asyncio.timeout: this runs for every node in every second.
        handle = loop.call_later(timeout_s, self._fail, f"did not answer within {timeout_s:g} s")
        self._transport.write(request)
        try:
            return await self._waiting
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            handle.cancel()
            self._waiting = None
            self._data = b""

    def close(self) -> None:
        self.lost = True
        if self._transport is not None:
            # Not `close`: of TLS, that waits for the engine to take leave, and there is nothing left to be sent.
            self._transport.abort()

    async def gone(self) -> None:
        """The socket is let go, soon after `close`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_GONE_S):
                await self._gone.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not checked by isinstance: uvloop's transports are of no class of asyncio's.
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        waiting = self._waiting
        if waiting is None or waiting.done() or self._whole is None:
            self.close()  # nobody asked
            return
        self._data = self._data + data if self._data else data
        if len(self._data) > ANSWER_LIMIT_BYTES:
            self._fail(f"answered more than {ANSWER_LIMIT_BYTES} bytes")
            return
        try:
            answer = self._whole(self._data)
        except (ValueError, ProtocolError) as error:
            self._fail(f"does not speak the expected protocol: {error}")
            return
        if answer is not None:
            waiting.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self.dropped = not self.lost
        self._gone.set()
        self._fail("dropped the connection")

    def _fail(self, why: str) -> None:
        self.close()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(WorldError(f"{self._place.address} {why}"))


def refused_login(place: Place, text: str) -> WorldError:
    """The engine's words cut to their code: nothing of what was sent may come back in a text."""
    user = place.username or "default"
    if "without any password" in text or "no password is set" in text:
        return WorldError(f"{place.address} has no password for user {user}; give none")
    code = printable(text.partition(" ")[0], 20)
    return WorldError(f"{place.address} refused the login of user {user} ({code}); check user and password")


def bulk(data: bytes) -> bytes | None:
    """A RESP2 bulk string (also `=` verbatim) when whole; an error reply as it is, with its `-`."""
    end = data.find(b"\r\n")
    if data[:1] not in b"$-":
        raise ValueError("no bulk string")
    if end < 0:
        return None
    if data[:1] == b"-":
        return data[:end]
    size = int(data[1:end])
    if not 0 <= size <= ANSWER_LIMIT_BYTES:
        raise ValueError(f"a string of {size} bytes")
    return data[end + 2 : end + 2 + size] if len(data) >= end + 4 + size else None


def reply(data: bytes) -> Any:  # noqa: ANN401  # whatever RESP2 has
    """Any RESP2 reply when whole; an error is a ReplyError value."""
    parser = Reader(notEnoughData=None)
    parser.feed(data)
    return parser.gets()


def table(data: bytes) -> bytes | None:
    """Lines up to `END` of Memcached; an error line is a ValueError."""
    if len(data) >= 4 and data[:4] not in (b"STAT", b"END\r"):
        raise ValueError(f"stats answered {data[:60]!r}")
    return data if data.endswith(b"END\r\n") else None


def _unconnected(place: Place, error: Exception, timeout_s: float, *, answered: bool) -> str:
    """answered: there was a connection, and TLS on it did not come about."""
    at = place.address
    if isinstance(error, ssl.SSLError) and error.reason not in _NOT_TLS:
        return f"cannot connect to {at} by TLS: {error}; check its certificate"
    if answered:
        scheme = "redis" if place.speaks_resp else "memcached"
        return f"{at} answers, but not with TLS; if it is plain, its URL begins with {scheme}://"
    if isinstance(error, TimeoutError):
        return f"cannot connect to {at} within {timeout_s:g} s; see whether it can be reached from here"
    # Numbers of the resolver are below zero and have texts of their own.
    number = getattr(error, "errno", None) or 0
    return f"cannot connect to {at}: {os.strerror(number) if number > 0 else error}"


def login_words(place: Place, access: Access) -> tuple[str, ...]:
    """The command that logs in at the place; () where there is nothing to say. Never part of a text."""
    if not place.speaks_resp:
        return ()
    if place.own:
        return access.words
    if not place.password:
        return ()
    return ("AUTH", place.username, place.password) if place.username else ("AUTH", place.password)


def context_of(place: Place, access: Access) -> ssl.SSLContext | None:
    """What the place is verified with; None where it is plain. Raises WorldError."""
    if place.own:
        return access.context_for(place.address)
    return tls_context(place) if place.tls else None


def tls_context(place: Place) -> ssl.SSLContext:
    """What the place's certificate is verified with. Raises WorldError."""
    try:
        return _context(place.ca_file, Path(place.ca_file).stat().st_mtime_ns if place.ca_file else 0)
    except OSError as error:  # SSLError is one
        raise WorldError(
            f"cannot read the authority {place.ca_file} for {place.address}: {error}; name a PEM file"
        ) from error


@lru_cache(maxsize=32)
def _context(ca_file: str, changed_ns: int) -> ssl.SSLContext:
    """Shared by all places that trust the same: reading authorities takes tens of milliseconds, and megabytes."""
    made = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca_file or None)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    return made
