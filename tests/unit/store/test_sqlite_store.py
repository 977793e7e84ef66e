"""The Store port's contract, on a real SQLite file."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.events import Event, SourceType
from cachekeep.domain.nodes import Address
from cachekeep.domain.parameters import ParameterGroup
from cachekeep.domain.ports import Conflict, Resource, WorldError
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.subnet_group import SubnetGroup
from cachekeep.store.sqlite import EVENTS_KEPT_S, SCHEMA_VERSION, SqliteStore
from tests.properties.stored import NOW, REGION, cluster_of, group_of, memcached_of

CLUSTER = cluster_of("c", 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "store.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path)
    yield store
    store.close()


def _insert(store: SqliteStore, *resources: Resource) -> None:
    with store.transaction() as work:
        for resource in resources:
            work.insert(resource)


def _events(store: SqliteStore, region: str = REGION, **filters: str | float | None) -> list[str]:
    asked = {"since": 0.0, "until": NOW * 2, "source_type": None, "source_id": None} | filters
    return [e.message for e in store.events(region, **asked)]  # type: ignore[arg-type]


def _event(message: str, at: float = NOW, source: str = "c", region: str = REGION) -> Event:
    return Event(at, region, SourceType.CACHE_CLUSTER, source, message)


@pytest.mark.parametrize(
    "resource",
    [
        CLUSTER,
        memcached_of("m", (1, 2)),
        replace(group_of("g", ("a", "b")), tags={"k": "v, ü"}),
        ParameterGroup(REGION, "p", "valkey9", "", {"maxmemory-policy": "noeviction"}),
        SubnetGroup(REGION, "s", "", ("subnet-1",)),
    ],
    ids=lambda r: type(r).__name__,
)
def test_a_resource_comes_back_as_it_was_put(path: Path, resource: Resource) -> None:
    store = SqliteStore(path)
    _insert(store, resource)
    store.close()
    again = SqliteStore(path)
    name = resource.name if isinstance(resource, (ParameterGroup, SubnetGroup)) else resource.id
    kind: type = type(resource)
    assert again.get(kind, REGION, name) == resource
    again.close()


@settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=40), st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3))
def test_any_text_survives(store: SqliteStore, text: str, tags: dict[str, str]) -> None:
    # JSON cannot carry half a surrogate pair, and UTF-8 requests cannot either.
    if any("\ud800" <= c <= "\udfff" for c in text + "".join((*tags, *tags.values()))):
        return
    group = SubnetGroup(REGION, "s", text, (text,), tags)
    with store.transaction() as work:
        old = work.get(SubnetGroup, REGION, "s")
        if old is None:
            work.insert(group)
        else:
            work.replace(old, group)
    assert store.get(SubnetGroup, REGION, "s") == group


def test_kinds_and_regions_do_not_meet(store: SqliteStore) -> None:
    elsewhere = replace(CLUSTER, region="eu-west-1")
    _insert(store, CLUSTER, elsewhere, cluster_of("b", 2), group_of("c", ("x",)))
    assert [c.id for c in store.all(CacheCluster, REGION)] == ["b", "c"]
    assert len(store.all(CacheCluster)) == 3
    assert [g.id for g in store.all(ReplicationGroup)] == ["c"]
    assert store.get(CacheCluster, "eu-west-1", "b") is None


def test_inserting_what_is_there_is_a_conflict(store: SqliteStore) -> None:
    _insert(store, CLUSTER)
    with pytest.raises(Conflict):
        _insert(store, replace(CLUSTER, port=7000))
    assert store.get(CacheCluster, REGION, "c") == CLUSTER


def test_replacing_what_has_changed_is_a_conflict(store: SqliteStore) -> None:
    _insert(store, CLUSTER)
    mine, yours = replace(CLUSTER, port=7000), replace(CLUSTER, port=7001)
    with store.transaction() as work:
        work.replace(CLUSTER, yours)
    with pytest.raises(Conflict), store.transaction() as work:
        work.replace(CLUSTER, mine)
    assert store.get(CacheCluster, REGION, "c") == yours


def test_replacing_what_is_gone_is_a_conflict(store: SqliteStore) -> None:
    with pytest.raises(Conflict), store.transaction() as work:
        work.replace(CLUSTER, CLUSTER)
    assert store.all(CacheCluster) == []


def test_a_transaction_that_raises_leaves_nothing(store: SqliteStore) -> None:
    told: list[Sequence[Resource]] = []
    store.subscribe(told.append)

    class Bug(Exception):
        pass

    with pytest.raises(Bug), store.transaction() as work:  # noqa: PT012 - the body is what is tested
        work.insert(CLUSTER)
        work.claim("c", [Address("10.0.0.1", 6379)])
        work.add_event(_event("never"))
        assert work.get(CacheCluster, REGION, "c") == CLUSTER, "a transaction sees its own writes"
        raise Bug
    assert store.all(CacheCluster) == []
    assert _events(store) == []
    assert told == []
    with store.transaction() as work:
        assert work.addresses() == set()
        assert work.last_claimed() is None


def test_what_ended_is_durable_and_what_did_not_is_not(path: Path) -> None:
    """The process is killed without a word, in the middle of a second transaction."""
    code = f"""
import os
from pathlib import Path
from cachekeep.store.sqlite import SqliteStore
from tests.properties.stored import cluster_of
store = SqliteStore(Path({str(path)!r}))
with store.transaction() as work:
    work.insert(cluster_of("kept", 1))
with store.transaction() as work:
    work.insert(cluster_of("lost", 2))
    os.kill(os.getpid(), 9)
"""
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=False)
    store = SqliteStore(path)
    assert [c.id for c in store.all(CacheCluster)] == ["kept"]
    store.close()


def test_subscribers_hear_of_what_was_touched_after_it_is_stored(store: SqliteStore) -> None:
    told: list[tuple[list[str], int]] = []
    store.subscribe(lambda touched: told.append(([str(r.region) for r in touched], len(store.all(CacheCluster)))))
    _insert(store, CLUSTER, cluster_of("b", 2))
    with store.transaction() as work:
        work.add_event(_event("no resource"))
    with store.transaction() as work:
        work.delete(CLUSTER)
    assert told == [([REGION, REGION], 2), ([REGION], 1)]


def test_a_subscriber_may_write(store: SqliteStore) -> None:
    def changed(touched: Sequence[Resource]) -> None:
        with suppress(Conflict), store.transaction() as work:
            work.insert(cluster_of("second", 2))

    store.subscribe(changed)
    _insert(store, CLUSTER)
    assert [c.id for c in store.all(CacheCluster)] == ["c", "second"]


def test_events_come_in_order_of_time_and_within_it_of_telling(store: SqliteStore) -> None:
    with store.transaction() as work:
        for message, at in (("late", NOW + 1), ("first", NOW), ("second", NOW), ("other", NOW + 2)):
            work.add_event(_event(message, at, "d" if message == "other" else "c"))
        work.add_event(_event("elsewhere", region="eu-west-1"))
    assert _events(store) == ["first", "second", "late", "other"]
    assert _events(store, source_id="d") == ["other"]
    assert _events(store, source_type="replication-group") == []
    assert _events(store, since=NOW + 1, until=NOW + 1) == ["late"]


def test_events_are_kept_for_fourteen_days(store: SqliteStore) -> None:
    with store.transaction() as work:
        work.add_event(_event("too old", NOW - EVENTS_KEPT_S - 1))
        work.add_event(_event("just kept", NOW - EVENTS_KEPT_S))
        work.add_event(_event("elsewhere", NOW - EVENTS_KEPT_S - 1, region="eu-west-1"))
    with store.transaction() as work:
        work.add_event(_event("new"))
    assert _events(store) == ["just kept", "new"]
    assert _events(store, "eu-west-1") == ["elsewhere"]


def test_addresses_are_claimed_once_and_the_last_one_is_remembered(store: SqliteStore, path: Path) -> None:
    first, second = Address("10.0.0.1", 6379), Address("10.0.0.2", 6379)
    with store.transaction() as work:
        work.claim("c", [first, second])
    with pytest.raises(sqlite3.IntegrityError), store.transaction() as work:
        work.claim("d", [Address("10.0.0.3", 6379), first])
    with store.transaction() as work:
        assert work.addresses() == {first, second}
        work.release([second])
        work.claim("e", [])
    store.close()
    again = SqliteStore(path)
    with again.transaction() as work:
        assert work.addresses() == {first}
        assert work.last_claimed() == second, "a released address rests: the search goes on behind it"
    again.close()


def test_ipv6_addresses_are_remembered(store: SqliteStore) -> None:
    address = Address("fd00::7", 6379)
    with store.transaction() as work:
        work.claim("c", [address])
        assert work.last_claimed() == address


def test_a_file_of_a_newer_version_is_refused_in_words_and_left_alone(path: Path) -> None:
    SqliteStore(path).close()
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    db.close()
    with pytest.raises(WorldError, match=f"newer Cachekeep .schema {SCHEMA_VERSION + 1}, this one knows"):
        SqliteStore(path)
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION + 1,)
    db.close()


@pytest.mark.parametrize("body", [b"", b"{", b'{"id": "g"}', b'{"port": 70000}', b"\xff"])
def test_a_resource_that_cannot_be_read_is_named_at_the_start(path: Path, body: bytes) -> None:
    SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("INSERT INTO resource VALUES ('replicationgroup', 'us-east-1', 'orders', ?)", (body,))
    with pytest.raises(WorldError, match="the replicationgroup orders of us-east-1 cannot be read"):
        SqliteStore(path)


def test_only_the_owner_may_read_the_store(path: Path) -> None:
    before = os.umask(0)
    try:
        store = SqliteStore(path)
        _insert(store, CLUSTER)
    finally:
        os.umask(before)
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()}
    store.close()
    assert {"store.db", "store.db-wal"} <= modes.keys()
    assert set(modes.values()) == {0o600}, modes
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MiB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(mount)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"NEEDS ROOT: a small disk could not be mounted: {done.stderr.strip()}")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


def _fill(disk: Path) -> Path:
    """Take every block that is left."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            with suppress(OSError):
                while file.write(b"x" * size):
                    pass
    return filler


def test_on_a_full_disk_the_reserve_still_stores_a_delete(small_disk: Path) -> None:
    store = SqliteStore(small_disk / "store.db")
    clusters = [cluster_of(f"c-{n}", n) for n in range(1, 40)]
    _insert(store, *clusters)
    filler = _fill(small_disk)
    for cluster in clusters[:-1]:
        with store.transaction() as work:
            work.delete(cluster)
            work.add_event(_event(f"{cluster.id} deleted"))
    assert [c.id for c in store.all(CacheCluster)] == ["c-39"]
    filler.unlink()
    store.close()
    again = SqliteStore(small_disk / "store.db")
    assert [c.id for c in again.all(CacheCluster)] == ["c-39"]
    assert len(_events(again)) == 38
    again.close()


def test_a_disk_that_stays_full_is_told_in_words_and_harms_nothing(small_disk: Path) -> None:
    """More is written than any reserve holds: a WorldError, everything of before is there, and room mends it."""
    store = SqliteStore(small_disk / "store.db")
    _insert(store, CLUSTER)
    filler = _fill(small_disk)
    big = SubnetGroup(REGION, "big", "x" * (3 << 20), ())
    for _ in range(3):
        with pytest.raises(WorldError, match=r"cannot be written.*free space"):
            _insert(store, big)
        assert store.all(CacheCluster) == [CLUSTER]
        assert store.get(SubnetGroup, REGION, "big") is None
    filler.unlink()
    _insert(store, big)
    assert store.get(SubnetGroup, REGION, "big") == big
    store.close()


def test_the_reserve_is_restored_when_there_is_room_again(small_disk: Path) -> None:
    store = SqliteStore(small_disk / "store.db")
    for _ in range(2):
        filler = _fill(small_disk)
        held = 0
        with suppress(WorldError):
            while True:
                with store.transaction() as work:
                    work.add_event(_event("x" * 4000))
                held += 1
        assert held >= 20, "the reserve held some events"
        filler.unlink()
        with store.transaction() as work:
            work.add_event(_event("there is room"))
    assert _events(store).count("there is room") == 2
    store.close()
