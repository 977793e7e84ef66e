"""Commands and replies of Valkey and Redis on one wire (RESP2, parsed by libvalkey). Used by engine.admin only.

Replies are values, errors among them (`ReplyError`): one look sends several commands at once, and the answers
behind an error are still to be read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from libvalkey import ProtocolError, Reader, ReplyError, pack_command

from cachekeep.domain.world import WorldError
from cachekeep.engine.wire import GarbledError, Wire

Command = tuple[str, ...]
_CHUNK = 65536
_INCOMPLETE = object()


async def ask(wire: Wire, *commands: Command) -> list[Any]:
    """Send the commands in one write and return their replies in order; an error reply is a ReplyError value."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> list[Any]:
        writer.write(b"".join(map(pack_command, commands)))
        await writer.drain()
        return await read_replies(reader, len(commands))

    return await wire.exchange(talk)


async def must(wire: Wire, *commands: Command) -> list[Any]:
    """As `ask`, but raise WorldError with the engine's words for the first error reply."""
    replies = await ask(wire, *commands)
    for command, reply in zip(commands, replies, strict=True):
        if isinstance(reply, ReplyError):
            raise refused(wire, command, reply)
    return replies


def refused(wire: Wire, command: Sequence[str], reply: ReplyError) -> WorldError:
    return WorldError(f"{wire.address} refused {' '.join(command[:3])}: {reply}")


async def read_replies(reader: asyncio.StreamReader, count: int) -> list[Any]:
    """Read count replies. Raises EOFError at the end of the stream, GarbledError on anything but RESP."""
    parser = Reader(encoding="utf-8", errors="replace", notEnoughData=_INCOMPLETE)
    replies: list[Any] = []
    try:
        while len(replies) < count:
            reply = parser.gets()
            if reply is not _INCOMPLETE:
                replies.append(reply)
                continue
            chunk = await reader.read(_CHUNK)
            if not chunk:
                raise EOFError("end of stream")
            parser.feed(chunk)
    except ProtocolError as error:
        raise GarbledError(str(error)) from error
    return replies
