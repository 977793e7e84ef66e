"""Log lines as AWS delivers them: the slow log with its arguments counted instead of shown, the engine's own log. Pure.

Fields and examples: ElastiCache guide, "Log delivery" (slow log and engine log, JSON and TEXT). A slow log entry never
carries more of a command than its name: whatever AUTH, ACL or CONFIG SET were given stays with the engine.
Lines of engines: `_serverLog` of server.c (`PID:ROLE DAY MON YEAR TIME LEVEL text`), the engine's local time.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from cachekeep.domain.log_delivery import LogFormat, LogLine, SlowEntry

_LINE = re.compile(r"\d+:([XCSM]) (\d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d)\.(\d{3}) ([.\-*#]) ?(.*)\Z", re.DOTALL)
_LEVELS = {".": "VERBOSE", "-": "VERBOSE", "*": "NOTICE", "#": "WARNING"}
# An engine that refuses its configuration repeats the line that it does not understand. One that crashes writes what
# its client had asked, an argument a line (logCurrentClient and _serverAssertPrintClientInfo of debug.c), and at level
# verbose what a client sent that is no command.
_SECRET = re.compile(
    r"requirepass|masterauth|primaryauth|key-file-pass|\bsetuser\b|^>>> '?user |\buser \S+ (?:on|off)\b|\bAUTH\b"
    r"|\bargv\[\d+\]|query buffer",
    re.IGNORECASE,
)
WITHHELD = "(withheld: the line may hold a password)"
LONGEST_MESSAGE = 64 * 1024


@dataclass(frozen=True)
class EngineLine:
    """A line of engine.log. role: M, S, C (a child that saves) or X (a sentinel). level: `*`, `#`, `-` or `.`."""

    at_ms: int
    role: str
    level: str
    message: str


def slow_line(cluster_id: str, node_id: str, entry: SlowEntry, written: LogFormat) -> LogLine:
    """The entry as AWS writes it."""
    more = f" ... ({entry.arguments} more arguments)" if entry.arguments else ""
    command = entry.command + more
    if written is LogFormat.JSON:
        text = json.dumps(
            {
                "CacheClusterId": cluster_id,
                "CacheNodeId": node_id,
                "Id": entry.number,
                "Timestamp": entry.at_s,
                "Duration (us)": entry.duration_us,
                "Command": command,
                "ClientAddress": entry.client_address,
                "ClientName": entry.client_name,
            }
        )
    else:
        # AWS's own example leaves the entry's id out of the text.
        fields = (cluster_id, node_id, entry.at_s, entry.duration_us, command, entry.client_address, entry.client_name)
        text = ",".join(str(field) for field in fields)
    return LogLine(entry.at_s * 1000, text)


def parse_engine_line(line: str, before: EngineLine) -> EngineLine | None:
    """before: the line before, for one that is a part of it and carries no time of its own; None for an empty line."""
    if not line.strip():
        return None
    found = _LINE.match(line)
    if found is None:
        return replace(before, message=_harmless(line.rstrip()))
    role, moment, milliseconds, level, message = found.groups()
    try:
        # The engine writes in the machine's time zone; C names of months, as the engine's locale is C.
        seconds = time.mktime(time.strptime(moment, "%d %b %Y %H:%M:%S"))
    except (ValueError, OverflowError):
        return replace(before, message=_harmless(line.rstrip()))
    return EngineLine(int(seconds) * 1000 + int(milliseconds), role, level, _harmless(message.rstrip()))


def _harmless(message: str) -> str:
    return WITHHELD if _SECRET.search(message) else message[:LONGEST_MESSAGE]


def engine_line(cluster_id: str, node_id: str, line: EngineLine, written: LogFormat) -> LogLine:
    """The line as AWS writes it."""
    when = utc_text(line.at_ms)
    if written is LogFormat.TEXT:
        text = f"{cluster_id}/{node_id}:{line.role} {when} {line.level} {line.message}"
    else:
        text = json.dumps(
            {
                "CacheClusterId": cluster_id,
                "CacheNodeId": node_id,
                "LogLevel": _LEVELS[line.level],
                "Role": line.role,
                "Time": when,
                "Message": line.message,
            }
        )
    return LogLine(line.at_ms, text)


def utc_text(at_ms: int) -> str:
    """`12 Nov 2020 01:28:57.994 UTC`."""
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    months = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
    return f"{moment:%d} {months[moment.month - 1]} {moment:%Y %H:%M:%S}.{at_ms % 1000:03d} UTC"


def slow_entry(reply: object) -> SlowEntry:
    """An entry of SLOWLOG GET: number, time, duration, words, client's address and name. Raises ValueError."""
    match reply:
        case [int(number), int(at_s), int(duration_us), [bytes(name), *rest], *more]:
            client = [str(word, "utf-8", "replace") if isinstance(word, bytes) else "" for word in more[:2]]
            address, client_name = (*client, "", "")[:2]
            return SlowEntry(
                number,
                at_s,
                duration_us,
                _plain(str(name, "utf-8", "replace").upper()),
                _arguments(rest),
                _plain(address),
                _plain(client_name),
            )
    raise ValueError("an entry of SLOWLOG GET cannot be read")


def _arguments(rest: list[object]) -> int:
    """The engine keeps 31 words, and then says how many more there were (slowlogCreateEntry of slowlog.c)."""
    if len(rest) == 31 and isinstance(rest[-1], bytes):
        found = re.match(rb"\.\.\. \((\d+) more arguments\)\Z", rest[-1])
        if found:
            return len(rest) - 1 + int(found[1])
    return len(rest)


def _plain(text: str) -> str:
    """One line whatever a client called itself."""
    return "".join(c if c.isprintable() else "?" for c in text[:200])
