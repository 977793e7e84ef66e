"""The few questions that Cachekeep asks Memcached, in its text protocol. Used by engine.admin only."""

from __future__ import annotations

import asyncio

from cachekeep.domain.world import WorldError
from cachekeep.engine.wire import GarbledError, Wire

_LINES_LIMIT = 2000


async def stats(wire: Wire) -> tuple[dict[str, str], dict[str, str]]:
    """Return what `stats` and `stats settings` say."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[dict[str, str], dict[str, str]]:
        writer.write(b"stats\r\nstats settings\r\n")
        await writer.drain()
        return await _table(reader), await _table(reader)

    return await wire.exchange(talk)


async def refresh_certificates(wire: Wire) -> None:
    """Raises WorldError when it cannot read them; the old ones stay then."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        writer.write(b"refresh_certs\r\n")
        await writer.drain()
        return (await reader.readuntil(b"\n")).decode("utf-8", "replace").strip()

    said = await wire.exchange(talk)
    if said != "OK":
        raise WorldError(f"{wire.address} does not take its new certificate: {said[:80]}")


async def _table(reader: asyncio.StreamReader) -> dict[str, str]:
    """Read lines `STAT name value` up to `END`."""
    table: dict[str, str] = {}
    for _ in range(_LINES_LIMIT):
        line = (await reader.readuntil(b"\n")).decode("utf-8", "replace").rstrip()
        match line.split(" ", 2):
            case ["STAT", name, value]:
                table[name] = value
            case ["STAT", name]:
                table[name] = ""
            case ["END"]:
                return table
            case _:
                break
    raise GarbledError(f"stats answered {line[:80]!r}")
