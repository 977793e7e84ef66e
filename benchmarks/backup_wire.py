"""A connection to an engine with nothing around it: commands in, replies out. For what the backup figures need."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from libvalkey import Reader, ReplyError, pack_command

HOST = "127.0.0.1"
_TIMEOUT_S = 120.0
_CHUNK_BYTES = 1 << 18


class Wire:
    """Raises OSError; RuntimeError in the server's words when it refuses a command."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((HOST, port), _TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = Reader()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, packed: bytes) -> None:
        self._socket.sendall(packed)

    def receive(self, count: int) -> list[Any]:
        replies: list[Any] = []
        while True:
            replies += self.held(count - len(replies))
            if len(replies) == count:
                return replies
            self.take()

    def take(self) -> None:
        """What has come, or what comes next."""
        chunk = self._socket.recv(_CHUNK_BYTES)
        if not chunk:
            raise ConnectionError("the server closed the connection")
        self._reader.feed(chunk)

    def held(self, most: int) -> list[Any]:
        """Replies that are there already."""
        replies: list[Any] = []
        while len(replies) < most and (reply := self._reader.gets()) is not False:
            if isinstance(reply, ReplyError):
                raise RuntimeError(f"the server refuses: {reply}")
            replies.append(reply)
        return replies

    def ask(self, *words: bytes | str | int) -> Any:
        self.send(pack_command(words))
        return self.receive(1)[0]

    def ask_all(self, packed: Sequence[bytes]) -> list[Any]:
        """In one exchange."""
        self.send(b"".join(packed))
        return self.receive(len(packed))
