"""Global datastores in cluster mode: a secondary is a living copy, in which clients read and do not write."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import pytest
import valkey
from valkey.cluster import ValkeyCluster
from valkey.exceptions import ValkeyClusterException

from .conftest import Service, group_status, messages, wait_for
from .test_global_datastore import (
    HERE,
    THERE,
    World,
    _roles,
    world,  # noqa: F401 - a fixture
)

KILLS = 6
NOTHING: Mapping[str, Any] = MappingProxyType({})


class Writer(threading.Thread):
    """SET after SET, each of another value, until one is refused. acknowledged: by key, the last value that was
    answered; tried: the one that was not."""

    def __init__(self, made: ValkeyCluster, name: str) -> None:
        super().__init__(daemon=True)
        self._made, self._random, self._name = made, random.Random(name), name
        self.acknowledged: dict[str, str] = {}
        self.tried: tuple[str, str] = ("", "")
        self.rounds = 0
        self.ended_by: Exception | None = None
        self.stopping = threading.Event()

    def run(self) -> None:
        try:
            while not self.stopping.is_set():
                self.rounds += 1
                self.tried = key, value = f"{self._name}:{self._random.randrange(200)}", str(self.rounds)
                self._made.set(key, value)
                self.acknowledged[key] = value
        except (valkey.ValkeyError, ValkeyClusterException, OSError) as error:
            self.ended_by = error.with_traceback(None)  # which would keep its connection from being closed in time
        finally:
            self._made.close()

    def is_held_by(self, made: ValkeyCluster) -> bool:
        for key, value in self.acknowledged.items():
            assert made.get(key) in (value, *self.tried[1:]) if key == self.tried[0] else made.get(key) == value, key
        return True


def cluster(world: World, region: str, name: str, **login: str) -> ValkeyCluster:  # noqa: F811
    group = world.at(region).describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"][0]
    return world.cluster(group["ConfigurationEndpoint"], **login)


def nodes(world: World, region: str, name: str, **login: str) -> list[valkey.Valkey[Any]]:  # noqa: F811
    """A client to each node of the group."""
    group = world.at(region).describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"][0]
    made = []
    for member in group["MemberClusters"]:
        found = world.at(region).describe_cache_clusters(CacheClusterId=member, ShowCacheNodeInfo=True)
        made.append(world.connect(found["CacheClusters"][0]["CacheNodes"][0]["Endpoint"], **login))
    return made


def pair(
    world: World,  # noqa: F811
    name: str,
    shards: int = 2,
    replicas: int = 0,
    here: Mapping[str, Any] = NOTHING,
    login: Mapping[str, str] = NOTHING,
    **more: Any,
) -> str:
    """A datastore of two members in sync, with 500 keys. here: what is asked for the primary alone; more: for both.
    login: at the primary."""
    shape = {"NumNodeGroups": shards, "ReplicasPerNodeGroup": replicas}
    if replicas:
        more = {"AutomaticFailoverEnabled": True, **more}
    world.group(HERE, name, **shape, **here, **more)
    cluster(world, HERE, name, **login).mset_nonatomic({f"key:{n}": str(n) for n in range(500)})
    datastore = world.datastore(name)
    world.group(THERE, name, GlobalReplicationGroupId=datastore, ReplicasPerNodeGroup=replicas, **more)
    wait_for(lambda: world.roles(datastore)[THERE] == ("SECONDARY", "associated"), 60)
    return datastore


def refuses_writes(made: valkey.Valkey[Any]) -> bool:
    """Asked at the engine itself, whatever slot it has."""
    with pytest.raises(valkey.exceptions.NoPermissionError):
        made.execute_command("SET", "a", "b")
    with pytest.raises(valkey.exceptions.NoPermissionError):
        made.execute_command("FLUSHALL")
    return True


def test_a_secondary_in_cluster_mode_follows_and_takes_no_writes(world: World, name: str) -> None:  # noqa: F811
    datastore = pair(world, name)
    shown = world.described(datastore)
    assert (shown["ClusterEnabled"], len(shown["GlobalNodeGroups"])) == (True, 2)
    here, there = cluster(world, HERE, name), cluster(world, THERE, name)
    assert all(there.get(f"key:{n}") == str(n) for n in range(500))
    here.set("after", "1")
    here.delete("key:7")
    here.rpush("list", "a", "b")
    wait_for(lambda: there.get("after") == "1" and there.exists("key:7") == 0 and there.llen("list") == 2)
    assert all(refuses_writes(made) for made in nodes(world, THERE, name))
    with pytest.raises(valkey.exceptions.ResponseError):
        there.eval("return redis.call('SET', KEYS[1], '1')", 1, "a")
    world.at(HERE).disassociate_global_replication_group(
        GlobalReplicationGroupId=datastore, ReplicationGroupId=name, ReplicationGroupRegion=THERE
    )
    wait_for(lambda: world.described(datastore)["Status"] == "primary-only", 60)
    wait_for(lambda: group_status(world.at(THERE), name) == "available", 60)
    wait_for(lambda: _takes(world, THERE, name, "mine", "1"), 60)
    assert here.get("mine") is None
    assert here.set("b", "2")
    assert cluster(world, THERE, name).get("after") == "1"


def fails_over(world: World, datastore: str, source: str, goal: str, name: str, number: int) -> None:  # noqa: F811
    """Under writers: nothing that was acknowledged is lost, and each side changes its rights."""
    writers = [Writer(cluster(world, source, name), f"{number}-{n}") for n in range(3)]
    for writer in writers:
        writer.start()
    wait_for(lambda: min(writer.rounds for writer in writers) > 100)
    world.fail_over(datastore, goal, name)
    wait_for(lambda: world.roles(datastore) == _roles(goal, source), 90)
    for writer in writers:
        writer.join(30)
        assert writer.ended_by is not None
    made = cluster(world, goal, name)
    assert all(writer.is_held_by(made) for writer in writers)
    wait_for(lambda: _takes(world, goal, name, "taken by", goal), 60)
    old = cluster(world, source, name)
    wait_for(lambda: old.get("taken by") == goal, 60)
    assert all(refuses_writes(node) for node in nodes(world, source, name))
    assert all(writer.is_held_by(old) for writer in writers)


@pytest.mark.slow
def test_a_planned_failover_in_cluster_mode_loses_nothing(world: World, name: str) -> None:  # noqa: F811
    datastore = pair(world, name)
    fails_over(world, datastore, HERE, THERE, name, 1)
    fails_over(world, datastore, THERE, HERE, name, 2)
    told = messages(world.at(HERE), "replication-group", name)
    assert any(text == f"Failover of global datastore {datastore} to {name} in {HERE} completed" for text in told)


@pytest.mark.slow
def test_a_service_killed_during_a_failover_of_clusters_ends_it(new_service: Callable[..., Service], name: str) -> None:
    service = new_service().start()
    world = World(service)  # noqa: F811
    datastore = pair(world, name)
    regions = (HERE, THERE)
    for number in range(KILLS):
        source, goal = regions[number % 2], regions[(number + 1) % 2]
        writers = [Writer(cluster(world, source, name), f"{number}-{n}") for n in range(3)]
        for writer in writers:
            writer.start()
        wait_for(lambda w=writers: min(writer.rounds for writer in w) > 50)
        world.fail_over(datastore, goal, name)
        # Sometimes before it begins, sometimes in the midst of it, sometimes when it is done.
        time.sleep(number * 0.04)
        service.kill()
        service.start()
        wait_for(lambda g=goal, s=source: world.roles(datastore) == _roles(g, s), 90)
        for writer in writers:
            writer.join(30)
            assert writer.ended_by is not None
        made = cluster(world, goal, name)
        assert all(writer.is_held_by(made) for writer in writers)
        assert all(refuses_writes(node) for node in nodes(world, source, name))
        wait_for(lambda g=goal: _takes(world, g, name, "a", "b"), 60)
    assert "Traceback" not in service.log.read_text()


@pytest.mark.slow
def test_a_shard_that_lost_everything_does_not_wipe_the_copy(world: World, name: str) -> None:  # noqa: F811
    """It begins empty in its region; a failover brings its keys back."""
    datastore = pair(world, name)
    node = nodes(world, HERE, name)[0]
    held = int(node.dbsize())
    assert held > 100
    os.kill(int(node.info("server")["process_id"]), signal.SIGKILL)
    wait_for(
        lambda: any("not copied from again" in text for text in messages(world.at(THERE), "replication-group", name)),
        60,
    )
    there = cluster(world, THERE, name)
    assert all(there.get(f"key:{n}") == str(n) for n in range(500))
    wait_for(lambda: group_status(world.at(HERE), name) == "available", 60)
    world.fail_over(datastore, THERE, name)
    wait_for(lambda: world.roles(datastore) == _roles(THERE, HERE), 120)
    wait_for(lambda: _takes(world, THERE, name, "new", "1"), 60)
    here = cluster(world, HERE, name)
    wait_for(lambda: here.get("new") == "1", 60)
    # What is new is told of, and may be there before the pass over all keys is over.
    wait_for(lambda: all(here.get(f"key:{n}") == str(n) for n in range(500)), 60)


@pytest.mark.slow
def test_primaries_that_die_on_either_side_are_followed(world: World, name: str) -> None:  # noqa: F811
    datastore = pair(world, name, replicas=1)
    for region in (HERE, THERE):
        primary = next(node for node in nodes(world, region, name) if node.info("replication")["role"] == "master")
        os.kill(int(primary.info("server")["process_id"]), signal.SIGKILL)
        wait_for(lambda r=region: _takes(world, HERE, name, f"after {r}", "1"), 60)
        wait_for(lambda r=region: _reads(world, THERE, name, f"after {r}") == "1", 60)
    wait_for(lambda: world.roles(datastore) == _roles(HERE, THERE), 60)
    there = cluster(world, THERE, name)
    assert all(there.get(f"key:{n}") == str(n) for n in range(500))
    wait_for(lambda: group_status(world.at(THERE), name) == "available", 60)
    assert all(refuses_writes(node) for node in nodes(world, THERE, name))


def _reads(world: World, region: str, name: str, key: str) -> str | None:  # noqa: F811
    try:
        return cluster(world, region, name).get(key)
    except (valkey.ValkeyError, ValkeyClusterException, OSError):
        return None


def _takes(world: World, region: str, name: str, key: str, value: str) -> bool:  # noqa: F811
    try:
        return bool(cluster(world, region, name).set(key, value))
    except (valkey.ValkeyError, ValkeyClusterException, OSError):
        return False


@pytest.mark.slow
def test_node_groups_change_in_every_region(world: World, name: str) -> None:  # noqa: F811
    """With a writer; what it wrote is in both regions afterwards."""
    datastore = pair(world, name)
    ec = world.at(HERE)
    writer = Writer(cluster(world, HERE, name), "w")
    writer.start()
    ec.increase_node_groups_in_global_replication_group(
        GlobalReplicationGroupId=datastore, NodeGroupCount=3, ApplyImmediately=True
    )
    shards_are(world, datastore, name, 3)
    ec.rebalance_slots_in_global_replication_group(GlobalReplicationGroupId=datastore, ApplyImmediately=True)
    shards_are(world, datastore, name, 3)
    with pytest.raises(ec.exceptions.InvalidParameterValueException, match="no node group"):
        ec.decrease_node_groups_in_global_replication_group(
            GlobalReplicationGroupId=datastore,
            NodeGroupCount=2,
            GlobalNodeGroupsToRemove=["0001"],
            ApplyImmediately=True,
        )
    with pytest.raises(world.at(THERE).exceptions.InvalidParameterValueException, match="for all members"):
        world.at(THERE).modify_replication_group_shard_configuration(
            ReplicationGroupId=name, NodeGroupCount=4, ApplyImmediately=True
        )
    ec.decrease_node_groups_in_global_replication_group(
        GlobalReplicationGroupId=datastore,
        NodeGroupCount=2,
        GlobalNodeGroupsToRemove=[f"{datastore}-0001"],
        ApplyImmediately=True,
    )
    shards_are(world, datastore, name, 2)
    writer.stopping.set()
    writer.join(30)
    assert writer.ended_by is None
    cluster(world, HERE, name).set("last", "1")
    wait_for(lambda: _reads(world, THERE, name, "last") == "1", 60)
    wait_for(lambda: world.roles(datastore) == _roles(HERE, THERE), 60)
    for region in (HERE, THERE):
        made = cluster(world, region, name)
        assert writer.is_held_by(made)
        assert all(made.get(f"key:{n}") == str(n) for n in range(500))
        assert sum(int(node.dbsize()) for node in nodes(world, region, name)) == 501 + len(writer.acknowledged)
    assert all(refuses_writes(node) for node in nodes(world, THERE, name))


def shards_are(world: World, datastore: str, name: str, count: int) -> None:  # noqa: F811
    for region in (HERE, THERE):
        wait_for(lambda r=region: group_status(world.at(r), name) == "available", 120)
        group = world.at(region).describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"][0]
        assert len(group["NodeGroups"]) == count
    wait_for(lambda: world.roles(datastore) == _roles(HERE, THERE), 60)
