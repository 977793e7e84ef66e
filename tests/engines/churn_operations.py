"""Random changes of every kind that Redis and Valkey know, as commands. Seeded: the same seed gives the same ones.

Not a test. Keys of one operation share a hash tag, so that each operation also works on a cluster. Some of them fail on
purpose as any client's do: wrong types, absent keys, ids that are too small.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Word = bytes | str | int | float
Commands = list[tuple[Word, ...]]
Operation = Callable[["Maker"], Commands]

HOUR_MS = 3_600_000
BIG = 20_000
_MEMBERS = [b"member:%d" % at for at in range(40)] + [b"\x00\xff\r\n$3\r\n", b"", "ü".encode()]
_LUA = """
redis.call('SET', KEYS[1], ARGV[1], 'PX', 5000000)
redis.call('RPUSH', KEYS[2], ARGV[1], ARGV[2])
if redis.call('EXISTS', KEYS[3]) == 1 then redis.call('DEL', KEYS[3]) else redis.call('HSET', KEYS[3], ARGV[1], 1) end
return redis.call('PEXPIRE', KEYS[2], ARGV[3])"""
_LUA_ACK = """
local found = redis.call('XPENDING', KEYS[1], 'g1', '-', '+', 3)
for _, one in ipairs(found) do redis.call('XACK', KEYS[1], 'g1', one[1]) end
return #found"""
_LIBRARY = """#!lua name=%s
redis.register_function('%s', function(keys, args) return redis.call('SET', keys[1], args[1] .. '%d') end)"""


@dataclass
class Maker:
    """What operations are made of. names: so many of each type and hash tag. alone: not a cluster, so databases."""

    random: random.Random
    version: tuple[int, ...]
    tags: int = 40
    names: int = 6
    alone: bool = True
    databases: Sequence[int] = (0, 1, 5)
    big: int = BIG

    def __post_init__(self) -> None:
        self.tag = 0
        self.count = 0
        self.payloads: deque[bytes] = deque(maxlen=50)
        self.delivered: deque[tuple[bytes, bytes, bytes]] = deque(maxlen=200)  # stream, group, id

    def key(self, kind: bytes) -> bytes:
        """A name; the type of the same letter is there most of the time."""
        number = self.random.randrange(self.names)
        odd = b"\xff\x00\r\n" if number == 0 else b""
        return b"{%d}%b%b:%d" % (self.tag, odd, kind, number)

    def any(self) -> bytes:
        return self.key(self.random.choice((b"s", b"l", b"u", b"z", b"h", b"x", b"n", b"p")))

    def text(self) -> bytes:
        self.count += 1
        return b"%d:" % self.count + self.random.randbytes(self.random.choice((0, 3, 20, 90, 600)))

    def member(self) -> bytes:
        return self.random.choice(_MEMBERS)

    def members(self) -> list[bytes]:
        return self.random.sample(_MEMBERS, self.random.randint(1, 12))

    def short_ms(self) -> int:
        return self.random.randint(1, 300)

    def later_ms(self) -> int:
        """A moment that no test lives to see."""
        return time.time_ns() // 1_000_000 + HOUR_MS + self.random.randrange(100 * HOUR_MS)

    def other_database(self) -> int:
        return self.random.choice(self.databases)

    def create(self, key: bytes) -> tuple[Word, ...]:
        """A key of any type."""
        makers: list[tuple[Word, ...]] = [
            ("SET", key, self.text()),
            ("RPUSH", key, *self.members()),
            ("SADD", key, *self.members()),
            ("SADD", key, *(self.random.randrange(1 << 40) for _ in range(9))),
            ("ZADD", key, *(word for member in self.members() for word in (self.random.gauss(0, 9), member))),
            ("HSET", key, *(word for member in self.members() for word in (member, self.text()))),
            ("XADD", key, "*", "field", self.text()),
            ("PFADD", key, *self.members()),
        ]
        return self.random.choice(makers)


def _create(m: Maker) -> Commands:
    return [m.create(m.key(b"n"))]


def _overwrite(m: Maker) -> Commands:
    """With another type, in one step or seen in between."""
    key = m.any()
    steps: Commands = [("DEL", key), m.create(key)]
    return [("MULTI",), *steps, ("EXEC",)] if m.random.random() < 0.7 else steps


def _transaction(m: Maker) -> Commands:
    inside = [command for _ in range(m.random.randint(1, 4)) for command in m.random.choice(_SIMPLE)(m)]
    return [("MULTI",), *inside, ("EXEC",)]


def _flow(m: Maker) -> Commands:
    """A consumer at work."""
    stream, group = m.key(b"x"), m.random.choice(("g1", "g2"))
    consumer = m.random.choice(("alice", "bob", b"\xffcarol"))
    more = ("NOACK",) if m.random.random() < 0.1 else ()
    read = ("XREADGROUP", "GROUP", group, consumer, "COUNT", 3, *more, "STREAMS", stream, ">")
    return [("XADD", stream, "*", "f", m.text()), read]


def _delivered(m: Maker) -> tuple[bytes, bytes, bytes] | None:
    """Of a stream with the tag of the moment."""
    own = [one for one in m.delivered if one[0].startswith(b"{%d}" % m.tag)]
    return m.random.choice(own) if own else None


def _ack(m: Maker) -> Commands:
    found = _delivered(m)
    return [("XACK", *found)] if found else [("EVAL", _LUA_ACK, 1, m.key(b"x"))]


def _claim(m: Maker) -> Commands:
    found = _delivered(m)
    if found is None or m.random.random() < 0.5:
        return [("XAUTOCLAIM", m.key(b"x"), "g1", "dora", 0, "0", "COUNT", 3)]
    stream, group, one = found
    how = m.random.choice(((), ("JUSTID",), ("FORCE",), ("TIME", 1_600_000_000_000, "RETRYCOUNT", 7)))
    return [("XCLAIM", stream, group, "dora", 0, one, *how)]


def _set_id(m: Maker) -> Commands:
    return [("XSETID", m.key(b"x"), f"{time.time_ns() // 1_000_000}-{m.random.randrange(5)}")]


def _restore(m: Maker) -> Commands:
    if not m.payloads or m.random.random() < 0.3:
        return [("DUMP", m.any())]
    expiry = m.random.choice((0, m.later_ms()))
    return [("RESTORE", m.key(b"n"), expiry, m.random.choice(m.payloads), "REPLACE", *(("ABSTTL",) if expiry else ()))]


def _large(m: Maker) -> Commands:
    key, size = b"{%d}big:%d" % (m.tag, m.random.randrange(2)), m.big
    match m.random.randrange(6):
        case 0:
            return [("DEL", key), ("RPUSH", key, *range(size))]
        case 1:
            return [("UNLINK", key), ("HSET", key, *(word for at in range(size) for word in (b"field:%d" % at, at)))]
        case 2:
            return [("UNLINK", key), ("SADD", key, *(b"element:%d" % at for at in range(size)))]
        case 3:
            return [("UNLINK", key), ("ZADD", key, *(word for at in range(size) for word in (at / 3, b"e:%d" % at)))]
        case 4:
            return [("LPUSH", key, m.text()), ("HSET", key, b"field:1", m.text()), ("SADD", key, m.text())]
    return [("ZINCRBY", key, 1, b"e:7"), ("LTRIM", key, 5, -5), ("HDEL", key, b"field:7"), ("SPOP", key, 3)]


def _library(m: Maker) -> Commands:
    name = f"lib{m.random.randrange(5)}"
    if m.random.random() < 0.3:
        return [("FUNCTION", "DELETE", name)]
    code = _LIBRARY % (name, f"f_{name}", m.random.randrange(100))
    return [("FUNCTION", "LOAD", "REPLACE", code), ("FCALL", f"f_{name}", 1, m.key(b"s"), m.text())]


# Also inside of MULTI: nothing that blocks, nothing of which the reply is wanted.
_SIMPLE: list[Operation] = [
    _create,
    lambda m: [("SET", m.key(b"s"), m.text())],
    lambda m: [("SET", m.any(), m.text(), "PX", m.short_ms())],
    lambda m: [("SET", m.key(b"s"), m.text(), "PXAT", m.later_ms())],
    lambda m: [("SET", m.key(b"s"), m.text(), "KEEPTTL")],
    lambda m: [("APPEND", m.key(b"s"), m.text())],
    lambda m: [("SETRANGE", m.key(b"s"), m.random.randrange(300), m.text())],
    lambda m: [("INCRBY", m.key(b"n"), 3), ("INCRBYFLOAT", m.key(b"n"), "0.5")],
    lambda m: [("SETBIT", m.key(b"s"), m.random.randrange(3000), 1)],
    lambda m: [("BITOP", m.random.choice(("AND", "OR", "XOR")), m.key(b"s"), m.key(b"s"), m.key(b"s"))],
    lambda m: [("BITFIELD", m.key(b"s"), "INCRBY", "u8", m.random.randrange(99), 1)],
    lambda m: [("MSET", m.key(b"s"), m.text(), m.key(b"s"), m.text())],
    lambda m: [("GETEX", m.key(b"s"), "PX", m.short_ms())],
    lambda m: [("GETEX", m.key(b"s"), "PERSIST")],
    lambda m: [("GETDEL", m.key(b"s"))],
    lambda m: [("GETSET", m.key(b"s"), m.text())],
    lambda m: [("DEL", m.any(), m.any())],
    lambda m: [("UNLINK", m.any())],
    lambda m: [("RENAME", m.any(), m.any())],
    lambda m: [("RENAMENX", m.any(), m.key(b"n"))],
    lambda m: [("COPY", m.any(), m.any(), "REPLACE")],
    lambda m: [("PEXPIRE", m.any(), m.short_ms())],
    lambda m: [("PEXPIREAT", m.any(), m.later_ms())],
    lambda m: [("PEXPIREAT", m.any(), m.later_ms())],
    lambda m: [("PERSIST", m.any())],
    lambda m: [("EXPIRE", m.any(), -1)],
    lambda m: [("LPUSH", m.key(b"l"), *m.members())],
    lambda m: [("RPUSH", m.key(b"l"), *m.members())],
    lambda m: [("LTRIM", m.key(b"l"), 1, 15)],
    lambda m: [("LSET", m.key(b"l"), 0, m.text()), ("LINSERT", m.key(b"l"), "BEFORE", m.member(), m.text())],
    lambda m: [("LREM", m.key(b"l"), 1, m.member()), ("RPOP", m.key(b"l"), 2)],
    lambda m: [("LMOVE", m.key(b"l"), m.key(b"l"), "LEFT", "RIGHT")],
    lambda m: [("SORT", m.key(b"u"), "ALPHA", "STORE", m.key(b"l"))],
    lambda m: [("SADD", m.key(b"u"), *m.members())],
    lambda m: [("SREM", m.key(b"u"), *m.members())],
    lambda m: [("SPOP", m.key(b"u"), m.random.randint(1, 3))],
    lambda m: [("SMOVE", m.key(b"u"), m.key(b"u"), m.member())],
    lambda m: [(m.random.choice(("SUNIONSTORE", "SDIFFSTORE", "SINTERSTORE")), *(m.key(b"u") for _ in range(3)))],
    lambda m: [("ZADD", m.key(b"z"), m.random.gauss(0, 99), m.member(), "inf", "top")],
    lambda m: [("ZINCRBY", m.key(b"z"), 0.1, m.member())],
    lambda m: [("ZPOPMIN", m.key(b"z"), 2)],
    lambda m: [("ZREMRANGEBYRANK", m.key(b"z"), 0, 1)],
    lambda m: [("ZUNIONSTORE", m.key(b"z"), 2, m.key(b"z"), m.key(b"u"), "WEIGHTS", 1, 0.5)],
    lambda m: [("ZRANGESTORE", m.key(b"z"), m.key(b"z"), 0, 5)],
    lambda m: [("GEOADD", m.key(b"z"), 13.361, 38.115, m.member())],
    lambda m: [("HSET", m.key(b"h"), m.member(), m.text(), m.member(), m.text())],
    lambda m: [("HDEL", m.key(b"h"), *m.members())],
    lambda m: [("HINCRBY", m.key(b"h"), "number", 1)],
    lambda m: [("PFADD", m.key(b"p"), *(m.random.randrange(1 << 30) for _ in range(5)))],
    lambda m: [("PFCOUNT", m.key(b"p")), ("PFMERGE", m.key(b"p"), m.key(b"p"))],
    lambda m: [("XADD", m.key(b"x"), "MAXLEN", 12, "*", "f", m.text())],
    lambda m: [("XTRIM", m.key(b"x"), "MAXLEN", 6)],
    lambda m: [
        ("EVAL", _LUA, 3, m.key(b"s"), m.key(b"l"), m.any(), m.text(), m.member(), m.random.choice((90, HOUR_MS)))
    ],
]
_STREAMS: list[Operation] = [
    _flow,
    _flow,
    _flow,
    _ack,
    _ack,
    _claim,
    _set_id,
    lambda m: [("XGROUP", "CREATE", m.key(b"x"), m.random.choice(("g1", "g2")), "0", "MKSTREAM")],
    lambda m: [("XGROUP", "CREATE", m.key(b"x"), m.random.choice(("g1", "g2")), "$", "MKSTREAM")],
    lambda m: [("XGROUP", "SETID", m.key(b"x"), "g1", "0")],
    lambda m: [("XGROUP", "CREATECONSUMER", m.key(b"x"), "g1", b"eve%d" % m.random.randrange(4))],
    lambda m: [("XGROUP", "DELCONSUMER", m.key(b"x"), "g1", m.random.choice(("alice", "eve1")))],
    lambda m: [("XGROUP", "DESTROY", m.key(b"x"), "g2")],
    lambda m: [("XDEL", found[0], found[2])] if (found := _delivered(m)) else [("XTRIM", m.key(b"x"), "MAXLEN", 3)],
]
_PLAIN: list[Operation] = [
    _overwrite,
    _overwrite,
    _transaction,
    _transaction,
    _restore,
    lambda m: [("RPUSH", key := m.key(b"l"), m.text()), ("BLPOP", key, "0.01")],
    lambda m: [("RPUSH", key := m.key(b"l"), m.text()), ("BLMOVE", key, m.key(b"l"), "LEFT", "LEFT", "0.01")],
    lambda m: [("ZADD", key := m.key(b"z"), 1, m.member()), ("BZPOPMIN", key, "0.01")],
]
_FIELDS: list[Operation] = [  # since Valkey 9.0
    lambda m: [("HPEXPIRE", m.key(b"h"), m.short_ms(), "FIELDS", 2, m.member(), m.member())],
    lambda m: [("HPEXPIREAT", m.key(b"h"), m.later_ms(), "FIELDS", 2, m.member(), m.member())],
    lambda m: [("HPERSIST", m.key(b"h"), "FIELDS", 1, m.member())],
    lambda m: [("HSETEX", m.key(b"h"), "PX", m.short_ms(), "FIELDS", 1, m.member(), m.text())],
    lambda m: [("HGETEX", m.key(b"h"), "PXAT", m.later_ms(), "FIELDS", 1, m.member())],
]
_DATABASES: list[Operation] = [
    lambda m: [("MOVE", m.any(), m.other_database())],
    lambda m: [("COPY", m.any(), m.any(), "DB", m.other_database(), "REPLACE")],
]
_SINCE_7: list[Operation] = [
    lambda m: [("LMPOP", 2, m.key(b"l"), m.key(b"l"), "LEFT")],
    lambda m: [("ZMPOP", 1, m.key(b"z"), "MIN")],
    lambda m: [("PEXPIRE", m.any(), HOUR_MS, "NX"), ("PEXPIREAT", m.any(), m.later_ms(), "GT")],
]
_RARE_SHARE, _LARGE_EVERY, _LIBRARY_EVERY = 0.35, 1500, 400


class Mix:
    """Chooses operations. large: keys of so many elements now and then. libraries: functions are loaded and deleted."""

    def __init__(self, maker: Maker, *, large: bool = True, libraries: bool = True) -> None:
        self.maker = maker
        self._special = _STREAMS + _PLAIN
        if maker.version >= (7, 0):
            self._special = self._special + _SINCE_7
        if maker.version >= (9, 0):
            self._special = self._special + _FIELDS
        if maker.alone:
            self._special = self._special + _DATABASES
        self._large = large
        self._libraries = libraries and maker.version >= (7, 0) and maker.alone
        self._made = 0

    def draw(self, tag: int | None = None) -> Commands:
        maker = self.maker
        maker.tag = maker.random.randrange(maker.tags) if tag is None else tag
        self._made += 1
        if self._large and self._made % _LARGE_EVERY == 0:
            return _large(maker)
        if self._libraries and self._made % _LIBRARY_EVERY == 0:
            return _library(maker)
        pool = self._special if maker.random.random() < _RARE_SHARE else _SIMPLE
        return maker.random.choice(pool)(maker)
