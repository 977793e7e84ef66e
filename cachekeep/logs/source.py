"""A node's log as a run of lines, each with the position after it: the slow log's ring, the engine log's file.

Called by logs.lane.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from cachekeep.codec.log_lines import EngineLine, engine_line, parse_engine_line, slow_line
from cachekeep.domain.log_delivery import LogFormat, LogLine, Position
from cachekeep.domain.log_ports import EngineLogs, SlowLogs
from cachekeep.domain.nodes import Address, NodeKey


@dataclass(frozen=True)
class Found:
    """lines: oldest first; None for what is passed over. lost: entries that are gone for good."""

    lines: tuple[tuple[LogLine | None, Position], ...] = ()
    lost: int = 0


class Source(Protocol):
    keeps: bool
    """What was not read yet stays where it is, so there is no hurry."""

    async def read(self, since: Position) -> Found:
        """Raises WorldError."""
        ...


class SlowSource:
    keeps = False

    def __init__(self, logs: SlowLogs, address: Address, names: tuple[str, str], written: LogFormat) -> None:
        """names: cache cluster id and cache node id."""
        self._logs, self._address, self._names, self._written = logs, address, names, written

    async def read(self, since: Position) -> Found:
        seen = await self._logs.read(self._address, str(since.get("run_id", "")), int(since.get("number", 0)))
        lines: tuple[tuple[LogLine | None, Position], ...] = tuple(
            (slow_line(*self._names, entry, self._written), {"run_id": seen.run_id, "number": entry.number + 1})
            for entry in seen.entries
        )
        return Found(lines, seen.lost)


class EngineSource:
    keeps = True

    def __init__(self, logs: EngineLogs, key: NodeKey, names: tuple[str, str], written: LogFormat) -> None:
        self._logs, self._key, self._names, self._written = logs, key, names, written
        self._before = EngineLine(0, "M", "*", "")

    async def read(self, since: Position) -> Found:
        seen = await asyncio.to_thread(self._logs.read, self._key, since)
        return Found(tuple((self._line(text), position) for text, position in seen.lines))

    def _line(self, text: str) -> LogLine | None:
        line = parse_engine_line(text, self._before)
        if line is None:
            return None
        self._before = line
        return engine_line(*self._names, line, self._written)
