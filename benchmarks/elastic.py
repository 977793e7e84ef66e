"""Changes of size and version under load: how long they take, what clients notice, and that nothing is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from statistics import median
from typing import Any

from libvalkey import pack_command

from benchmarks import groups
from benchmarks.failover import (
    CLUSTER_ON,
    at_most,
    endpoint,
    made,
    members,
    none,
    part,
    settled,
)
from benchmarks.failover_load import Load, load
from benchmarks.failover_wire import Line, Place, ask
from benchmarks.figure import Figure, milliseconds, noted, seconds
from benchmarks.installation import BenchmarkError, Installation, installation, wait_for
from cachekeep.codec.slots import slot_of

RESHARD_KEYS, UPGRADE_KEYS = 500_000, 100_000
VALUE = b"x" * 100
BATCH = 1000
WRITERS = 2
CREATIONS = 5
CREATE_S, MOVE_S, UPGRADE_GAP_S = 4.0, 2.0, 0.050
CHANGE_WITHIN_S = 180.0
# A writer that got going before the change, and one that goes on after it.
BEFORE_S = 1.0
REDIRECTIONS = ("MOVED", "ASK")


def measure() -> Generator[Figure, None, None]:
    """Figures as they come."""
    with installation() as it:
        yield from part("creating a cluster", lambda: _creation(it))
        yield from part("resharding", lambda: _resharding(it))
        yield from part("rolling upgrade", lambda: _upgrade(it))


def _creation(it: Installation) -> Iterator[Figure]:
    client, took = it.client(), []
    for number in range(CREATIONS):
        begin = time.perf_counter()
        with made(client, f"new-{number}", **_shape(3)):
            took.append(time.perf_counter() - begin)
    how = f"from the request until available, {CREATIONS} times; most {seconds(max(took))}"
    yield at_most("create cluster 3+3", median(took), CREATE_S, seconds, how=how)


def _shape(shards: int, version: str = "9.1") -> dict[str, Any]:
    return {
        "NumNodeGroups": shards,
        "ReplicasPerNodeGroup": 1,
        "EngineVersion": version,
        "CacheParameterGroupName": CLUSTER_ON,
    }


def _resharding(it: Installation) -> Iterator[Figure]:
    """From three shards to four: a quarter of the slots moves."""
    client = it.client()
    with made(client, "reshard", **_shape(3)) as group:
        start = endpoint(group)
        keys = sum(_fill_shards(client, "reshard", RESHARD_KEYS))
        with load(start, WRITERS, cluster=True) as writers:
            time.sleep(BEFORE_S)
            watched = _Watch(start)
            begin = time.monotonic()
            client.modify_replication_group_shard_configuration(
                ReplicationGroupId="reshard", NodeGroupCount=4, ApplyImmediately=True
            )
            wait_for(lambda: settled(client, "reshard"), CHANGE_WITHIN_S, "the slots are moved")
            end = time.monotonic()
            moved, moving_s = watched.stop()
            time.sleep(BEFORE_S)
        held = _held(client, "reshard")
        lost = writers.lost(start, cluster=True)
    yield from _resharded(writers, (begin, end), moved, moving_s, lost)
    yield none("resharding, keys that are not there", max(0, keys - held), f"{keys:,} keys before")


def _resharded(writers: Load, span: tuple[float, float], moved: int, moving_s: float, lost: int) -> Iterator[Figure]:
    begin, end = span
    how = f"{moved} slots of {RESHARD_KEYS:,} keys x {len(VALUE)} B, from the first to the last change of owner"
    yield at_most("a quarter of the slots moved under load", moving_s, MOVE_S, seconds, how=how)
    yield noted("resharding, from the request until available", end - begin, seconds, how="new nodes included")
    yield noted("resharding, longest pause of a writer", writers.longest(begin, end), milliseconds)
    errors = writers.errors(beside=REDIRECTIONS)
    how = f"{writers.errors()}; connections that broke: {writers.broken}"
    yield none("resharding, errors beyond MOVED and ASK", sum(errors.values()) + writers.broken, how)
    yield none("resharding, lost writes", lost, f"of {writers.acknowledged:,} acknowledged by {WRITERS} writers")


class _Watch:
    """Looks at the owners of slots, every few ms, on a thread of its own."""

    def __init__(self, place: Place) -> None:
        self._changes: list[tuple[float, int]] = []
        self._ending = threading.Event()
        self._line = Line(place, 5.0)
        self._owners = self._look()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _look(self) -> list[bytes]:
        owners = [b""] * 16384
        for first, last, primary, *_ in self._line.ask("CLUSTER", "SLOTS"):
            owners[first : last + 1] = [primary[2]] * (last - first + 1)
        return owners

    def _run(self) -> None:
        while not self._ending.wait(0.01):
            now = self._look()
            if changed := sum(old != new for old, new in zip(self._owners, now, strict=True)):
                self._changes.append((time.monotonic(), changed))
            self._owners = now

    def stop(self) -> tuple[int, float]:
        """How many slots changed their owner, and how long that took from the first to the last."""
        self._ending.set()
        self._thread.join(10)
        self._line.close()
        if not self._changes:
            raise BenchmarkError("no slot changed its owner")
        return sum(count for _, count in self._changes), self._changes[-1][0] - self._changes[0][0]


def _upgrade(it: Installation) -> Iterator[Figure]:
    client = it.client()
    shape = {"NumCacheClusters": 2, "EngineVersion": "8.1"}
    with made(client, "upgrade", **shape) as group:
        start = endpoint(group)
        _fill(start, [f"key:{n}".encode() for n in range(UPGRADE_KEYS)])
        with load(start, WRITERS) as writers:
            time.sleep(BEFORE_S)
            up, back = _move_to(client, "9.1"), _move_to(client, "8.1")
        lost = writers.lost(start, cluster=False)
        held = int(ask(start, "DBSIZE"))
    how = f"8.1 -> 9.1, 1 + 1, {UPGRADE_KEYS:,} keys, {WRITERS} writers"
    yield at_most("rolling upgrade, largest gap", writers.longest(*up), UPGRADE_GAP_S, milliseconds, how=how)
    yield noted("rolling upgrade, from the request until available", up[1] - up[0], seconds)
    yield noted("rollback 9.1 -> 8.1, largest gap", writers.longest(*back), milliseconds)
    yield noted("rollback 9.1 -> 8.1, from the request until available", back[1] - back[0], seconds)
    how = f"up and back, of {writers.acknowledged:,} acknowledged; {writers.broken} got no answer; {writers.errors()}"
    missing = max(0, UPGRADE_KEYS - held)
    yield none("rolling upgrade, lost writes and keys", lost + missing, how)


def _move_to(client: Any, version: str) -> tuple[float, float]:
    begin = time.monotonic()
    client.modify_replication_group(
        ReplicationGroupId="upgrade",
        EngineVersion=version,
        CacheParameterGroupName=f"default.valkey{version[0]}",
        ApplyImmediately=True,
    )
    wait_for(lambda: settled(client, "upgrade"), CHANGE_WITHIN_S, f"the group runs {version}")
    time.sleep(BEFORE_S)
    return begin, time.monotonic()


def _fill_shards(client: Any, group_id: str, count: int) -> list[int]:
    """Keys key:0 ... in the shards that own their slots; how many each shard got."""
    shards = groups.describe(client, group_id)["NodeGroups"]
    owner: dict[int, int] = {}
    for at, shard in enumerate(shards):
        for span in shard["Slots"].split(","):
            first, _, last = span.partition("-")
            owner.update(dict.fromkeys(range(int(first), int(last or first) + 1), at))
    names = [f"key:{n}".encode() for n in range(count)]
    mine: list[list[bytes]] = [[] for _ in shards]
    for name in names:
        mine[owner[slot_of(name)]].append(name)
    for shard, keys in zip(shards, mine, strict=True):
        _fill(_primary_of(client, group_id, shard["NodeGroupId"]), keys)
    return [len(keys) for keys in mine]


def _primary_of(client: Any, group_id: str, shard: str) -> Place:
    places = members(client, group_id, shard)
    return next(place for place in places if ask(place, "ROLE")[0] == b"master")


def _fill(place: Place, keys: list[bytes]) -> None:
    with Line(place, 30.0) as line:
        for at in range(0, len(keys), BATCH):
            batch = keys[at : at + BATCH]
            line.send(b"".join(pack_command(("SET", key, VALUE)) for key in batch))
            replies = [line.receive() for _ in batch]
            if any(reply != b"OK" for reply in replies):
                raise BenchmarkError(f"a SET was answered {next(it for it in replies if it != b'OK')!r}")


def _held(client: Any, group_id: str) -> int:
    """Keys of all shards that are not the writers'."""
    shards = [shard["NodeGroupId"] for shard in groups.describe(client, group_id)["NodeGroups"]]
    total = 0
    for shard in shards:
        with Line(_primary_of(client, group_id, shard), 30.0) as line:
            cursor = b"0"
            while True:
                cursor, keys = line.ask("SCAN", cursor, "MATCH", "key:*", "COUNT", 10_000)
                total += len(keys)
                if cursor == b"0":
                    break
    return total
