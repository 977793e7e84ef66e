"""How this service gets into the engines that it runs: its own user, and where it must speak TLS.

Made at the start of the service (and of commands that stop or show engines), handed to everything in this room that
connects to own nodes. Watched endpoints and backups have credentials of their own: domain.metrics.Place.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TypeVar

from libvalkey import ReplyError

from cachekeep.domain.access import EngineLogin
from cachekeep.domain.nodes import Address
from cachekeep.engine.secured import Secured, Way

T = TypeVar("T")


def _plain(_: Address) -> ssl.SSLContext | None:
    return None


class Access:
    """login: None to go in as nobody (`default`), as tests with engines of their own do.

    context_for: what an address is verified with, None where plain TCP is spoken. It is asked at every connection.
    secured: knows how to get to engines whose ports change; where there is none, address and context_for say it.
    """

    def __init__(
        self,
        login: EngineLogin | None = None,
        context_for: Callable[[Address], ssl.SSLContext | None] = _plain,
        secured: Secured | None = None,
    ) -> None:
        self.login = login
        self.context_for = context_for
        self._secured = secured

    async def through(self, address: Address, connect: Callable[[Way], Awaitable[T]]) -> T:
        """What `connect` makes of the first way to the engine that leads there. Raises what the last one does."""
        ways = ((address, self.context_for(address)),) if self._secured is None else self._secured.ways(address)
        for way in ways[:-1]:
            with suppress(ConnectionRefusedError):
                return await connect(way)
        return await connect(ways[-1])

    def listens(self, address: Address, directives: Mapping[str, str]) -> None:
        """The engine's configuration tells where it listens."""
        if self._secured is not None:
            self._secured.seen_by(address, directives)

    @property
    def words(self) -> tuple[str, ...]:
        """The command that logs in; () where there is nobody to log in as. Never part of a text."""
        return ("AUTH", self.login.username, self.login.password) if self.login else ()


OPEN = Access()


def unknown_user(reply: object) -> bool:
    """The engine does not know the service's user: an earlier version started it, or somebody took the user away.

    One goes on as `default` then: where that is open the next look finds what is missing, and control puts it right.
    Source: ACL code of Redis 6.2 to Valkey 9.1 (`WRONGPASS`).
    """
    return isinstance(reply, ReplyError) and str(reply).startswith("WRONGPASS")
