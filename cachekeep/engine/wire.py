"""One kept connection to one node, on which question and answer alternate. Used by engine.admin only.

An exchange that breaks off (deadline, cancellation, dropped connection) costs the connection: on a kept one its
late answer would be taken for the answer to the next question.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable
from typing import TypeVar

from libvalkey import ReplyError, pack_command

from cachekeep.domain.nodes import Address
from cachekeep.domain.world import NotAskedError, WorldError
from cachekeep.engine.access import OPEN, Access, unknown_user
from cachekeep.engine.secured import Way

T = TypeVar("T")
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[T]]

# INFO has about 7 kB; an answer may be read by lines, and none of ours is longer.
_BUFFER_BYTES = 256 * 1024
# How long an engine may take to answer the goodbye of a connection.
_GOODBYE_WITHIN_S = 0.5


class GarbledError(Exception):
    """What came back is not an answer in the protocol that was spoken."""


class DroppedError(WorldError):
    """The node took the connection and dropped it before it answered."""


async def _open(way: Way) -> Streams:
    at, context = way
    name = at.host if context else None
    return await asyncio.open_connection(at.host, at.port, limit=_BUFFER_BYTES, ssl=context, server_hostname=name)


class Wire:
    """Connects when it must, keeps the connection while exchanges end well.

    major, cluster, migrates: set by the user of the wire to what it learned of the engine (its major version, that it
    is in cluster mode, that it knows atomic slot migrations); unknown again after every new connection. logged_in: as
    the service's own user.
    """

    def __init__(
        self,
        address: Address,
        connect_timeout_s: float,
        answer_timeout_s: float,
        access: Access = OPEN,
        *,
        logs_in: bool = True,
    ) -> None:
        """logs_in: as the service's user. Not for memcached, which has no users here."""
        self.address = address
        self.access = access
        self._logs_in = logs_in and bool(access.words)
        self._unknown()
        self._connect_timeout_s = connect_timeout_s
        self._answer_timeout_s = answer_timeout_s
        self._streams: Streams | None = None
        # Held across awaits on purpose: it is the order of exchanges on one connection, and each has a deadline.
        self._turn = asyncio.Lock()

    async def exchange(self, talk: Talk[T]) -> T:
        """Run talk on the connection and return its result. Raises WorldError with address and cause.

        talk may run a second time, when a kept connection turns out to have been dropped: it is to be idempotent.
        """
        async with self._turn:
            if self._streams is not None:
                try:
                    return await self._once(talk)
                except ConnectionError:
                    # The engine was restarted, or cut its clients. Nothing is known yet: ask on a new connection.
                    self._unknown()
            try:
                return await self._once(talk)
            except ConnectionError as error:
                raise DroppedError(f"{self.address} dropped the connection ({error or 'end of stream'})") from error

    async def _once(self, talk: Talk[T]) -> T:
        fresh = self._streams is None
        streams = self._streams or await self._connect()
        self._streams = None
        try:
            async with asyncio.timeout(self._answer_timeout_s):
                if fresh and self._logs_in:
                    await self._log_in(*streams)
                result = await talk(*streams)
            self._streams = streams
            return result
        except TimeoutError as error:
            raise WorldError(f"{self.address} did not answer within {self._answer_timeout_s:g} s") from error
        except GarbledError as error:
            raise WorldError(f"{self.address} does not speak the expected protocol: {error}") from error
        except (OSError, EOFError) as error:
            raise ConnectionError(str(error)) from error
        finally:
            if self._streams is None:
                _drop(streams[1])

    def _unknown(self) -> None:
        self.major = 0
        self.cluster = False
        self.migrates = True
        self.logged_in = False

    async def _connect(self) -> Streams:
        self._unknown()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                return await self.access.through(self.address, _open)
        except TimeoutError as error:
            raise WorldError(
                f"cannot connect to {self.address} within {self._connect_timeout_s:g} s; is its process stopped?"
            ) from error
        except ssl.SSLCertVerificationError as error:
            # Whoever shows a certificate lives; the authority may be another one by now.
            raise NotAskedError(f"cannot connect to {self.address}: {error}") from error
        except OSError as error:
            # Not error.strerror: asyncio puts a sentence of its own there, without the reason. Numbers of the resolver
            # are below zero and have texts of their own.
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
            raise WorldError(f"cannot connect to {self.address}: {reason}") from error

    async def _log_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """An engine that does not know the service's user is talked to as `default`."""
        writer.write(pack_command(self.access.words))
        await writer.drain()
        # One line of text, whether it went well or not.
        answer = await reader.readline()
        if not answer:
            raise EOFError("end of stream")
        self.logged_in = answer.startswith(b"+OK")
        refusal = ReplyError(answer[1:].decode("utf-8", "replace").strip())
        if not self.logged_in and not unknown_user(refusal):
            raise DroppedError(f"{self.address} refused the service's login: {refusal}")

    async def close(self) -> None:
        """Drop the connection, once a running exchange has ended."""
        async with self._turn:
            if self._streams is not None:
                _, writer = self._streams
                self._streams = None
                await take_leave(writer)


async def take_leave(writer: asyncio.StreamWriter) -> None:
    """Closed when it returns; TLS gets a moment to say goodbye."""
    writer.close()
    try:
        async with asyncio.timeout(_GOODBYE_WITHIN_S):
            await writer.wait_closed()
    except (OSError, TimeoutError):
        writer.transport.abort()
        await asyncio.sleep(0)  # the transport lets its socket go in the loop's next round


def _drop(writer: asyncio.StreamWriter) -> None:
    """After an exchange that failed. Of TLS, `close` would wait for the engine to take leave."""
    if writer.get_extra_info("ssl_object") is not None:
        writer.transport.abort()
    else:
        writer.close()
