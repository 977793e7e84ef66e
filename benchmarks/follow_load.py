"""Changes at a rate, or as fast as it gets: what the figures of following are measured under.

`python -m benchmarks.follow_load PORT RATE CHANGES KEYS` sets random ones of KEYS keys to 120 bytes, RATE a second (0:
as fast as it gets), over 10 connections with 16 commands at a time. Each value names the ms in which it was sent, so
that whoever captures it can be asked how late it was. Prints {"changes": ..., "seconds": ...}.
"""

from __future__ import annotations

import json
import random
import re
import sys
import time
from contextlib import ExitStack

from benchmarks.backup_wire import Wire

VALUE_BYTES = 120
WRITTEN = re.compile(rb"t=(\d{13});")
_CONNECTIONS, _DEPTH = 10, 16
_TICK_S = 0.005
_SET = b"*3\r\n$3\r\nSET\r\n$12\r\nkey:%08d\r\n$%d\r\nt=%013d;%b\r\n"


def load(port: int, rate: int, changes: int, keys: int) -> float:
    """The seconds that it took. Raises OSError, RuntimeError."""
    chance = random.Random(1)
    filler = chance.randbytes(4 * VALUE_BYTES)
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(port)) for _ in range(_CONNECTIONS)]
        begin, sent = time.perf_counter(), 0
        while sent < changes:
            due = changes if not rate else min(changes, int((time.perf_counter() - begin) * rate))
            while sent < due:
                counts = [min(_DEPTH, (due - sent - at * _DEPTH)) for at in range(_CONNECTIONS)]
                for wire, count in zip(wires, counts, strict=True):
                    if count > 0:
                        wire.send(_commands(chance, count, keys, filler))
                for wire, count in zip(wires, counts, strict=True):
                    if count > 0:
                        wire.receive(count)
                        sent += count
            if rate and sent < changes:
                time.sleep(_TICK_S)
        return time.perf_counter() - begin


def _commands(chance: random.Random, count: int, keys: int, filler: bytes) -> bytes:
    now_ms = time.time_ns() // 1_000_000
    start = chance.randrange(3 * VALUE_BYTES)
    rest = filler[start : start + VALUE_BYTES - 16]
    numbers = [int(chance.random() * keys) for _ in range(count)]
    return b"".join([_SET % (number, VALUE_BYTES, now_ms, rest) for number in numbers])


if __name__ == "__main__":
    port, rate, changes, keys = map(int, sys.argv[1:])
    print(json.dumps({"changes": changes, "seconds": load(port, rate, changes, keys)}))
