"""TLS and plain TCP on one port, for as long as a replication group prefers encryption and does not require it.

`python -m cachekeep.endpoint.switch FOLDER`: a program of its own, one per group in that mode, run by the host like an
engine. It listens on the group's port at every address of the group and passes each connection on to the same address:
to the engine's port for TLS if its first byte begins a TLS handshake, else to the one for plain TCP. It neither reads
nor keeps anything beyond that byte, has no key, and moves no endpoint: whichever engine holds the address at that
moment is behind it, as without it.

FOLDER holds switch.json {"port", "plain", "tls"}, read once, and members.json {"version", "members"}, whose hosts are
listened on, read again whenever it was replaced. An address that cannot be had yet is tried again at once: an engine
is about to leave it. Standard library only, to stay small.
Source: RFC 8446 section 5.1 (a handshake record is of type 22).
"""

from __future__ import annotations

import sys

# As in endpoint.discovery: it never speaks TLS itself.
if __name__ == "__main__":
    sys.modules["ssl"] = None  # type: ignore[assignment]

import asyncio
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import cast

HANDSHAKE = 0x16
LOOK_EVERY_S = 0.02
# An address that an engine is about to leave.
TRY_EVERY_S = 0.002
CONNECT_TIMEOUT_S = 1.0
CONNECTION_LIMIT = 65000
_BUFFER_BYTES = 256 * 1024


class Half(asyncio.Protocol):
    """One side of a passed connection. other: where its bytes go; None until that is known."""

    def __init__(self, other: Half | None = None) -> None:
        self.other = other
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(_BUFFER_BYTES)

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        """Half-closed: what the other side still has to say goes through."""
        if self.other is not None and self.other.transport is not None and self.other.transport.can_write_eof():
            self.other.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            with suppress(RuntimeError):  # it is closing
                self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class Front(Half):
    """The client's side: its first byte says where to."""

    def __init__(self, switch: Switch, host: str) -> None:
        super().__init__()
        self._switch, self._host = switch, host
        self._first = b""
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._switch.connections += 1
        if self._switch.connections > CONNECTION_LIMIT:
            transport.close()

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            super().data_received(data)
            return
        self._first += data
        if self._connecting is None and self.transport is not None:
            self.transport.pause_reading()
            self._connecting = asyncio.ensure_future(self._connect(self._first[0] == HANDSHAKE))

    async def _connect(self, tls: bool) -> None:
        back = Half(self)
        port = self._switch.tls if tls else self._switch.plain
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await asyncio.get_running_loop().create_connection(lambda: back, self._host, port)
        except (OSError, TimeoutError):
            if self.transport is not None:
                self.transport.abort()
            return
        if self.transport is None or self.transport.is_closing():
            if back.transport is not None:
                back.transport.close()
            return
        self.other = back
        if back.transport is not None:
            back.transport.write(self._first)
        self._first = b""
        self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._switch.connections -= 1
        super().connection_lost(exc)


class Switch:
    """Listens on every host that it is told of."""

    def __init__(self, folder: Path) -> None:
        told = json.loads((folder / "switch.json").read_text(encoding="utf-8"))
        self.port, self.plain, self.tls = int(told["port"]), int(told["plain"]), int(told["tls"])
        self.connections = 0
        self._members = folder / "members.json"
        self._seen: tuple[int, int] | None = None
        self._wanted: set[str] = set()
        self._open: dict[str, asyncio.Server] = {}

    async def serve(self) -> None:
        """Until the process is ended."""
        while True:
            self._refresh()
            for host in set(self._open) - self._wanted:
                self._open.pop(host).close()
            for host in self._wanted - set(self._open):
                with suppress(OSError):
                    self._open[host] = await self._listen(host)
            await asyncio.sleep(TRY_EVERY_S if self._wanted - set(self._open) else LOOK_EVERY_S)

    async def _listen(self, host: str) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: Front(self, host), host, self.port, backlog=511)

    def _refresh(self) -> None:
        """Keeps what it knows while the file cannot be read."""
        with suppress(OSError, ValueError, KeyError):
            stat = self._members.stat()
            if (stat.st_mtime_ns, stat.st_ino) != self._seen:
                announced = json.loads(self._members.read_text(encoding="utf-8"))
                self._wanted = {str(host) for host, _ in announced["members"]}
                self._seen = (stat.st_mtime_ns, stat.st_ino)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m cachekeep.endpoint.switch FOLDER")
    os.umask(0o077)
    asyncio.run(Switch(Path(sys.argv[1])).serve())


if __name__ == "__main__":
    main()
