"""One connection of one procedure to a Valkey or Redis node: many commands in flight, answers in order.

Used by the procedures of engine that must know what became of each command (switch_over, move_slots). Unlike a wire
it never reconnects by itself: a command whose connection broke may or may not have been carried out, and what that
means only the procedure knows.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, cast

from libvalkey import ProtocolError, Reader, ReplyError, pack_command

from cachekeep.domain.nodes import Address
from cachekeep.domain.transit import internal_ports
from cachekeep.domain.world import WorldError
from cachekeep.engine.access import OPEN, Access, unknown_user
from cachekeep.engine.secured import Way

Words = tuple[str | bytes | int, ...]
_NONE = object()


class LineError(WorldError):
    """The connection broke, or the answer did not come in time: unknown whether the command was carried out."""


class Line(asyncio.Protocol):
    """Open one with `connect`. Replies are bytes, numbers and lists; an error reply is a ReplyError value."""

    def __init__(self, address: Address, access: Access = OPEN) -> None:
        self.address = address
        self.access = access
        self.lost = False
        # As the service's own user.
        self.logged_in = False
        self._transport: asyncio.WriteTransport | None = None
        self._parser = Reader(notEnoughData=_NONE)
        self._waiting: deque[_Batch] = deque()

    @classmethod
    async def connect(cls, address: Address, timeout_s: float, access: Access = OPEN) -> Line:
        """Connected and logged in as the service's user, or as `default` where the engine does not know that one.

        Raises LineError with address and reason.
        """

        async def connect(way: Way) -> Line:
            at, context = way
            name = at.host if context else None
            loop = asyncio.get_running_loop()
            _, made = await loop.create_connection(
                lambda: cls(address, access), at.host, at.port, ssl=context, server_hostname=name
            )
            return made

        try:
            async with asyncio.timeout(timeout_s):
                line = await access.through(address, connect)
        except TimeoutError as error:
            raise LineError(f"cannot connect to {address} within {timeout_s:g} s") from error
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
            raise LineError(f"cannot connect to {address}: {reason}") from error
        try:
            await line._log_in(timeout_s)
        except BaseException:
            line.close()
            raise
        return line

    async def _log_in(self, timeout_s: float) -> None:
        if not self.access.words:
            return
        # Not by `check`: a password is never part of a text.
        reply = (await self.ask(self.access.words, timeout_s=timeout_s))[0]
        self.logged_in = not isinstance(reply, ReplyError)
        if not self.logged_in and not unknown_user(reply):
            raise LineError(f"{self.address} refused the service's login: {reply}")

    def send(self, *commands: Words) -> asyncio.Future[list[Any]]:
        """Write the commands in one go. The future has their replies in order, or a LineError."""
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        # Nobody may be waiting for it any more when it fails.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        if self.lost or self._transport is None:
            future.set_exception(LineError(f"{self.address} dropped the connection"))
            return future
        self._waiting.append(_Batch(len(commands), [], future))
        self._transport.write(b"".join(map(pack_command, commands)))
        return future

    async def ask(self, *commands: Words, timeout_s: float) -> list[Any]:
        """Send and wait. Raises LineError. An answer that comes later is read and dropped."""
        return await self.answer(self.send(*commands), timeout_s)

    async def answer(self, sent: asyncio.Future[list[Any]], timeout_s: float) -> list[Any]:
        """Wait for what `send` returned; it may be waited for again. Raises LineError."""
        done, _ = await asyncio.wait((sent,), timeout=max(0.0, timeout_s))
        if not done:
            raise LineError(f"{self.address} did not answer within {timeout_s:.1f} s")
        return sent.result()

    async def must(self, *commands: Words, timeout_s: float) -> list[Any]:
        """As `ask`, but raise WorldError with the engine's words for the first error reply."""
        replies = await self.ask(*commands, timeout_s=timeout_s)
        for command, reply in zip(commands, replies, strict=True):
            check(self.address, command, reply)
        return replies

    def close(self) -> None:
        """What was sent still goes out."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not checked by isinstance: uvloop's transports are of no class of asyncio's.
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed(data)
        try:
            while (reply := self._parser.gets()) is not _NONE:
                if not self._waiting:
                    return
                batch = self._waiting[0]
                batch.replies.append(reply)
                if len(batch.replies) == batch.count:
                    self._waiting.popleft()
                    if not batch.future.done():
                        batch.future.set_result(batch.replies)
        except ProtocolError as error:
            self._fail(f"{self.address} does not speak the expected protocol: {error}")
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"{self.address} dropped the connection ({exc or 'end of stream'})")

    def _fail(self, text: str) -> None:
        self.lost = True
        while self._waiting:
            future = self._waiting.popleft().future
            if not future.done():
                future.set_exception(LineError(text))


class _Batch:
    """Commands that were sent together, and the replies so far."""

    __slots__ = ("count", "future", "replies")

    def __init__(self, count: int, replies: list[Any], future: asyncio.Future[list[Any]]) -> None:
        self.count = count
        self.replies = replies
        self.future = future


def check(address: Address, command: Sequence[object], reply: object) -> None:
    """Raises WorldError with the engine's words when the reply is an error."""
    if isinstance(reply, ReplyError):
        words = " ".join(word.decode("utf-8", "replace") if isinstance(word, bytes) else str(word) for word in command)
        raise WorldError(f"{address} refused {words[:60]}: {reply}")


def endpoint_of(host: str, port: int) -> str:
    """An address as the engine itself writes it in CLIENT LIST."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def endpoints_of(hosts: Iterable[str], port: int) -> list[str]:
    """Every local end that a connection by these hosts can have: on the group's port, or behind its switch."""
    return [endpoint_of(host, at) for host in hosts for at in (port, *internal_ports(port))]
