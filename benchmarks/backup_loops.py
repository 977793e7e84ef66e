"""What the product is held against: the same reading and writing with nothing around it, and a script's way.

`python -m benchmarks.backup_loops read PORT DB,...`     SCAN COUNT 100, DUMP and PEXPIRETIME, thrown away
`python -m benchmarks.backup_loops restore PORT TO DB,...`  RESTORE, 500 at a time and one batch ahead, from memory
`python -m benchmarks.backup_loops script PORT KEYS`     a client library and four round trips a key

Each prints {"keys": ..., "seconds": ...}: the time of the loop alone.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import valkey
from libvalkey import pack_command

from benchmarks.backup_wire import HOST, Wire

_BATCH = 500


def read(port: int, databases: str) -> int:
    with Wire(port) as wire:
        return sum(len(keys) for keys, _ in _dumped(wire, databases))


def restore(port: int, to: int, databases: str) -> tuple[int, float]:
    """What is written has been read and packed before the clock starts."""
    packed = []
    with Wire(port) as wire:
        for keys, replies in _dumped(wire, databases):
            for key, payload, moment in zip(keys, replies[::2], replies[1::2], strict=True):
                packed.append(pack_command(("RESTORE", key, max(0, moment), payload, "REPLACE", "ABSTTL")))
    with Wire(to) as wire:
        begin, commands, ahead = time.perf_counter(), iter(packed), 0
        while batch := list(islice(commands, _BATCH)):
            wire.send(b"".join(batch))
            wire.receive(ahead)
            ahead = len(batch)
        wire.receive(ahead)
        return len(packed), time.perf_counter() - begin


def _dumped(wire: Wire, databases: str) -> Iterator[tuple[list[bytes], list[Any]]]:
    """Keys, and of each the payload and the expiry; the next batch is asked for before this one is given."""
    for db in databases.split(","):
        wire.ask("SELECT", db)
        cursor, keys = wire.ask("SCAN", 0, "COUNT", 100)
        while True:
            commands = [pack_command((verb, key)) for key in keys for verb in ("DUMP", "PEXPIRETIME")]
            more = cursor != b"0"
            wire.send(b"".join(commands) + (pack_command(("SCAN", cursor, "COUNT", 100)) if more else b""))
            read, replies = keys, wire.receive(len(commands))
            if more:
                cursor, keys = wire.receive(1)[0]
            yield read, replies
            if not more:
                break


def script(port: int, keys: int) -> int:
    """Type, value, time left and the type again, as scripts do it that people write for this."""
    client: Any = valkey.Valkey(HOST, port)
    values: dict[bytes, Callable[[bytes], Any]] = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        b"stream": client.xrange,
    }
    done = 0
    for key in islice(client.scan_iter(count=1000), keys):
        values[client.type(key)](key)
        client.ttl(key)
        client.type(key)
        done += 1
    client.close()
    return done


def main(what: str, *words: str) -> None:
    begin = time.perf_counter()
    if what == "restore":
        keys, seconds = restore(int(words[0]), int(words[1]), words[2])
    else:
        keys = read(int(words[0]), words[1]) if what == "read" else script(int(words[0]), int(words[1]))
        seconds = time.perf_counter() - begin
    print(json.dumps({"keys": keys, "seconds": seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
