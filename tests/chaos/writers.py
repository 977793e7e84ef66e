"""Writers and a reader: threads with stock clients on a group's endpoints, that note every acknowledgement."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import valkey
import valkey.cluster
from valkey.exceptions import ValkeyClusterException

from .oracle import Kind, Record

TIMEOUT_S = 1.0
LOG_LENGTH = 200
KEYS_EACH = 10
# Pause after a failure: a client that is refused at once must not spin.
AGAIN_S = 0.002

Connect = Callable[[], Any]


def plain(host: str, port: int) -> Connect:
    """A stock client of one endpoint."""
    return lambda: valkey.Valkey(
        host=host, port=port, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, decode_responses=True
    )


def clustered(host: str, port: int) -> Connect:
    """A stock cluster client that begins at a configuration endpoint."""
    return lambda: valkey.cluster.ValkeyCluster(
        host=host, port=port, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, decode_responses=True
    )


@dataclass
class Gaps:
    """When writes were accepted, as seen by one writer: the pauses between them that are worth knowing.

    since: of the last accepted write. long: (begin, end) of each pause above FLOOR_S.
    """

    since: float
    long: list[tuple[float, float]] = field(default_factory=list)

    FLOOR_S = 0.002

    def accepted(self, now: float) -> None:
        if now - self.since > self.FLOOR_S:
            self.long.append((self.since, now))
        self.since = now

    def longest(self, begin: float, end: float) -> float:
        """Of the pauses that lie in those seconds, or overlap them; in seconds."""
        pauses = [*self.long, (self.since, max(end, self.since))]
        return max((until - since for since, until in pauses if since < end and until > begin), default=0.0)


class _Client(threading.Thread):
    """Does one thing again and again, on a client that is made anew when it cannot be made at first."""

    def __init__(self, name: str, connect: Connect) -> None:
        super().__init__(name=name, daemon=True)
        self.errors: Counter[str] = Counter()
        self._connect = connect
        self._ending = threading.Event()

    def end(self) -> None:
        self._ending.set()

    def run(self) -> None:
        client = None
        while not self._ending.is_set():
            try:
                client = client or self._connect()
                self.once(client)
            except (valkey.ValkeyError, ValkeyClusterException, OSError, AttributeError) as error:
                # ValkeyClusterException: for a slot that nobody has just now; it is no ValkeyError. AttributeError: of
                # valkey-py's own, where the node that it was redirected to has left its table.
                self.errors[_words(error)] += 1
                self._ending.wait(AGAIN_S)
        if client is not None:
            with suppress(valkey.ValkeyError, OSError):
                client.close()

    def once(self, client: Any) -> None:
        raise NotImplementedError


class Writer(_Client):
    """Appends to logs and sets counters, all of its own; deletes some logs that are full."""

    def __init__(self, name: str, connect: Connect, chance: random.Random) -> None:
        super().__init__(name, connect)
        self.records: dict[str, Record] = {}
        self.gaps = Gaps(time.monotonic())
        self.acknowledged = 0
        self.pause_s = 0.0
        self._chance = chance
        self._logs = [self._new(Kind.LOG) for _ in range(KEYS_EACH)]
        self._counters = [self._new(Kind.COUNTER) for _ in range(KEYS_EACH)]

    def _new(self, kind: Kind) -> str:
        key = f"{self.name}:{kind.value}:{len(self.records)}"
        self.records[key] = Record(kind)
        return key

    def once(self, client: Any) -> None:
        if self.pause_s:
            self._ending.wait(self.pause_s)
        which = self._chance.randrange(KEYS_EACH)
        if self._chance.random() < 0.25:
            key = self._counters[which]
            number = self._attempt(key)
            client.set(key, number)
        else:
            key = self._logs[which]
            number = self._attempt(key)
            client.rpush(key, number)
        now = time.monotonic()
        self.records[key].acknowledged.append((number, now))
        self.acknowledged += 1
        self.gaps.accepted(now)
        if number >= LOG_LENGTH and key == self._logs[which]:
            self._logs[which] = self._new(Kind.LOG)
            if self._chance.random() < 0.3:
                self._forget(client, key)

    def _attempt(self, key: str) -> int:
        record = self.records[key]
        record.attempted += 1
        return record.attempted

    def _forget(self, client: Any, key: str) -> None:
        record = self.records[key]
        record.doubtful = True
        client.delete(key)
        record.deleted_at, record.doubtful = time.monotonic(), False


class Reader(_Client):
    """Reads counters through an endpoint: no value may be there that nobody has sent."""

    def __init__(self, name: str, connect: Connect, writers: list[Writer]) -> None:
        super().__init__(name, connect)
        self.wrong: list[str] = []
        self.reads = 0
        self._writers = writers

    def once(self, client: Any) -> None:
        self._ending.wait(0.005)
        writer = self._writers[self.reads % len(self._writers)]
        key, record = next((k, r) for k, r in list(writer.records.items()) if r.kind is Kind.COUNTER)
        value = client.get(key)
        self.reads += 1
        if value is not None and not 1 <= int(value) <= record.attempted:
            self.wrong.append(f"{self.name} read {value} from {key}; {record.attempted} was the last that was sent")


def _words(error: Exception) -> str:
    """The kind of an error, and the first words of it."""
    return f"{type(error).__name__}: {' '.join(str(error).split()[:4])[:60]}"


@dataclass
class Load:
    """Writers and readers of one group."""

    writers: list[Writer]
    readers: list[Reader] = field(default_factory=list)

    @property
    def records(self) -> dict[str, Record]:
        return {key: record for writer in self.writers for key, record in writer.records.items()}

    @property
    def acknowledged(self) -> int:
        return sum(writer.acknowledged for writer in self.writers)

    @property
    def errors(self) -> Counter[str]:
        return sum((writer.errors for writer in self.writers), Counter())

    @property
    def wrong(self) -> list[str]:
        return [text for reader in self.readers for text in reader.wrong]

    def longest_gap(self, begin: float, end: float) -> float:
        """The longest pause without an accepted write that any writer had in those seconds."""
        return max(writer.gaps.longest(begin, end) for writer in self.writers)

    def slow_down(self) -> None:
        """Some dozen writes a second from now on, where all that the machine can do would hold up the work to watch."""
        for writer in self.writers:
            writer.pause_s = 0.02

    def start(self) -> Load:
        for thread in (*self.writers, *self.readers):
            thread.start()
        return self

    def stop(self) -> None:
        for thread in (*self.writers, *self.readers):
            thread.end()
        for thread in (*self.writers, *self.readers):
            thread.join(30)
            if thread.is_alive():
                raise AssertionError(f"{thread.name} does not end")


_loads = count(1)


@contextmanager
def writing(connect: Connect, read: Connect | None = None, writers: int = 3) -> Iterator[Load]:
    """Writers that run for the length of a block; their keys have names of their own."""
    number = next(_loads)
    made = [Writer(f"load{number}w{n}", connect, random.Random(n)) for n in range(writers)]
    load = Load(made, [Reader(f"load{number}-reader", read, made)] if read else []).start()
    try:
        yield load
    finally:
        load.stop()


def all_of(node: Any) -> dict[str, list[int]]:
    """Every log and counter that one node holds, by one connection to it."""
    found: dict[str, list[int]] = {}
    for keys in _batches(node):
        pipe = node.pipeline(transaction=False)
        for key in keys:
            pipe.lrange(key, 0, -1) if f":{Kind.LOG}:" in key else pipe.get(key)
        for key, value in zip(keys, pipe.execute(), strict=True):
            numbers = value if isinstance(value, list) else [value] if value is not None else []
            if numbers:
                found[key] = [int(number) for number in numbers]
    return found


def _batches(node: Any) -> Iterator[list[str]]:
    cursor = 0
    while True:
        cursor, keys = node.scan(cursor, count=1000)
        ours = [key for key in keys if f":{Kind.LOG}:" in key or f":{Kind.COUNTER}:" in key]
        if ours:
            yield ours
        if cursor == 0:
            return
