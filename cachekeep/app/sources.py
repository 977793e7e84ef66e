"""Who may connect to the API, by address: asked before a byte of a request is read. Called by app.serve.

And how many may be connected without having asked for anything: whoever opens connections and says nothing, or half of
a request, must not use up the files of a service that has caches to keep. Of those the oldest goes when there are too
many, so that whoever does ask is answered; a request that is being answered is never cut.
"""

from __future__ import annotations

import asyncio
import resource
from collections import OrderedDict
from collections.abc import Sequence
from ipaddress import ip_address
from typing import ClassVar

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cachekeep.settings import Network

log = structlog.get_logger()

# Open connections of the API, and bytes before the body of a request.
MOST_CONNECTIONS = 512
MOST_HEAD_BYTES = 64 << 10
# What the service raises its own limit to, where it may. Programs that it starts inherit it.
MOST_OPEN_FILES = 65536


def raise_open_files() -> None:
    """A soft limit of 1024, as most systems have it, is meant for programs that use `select`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def is_allowed(host: str, networks: Sequence[Network]) -> bool:
    """No networks: whoever can connect. A host that is no address is nobody's."""
    if not networks:
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return any(address in network for network in networks)


class Guarded(HttpToolsProtocol):
    """One connection. networks, most, open_ones: of all that a server has; the oldest of them first."""

    networks: ClassVar[Sequence[Network]] = ()
    most: ClassVar[int] = MOST_CONNECTIONS
    open_ones: ClassVar[OrderedDict[Guarded, None]] = OrderedDict()
    refused = False
    head_bytes = 0

    @property
    def owes_us(self) -> bool:
        """Nothing is being answered: the next request has not begun, or has not arrived."""
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        peer = transport.get_extra_info("peername")
        host = str(peer[0]) if peer else ""
        if is_allowed(host, self.networks):
            super().connection_made(transport)
            self.open_ones[self] = None
            self._make_room()
            return
        self.refused = True
        log.warning("a connection to the API was refused", source=host, reason="not in allowed_sources")
        transport.abort()

    def _make_room(self) -> None:
        if len(self.open_ones) <= self.most:
            return
        idle = next((one for one in self.open_ones if one.owes_us), None)
        if idle is not None:
            del self.open_ones[idle]
            idle.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.refused:
            return
        before = self.cycle
        super().data_received(data)
        # The parser keeps a head for as long as it comes.
        in_head = self.cycle is before and (before is None or before.response_complete)
        self.head_bytes = self.head_bytes + len(data) if in_head else 0
        if self.head_bytes > MOST_HEAD_BYTES:
            self.transport.abort()

    def eof_received(self) -> None:
        if not self.refused:
            super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.open_ones.pop(self, None)
        if not self.refused:
            super().connection_lost(exc)


def protocol_for(networks: Sequence[Network], most: int = MOST_CONNECTIONS) -> type[Guarded]:
    """The protocol of a server, that drops a connection from elsewhere as soon as it is made. most: open at a time."""
    return type("GuardedHere", (Guarded,), {"networks": networks, "most": most, "open_ones": OrderedDict()})
