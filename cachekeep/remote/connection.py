"""One connection: a blocking socket and libvalkey's parser. Implements domain.remote.Connection; made by remote.open.

Written for speed: a copy takes some 300,000 replies a second through `receive`.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from contextlib import suppress
from typing import Any, Self

from libvalkey import ProtocolError, Reader

from cachekeep.codec.resp import pack
from cachekeep.domain.remote import Refusal, RemoteError
from cachekeep.remote import trouble

READ_BYTES = 256 * 1024
# What may be held of a reply that is not complete. Values end at 512 MiB by `proto-max-bulk-len`.
REPLY_LIMIT_BYTES = 1 << 30
# The parser keeps a buffer up to this size between replies; its own 16 KiB would mean a new one for every read.
_KEPT_BYTES = 1 << 20
_MISSING: Any = object()
_LINE = b"+-:"
_GARBLED = (ProtocolError, TypeError, MemoryError)


class RespConnection:
    """Owns the socket. timeout_s: how long no byte may come, or go, before it counts as broken."""

    def __init__(self, sock: socket.socket, address: str, timeout_s: float) -> None:
        self.address, self.db = address, 0
        self._sock, self._timeout_s = sock, timeout_s
        self._reader = _new_reader()
        self._buffer = bytearray(READ_BYTES)
        self._view = memoryview(self._buffer)
        self._ahead = b""  # what came behind a reply that was asked for alone
        self._lock = threading.Lock()  # of the two below: whoever comes last of `close` and a wait closes the socket
        self._closed = self._waiting = False
        sock.settimeout(timeout_s)

    def send(self, packed: bytes) -> None:
        self._enter()
        try:
            sent = self._sock.send(packed)
            if sent < len(packed):
                # Not sendall: its time is for the whole, and a large value over a slow line takes longer.
                rest = memoryview(packed)[sent:]
                while rest:
                    rest = rest[self._sock.send(rest) :]
        except OSError as error:
            raise self._broken(error) from None
        finally:
            self._leave()

    def receive(self, count: int) -> list[Any]:
        if self._ahead:
            self._feed_ahead()
        replies: list[Any] = []
        append, gets, missing = replies.append, self._reader.gets, _MISSING
        try:
            for _ in range(count):
                reply = gets()
                append(self._awaited() if reply is missing else reply)
        except _GARBLED as error:
            raise self._garbled() from error
        return replies

    def receive_ready(self, within_s: float) -> list[Any]:
        """See the port."""
        if self._ahead:
            self._feed_ahead()
        try:
            replies = self._whole()
            if not replies and (size := self._fill_ready(within_s)):
                self._reader.feed(self._buffer, 0, size)  # type: ignore[arg-type]  # takes any buffer
                replies = self._whole()
                if not replies and self._reader.len() > REPLY_LIMIT_BYTES:
                    self.close()
                    raise trouble.too_long(self.address, REPLY_LIMIT_BYTES)
        except _GARBLED as error:
            raise self._garbled() from error
        return replies

    def receive_bytes(self) -> bytes:
        """See the port. After `ask`, what came together with its reply comes first."""
        if self._ahead:
            ahead, self._ahead = self._ahead, b""
            return ahead
        if self._reader.has_data():
            raise RuntimeError(f"replies of {self.address} are outstanding: receive them, or use ask")
        return bytes(self._view[: self._fill()])

    def ask(self, *words: bytes | str | int) -> Any:  # noqa: ANN401  # whatever the server answers
        self.send(pack(*words))
        if self._ahead:
            self._feed_ahead()
        try:
            reply = self._alone()
        except _GARBLED as error:
            raise self._garbled() from error
        if isinstance(reply, Refusal):
            raise reply
        return reply

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            with suppress(OSError):  # the other side was first
                # Of the plain socket also under TLS, where SSLSocket.shutdown goes on in plain text. Wakes a reader.
                socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
            if not self._waiting:
                self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<RespConnection {self.address} db {self.db}>"

    def set_timeout(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._sock.settimeout(timeout_s)

    def reply_by(self, deadline: float) -> Any:  # noqa: ANN401
        """The next reply, however slowly it drips in, before time.monotonic() is deadline. Raises RemoteError."""
        try:
            reply = self._reader.gets()
            return self._awaited(deadline) if reply is _MISSING else reply
        except _GARBLED as error:
            raise self._garbled() from error

    def _alone(self) -> Any:  # noqa: ANN401
        """The one reply that is outstanding. More behind it is PSYNC's stream, and kept for receive_bytes."""
        if self._reader.has_data():  # other replies were: then everything here is replies
            return self.receive(1)[0]
        start = size = 0
        while start == size:
            size = self._fill()
            # A primary that prepares a PSYNC sends line ends beforehand, to show that it lives.
            start = next((at for at in range(size) if self._buffer[at] != 10), size)
        self._reader.feed(self._buffer, start, size - start)  # type: ignore[arg-type]  # takes any buffer
        reply = self._reader.gets()
        if reply is _MISSING:
            return self._awaited()
        if self._reader.has_data() and self._buffer[start] in _LINE:
            self._ahead = bytes(self._view[self._buffer.index(b"\r\n", start) + 2 : size])
            self._reader = _new_reader()
        return reply

    def _awaited(self, deadline: float | None = None) -> Any:  # noqa: ANN401
        """Read until there is a reply."""
        reader, held = self._reader, 0
        while True:
            size = self._fill(deadline)
            held += size
            if held > REPLY_LIMIT_BYTES:
                self.close()
                raise trouble.too_long(self.address, REPLY_LIMIT_BYTES)
            reader.feed(self._buffer, 0, size)  # type: ignore[arg-type]  # takes any buffer
            reply = reader.gets()
            if reply is not _MISSING:
                return reply

    def _fill(self, deadline: float | None = None) -> int:
        """Read what is there into the buffer, at least a byte. Raises RemoteError."""
        self._enter()
        try:
            if deadline is not None:
                self._sock.settimeout(max(deadline - time.monotonic(), 0.001))
            size = self._sock.recv_into(self._buffer)
        except OSError as error:
            raise self._broken(error) from None
        finally:
            self._leave()
        if not size:
            raise self._broken(None)
        return size

    def _whole(self) -> list[Any]:
        """The replies that are complete."""
        replies: list[Any] = []
        gets, missing = self._reader.gets, _MISSING
        while (reply := gets()) is not missing:
            replies.append(reply)
        return replies

    def _fill_ready(self, within_s: float) -> int:
        """As `_fill`, but 0 when nothing comes within that time."""
        self._enter()
        try:
            # Not by poll: under TLS a socket may be readable without anything for us.
            self._sock.settimeout(max(within_s, 0.001))
            size = self._sock.recv_into(self._buffer)
        except TimeoutError:
            return 0
        except OSError as error:
            raise self._broken(error) from None
        finally:
            if not self._closed:
                self._sock.settimeout(self._timeout_s)
            self._leave()
        if not size:
            raise self._broken(None)
        return size

    def _feed_ahead(self) -> None:
        ahead, self._ahead = self._ahead, b""
        self._reader.feed(ahead)

    def _enter(self) -> None:
        with self._lock:
            if self._closed:
                raise trouble.closed(self.address)
            self._waiting = True

    def _leave(self) -> None:
        with self._lock:
            self._waiting = False
            if self._closed:
                self._sock.close()

    def _broken(self, error: OSError | None) -> RemoteError:
        if self._closed:
            return trouble.closed(self.address)
        self.close()
        if isinstance(error, ssl.SSLError) and (refused := trouble.no_certificate(error, self.address)):
            return refused
        return trouble.dropped(error, self.address, self._timeout_s)

    def _garbled(self) -> RemoteError:
        self.close()
        return trouble.foreign(self.address, bytes(self._view[: trouble.SEEN_BYTES]))


def _new_reader() -> Reader:
    # A sentinel, as libvalkey's own "not yet" is False, which is also a reply of RESP3.
    reader = Reader(protocolError=ProtocolError, replyError=Refusal, notEnoughData=_MISSING)
    reader.setmaxbuf(_KEPT_BYTES)
    return reader
