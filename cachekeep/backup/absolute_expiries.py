"""Expiries that a replication stream tells as time that is left, as the moment they mean. Pure.

Called by backup.replication_commands for streams of engines before 7.0: later ones tell moments. A replica carries such
a command out when it comes, so its moment plus the time that is left is what a replica has.
Source: src/expire.c, t_string.c of Redis 6.2; what it sends, observed.
"""

from __future__ import annotations

from libvalkey import Reader

from cachekeep.codec.resp import pack

NAMES = frozenset((b"SET", b"SETEX", b"PSETEX", b"EXPIRE", b"PEXPIRE", b"GETEX", b"RESTORE"))
_UNITS_MS = {b"EX": 1000, b"PX": 1}


def with_absolute_expiry(command: bytes, came_ms: int) -> bytes:
    """The command in RESP, the same where it has no such expiry. came_ms: since 1970, by the source's clock."""
    reader = Reader()
    reader.feed(command)
    words: list[bytes] = reader.gets()
    try:
        changed = _absolute(words, came_ms)
    except (ValueError, IndexError):
        return command  # the engine says what is wrong with it
    return command if changed is None else pack(*changed)


def _absolute(words: list[bytes], came_ms: int) -> list[bytes] | None:
    match words[0].upper(), words[1:]:
        case (b"EXPIRE" | b"PEXPIRE") as name, [key, left, *rest]:
            unit = 1000 if name == b"EXPIRE" else 1
            return [b"PEXPIREAT", key, b"%d" % (came_ms + int(left) * unit), *rest]
        case (b"SETEX" | b"PSETEX") as name, [key, left, value]:
            unit = 1000 if name == b"SETEX" else 1
            return [b"SET", key, value, b"PXAT", b"%d" % (came_ms + int(left) * unit)]
        case b"RESTORE", [key, left, payload, *rest] if int(left) and b"ABSTTL" not in map(bytes.upper, rest):
            return [b"RESTORE", key, b"%d" % (came_ms + int(left)), payload, *rest, b"ABSTTL"]
        case b"SET" | b"GETEX", _:
            first = 3 if words[0].upper() == b"SET" else 2
            for at in range(first, len(words) - 1):
                if unit := _UNITS_MS.get(words[at].upper(), 0):
                    return [*words[:at], b"PXAT", b"%d" % (came_ms + int(words[at + 1]) * unit), *words[at + 2 :]]
    return None
