"""A client that reconnects at once, with nothing around it: how soon is a write accepted?"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from libvalkey import Reader, ReplyError, pack_command

from benchmarks.installation import BenchmarkError

Place = tuple[str, int]
PATIENCE_S = 0.5
# Between two attempts that fail at once; without it the client would take a core from what it waits for.
AGAIN_S = 0.0005


class Line:
    """One connection. Raises OSError; a refusal comes back as a ReplyError, not raised."""

    def __init__(self, place: Place, patience_s: float = PATIENCE_S) -> None:
        self._socket = socket.create_connection(place, patience_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = Reader()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def send(self, packed: bytes) -> None:
        self._socket.sendall(packed)

    def receive(self) -> Any:
        while (reply := self._reader.gets()) is False:
            chunk = self._socket.recv(1 << 16)
            if not chunk:
                raise ConnectionError("the server closed the connection")
            self._reader.feed(chunk)
        return reply

    def ask(self, *words: bytes | str | int) -> Any:
        self.send(pack_command(words))
        return self.receive()


def ask(place: Place, *words: bytes | str | int, patience_s: float = 5.0) -> Any:
    """One command on a connection of its own. Raises OSError, and BenchmarkError for a refusal."""
    with Line(place, patience_s) as line:
        reply = line.ask(*words)
    if isinstance(reply, ReplyError):
        raise BenchmarkError(f"{place[0]}:{place[1]} refuses {words[0]!r}: {reply}")
    return reply


def told(place: Place, *words: str) -> dict[str, str]:
    """INFO, or another command that answers in lines `name:value`."""
    lines = ask(place, *words).decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def until_written(places: Sequence[Place], since: float, deadline_s: float, key: str = "probe") -> float:
    """Seconds from `since` (perf_counter) until one of the places accepts a write; each is tried in turn."""
    packed, open_lines = pack_command(("INCR", key)), dict[Place, Line]()
    try:
        while time.perf_counter() - since < deadline_s:
            for place in places:
                if _accepts(place, packed, open_lines):
                    return time.perf_counter() - since
            time.sleep(AGAIN_S)
    finally:
        for line in open_lines.values():
            line.close()
    raise BenchmarkError(f"no write was accepted within {deadline_s:g} s")


def _accepts(place: Place, packed: bytes, open_lines: dict[Place, Line]) -> bool:
    try:
        line = open_lines.get(place)
        if line is None:
            line = open_lines[place] = Line(place)
        line.send(packed)
        return isinstance(line.receive(), int)
    except OSError:
        with suppress(KeyError):
            open_lines.pop(place).close()
        return False
