"""An address of which the server behind it changes, as the endpoint of a service does at a failover. Not a test."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from truth import Listening

Address = tuple[str, int]


class Door:
    """A listening address; what comes is passed on to the server behind it, both ways, until it is cut."""

    def __init__(self, host: str, behind: Listening) -> None:
        self.host, self.port, self.version = host, 6379, behind.version
        self._behind: Address | None = (behind.host, behind.port)
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server((host, self.port))
        self._closed = False
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._closed = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join()

    def cut(self) -> int:
        """End all connections; the next ones are welcome. Returns how many there were."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for one in pair:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        return len(pairs)

    def lead_to(self, behind: Listening | None) -> None:
        """From now on, to another server; None: whoever knocks is turned away."""
        self._behind = (behind.host, behind.port) if behind else None
        self.cut()

    def _accept(self) -> None:
        while not self._closed:
            try:
                came, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self._behind is None:
                    raise ConnectionRefusedError
                there = socket.create_connection(self._behind, timeout=5)
            except OSError:
                came.close()
                continue
            there.settimeout(None)
            for one in (came, there):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs.append((came, there))
            left = _Once(2, lambda came=came, there=there: (came.close(), there.close()))  # type: ignore[misc]
            for source, target in ((came, there), (there, came)):
                thread = threading.Thread(target=_pass_on, args=(source, target, left))
                self._threads.append(thread)
                thread.start()


class _Once:
    """Acts when it was told so many times."""

    def __init__(self, times: int, act: Callable[[], object]) -> None:
        self._left, self._act, self._lock = times, act, threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            self._left -= 1
            last = not self._left
        if last:
            self._act()


def _pass_on(source: socket.socket, target: socket.socket, ended: _Once) -> None:
    with suppress(OSError):
        while chunk := source.recv(1 << 16):
            target.sendall(chunk)
    for one in (source, target):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
    ended()
