"""Asks nodes for their numbers on connections of its own. Implements domain.metric_ports.Meter.

Read-only commands only. Each node is asked every second: the request is static, and an answer is parsed when it is
looked at. One line per place, on which calls take turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from libvalkey import ReplyError, pack_command

from cachekeep.codec.info_view import InfoView
from cachekeep.codec.latency_histogram import parse_latencies
from cachekeep.codec.watched_answers import printable
from cachekeep.domain.metrics import Buckets, Place
from cachekeep.domain.world import WorldError
from cachekeep.engine.access import OPEN, Access, unknown_user
from cachekeep.engine.meter_line import MeterLine, bulk, login_words, refused_login, reply, table

T = TypeVar("T")
_INFO = pack_command(("INFO", "all"))
_HISTOGRAM = pack_command(("LATENCY", "HISTOGRAM"))
_HINTS = {
    "NOAUTH": "give a user and a password",
    "NOPERM": "allow the user INFO and LATENCY",
    "LOADING": "it is loading its data; wait",
}


class EngineMeter:
    """Connects when it must, keeps the line while answers come."""

    def __init__(self, connect_timeout_s: float = 1.0, answer_timeout_s: float = 1.0, access: Access = OPEN) -> None:
        """access: for own nodes."""
        self._access = access
        self._connect_timeout_s = connect_timeout_s
        self._answer_timeout_s = answer_timeout_s
        self._lines: dict[Place, MeterLine] = {}
        self._turns: dict[Place, asyncio.Lock] = {}

    async def read(self, place: Place) -> Mapping[str, str]:
        """See the port. Memcached's `maxconns` stands as `settings.maxconns`."""
        return await self._turn(place, self._info if place.speaks_resp else self._stats)

    async def latencies(self, place: Place) -> Mapping[str, Buckets]:
        return await self._turn(place, self._histogram) if place.speaks_resp else {}

    async def forget(self, place: Place) -> None:
        self._turns.pop(place, None)
        if (line := self._lines.pop(place, None)) is not None:
            line.close()
            await line.gone()

    async def close(self) -> None:
        for place in list(self._lines):
            await self.forget(place)

    async def _turn(self, place: Place, talk: Callable[[Place, MeterLine], Awaitable[T]]) -> T:
        turn = self._turns.get(place)
        if turn is None:
            turn = self._turns[place] = asyncio.Lock()
        # Held across awaits on purpose: it is the order of questions on one line, and each has a deadline.
        async with turn:
            line = self._lines.get(place)
            if line is not None and not line.lost:
                try:
                    return await talk(place, line)
                except WorldError:
                    # Restarted since the last read, perhaps: one try on a new line, unless it is slow or refuses,
                    # or was forgotten meanwhile.
                    if not line.dropped or self._turns.get(place) is not turn:
                        raise
            return await talk(place, await self._connect(place))

    async def _connect(self, place: Place) -> MeterLine:
        line = self._lines[place] = await MeterLine.connect(place, self._connect_timeout_s, self._access)
        if words := login_words(place, self._access):
            answer = await line.ask(pack_command(words), reply, self._answer_timeout_s)
            if isinstance(answer, ReplyError) and not (place.own and unknown_user(answer)):
                line.close()
                raise refused_login(place, str(answer))
        return line

    async def _info(self, place: Place, line: MeterLine) -> Mapping[str, str]:
        answer: bytes = await line.ask(_INFO, bulk, self._answer_timeout_s)
        if answer[:1] == b"-":
            raise _refused(place, "INFO", answer[1:].decode("utf-8", "replace"))
        return InfoView(answer, line.layout)

    async def _histogram(self, place: Place, line: MeterLine) -> Mapping[str, Buckets]:
        if line.histogram_unknown:
            return {}
        answer = await line.ask(_HISTOGRAM, reply, self._answer_timeout_s)
        if isinstance(answer, ReplyError):
            text = str(answer)
            if text.startswith("ERR"):  # before Redis 7: unknown subcommand
                line.histogram_unknown = True
                return {}
            raise _refused(place, "LATENCY HISTOGRAM", text)
        try:
            return parse_latencies(answer)
        except ValueError as error:
            raise WorldError(f"{place.address}: {error}") from error

    async def _stats(self, place: Place, line: MeterLine) -> Mapping[str, str]:
        if not line.settings:
            settings = _stat_lines(await line.ask(b"stats settings\r\n", table, self._answer_timeout_s))
            line.settings = {"settings.maxconns": settings.get("maxconns", "")}
        return _stat_lines(await line.ask(b"stats\r\n", table, self._answer_timeout_s)) | line.settings


def _stat_lines(data: bytes) -> dict[str, str]:
    """`STAT name value` lines as names and values."""
    lines = (line.split(" ", 2) for line in data.decode("utf-8", "replace").split("\r\n"))
    return {words[1]: words[2] if len(words) == 3 else "" for words in lines if len(words) > 1}


def _refused(place: Place, command: str, text: str) -> WorldError:
    hint = _HINTS.get(text.partition(" ")[0])
    return WorldError(f"{place.address} refused {command}: {printable(text, 120)}" + (f"; {hint}" if hint else ""))
