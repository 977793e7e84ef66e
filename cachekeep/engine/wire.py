"""One kept connection to one node, on which question and answer alternate. Used by engine.admin only.

An exchange that breaks off (deadline, cancellation, dropped connection) costs the connection: on a kept one its
late answer would be taken for the answer to the next question.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

from cachekeep.domain.nodes import Address
from cachekeep.domain.ports import WorldError

T = TypeVar("T")
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[T]]

# INFO has about 7 kB; an answer may be read by lines, and none of ours is longer.
_BUFFER_BYTES = 256 * 1024


class GarbledError(Exception):
    """What came back is not an answer in the protocol that was spoken."""


class DroppedError(WorldError):
    """The node took the connection and dropped it before it answered."""


class Wire:
    """Connects when it must, keeps the connection while exchanges end well.

    major, cluster, migrates: set by the user of the wire to what it learned of the engine (its major version, that it
    is in cluster mode, that it knows atomic slot migrations); unknown again after every new connection.
    """

    def __init__(self, address: Address, connect_timeout_s: float, answer_timeout_s: float) -> None:
        self.address = address
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
        streams = self._streams or await self._connect()
        self._streams = None
        try:
            async with asyncio.timeout(self._answer_timeout_s):
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
                streams[1].close()

    def _unknown(self) -> None:
        self.major = 0
        self.cluster = False
        self.migrates = True

    async def _connect(self) -> Streams:
        self._unknown()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                return await asyncio.open_connection(self.address.host, self.address.port, limit=_BUFFER_BYTES)
        except TimeoutError as error:
            raise WorldError(
                f"cannot connect to {self.address} within {self._connect_timeout_s:g} s; is its process stopped?"
            ) from error
        except OSError as error:
            # Not error.strerror: asyncio puts a sentence of its own there, without the reason.
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise WorldError(f"cannot connect to {self.address}: {reason}") from error

    async def close(self) -> None:
        """Drop the connection, once a running exchange has ended."""
        async with self._turn:
            if self._streams is not None:
                self._streams[1].close()
                self._streams = None
                await asyncio.sleep(0)  # the transport lets its socket go in the loop's next round
