"""Migration in from a source that no engine may follow, or into cluster mode: key by key, while it serves on."""

from __future__ import annotations

import os
import random
import signal
import threading
from typing import Any

import pytest
import valkey

from cachekeep.domain.nodes import Address

from .conftest import Service, group_status, messages, wait_for
from .test_migration import (
    Created,
    Outside,
    _completes,
    _deletes,
    _has,
    client_of,
    endpoint_list,
    outside,  # noqa: F401 - a fixture
    primary_of,
    target,
)

RIGHTS = ("--user", "default", "on", "nopass", "~*", "&*", "+@all", "-psync")
NO_PSYNC = ("--rename-command", "PSYNC", "")


class Modelled(threading.Thread):
    """Changes of every kind, one after the other, until it is told to stop. model: what has been acknowledged."""

    def __init__(self, at: Address, number: int, *, db: int = 0) -> None:
        super().__init__(daemon=True)
        self._made = valkey.Valkey(at.host, at.port, db=db, socket_timeout=10, decode_responses=True)
        self._random, self._prefix, self.db = random.Random(number), f"w{number}:", db
        self.model: dict[str, Any] = {}
        self.rounds = 0
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.is_set():
            self._change()
            self.rounds += 1

    def stop(self) -> None:
        self.stopping.set()
        self.join(30)

    def _change(self) -> None:
        made, name = self._made, f"{self._prefix}{self._random.randrange(300)}"
        match self._random.randrange(7):
            case 0 | 1:
                value = str(self._random.random())
                made.set(f"{name}:s", value)
                self.model[f"{name}:s"] = value
            case 2:
                made.delete(f"{name}:s", f"{name}:h")
                self.model.pop(f"{name}:s", None)
                self.model.pop(f"{name}:h", None)
            case 3:
                field = str(self._random.randrange(20))
                self.model.setdefault(f"{name}:h", {})[field] = field
                made.hset(f"{name}:h", field, field)
            case 4:
                made.rpush(f"{name}:l", "x")
                self.model.setdefault(f"{name}:l", []).append("x")
            case 5:
                made.set(f"{name}:e", "soon", px=1 + self._random.randrange(3000))
            case 6:
                made.set(f"{name}:t", "later", ex=10_000)
                made.persist(f"{name}:t")
                self.model[f"{name}:t"] = "later"


def everything(made: valkey.Valkey[Any]) -> dict[bytes, tuple[int, bytes]]:
    """Every key that stays, with its expiry and value."""
    keys = [key for key in made.scan_iter(count=1000) if not key.endswith(b":e")]
    return {key: (made.pexpiretime(key), made.dump(key)[:-10]) for key in keys}


def raw(at: Address | dict[str, Any], db: int = 0) -> valkey.Valkey[Any]:
    host, port = (at.host, at.port) if isinstance(at, Address) else (at["Address"], at["Port"])
    return valkey.Valkey(host, port, db=db, socket_timeout=10)


def has_synced(ec: Any, name: str) -> bool:
    return any("is told of every change" in text for text in messages(ec, "replication-group", name))


def modelled_holds(writer: Modelled, there: valkey.Valkey[Any]) -> bool:
    for key, value in writer.model.items():
        if isinstance(value, str):
            assert there.get(key) == value, key
        elif isinstance(value, dict):
            assert there.hgetall(key) == value, key
        else:
            assert there.lrange(key, 0, -1) == value, key
    return True


def test_a_source_without_psync_moves_in_without_a_lost_write(
    ec: Any,
    created: Created,
    name: str,
    outside: Outside,  # noqa: F811
) -> None:
    at = outside(*NO_PSYNC)
    source = client_of(at)
    source.mset({f"key:{n}": n for n in range(3000)})
    source.set("old", "of the source", ex=5000)
    source.xgroup_create("stream", "readers", mkstream=True)
    group = target(ec, created, name)
    primary = primary_of(group)
    primary.mset({"old": "is replaced", "older": "is gone"})
    writers = [Modelled(at, 1), Modelled(at, 2, db=3)]
    for writer in writers:
        writer.start()
    ec.start_migration(ReplicationGroupId=name, CustomerNodeEndpointList=endpoint_list(at))
    with pytest.raises((ec.exceptions.MigrationHealthFault, ec.exceptions.InvalidReplicationGroupStateFault)):
        ec.complete_migration(ReplicationGroupId=name)
    wait_for(lambda: has_synced(ec, name), 60)
    source.delete("key:17")
    source.xadd("stream", {"a": "b"})
    source.xreadgroup("readers", "me", {"stream": ">"})
    before = writers[0].rounds
    wait_for(lambda: writers[0].rounds > before + 200)
    for writer in writers:
        writer.stop()
    wait_for(lambda: _completes(ec, name), 60)
    wait_for(lambda: group_status(ec, name) == "available", 60)
    assert f"Complete Migration successful for {name}" in messages(ec, "replication-group", name)
    here = group["NodeGroups"][0]["PrimaryEndpoint"]
    for writer in writers:
        assert everything(raw(here, writer.db)) == everything(raw(at, writer.db))
        there = valkey.Valkey(here["Address"], here["Port"], db=writer.db, decode_responses=True)
        assert modelled_holds(writer, there)
    primary = primary_of(group)
    assert primary.exists("older", "key:17") == 0
    assert primary.get("old") == "of the source"
    assert primary.xpending("stream", "readers")["pending"] == 1
    assert primary.set("mine", "now")
    source.set("late", "stays there")
    assert primary.get("late") is None


@pytest.mark.slow
def test_into_cluster_mode(ec: Any, created: Created, name: str, outside: Outside) -> None:  # noqa: F811
    at = outside()
    source = client_of(at)
    source.mset({f"key:{n}": n for n in range(3000)})
    shape = {"NumNodeGroups": 2, "ReplicasPerNodeGroup": 1, "AutomaticFailoverEnabled": True, "MultiAZEnabled": True}
    ec.create_replication_group(ReplicationGroupId=name, ReplicationGroupDescription="test", **shape)
    created.append(("group", name))
    wait_for(lambda: group_status(ec, name) == "available", 60)
    group = ec.describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"][0]
    writer = Modelled(at, 1)
    writer.start()
    ec.start_migration(ReplicationGroupId=name, CustomerNodeEndpointList=endpoint_list(at))
    wait_for(lambda: has_synced(ec, name), 60)
    before = writer.rounds
    wait_for(lambda: writer.rounds > before + 200)
    writer.stop()
    wait_for(lambda: _completes(ec, name), 60)
    wait_for(lambda: group_status(ec, name) == "available", 60)
    where = group["ConfigurationEndpoint"]
    with valkey.ValkeyCluster(where["Address"], where["Port"], decode_responses=True) as there:
        assert modelled_holds(writer, there)
        kept = [key for key in source.scan_iter(count=1000) if not key.endswith(":e")]
        assert sorted(key for key in there.scan_iter(count=1000) if not key.endswith(":e")) == sorted(kept)
        assert there.get("key:2999") == "2999"


@pytest.mark.slow
def test_a_source_that_comes_back_empty_is_not_copied_from(
    ec: Any,
    created: Created,
    name: str,
    outside: Outside,  # noqa: F811
) -> None:
    at = outside(*NO_PSYNC)
    client_of(at).mset({f"key:{n}": n for n in range(1000)})
    group = target(ec, created, name)
    ec.start_migration(ReplicationGroupId=name, CustomerNodeEndpointList=endpoint_list(at))
    wait_for(lambda: has_synced(ec, name), 60)
    client_of(at).shutdown(nosave=True)
    outside(*NO_PSYNC, again_at=at)
    client_of(at).set("new", "1")
    wait_for(lambda: any("has been started anew with" in text for text in messages(ec, "replication-group", name)), 60)
    with pytest.raises(ec.exceptions.MigrationHealthFault):
        ec.complete_migration(ReplicationGroupId=name)
    assert primary_of(group).dbsize() == 1000
    # Its data are put back: it is copied from again.
    client_of(at).mset({f"key:{n}": n + 1 for n in range(1000)})
    wait_for(lambda: primary_of(group).get("key:999") == "1000", 60)
    wait_for(lambda: _completes(ec, name), 60)
    wait_for(lambda: group_status(ec, name) == "available", 60)
    assert primary_of(group).dbsize() == 1001


@pytest.mark.slow
def test_it_goes_on_whatever_dies(
    ec: Any,
    created: Created,
    name: str,
    outside: Outside,  # noqa: F811
    service: Any,
) -> None:
    """The service is killed, and keys are deleted meanwhile; then the group's primary dies, with what it had."""
    at = outside(*NO_PSYNC)
    source = client_of(at)
    source.mset({f"key:{n}": n for n in range(2000)})
    group = target(ec, created, name)
    writer = Modelled(at, 1)
    writer.start()
    ec.start_migration(ReplicationGroupId=name, CustomerNodeEndpointList=endpoint_list(at))
    wait_for(lambda: has_synced(ec, name), 60)
    service.kill()
    source.delete(*(f"key:{n}" for n in range(500)))
    service.start()
    wait_for(lambda: _lacks(group, "key:17"), 60)
    pid = int(primary_of(group).info("server")["process_id"])
    os.kill(pid, signal.SIGKILL)
    source.set("key:1000", "changed while nobody had it")
    wait_for(lambda: _has(group, "key:1000", "changed while nobody had it"), 60)
    writer.stop()
    wait_for(lambda: _completes(ec, name), 60)
    wait_for(lambda: group_status(ec, name) == "available", 60)
    here = group["NodeGroups"][0]["PrimaryEndpoint"]
    assert everything(raw(here)) == everything(raw(at))
    assert modelled_holds(writer, primary_of(group))


def _lacks(group: dict[str, Any], key: str) -> bool:
    try:
        return not primary_of(group).exists(key)
    except valkey.ValkeyError:
        return False


@pytest.mark.slow
def test_a_source_that_announces_nothing(ec: Any, created: Created, name: str, outside: Outside) -> None:  # noqa: F811
    """Neither tracking nor notifications: a pass over all keys that began after the request has everything."""
    at = outside(*RIGHTS, "-client|tracking")
    source = client_of(at)
    source.mset({f"key:{n}": n for n in range(1000)})
    group = target(ec, created, name)
    ec.start_migration(ReplicationGroupId=name, CustomerNodeEndpointList=endpoint_list(at))
    wait_for(lambda: any("change (poll)" in text for text in messages(ec, "replication-group", name)), 60)
    source.delete("key:1")
    source.set("key:2", "later")
    wait_for(lambda: _completes(ec, name), 60)
    wait_for(lambda: group_status(ec, name) == "available", 60)
    here = group["NodeGroups"][0]["PrimaryEndpoint"]
    assert everything(raw(here)) == everything(raw(at))


@pytest.mark.slow
def test_force_and_what_cannot_be_copied(ec: Any, created: Created, name: str, outside: Outside) -> None:  # noqa: F811
    """Force ends it with the source away; a source that neither lets follow nor read is refused, nothing changed."""
    at, denied = outside(*RIGHTS, "-dump"), outside(*RIGHTS)
    group = target(ec, created, name)
    primary_of(group).set("mine", "kept")
    ec.start_migration(ReplicationGroupId=name, CustomerNodeEndpointList=endpoint_list(at))
    wait_for(lambda: group_status(ec, name) == "available", 60)
    assert any("cannot be read one by one" in text for text in messages(ec, "replication-group", name))
    assert primary_of(group).get("mine") == "kept"
    client_of(denied).set("a", "1")
    ec.start_migration(ReplicationGroupId=name, CustomerNodeEndpointList=endpoint_list(denied))
    wait_for(lambda: has_synced(ec, name), 60)
    assert primary_of(group).mget("a", "mine") == ["1", None]
    # A key that may not be read is told, and there is no completion without it.
    client_of(denied).execute_command("ACL", "SETUSER", "default", "resetkeys", "%W~*", "%R~a*")
    client_of(denied).set("secret", "2")
    wait_for(lambda: any("1 keys cannot be copied" in text for text in messages(ec, "replication-group", name)), 60)
    with pytest.raises(ec.exceptions.MigrationHealthFault):
        ec.complete_migration(ReplicationGroupId=name)
    client_of(denied).shutdown(nosave=True)
    ec.complete_migration(ReplicationGroupId=name, Force=True)
    wait_for(lambda: group_status(ec, name) == "available", 60)
    assert primary_of(group).get("a") == "1"


@pytest.mark.slow
def test_a_serverless_cache_takes_over(ec: Any, name: str, outside: Outside) -> None:  # noqa: F811
    at = outside()
    client_of(at).mset({f"key:{n}": n for n in range(1000)})
    ec.create_serverless_cache(ServerlessCacheName=name, Engine="valkey")
    try:
        wait_for(lambda: serverless(ec, name)["Status"] == "AVAILABLE", 60)
        where = serverless(ec, name)["Endpoint"]
        there = valkey.ValkeyCluster(where["Address"], where["Port"], decode_responses=True)
        there.set("mine", "is not the source's")
        nobody = Address(at.host, 1)
        ec.prepare_migration(ServerlessCacheName=name, CustomerNodeEndpointList=endpoint_list(nobody))
        wait_for(lambda: "Migration" not in serverless(ec, name), 60)
        assert any("Prepare migration failed" in text for text in messages(ec, "serverless-cache", name))
        ec.prepare_migration(ServerlessCacheName=name, CustomerNodeEndpointList=endpoint_list(at))
        wait_for(lambda: _is(ec, name, "prepared"), 60)
        with pytest.raises(ec.exceptions.ServerlessCacheAlreadyUnderMigrationFault):
            ec.prepare_migration(ServerlessCacheName=name, CustomerNodeEndpointList=endpoint_list(at))
        with pytest.raises(ec.exceptions.InvalidServerlessCacheStateFault):
            ec.stop_migration(ServerlessCacheName=name)
        with pytest.raises(ec.exceptions.InvalidParameterCombinationException):
            ec.start_migration(ServerlessCacheName=name, AutoCutover=True)
        # Without ClearTargetCacheData no key of the cache goes.
        ec.start_migration(ServerlessCacheName=name)
        wait_for(lambda: _is(ec, name, "stopped"), 60)
        assert any("only ClearTargetCacheData" in text for text in messages(ec, "serverless-cache", name))
        assert there.get("mine") == "is not the source's"
        ec.start_migration(ServerlessCacheName=name, ClearTargetCacheData=True)
        wait_for(lambda: _is(ec, name, "in-sync"), 60)
        assert there.exists("mine") == 0
        ec.stop_migration(ServerlessCacheName=name)
        assert serverless(ec, name)["Migration"]["Status"] == "stopped"
        with pytest.raises(ec.exceptions.InvalidParameterCombinationException):
            ec.start_migration(ServerlessCacheName=name)
        there.set("mine", "while it is stopped")
        wait_for(lambda: _starts(ec, name), 60)
        writer = Modelled(at, 1)
        writer.start()
        wait_for(lambda: _is(ec, name, "in-sync"), 60)
        wait_for(lambda: writer.rounds > 100)
        writer.stop()
        ec.complete_migration(ServerlessCacheName=name)
        wait_for(lambda: "Migration" not in serverless(ec, name), 60)
        assert modelled_holds(writer, there)
        assert (there.get("key:999"), there.exists("mine")) == ("999", 0)
        assert there.set("mine", "now")
        told = f"Complete Migration successful for {name}"
        wait_for(lambda: told in messages(ec, "serverless-cache", name), 60)
    finally:
        wait_for(lambda: _deletes(ec, name), 60)


def serverless(ec: Any, name: str) -> dict[str, Any]:
    return dict(ec.describe_serverless_caches(ServerlessCacheName=name)["ServerlessCaches"][0])


def _is(ec: Any, name: str, status: str) -> bool:
    return bool(serverless(ec, name).get("Migration", {}).get("Status") == status)


def _starts(ec: Any, name: str) -> bool:
    try:
        ec.start_migration(ServerlessCacheName=name, ClearTargetCacheData=True)
    except ec.exceptions.InvalidServerlessCacheStateFault:  # it grows just now
        return False
    return True


@pytest.mark.slow
def test_what_a_copy_waits_for_is_told_once(
    ec: Any,
    created: Created,
    name: str,
    outside: Outside,  # noqa: F811
    service: Service,
) -> None:
    """A source that is larger than the group, each try fails for it: one event."""
    at = outside(*RIGHTS)
    for number in range(48):
        client_of(at).set(f"large:{number}", "x" * 10_000_000)
    target(ec, created, name, CacheNodeType="cache.t4g.micro")
    ec.start_migration(ReplicationGroupId=name, CustomerNodeEndpointList=endpoint_list(at))

    def failures() -> int:
        lines = service.log.read_text().splitlines()
        return sum("a copy ended; it begins anew" in line and name in line for line in lines)

    wait_for(lambda: failures() >= 3, 60)
    told = [text for text in messages(ec, "replication-group", name) if "waits" in text]
    assert len(told) == 1, told
    assert "OOM" in told[0]
    ec.complete_migration(ReplicationGroupId=name, Force=True)
    wait_for(lambda: group_status(ec, name) == "available", 60)
