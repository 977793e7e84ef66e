"""Members of global datastores in cluster mode: users that are of a region, parameters that are of all."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import valkey
from valkey.cluster import ValkeyCluster

from .conftest import Service, group_status, wait_for
from .test_global_clusters import cluster, nodes, pair
from .test_global_datastore import (
    HERE,
    THERE,
    World,
    _roles,
    world,  # noqa: F401 - a fixture
)

pytestmark = pytest.mark.slow
REFUSED = valkey.exceptions.NoPermissionError
PASSWORDS = {HERE: "a-password-of-here", THERE: "a-password-of-there"}
NAMES = {HERE: "ann", THERE: "bob"}
# With writes given one by one, and in a whole: a secondary takes both.
RIGHTS = "on ~key:* ~own:* ~taken* -@all +@read +@connection +@slow +set +cluster|slots +cluster|shards +info"


@pytest.fixture
def guarded(new_service: Callable[..., Service]) -> Iterator[World]:
    it = World(new_service(CACHEKEEP_AUTH_WITHOUT_TLS="true").start())
    for region, name in NAMES.items():
        ec, how = it.at(region), {"Engine": "valkey", "Passwords": [PASSWORDS[region]]}
        ec.create_user(UserId="all", UserName="default", AccessString="on ~* +@all", **how)
        ec.create_user(UserId=name, UserName=name, AccessString=RIGHTS, **how)
        ec.create_user_group(UserGroupId="ug", Engine="valkey", UserIds=["all", name])
    yield it
    it.clean()


def _as(world: World, region: str, name: str, user: str = "default") -> ValkeyCluster:  # noqa: F811
    return cluster(world, region, name, username=user, password=PASSWORDS[region])


def _is_refused(made: ValkeyCluster, *words: str) -> bool:
    try:
        made.execute_command(*words)
    except REFUSED:
        return True
    return False


def _engine_refuses(world: World, region: str, name: str, user: str) -> bool:  # noqa: F811
    """Each node of it, whatever its role."""
    for node in nodes(world, region, name, username=user, password=PASSWORDS[region]):
        with pytest.raises(REFUSED):
            node.execute_command("SET", "key:1", "x")
    return True


def test_users_of_a_region_read_in_a_secondary_and_write_once_it_is_the_primary(guarded: World, name: str) -> None:
    login = {"username": "default", "password": PASSWORDS[HERE]}
    datastore = pair(guarded, name, replicas=1, login=login, UserGroupIds=["ug"])
    for region, stranger in ((HERE, "bob"), (THERE, "ann")):
        for user, password in (("default", "a-password-of-16-x"), (stranger, PASSWORDS[region])):
            with pytest.raises(valkey.AuthenticationError):
                nodes(guarded, region, name, username=user, password=password)[0].get("key:1")
    assert _as(guarded, HERE, name, "ann").set("own:1", "1")
    for user in ("default", "bob"):
        there = _as(guarded, THERE, name, user)
        wait_for(lambda made=there: made.get("own:1") == "1")
        assert all(there.get(f"key:{n}") == str(n) for n in range(500))
        assert _engine_refuses(guarded, THERE, name, user)

    # Changed while it is a secondary: more rights to write give none, and fewer keys are fewer keys.
    _changes(guarded, THERE, "bob", RIGHTS.replace("~key:* ", "") + " +del")
    bob = _as(guarded, THERE, name, "bob")
    assert _is_refused(bob, "GET", "key:1")
    assert bob.get("own:1") == "1"
    assert _is_refused(bob, "SET", "own:1", "x")
    assert _is_refused(bob, "DEL", "own:1")

    # A node that is started anew starts so.
    before = _process(guarded, name)
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: _process(guarded, name) not in (0, before), 60)
    wait_for(lambda: group_status(guarded.at(THERE), name) == "available", 60)
    assert _engine_refuses(guarded, THERE, name, "default")
    wait_for(lambda: guarded.roles(datastore) == _roles(HERE, THERE), 60)

    guarded.fail_over(datastore, THERE, name)
    wait_for(lambda: guarded.roles(datastore) == _roles(THERE, HERE), 60)
    wait_for(lambda: not _is_refused(_as(guarded, THERE, name, "bob"), "SET", "own:1", "2"), 60)
    assert _is_refused(_as(guarded, THERE, name, "bob"), "SET", "key:1", "x"), "his rights are still his own"
    for user in ("default", "ann"):
        assert _engine_refuses(guarded, HERE, name, user)
    wait_for(lambda: _as(guarded, HERE, name, "ann").get("own:1") == "2", 60)


def _changes(world: World, region: str, user: str, rights: str) -> None:  # noqa: F811
    ec = world.at(region)
    ec.modify_user(UserId=user, AccessString=rights)
    wait_for(lambda: ec.describe_users(UserId=user)["Users"][0]["Status"] == "active", 60)


def _process(world: World, name: str) -> int:  # noqa: F811
    """Of the secondary's first node; 0 while none answers."""
    node = nodes(world, THERE, name, username="default", password=PASSWORDS[THERE])[0]
    try:
        return int(node.info("server")["process_id"])
    except valkey.ConnectionError:
        return 0


def test_parameters_reach_every_node_of_every_region(world: World, name: str) -> None:  # noqa: F811
    """Also once another region takes writes: then its group is the one that counts."""
    ec, there = world.at(HERE), world.at(THERE)
    made = (name, f"{name}-b")
    for group in made:
        ec.create_cache_parameter_group(
            CacheParameterGroupName=group, CacheParameterGroupFamily="valkey9", Description="of the primary"
        )
        _sets(ec, group, "yes", "cluster-enabled")
    _sets(ec, made[1], "allkeys-lru")
    try:
        datastore = pair(world, name, replicas=1, here={"CacheParameterGroupName": name})
        copy = f"global-datastore-{datastore}"
        _sets(ec, name, "allkeys-lfu")
        _have(world, name, "allkeys-lfu")
        with pytest.raises(there.exceptions.InvalidCacheParameterGroupStateFault, match=f"{name} in {HERE}"):
            _sets(there, copy, "noeviction")
        with pytest.raises(there.exceptions.InvalidCacheParameterGroupStateFault):
            there.reset_cache_parameter_group(CacheParameterGroupName=copy, ResetAllParameters=True)

        world.fail_over(datastore, THERE, name)
        wait_for(lambda: world.roles(datastore) == _roles(THERE, HERE), 60)
        _sets(there, copy, "allkeys-random")
        _have(world, name, "allkeys-random")
        _sets(ec, name, "volatile-ttl")
        there.reset_cache_parameter_group(
            CacheParameterGroupName=copy, ParameterNameValues=[{"ParameterName": "maxmemory-policy"}]
        )
        _have(world, name, "volatile-lru")

        world.fail_over(datastore, HERE, name)
        wait_for(lambda: world.roles(datastore) == _roles(HERE, THERE), 60)
        ec.modify_global_replication_group(
            GlobalReplicationGroupId=datastore, CacheParameterGroupName=made[1], ApplyImmediately=True
        )
        wait_for(lambda: world.described(datastore)["Status"] == "available", 60)
        _have(world, name, "allkeys-lru")
    finally:
        world.clean()
        world.groups.clear()
        world.datastores.clear()
        for group in made:
            ec.delete_cache_parameter_group(CacheParameterGroupName=group)


def _sets(ec: Any, group: str, value: str, parameter: str = "maxmemory-policy") -> None:
    ec.modify_cache_parameter_group(
        CacheParameterGroupName=group,
        ParameterNameValues=[{"ParameterName": parameter, "ParameterValue": value}],
    )


def _have(world: World, name: str, policy: str) -> None:  # noqa: F811
    """The engines themselves, replicas too. By INFO: a secondary lets nobody use CONFIG."""
    for region in (HERE, THERE):
        found = nodes(world, region, name)
        assert len(found) == 4
        for node in found:
            wait_for(lambda n=node: n.info("memory")["maxmemory_policy"] == policy, 60)
