"""What no announcement tells: changes of consumer groups, functions, whole databases. By the server's own counters.

Source: INFO commandstats, `cmdstat_xack:calls=3,usec=...`; since 7.0 with subcommands, `cmdstat_xgroup|create`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cachekeep.codec.info import parse_info
from cachekeep.domain.remote import Connection, Refusal

_PREFIX = "cmdstat_"
_STREAMS = frozenset(("xack", "xreadgroup", "xclaim", "xautoclaim", "xgroup", "xsetid", "xackdel", "xdelex", "xcfgset"))
_FUNCTIONS = frozenset(("load", "delete", "flush", "restore"))
_GROUPS = ("streams", "functions", "flush", "swap", "config")
_FLUSHES, _SWAPS = frozenset(("flushdb", "flushall")), frozenset(("swapdb",))


@dataclass(frozen=True)
class Seen:
    """What was done since the last look; everything, where the counters began anew. unknown: nobody counts."""

    streams: bool = False
    functions: bool = False
    flushed: bool = False
    swapped: bool = False
    configured: bool = False
    unknown: bool = False


class Counters:
    """Of one node; `look` as often as one likes."""

    def __init__(self) -> None:
        self._before: dict[str, int] | None = None

    def look(self, connection: Connection) -> Seen:
        """The first look tells nothing but whether the server counts. Raises RemoteError."""
        now = _counted(connection)
        before, self._before = self._before, now
        if now is None:
            return Seen(unknown=True)
        if before is None:
            return Seen()
        if any(now.get(name, 0) < calls for name, calls in before.items()):  # CONFIG RESETSTAT
            return Seen(True, True, True, True, True)
        totals = _summed(before), _summed(now)
        return Seen(*(totals[1][group] > totals[0][group] for group in _GROUPS))


def _counted(connection: Connection) -> dict[str, int] | None:
    try:
        reply = connection.ask("INFO", "commandstats")
    except Refusal:
        return None
    found = parse_info(reply.decode("utf-8", "replace"))
    calls = {name.removeprefix(_PREFIX): _calls(text) for name, text in found.items() if name.startswith(_PREFIX)}
    return calls or None


def _summed(calls: Mapping[str, int]) -> dict[str, int]:
    total = dict.fromkeys(_GROUPS, 0)
    for name, number in calls.items():
        command, _, sub = name.partition("|")
        if command in _STREAMS:
            total["streams"] += number
        elif command == "function" and sub in _FUNCTIONS:
            total["functions"] += number
        elif command in _FLUSHES:
            total["flush"] += number
        elif command in _SWAPS:
            total["swap"] += number
        elif name == "config|set":
            total["config"] += number
    return total


def _calls(text: str) -> int:
    number = text.partition("calls=")[2].partition(",")[0]
    return int(number) if number.isdecimal() else 0
