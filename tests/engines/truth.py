"""What servers hold, type by type, by their own read commands; nothing of the product is in here. Not a test.

`record(servers)` is the truth of a moment, when nothing writes. `compare(one, other)` says what differs, to the ms.
Keys and hash fields whose time has come by the later of the two recordings are left out on both sides.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import valkey

Place = tuple[int, bytes]
NEVER = -1
SHIFT_MS = 5000
_BATCH = 500
_CLUSTER_WITHIN_S = 60.0
# TIME before and after PTTL in one ms: only then their sum is the expiry.
_EXPIRY = """
local function now() local t = redis.call('TIME') return t[1] * 1000 + math.floor(t[2] / 1000) end
while true do
  local before, left = now(), redis.call('PTTL', KEYS[1])
  if left < 0 then return left end
  if before == now() then return before + left end
end"""


class Listening(Protocol):
    """A server to be read."""

    @property
    def host(self) -> str: ...

    @property
    def port(self) -> int: ...

    @property
    def version(self) -> str: ...


class Moved(Exception):
    """Slots moved while they were read."""


@dataclass(frozen=True)
class Held:
    """value: by type; of a hash {field: (value, expiry)}. expires_ms: since 1970, NEVER without."""

    kind: bytes
    value: Any
    expires_ms: int

    def at(self, now_ms: int) -> Held | None:
        """What is left of it then."""
        if 0 <= self.expires_ms <= now_ms:
            return None
        if self.kind != b"hash":
            return self
        fields = {name: one for name, one in self.value.items() if not 0 <= one[1] <= now_ms}
        return replace(self, value=fields) if fields else None


@dataclass(frozen=True)
class Truth:
    """at_ms: by the server's clock, when all was read. functions: per library its code, in bytes."""

    version: tuple[int, ...]
    at_ms: int
    keys: dict[Place, Held]
    functions: dict[bytes, bytes]

    def living(self, now_ms: int) -> dict[Place, Held]:
        return {place: held for place, one in self.keys.items() if (held := one.at(now_ms)) is not None}


@dataclass
class Differences:
    """From the first to the second. different, expiries, functions: in words."""

    compared: int = 0
    missing: list[Place] = field(default_factory=list)
    extra: list[Place] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    expiries: list[str] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra or self.different or self.expiries or self.functions)

    def __str__(self) -> str:
        parts = {name: getattr(self, name) for name in ("missing", "extra", "different", "expiries", "functions")}
        some = "; ".join(f"{len(found)} {name}: {found[:5]}" for name, found in parts.items() if found)
        return f"of {self.compared} keys {some or 'none differs'}"


@dataclass(frozen=True)
class Measure:
    """What has to be equal; by default everything, to the ms.

    idle_consumers: those that have nothing pending. entries_read: of groups. counters: what else streams count since
    7.0. pfcount_cache: what PFCOUNT writes into its key.
    """

    idle_consumers: bool = True
    entries_read: bool = True
    counters: bool = True
    pfcount_cache: bool = True
    tolerance_ms: int = 0

    def of(self, held: Held) -> Any:
        if held.kind == b"stream":
            unsaid: dict[str, None] = {} if self.idle_consumers else {"consumers": None}
            unsaid |= {} if self.entries_read and self.counters else {"read": None}
            groups = {name: group | unsaid for name, group in held.value["groups"].items()}
            return held.value | {"groups": groups} | ({} if self.counters else {"added": None, "deleted": None})
        if held.kind == b"string" and not self.pfcount_cache and held.value[:4] == b"HYLL":
            return held.value[:8] + held.value[16:]
        return held.value


EXACT = Measure()


def as_replica(version: str) -> Measure:
    """What the engine's own replicas have. No primary tells them of every consumer; Redis 7.0 not of what groups have
    read; before 7.0 expiries go out as time that is left.
    """
    number = _number(version)
    return Measure(
        idle_consumers=False, entries_read=number >= (8, 0), tolerance_ms=0 if number >= (7, 0) else SHIFT_MS
    )


def compare(one: Truth, other: Truth, measure: Measure = EXACT) -> Differences:
    """From the first to the second."""
    now_ms = max(one.at_ms, other.at_ms)
    if min(one.version, other.version) < (7, 0):
        measure = replace(measure, counters=False)
    left, right = one.living(now_ms), other.living(now_ms)
    found = Differences(compared=len(left.keys() | right.keys()))
    found.missing, found.extra = sorted(left.keys() - right.keys()), sorted(right.keys() - left.keys())
    for place in sorted(left.keys() & right.keys()):
        before, after = left[place], right[place]
        if before.kind != after.kind:
            found.different.append(f"{place}: {before.kind!r} / {after.kind!r}")
            continue
        values = measure.of(before), measure.of(after)
        if values[0] != values[1]:
            found.different.append(f"{place}: {before.kind.decode()}: {_first_difference(*values)}")
        if not _same_expiry(before.expires_ms, after.expires_ms, measure.tolerance_ms):
            found.expiries.append(f"{place}: {before.expires_ms} / {after.expires_ms}")
    for name in sorted(one.functions.keys() | other.functions.keys()):
        if one.functions.get(name) != other.functions.get(name):
            found.functions.append(f"{name!r}: {one.functions.get(name)!r} / {other.functions.get(name)!r}")
    return found


def _same_expiry(one: int, other: int, tolerance_ms: int) -> bool:
    return (one < 0) == (other < 0) and abs(one - other) <= tolerance_ms


def _first_difference(one: Any, other: Any) -> str:
    """Where two values part, short enough to be read."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in [*one, *(name for name in other if name not in one)]:
            if one.get(name) != other.get(name):
                return f"{name!r}: {_first_difference(one.get(name), other.get(name))}"
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        for at, (left, right) in enumerate(zip(one, other, strict=False)):
            if left != right:
                return f"[{at}] {_first_difference(left, right)}"
        return f"length {len(one)} / {len(other)}"
    return f"{str(one)[:120]} / {str(other)[:120]}"


def record(servers: Listening | Sequence[Listening], **options: Any) -> Truth:
    """Of one server, or of all primaries of a cluster, some nodes of which are given. options: of valkey.Valkey."""
    given = list(servers) if isinstance(servers, Sequence) else [servers]
    with ExitStack() as stack:
        first = stack.enter_context(_client(given[0], 0, options))
        if b"cluster_enabled:1" not in first.execute_command("INFO", "cluster"):
            return _record_one(given[0], first, options)
    deadline = time.monotonic() + _CLUSTER_WITHIN_S
    while True:
        try:
            return _record_cluster(given, options)
        except (Moved, valkey.ConnectionError) as error:
            if time.monotonic() > deadline:
                raise AssertionError(f"the cluster did not stand still: {error}") from error


def now_ms(server: Listening, **options: Any) -> int:
    """By its clock."""
    with _client(server, 0, options) as client:
        return _clock_ms(client)


def _record_one(server: Listening, first: valkey.Valkey, options: dict[str, Any]) -> Truth:
    version = _number(server.version)
    keys: dict[Place, Held] = {}
    for db in _databases(first):
        with _client(server, db, options) as client:
            keys |= {(db, key): held for key, held in _read_all(client, version)}
    return Truth(version, _clock_ms(first), keys, _functions(first, version))


def _record_cluster(nodes: Sequence[Listening], options: dict[str, Any]) -> Truth:
    version = _number(nodes[0].version)
    keys: dict[Place, Held] = {}
    at_ms, functions = 0, dict[bytes, bytes]()
    slots = _slots(nodes, options)
    for host, port in sorted({owner for _, _, owner in slots}):
        owned = [(first, last) for first, last, owner in slots if owner == (host, port)]
        with valkey.Valkey(host=host, port=port, socket_timeout=30, **options) as client:
            client.response_callbacks.clear()
            for key, held in _read_all(client, version, owned):
                if (0, key) in keys:
                    raise Moved(f"{key!r} is on two nodes")
                keys[0, key] = held
            functions |= _functions(client, version)
            at_ms = max(at_ms, _clock_ms(client))
    if slots != _slots(nodes, options):
        raise Moved("slots have other owners than before")
    return Truth(version, at_ms, keys, functions)


def _slots(nodes: Iterable[Listening], options: dict[str, Any]) -> list[tuple[int, int, tuple[str, int]]]:
    """(first, last, owner), by the first node that answers and knows all slots."""
    said: list[str] = []
    for node in nodes:
        try:
            with _client(node, 0, options) as client:
                ranges = client.execute_command("CLUSTER", "SLOTS")
        except valkey.ValkeyError as error:
            said.append(str(error))
            continue
        if sum(last - first + 1 for first, last, *_ in ranges) == 16384:
            return sorted((first, last, (owner[0].decode(), owner[1])) for first, last, owner, *_ in ranges)
        said.append(f"{node.host}: {len(ranges)} ranges")
    raise Moved(f"no node knows all slots: {said}")


def _client(server: Listening, db: int, options: dict[str, Any]) -> valkey.Valkey:
    made = valkey.Valkey(host=server.host, port=server.port, db=db, socket_timeout=30, **options)
    made.response_callbacks.clear()
    return made


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _clock_ms(client: valkey.Valkey) -> int:
    seconds, micro = client.execute_command("TIME")
    return int(seconds) * 1000 + int(micro) // 1000


def _databases(client: valkey.Valkey) -> list[int]:
    lines = client.execute_command("INFO", "keyspace").splitlines()
    return sorted(int(line.split(b":")[0][2:]) for line in lines if line.startswith(b"db"))


def _functions(client: valkey.Valkey, version: tuple[int, ...]) -> dict[bytes, bytes]:
    if version < (7, 0):
        return {}
    libraries = [_pairs(words) for words in client.execute_command("FUNCTION", "LIST", "WITHCODE")]
    return {library[b"library_name"]: library[b"library_code"] for library in libraries}


def _read_all(
    client: valkey.Valkey, version: tuple[int, ...], owned: list[tuple[int, int]] | None = None
) -> Iterator[tuple[bytes, Held]]:
    """owned: slot ranges; None: not a cluster."""
    cursor, seen = b"0", set[bytes]()
    while True:
        cursor, keys = client.execute_command("SCAN", cursor, "COUNT", _BATCH)
        fresh = [key for key in dict.fromkeys(keys) if key not in seen]
        seen.update(fresh)
        if owned is not None:
            numbers = _ask_all(client, [("CLUSTER", "KEYSLOT", key) for key in fresh])
            fresh = [
                key
                for key, slot in zip(fresh, numbers, strict=True)
                if any(first <= slot <= last for first, last in owned)
            ]
        yield from _read(client, fresh, version)
        if cursor == b"0":
            return


_VALUES: dict[bytes, tuple[Any, ...]] = {
    b"string": ("GET",),
    b"list": ("LRANGE", 0, -1),
    b"set": ("SMEMBERS",),
    b"zset": ("ZRANGE", 0, -1, "WITHSCORES"),
    b"hash": ("HGETALL",),
    b"stream": ("XRANGE", "-", "+"),
}


def _read(client: valkey.Valkey, keys: list[bytes], version: tuple[int, ...]) -> Iterator[tuple[bytes, Held]]:
    """Those of the keys that still are there when their expiry is asked, which is last."""
    kinds = dict(zip(keys, _ask_all(client, [("TYPE", key) for key in keys]), strict=True))
    kinds = {key: kind for key, kind in kinds.items() if kind != b"none"}
    words = {key: _VALUES[kind] for key, kind in kinds.items()}
    values = _ask_all(client, [(verb, key, *more) for key, (verb, *more) in words.items()])
    second = _ask_all(
        client, [_second(key, kinds[key], value, version) for key, value in zip(kinds, values, strict=True)]
    )
    if version >= (7, 0):
        expiries = _ask_all(client, [("PEXPIRETIME", key) for key in kinds])
    else:
        expiries = _ask_all(client, [("EVAL", _EXPIRY, 1, key) for key in kinds])
    for (key, kind), value, more, expiry in zip(kinds.items(), values, second, expiries, strict=True):
        if expiry != -2:
            yield key, Held(kind, _normal(kind, value, more), expiry)


def _second(key: bytes, kind: bytes, value: Any, version: tuple[int, ...]) -> tuple[Any, ...]:
    """What else there is to ask about a key; PING where nothing is."""
    if kind == b"stream":
        return ("XINFO", "STREAM", key, "FULL", "COUNT", 0)
    if kind == b"hash" and version >= (9, 0) and value:
        return ("HPEXPIRETIME", key, "FIELDS", len(value) // 2, *value[::2])
    return ("PING",)


def _ask_all(client: valkey.Valkey, commands: list[tuple[Any, ...]]) -> list[Any]:
    if not commands:
        return []
    with client.pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*command)
        replies = pipeline.execute(raise_on_error=False)
    for reply in replies:
        if isinstance(reply, valkey.ResponseError) and "no such key" not in str(reply):
            if str(reply).startswith(("MOVED", "ASK", "CLUSTERDOWN", "TRYAGAIN")):
                raise Moved(str(reply))
            raise reply
    return replies


def _normal(kind: bytes, value: Any, more: Any) -> Any:
    match kind:
        case b"list":
            return tuple(value)
        case b"set":
            return tuple(sorted(value))
        case b"zset":
            return {member: float(score) for member, score in _pairs(value).items()}
        case b"hash":
            expiries = more if isinstance(more, list) else [NEVER] * (len(value) // 2)
            fields = zip(_pairs(value).items(), expiries, strict=True)
            return {name: (text, expiry) for (name, text), expiry in fields if expiry != -2}
        case b"stream":
            return _stream(value, _pairs(more))
    return value


def _stream(entries: list[Any], full: dict[Any, Any]) -> dict[str, Any]:
    """Without the moments at which consumers were last seen: no replica is told of them."""
    groups = {}
    for group in map(_pairs, full[b"groups"]):
        pending = group[b"pel"] if b"pel" in group else group[b"pending"]
        groups[group[b"name"]] = {
            "last": group[b"last-delivered-id"],
            "read": group.get(b"entries-read"),
            "pending": sorted(map(tuple, pending)),
            "consumers": sorted(consumer[b"name"] for consumer in map(_pairs, group[b"consumers"])),
        }
    return {
        "entries": [(identifier, tuple(words)) for identifier, words in entries],
        "last": full[b"last-generated-id"],
        "added": full.get(b"entries-added"),
        "deleted": full.get(b"max-deleted-entry-id"),
        "groups": groups,
    }


def _pairs(words: list[Any]) -> dict[Any, Any]:
    return dict(zip(words[::2], words[1::2], strict=True))
