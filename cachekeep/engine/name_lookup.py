"""Looks host names up without ever being held up by a resolver that hangs. Used by engine.explorer.

Each look-up has a thread of its own, so many at a time: the threads that others share stay free, and none of these is
waited for when the service ends.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from cachekeep.domain.world import WorldError

MOST = 16


def first_address(host: str) -> str:
    """By the system's resolver. Raises OSError or UnicodeError."""
    return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])


class NameLookup:
    """resolve: host name -> IP address, blocking."""

    def __init__(self, resolve: Callable[[str], str] = first_address, most: int = MOST) -> None:
        self._resolve = resolve
        self._turns = asyncio.Semaphore(most)

    async def address(self, host: str, within_s: float) -> str:
        """The first IP address of the name. Raises WorldError."""
        try:
            async with asyncio.timeout(within_s):
                await self._turns.acquire()  # given back when the thread has ended, however late
                return await self._begin(host)
        except TimeoutError as error:
            what = f"the name {host} could not be looked up within {within_s:g} s"
            raise WorldError(f"{what}; check this machine's resolver") from error
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, socket.gaierror) else str(error)
            raise WorldError(f"the host {host} has no address ({reason}); check its name") from error

    def _begin(self, host: str) -> asyncio.Future[str]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[str] = loop.create_future()

        def told(found: str | Exception) -> None:
            self._turns.release()
            if future.done():
                return
            if isinstance(found, str):
                future.set_result(found)
            else:
                future.set_exception(found)

        def look_up() -> None:
            found: str | Exception
            try:
                found = self._resolve(host)
            except (OSError, UnicodeError) as error:
                found = error
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(told, found)

        threading.Thread(target=look_up, name=f"look up {host[:60]}", daemon=True).start()
        return future
