"""Finds keys with SCAN, and learns which of them are large before they are read.

DUMP of a hash of a million fields stops a server for half a second, and a hundred values of 1 MB in one exchange
would be held in memory at once. One script does SCAN and asks the size of what it found: one exchange, no keys named
(so no slots to cross in cluster mode), a microsecond or so per key. Where scripts are denied the sizes are asked in
a pipeline; where MEMORY is too, by the number of elements. Called by backup.scan.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from cachekeep.backup.survey_types import Ability, Survey
from cachekeep.codec.resp import pack, pack_all
from cachekeep.domain.remote import Connection, Refusal, RemoteError, RemoteFault, Reply

LARGE_BYTES = 64 << 10
EXCHANGE_BYTES = 2 << 20
PAGED_BYTES = 4 << 20
PAGED_ELEMENTS = 40_000
_ELEMENT_BYTES = 64  # a guess, where only elements can be counted

_LENGTHS = b"""local function elements(key, kind)
  local command = ({hash='HLEN', list='LLEN', set='SCARD', zset='ZCARD', stream='XLEN'})[kind]
  local count = command and redis.pcall(command, key) or 0
  return type(count) == 'number' and count or 0
end
"""
_BY_MEMORY = b"""local size = redis.pcall('MEMORY', 'USAGE', key)
  if type(size) == 'number' then
    total = total + size
    if size >= 65536 then
      local kind = redis.pcall('TYPE', key).ok
      local at = #large
      large[at + 1] = i large[at + 2] = size large[at + 3] = elements(key, kind) large[at + 4] = kind or ''
    end
  end"""
_BY_ELEMENTS = b"""local kind = redis.pcall('TYPE', key).ok
  local count, size = elements(key, kind), 0
  if kind == 'string' then size = redis.pcall('STRLEN', key) else size = count * 64 end
  if type(size) == 'number' then
    total = total + size
    if size >= 65536 then
      local at = #large
      large[at + 1] = i large[at + 2] = size large[at + 3] = count large[at + 4] = kind or ''
    end
  end"""
_FIND = b"""%blocal found = redis.call('SCAN', unpack(ARGV))
local large, total = {}, 0
for i, key in ipairs(found[2]) do
  %b
end
return {found[1], found[2], total, large}"""
_COUNTS = {b"hash": "HLEN", b"list": "LLEN", b"set": "SCARD", b"zset": "ZCARD", b"stream": "XLEN", b"string": "STRLEN"}


class Large(NamedTuple):
    """kind: as TYPE says it. elements: 0 for a string."""

    size_bytes: int
    elements: int
    kind: bytes

    @property
    def in_pages(self) -> bool:
        return self.size_bytes > PAGED_BYTES or self.elements > PAGED_ELEMENTS


class Found(NamedTuple):
    """What one SCAN found. cursor: for the next one, b"0" at the end. size_bytes: of all keys, 0 where nobody says.

    large: keys that take 64 KiB or more, by their position.
    """

    cursor: bytes
    keys: list[bytes]
    size_bytes: int
    large: dict[int, Large]

    def exchanges(self) -> Iterator[list[bytes]]:
        """The keys that may be read by DUMP, in groups of about 2 MiB each, large ones last; at least one group."""
        if not self.large and self.size_bytes <= EXCHANGE_BYTES:
            yield self.keys
            return
        small = [key for at, key in enumerate(self.keys) if at not in self.large]
        each = max(1, (self.size_bytes - sum(one.size_bytes for one in self.large.values())) // max(1, len(small)))
        step = max(1, EXCHANGE_BYTES // each)
        yield small[:step]
        yield from (small[at : at + step] for at in range(step, len(small), step))
        group, size = list[bytes](), 0
        for at, one in self.large.items():
            if one.in_pages:
                continue
            if group and size + one.size_bytes > EXCHANGE_BYTES:
                yield group
                group, size = [], 0
            group.append(self.keys[at])
            size += one.size_bytes
        if group:
            yield group

    def in_pages(self) -> Iterator[tuple[bytes, Large]]:
        yield from ((self.keys[at], one) for at, one in self.large.items() if one.in_pages)


class Finder:
    """SCAN on one connection: `request(cursor)` are the bytes to send, `read()` takes the answer."""

    def __init__(self, connection: Connection, survey: Survey, match: bytes | None, count: int) -> None:
        self._connection = connection
        self._words = ("COUNT", count) if match is None else ("MATCH", match, "COUNT", count)
        self._by_memory = survey.can(Ability.MEMORY)
        self._by_script = survey.can(Ability.SCRIPTS)
        self._script = _FIND % (_LENGTHS, _BY_MEMORY if self._by_memory else _BY_ELEMENTS)
        self.note: str | None = None

    def request(self, cursor: bytes) -> bytes:
        self._asked = cursor
        if self._by_script:
            return pack("EVAL", self._script, 0, cursor, *self._words)
        return pack("SCAN", cursor, *self._words)

    def read(self) -> Found:
        """Raises RemoteError: lost, or SCAN denied; Refusal for what passes by itself (LOADING, BUSY...)."""
        reply = self._connection.receive(1)[0]
        if self._by_script and isinstance(reply, Refusal) and not passing(reply):
            # Seen once, at the first batch: the survey cannot know whether SCAN is allowed inside a script.
            self._by_script = False
            self._connection.send(self.request(self._asked))
            reply = self._connection.receive(1)[0]
        if isinstance(reply, Refusal):
            raise reply if passing(reply) else _denied(self._connection, reply)
        if self._by_script:
            cursor, keys, total, flat = reply
            large = {flat[at] - 1: Large(*flat[at + 1 : at + 4]) for at in range(0, len(flat), 4)} if flat else {}
            return Found(cursor, keys, total, large)
        cursor, keys = reply
        return Found(cursor, keys, *self._sizes(keys))

    def sized(self, keys: list[bytes]) -> Found:
        """Keys that are known already, with their sizes, in an exchange of its own."""
        return Found(b"0", keys, *self._sizes(keys))

    def _sizes(self, keys: list[bytes]) -> tuple[int, dict[int, Large]]:
        """The same without scripts: in an exchange of its own."""
        if not keys:
            return 0, {}
        sizes: list[Reply] = [None]
        if self._by_memory:
            sizes = self._ask([("MEMORY", "USAGE", key) for key in keys])
            if all(isinstance(size, Refusal) for size in sizes):
                self._by_memory = False
        suspects = list(range(len(keys)))
        if self._by_memory:
            suspects = [at for at in suspects if type(sizes[at]) is int and sizes[at] >= LARGE_BYTES]
        large = dict(zip(suspects, self._counted([keys[at] for at in suspects]), strict=True))
        if self._by_memory:
            large = {at: one._replace(size_bytes=sizes[at]) for at, one in large.items()}
            return sum(size for size in sizes if type(size) is int), large
        total = sum(one.size_bytes for one in large.values())
        return total, {at: one for at, one in large.items() if one.size_bytes >= LARGE_BYTES}

    def _counted(self, keys: list[bytes]) -> list[Large]:
        """By their types and numbers of elements."""
        kinds = self._ask([("TYPE", key) for key in keys])
        commands = [(_COUNTS.get(kind, "STRLEN") if type(kind) is bytes else "STRLEN") for kind in kinds]
        counts = self._ask([(command, key) for command, key in zip(commands, keys, strict=True)])
        if keys and all(isinstance(reply, Refusal) for reply in (*kinds, *counts)):
            self.note = "nothing that tells sizes is allowed (MEMORY USAGE, TYPE, HLEN...): large keys are read at once"
        found = []
        for kind, count in zip(kinds, counts, strict=True):
            number = count if type(count) is int else 0
            if kind == b"string":
                found.append(Large(number, 0, kind))
            else:
                found.append(Large(number * _ELEMENT_BYTES, number, kind if type(kind) is bytes else b""))
        return found

    def _ask(self, commands: list[tuple[bytes | str | int, ...]]) -> list[Reply]:
        if not commands:
            return []
        self._connection.send(pack_all(commands))
        return self._connection.receive(len(commands))


_PASSING = frozenset(("LOADING", "MASTERDOWN", "BUSY", "CLUSTERDOWN", "UNBLOCKED"))


def passing(refusal: Refusal) -> bool:
    """True for what a server says of all keys for a while."""
    return refusal.code in _PASSING


def _denied(connection: Connection, refusal: Refusal) -> RemoteError:
    return RemoteError(
        RemoteFault.DENIED,
        f"{connection.address} refuses SCAN: {refusal}",
        "a copy needs SCAN and DUMP at least: allow them to this user",
    )
