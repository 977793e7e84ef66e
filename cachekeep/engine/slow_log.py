"""Reads the slow logs of engines on connections of its own. Implements domain.log_ports.SlowLogs.

An engine keeps its last slow commands in a ring (`slowlog-max-len`); numbers rise by one, SLOWLOG GET answers the
newest first. COMMANDLOG of Valkey 8.1 keeps the same ring under another name, and SLOWLOG goes on reading it.
"""

from __future__ import annotations

import re

from libvalkey import ReplyError

from cachekeep.codec.log_lines import slow_entry
from cachekeep.domain.log_delivery import SlowEntry, SlowRead
from cachekeep.domain.nodes import Address
from cachekeep.domain.world import WorldError
from cachekeep.engine.access import OPEN, Access
from cachekeep.engine.line import Line

CONNECT_S, ANSWER_S = 2.0, 5.0
# An entry has at most 32 words of 128 bytes: an answer stays below 16 MiB.
MOST_ENTRIES = 4096
SLACK = 64
_RUN_ID = re.compile(rb"^run_id:([0-9a-f]+)", re.MULTILINE)


class EngineSlowLogs:
    """Keeps one line per node while answers come. Calls for one node must not overlap."""

    def __init__(self, access: Access = OPEN) -> None:
        self._access = access
        self._lines: dict[Address, Line] = {}

    async def read(self, address: Address, run_id: str, number: int) -> SlowRead:
        line = await self._line(address)
        info, newest = await line.must(("INFO", "server"), ("SLOWLOG", "GET", "1"), timeout_s=ANSWER_S)
        told = _RUN_ID.search(info if isinstance(info, bytes) else b"")
        if told is None:
            raise WorldError(f"{address} does not tell its run_id")
        now = told[1].decode()
        first = number if now == run_id else 0
        last = _entries(address, newest)
        if not last or last[0].number < first:
            return SlowRead(now)
        entries: tuple[SlowEntry, ...] = ()
        # More may have come since; where they push out of the answer what is wanted, all is asked for.
        for wanted in (min(last[0].number - first + 1 + SLACK, MOST_ENTRIES), MOST_ENTRIES):
            (reply,) = await line.must(("SLOWLOG", "GET", str(wanted)), timeout_s=ANSWER_S)
            found = _entries(address, reply)
            entries = tuple(entry for entry in reversed(found) if entry.number >= first)
            if len(found) < wanted or found[-1].number <= first:
                break
        # The first look at an engine that ran before misses nothing that it was asked for.
        lost = entries[0].number - first if entries and now == run_id else 0
        return SlowRead(now, entries, lost)

    async def forget(self, address: Address) -> None:
        if (line := self._lines.pop(address, None)) is not None:
            line.close()

    async def close(self) -> None:
        for address in list(self._lines):
            await self.forget(address)

    async def _line(self, address: Address) -> Line:
        line = self._lines.get(address)
        if line is None or line.lost:
            line = self._lines[address] = await Line.connect(address, CONNECT_S, self._access)
        return line


def _entries(address: Address, reply: object) -> list[SlowEntry]:
    if isinstance(reply, ReplyError) or not isinstance(reply, list):
        raise WorldError(f"{address} refused SLOWLOG: {reply!s:.100}")
    try:
        return [slow_entry(entry) for entry in reply]
    except ValueError as error:
        raise WorldError(f"{address}: {error}") from error
