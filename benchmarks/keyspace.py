"""Fills a server with mixed keys, the same for every run: what the backup figures are measured on.

Half strings, the rest hashes, lists, sets, sorted sets and streams, three in ten with an expiry, in databases 0, 1 and
5; some 700 bytes a key, none above 100 kB. Values are cut from a pool of random bytes and of words, so that they
compress about as much as real ones do.

`python -m benchmarks.keyspace PORT KEYS [SLOT-SLOT]` fills; with slots, those keys of database 0 that are there.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count, islice

from libvalkey import pack_command

from benchmarks.backup_wire import Wire
from cachekeep.codec.slots import slot_of

DATABASES = {0: 0.8, 1: 0.1, 5: 0.1}
SMALL_DATABASES = "1,5"
_BATCH = 1000
_HOUR_MS = 3_600_000
_VALUES = 10_000
_WITH_EXPIRY = 0.3

_RESTORE = b"*5\r\n$7\r\nRESTORE\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$6\r\nABSTTL\r\n"

Command = tuple[bytes | int, ...]


def fill(port: int, keys: int, holds: Callable[[bytes], bool] | None = None) -> None:
    """Write that many keys. holds: in cluster mode, whether this node has a key; database 0 only then.

    Raises OSError, RuntimeError with the server's words.
    """
    with Wire(port) as wire:
        payloads = _payloads(wire, holds)
        for db, share in DATABASES.items() if holds is None else [(0, 1.0)]:
            if db:
                wire.ask("SELECT", db)
            commands = _commands(db, int(keys * share), payloads, holds)
            while batch := list(islice(commands, _BATCH)):
                wire.ask_all(batch)


def fill_hash(port: int, key: bytes, fields: int) -> None:
    """One hash with that many small fields."""
    with Wire(port) as wire:
        for start in range(0, fields, _BATCH):
            numbers = range(start, min(start + _BATCH, fields))
            pairs = [word for n in numbers for word in (b"field:%d" % n, b"value-%d" % n)]
            wire.ask("HSET", key, *pairs)


def _payloads(wire: Wire, holds: Callable[[bytes], bool] | None) -> list[bytes]:
    """Values as DUMP gives them, the rest of a RESTORE. Each is built once: ZADD takes twenty times as long."""
    chance = random.Random(0)
    key = next(name for name in map(b"value:%d".__mod__, count()) if holds is None or holds(name))
    payloads: list[bytes] = []
    for make, weight in _MAKERS.items():
        for _ in range(_VALUES * weight // 100):
            verb, *rest = make(chance)
            commands = [(verb, key, *rest), ("DUMP", key), ("DEL", key)]
            payloads.append(wire.ask_all([pack_command(command) for command in commands])[1])
    return payloads


def _commands(db: int, keys: int, payloads: list[bytes], holds: Callable[[bytes], bool] | None) -> Iterator[bytes]:
    chance = random.Random(db)
    soon_ms = int(time.time() * 1000) + _HOUR_MS
    for number in range(keys):
        key, payload = b"key:%d:%d" % (db, number), payloads[chance.randrange(_VALUES)]
        moment = b"0"
        if chance.random() < _WITH_EXPIRY:
            moment = b"%d" % (soon_ms + chance.randrange(90 * 24 * _HOUR_MS))
        if holds is None or holds(key):
            yield _RESTORE % (len(key), key, len(moment), moment, len(payload), payload)


_POOL = random.Random(0).randbytes(1 << 18)
_WORDS = [b"word%d" % number for number in range(5000)]


def _bytes(chance: random.Random, least: int, most: int) -> bytes:
    start = chance.randrange(len(_POOL) - most)
    return _POOL[start : start + chance.randrange(least, most)]


def _string(chance: random.Random) -> Command:
    text = b" ".join(chance.choices(_WORDS, k=chance.randrange(3, 80)))
    return b"SET", text if chance.random() < 0.5 else _bytes(chance, 20, 900)


def _hash(chance: random.Random) -> Command:
    fields = chance.randrange(2, 40) if chance.random() < 0.95 else chance.randrange(200, 600)
    return b"HSET", *(word for n in range(fields) for word in (b"field%d" % n, _bytes(chance, 4, 40)))


def _list(chance: random.Random) -> Command:
    return b"RPUSH", *(_bytes(chance, 4, 40) for _ in range(chance.randrange(1, 60)))


def _set(chance: random.Random) -> Command:
    if chance.random() < 0.7:
        return b"SADD", *(b"%d" % chance.randrange(1 << 30) for _ in range(chance.randrange(1, 100)))
    return b"SADD", *(_bytes(chance, 4, 40) for _ in range(chance.randrange(1, 40)))


def _sorted_set(chance: random.Random) -> Command:
    members = range(chance.randrange(1, 50))
    return b"ZADD", *(word for n in members for word in (b"%.3f" % (chance.random() * 1000), b"member%d" % n))


def _stream(chance: random.Random) -> Command:
    return b"XADD", b"1-1", b"a", _bytes(chance, 4, 40), b"b", _bytes(chance, 4, 40)


# Of a hundred keys, how many are so.
_MAKERS = {_string: 50, _hash: 15, _list: 10, _set: 13, _sorted_set: 10, _stream: 2}


def _holder(slots: str) -> Callable[[bytes], bool]:
    first, last = map(int, slots.split("-"))
    return lambda key: first <= slot_of(key) <= last


if __name__ == "__main__":
    fill(int(sys.argv[1]), int(sys.argv[2]), *map(_holder, sys.argv[3:]))
