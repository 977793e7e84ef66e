"""A server whose clock is wrong, as whoever asks it for the time sees it."""

from __future__ import annotations

import re
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class WrongClock:
    """A door to a server that tells another time: in replies to TIME only. Its threads end with the context."""

    _TIME = re.compile(rb"\*2\r\n\$10\r\n(\d{10})\r\n\$(\d)\r\n(\d{1,6})\r\n")
    _BEGUN = re.compile(rb"\*2\r\n(\$10\r\n(\d{10}\r\n(\$\d\r\n)?)?)?\Z")

    def __init__(self, host: str, server: Any, ahead_s: float) -> None:
        self._server, self._ahead_us = (server.host, server.port), round(ahead_s * 1e6)
        self._listener = socket.create_server((host, 6379))
        self._ended, self._threads = threading.Event(), list[threading.Thread]()
        self.url = f"redis://{host}:6379"

    @classmethod
    @contextmanager
    def before(cls, host: str, server: Any, ahead_s: float) -> Iterator[WrongClock]:
        door = cls(host, server, ahead_s)
        accepting = threading.Thread(target=door._accept)
        accepting.start()
        try:
            yield door
        finally:
            door._ended.set()
            accepting.join()
            for thread in door._threads:
                thread.join()
            door._listener.close()

    def _accept(self) -> None:
        while not self._ended.is_set():
            if select.select([self._listener], [], [], 0.05)[0]:
                thread = threading.Thread(target=self._serve, args=(self._listener.accept()[0],))
                self._threads.append(thread)
                thread.start()

    def _serve(self, near: socket.socket) -> None:
        held = b""
        with near, socket.create_connection(self._server) as far:
            while not self._ended.is_set():
                for side in select.select([near, far], [], [], 0.05)[0]:
                    try:
                        data = side.recv(1 << 16)
                    except ConnectionError:
                        return
                    if not data:
                        return
                    if side is near:
                        far.sendall(data)
                        continue
                    held = self._TIME.sub(self._told, held + data)
                    begun = self._BEGUN.search(held)  # of a reply to TIME, maybe: the rest is on its way
                    cut = begun.start() if begun else len(held)
                    near.sendall(held[:cut])
                    held = held[cut:]

    def _told(self, found: re.Match[bytes]) -> bytes:
        moment_us = int(found[1]) * 1_000_000 + int(found[3]) + self._ahead_us
        micro = b"%d" % (moment_us % 1_000_000)
        return b"*2\r\n$10\r\n%d\r\n$%d\r\n%b\r\n" % (moment_us // 1_000_000, len(micro), micro)
