"""Global datastores: groups of several regions of one installation, of which one takes writes."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
import valkey
from prometheus_client.parser import text_string_to_metric_families as read_text
from valkey.cluster import ValkeyCluster

from .conftest import Service, gone, group_status, messages, wait_for
from .test_prometheus import ask, bearer

HERE, THERE, ELSEWHERE = "us-east-1", "eu-west-1", "ap-south-1"
LARGE = "cache.m5.large"
KILLS = 12


@dataclass
class World:
    """Clients by region, and what to clean up: groups by region, and datastores."""

    service: Service
    groups: list[tuple[str, str]] = field(default_factory=list)
    datastores: list[str] = field(default_factory=list)
    _clients: dict[str, Any] = field(default_factory=dict)

    def at(self, region: str) -> Any:
        if region not in self._clients:
            self._clients[region] = self.service.client(region=region)
        return self._clients[region]

    def group(self, region: str, name: str, **more: Any) -> None:
        """A group that is available, maybe a secondary."""
        ec = self.at(region)
        if "GlobalReplicationGroupId" not in more:
            more = {"CacheNodeType": LARGE, **more}
        if "ReplicasPerNodeGroup" not in more:
            more.setdefault("NumCacheClusters", 2)
        ec.create_replication_group(ReplicationGroupId=name, ReplicationGroupDescription="test", **more)
        self.groups.append((region, name))
        wait_for(lambda: group_status(ec, name) == "available", 60)

    def datastore(self, name: str) -> str:
        """Its id, around the group of that name here."""
        made = self.at(HERE).create_global_replication_group(
            GlobalReplicationGroupIdSuffix=name, PrimaryReplicationGroupId=name
        )["GlobalReplicationGroup"]
        self.datastores.append(made["GlobalReplicationGroupId"])
        return str(made["GlobalReplicationGroupId"])

    def described(self, datastore: str) -> dict[str, Any]:
        found = self.at(HERE).describe_global_replication_groups(
            GlobalReplicationGroupId=datastore, ShowMemberInfo=True
        )
        return dict(found["GlobalReplicationGroups"][0])

    def roles(self, datastore: str) -> dict[str, tuple[str, str]]:
        """Region -> role and status of the member there."""
        members = self.described(datastore)["Members"]
        return {m["ReplicationGroupRegion"]: (m["Role"], m["Status"]) for m in members}

    def primary(self, region: str, name: str) -> valkey.Valkey[Any]:
        group = self.at(region).describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"][0]
        return self.connect(group["NodeGroups"][0]["PrimaryEndpoint"])

    def connect(self, endpoint: dict[str, Any], **login: str) -> valkey.Valkey[Any]:
        at = {"host": endpoint["Address"], "port": endpoint["Port"]}
        return valkey.Valkey(**at, decode_responses=True, socket_timeout=10, **login)

    def cluster(self, endpoint: dict[str, Any], **login: str) -> ValkeyCluster:
        """Of a group in cluster mode."""
        at = {"host": endpoint["Address"], "port": endpoint["Port"]}
        return ValkeyCluster(**at, decode_responses=True, socket_timeout=10, **login)

    def pair(self, name: str, **more: Any) -> str:
        """A datastore with its primary here and a secondary there, both of one name, in sync."""
        self.group(HERE, name, **more)
        datastore = self.datastore(name)
        self.group(THERE, name, GlobalReplicationGroupId=datastore)
        wait_for(lambda: self.roles(datastore)[THERE] == ("SECONDARY", "associated"), 60)
        return datastore

    def fail_over(self, datastore: str, region: str, name: str) -> None:
        """Asked for; not waited for."""
        self.at(HERE).failover_global_replication_group(
            GlobalReplicationGroupId=datastore, PrimaryRegion=region, PrimaryReplicationGroupId=name
        )

    def clean(self) -> None:
        ec = self.at(HERE)
        for datastore in self.datastores:
            with suppress(ec.exceptions.GlobalReplicationGroupNotFoundFault):
                wait_for(lambda d=datastore: self.described(d)["Status"] != "modifying", 60)
                for member in self.described(datastore)["Members"][1:]:
                    ec.disassociate_global_replication_group(
                        GlobalReplicationGroupId=datastore,
                        ReplicationGroupId=member["ReplicationGroupId"],
                        ReplicationGroupRegion=member["ReplicationGroupRegion"],
                    )
                    left = member["ReplicationGroupRegion"]
                    wait_for(lambda d=datastore, r=left: r not in self.roles(d), 60)
                ec.delete_global_replication_group(
                    GlobalReplicationGroupId=datastore, RetainPrimaryReplicationGroup=True
                )
        for region, name in self.groups:
            at = self.at(region)
            with suppress(at.exceptions.ReplicationGroupNotFoundFault):
                at.delete_replication_group(ReplicationGroupId=name)
        for region, name in self.groups:
            wait_for(lambda r=region, n=name: gone(self.at(r), "group", n), 60)


@pytest.fixture
def world(service: Service) -> Iterator[World]:
    it = World(service)
    yield it
    it.clean()


class Writer(threading.Thread):
    """INCR after INCR of one key, until it is refused or cut off. acknowledged: the last answer."""

    def __init__(self, made: valkey.Valkey[Any], key: str) -> None:
        super().__init__(daemon=True)
        self._made, self._key = made, key
        self.acknowledged = 0
        self.ended_by: Exception | None = None

    def run(self) -> None:
        try:
            while True:
                self.acknowledged = int(self._made.incr(self._key))
        except (valkey.ValkeyError, OSError) as error:
            self.ended_by = error.with_traceback(None)  # which would keep its connection from being closed in time
        finally:
            self._made.close()


def test_a_secondary_really_follows(world: World, name: str) -> None:
    world.group(HERE, name, NumCacheClusters=2)
    world.primary(HERE, name).set("before", "1")
    datastore = world.datastore(name)
    assert datastore == f"ldgnf-{name}"
    assert world.described(datastore)["Status"] == "primary-only"
    world.group(THERE, name, GlobalReplicationGroupId=datastore, NumCacheClusters=3)
    wait_for(lambda: world.roles(datastore) == {HERE: ("PRIMARY", "associated"), THERE: ("SECONDARY", "associated")})
    shown = world.described(datastore)
    assert (shown["Status"], shown["CacheNodeType"], shown["Engine"]) == ("available", LARGE, "valkey")
    here, there = world.primary(HERE, name), world.primary(THERE, name)
    here.set("after", "2")
    wait_for(lambda: there.get("after") == "2")
    assert there.get("before") == "1"
    assert there.info("replication")["role"] == "slave"
    assert there.info("replication")["connected_slaves"] == 2
    with pytest.raises(valkey.ReadOnlyError):
        there.set("a", "b")
    group = world.at(THERE).describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"][0]
    assert group["GlobalReplicationGroupInfo"] == {
        "GlobalReplicationGroupId": datastore,
        "GlobalReplicationGroupMemberRole": "SECONDARY",
    }
    assert group["CacheNodeType"] == LARGE
    assert world.at(ELSEWHERE).describe_replication_groups()["ReplicationGroups"] == []


def test_a_planned_failover_loses_no_acknowledged_write(world: World, name: str) -> None:
    datastore = world.pair(name)
    fails_over_and_back(world, datastore, name)
    told = messages(world.at(HERE), "replication-group", name)
    assert any(text == f"Failover of global datastore {datastore} to {name} in {HERE} completed" for text in told)


def fails_over_and_back(world: World, datastore: str, name: str) -> None:
    """Under writers: every write that was acknowledged is at the new primary, and the old one follows that."""
    for source, goal in ((HERE, THERE), (THERE, HERE)):
        writers = [Writer(world.primary(source, name), f"{goal}:{n}") for n in range(4)]
        for writer in writers:
            writer.start()
        wait_for(lambda w=writers: min(writer.acknowledged for writer in w) > 100)
        world.fail_over(datastore, goal, name)
        wait_for(lambda g=goal, s=source: world.roles(datastore) == _roles(g, s), 60)
        for writer in writers:
            writer.join(30)
            assert writer.ended_by is not None
        new = world.primary(goal, name)
        for number, writer in enumerate(writers):
            # One more may have been carried out and not answered.
            assert 0 <= int(new.get(f"{goal}:{number}") or 0) - writer.acknowledged <= 1
        assert new.set("taken by", goal)
        old = world.primary(source, name)
        wait_for(lambda o=old, g=goal: o.get("taken by") == g, 30)
        with pytest.raises(valkey.ReadOnlyError):
            old.set("a", "b")


@pytest.mark.slow
def test_the_lag_is_told_and_grows_while_the_link_stalls(world: World, name: str) -> None:
    world.pair(name, NumCacheClusters=1)
    here = world.primary(HERE, name)
    wait_for(lambda: list(_lags(world, name)) == [THERE], 30)
    wait_for(lambda: _lags(world, name)[THERE] < 1, 30)
    pid = int(here.info("server")["process_id"])
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_for(lambda: _lags(world, name).get(THERE, 0) > 5, 60)
        before = _lags(world, name)[THERE]
        wait_for(lambda: _lags(world, name).get(THERE, 0) > before, 60)
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: _lags(world, name)[THERE] < 1, 60)
    assert here.set("a", "1")
    wait_for(lambda: _reads(world, THERE, name, "a") == "1", 60)


def _lags(world: World, name: str) -> dict[str, float]:
    """Region -> seconds, of the nodes that tell the lag of a global datastore."""
    status, _, page = ask(world.service, bearer(world.service))
    assert status == 200
    return {
        sample.labels["region"]: sample.value
        for family in read_text(page.decode())
        for sample in family.samples
        if sample.name.startswith("cachekeep_global_datastore_replication_lag") and sample.labels["group"] == name
    }


@pytest.mark.slow
def test_cloudwatch_has_the_lag_of_a_region(world: World, name: str) -> None:
    world.pair(name, NumCacheClusters=1)
    watch = world.service.client("cloudwatch", region=THERE)

    def points(region: str, cluster: str) -> list[float]:
        metric = {
            "Namespace": "AWS/ElastiCache",
            "MetricName": "GlobalDatastoreReplicationLag",
            "Dimensions": [{"Name": "CacheClusterId", "Value": cluster}],
        }
        query = {"Id": "lag", "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Maximum"}}
        now = time.time()
        at = world.service.client("cloudwatch", region=region)
        found = at.get_metric_data(MetricDataQueries=[query], StartTime=now - 600, EndTime=now + 60)
        return list(found["MetricDataResults"][0]["Values"])

    wait_for(lambda: points(THERE, f"{name}-001"), 180)
    assert points(HERE, f"{name}-001") == []
    listed = watch.list_metrics(Namespace="AWS/ElastiCache", MetricName="GlobalDatastoreReplicationLag")["Metrics"]
    assert {"Name": "CacheClusterId", "Value": f"{name}-001"} in [d for m in listed for d in m["Dimensions"]]


@pytest.mark.slow
def test_a_service_killed_during_a_failover_ends_it_without_a_lost_write(
    new_service: Callable[..., Service], name: str
) -> None:
    service = new_service().start()
    world = World(service)
    datastore = world.pair(name)
    regions = (HERE, THERE)
    for number in range(KILLS):
        source, goal = regions[number % 2], regions[(number + 1) % 2]
        writers = [Writer(world.primary(source, name), f"{number}:{n}") for n in range(4)]
        for writer in writers:
            writer.start()
        wait_for(lambda w=writers: min(writer.acknowledged for writer in w) > 50)
        world.fail_over(datastore, goal, name)
        # Sometimes before it begins, sometimes in the midst of it, sometimes when it is done.
        time.sleep(number * 0.002)
        service.kill()
        service.start()
        wait_for(lambda g=goal, s=source: world.roles(datastore) == _roles(g, s), 90)
        for writer in writers:
            writer.join(30)
            assert writer.ended_by is not None
        new = world.primary(goal, name)
        for n, writer in enumerate(writers):
            assert 0 <= int(new.get(f"{number}:{n}") or 0) - writer.acknowledged <= 1
        with pytest.raises(valkey.ReadOnlyError):
            world.primary(source, name).set("a", "b")
    assert "Traceback" not in service.log.read_text()


def _roles(primary: str, secondary: str) -> dict[str, tuple[str, str]]:
    return {primary: ("PRIMARY", "associated"), secondary: ("SECONDARY", "associated")}


def test_a_secondary_follows_whoever_is_primary_there(world: World, name: str) -> None:
    """A failover inside the primary's region, and a death in the secondary's."""
    world.pair(name, NumCacheClusters=3, AutomaticFailoverEnabled=True)
    dying_one = world.primary(HERE, name)
    dying_one.set("a", "1")
    assert wait_for(lambda: dying_one.wait(3, 1000) == 3), "its replicas and the other region's first node"
    wait_for(lambda: world.primary(THERE, name).get("a") == "1")
    dying = int(world.primary(HERE, name).info("server")["process_id"])
    os.kill(dying, signal.SIGKILL)
    wait_for(lambda: _writes(world, HERE, name, "b", "2"), 60)
    wait_for(lambda: _reads(world, THERE, name, "b") == "2", 60)
    os.kill(int(world.primary(THERE, name).info("server")["process_id"]), signal.SIGKILL)
    wait_for(lambda: _writes(world, HERE, name, "c", "3"), 60)
    wait_for(lambda: _reads(world, THERE, name, "c") == "3", 60)
    wait_for(lambda: group_status(world.at(THERE), name) == "available", 60)
    assert world.primary(THERE, name).info("replication")["role"] == "slave"


def test_a_primary_that_lost_everything_does_not_wipe_a_secondary(world: World, name: str) -> None:
    """Started empty, it would have. A failover to the secondary brings its data back to it."""
    datastore = world.pair(name, NumCacheClusters=1)
    here = world.primary(HERE, name)
    here.mset({f"key:{n}": n for n in range(1000)})
    wait_for(lambda: world.primary(THERE, name).dbsize() == 1000)
    os.kill(int(here.info("server")["process_id"]), signal.SIGKILL)
    wait_for(lambda: any("fail over to it" in text for text in messages(world.at(HERE), "replication-group", name)), 30)
    assert world.primary(THERE, name).dbsize() == 1000
    world.fail_over(datastore, THERE, name)
    wait_for(lambda: _writes(world, THERE, name, "new", "1"), 60)
    wait_for(lambda: _reads(world, HERE, name, "new") == "1", 60)
    assert world.primary(HERE, name).dbsize() == 1001
    assert world.roles(datastore)[THERE][0] == "PRIMARY"


@pytest.mark.slow
def test_a_region_whose_engine_hangs_is_left(world: World, name: str) -> None:
    """The former primary's only engine hangs: it is fenced, and follows the new one with what that has."""
    datastore = world.pair(name, NumCacheClusters=1)
    here = world.primary(HERE, name)
    here.set("a", "1")
    wait_for(lambda: world.primary(THERE, name).get("a") == "1")
    os.kill(int(here.info("server")["process_id"]), signal.SIGSTOP)
    world.fail_over(datastore, THERE, name)
    wait_for(lambda: world.roles(datastore) == _roles(THERE, HERE), 90)
    assert world.primary(THERE, name).set("b", "2")
    wait_for(lambda: _reads(world, HERE, name, "b") == "2", 60)
    assert world.primary(HERE, name).get("a") == "1"


def test_disassociated_and_deleted(world: World, name: str) -> None:
    datastore = world.pair(name)
    here, there = world.at(HERE), world.at(THERE)
    keys = {f"key:{n}": str(n) for n in range(2000)}
    world.primary(HERE, name).mset({**keys, "a": "1"})
    wait_for(lambda: world.primary(THERE, name).get("a") == "1")
    for ec in (here, there):
        with pytest.raises(ec.exceptions.InvalidReplicationGroupStateFault, match="disassociate it first"):
            ec.delete_replication_group(ReplicationGroupId=name)
    with pytest.raises(here.exceptions.InvalidGlobalReplicationGroupStateFault):
        here.delete_global_replication_group(GlobalReplicationGroupId=datastore, RetainPrimaryReplicationGroup=True)
    here.disassociate_global_replication_group(
        GlobalReplicationGroupId=datastore, ReplicationGroupId=name, ReplicationGroupRegion=THERE
    )
    wait_for(lambda: group_status(there, name) == "available", 60)
    apart = world.primary(THERE, name)
    assert apart.set("mine", "1")
    assert apart.get("a") == "1"
    assert apart.mget(list(keys)) == list(keys.values())
    assert apart.dbsize() == len(keys) + 2
    assert world.primary(HERE, name).get("mine") is None
    wait_for(lambda: apart.wait(1, 1000) == 1)
    assert world.described(datastore)["Status"] == "primary-only"
    here.delete_global_replication_group(GlobalReplicationGroupId=datastore, RetainPrimaryReplicationGroup=True)
    with pytest.raises(here.exceptions.GlobalReplicationGroupNotFoundFault):
        here.describe_global_replication_groups(GlobalReplicationGroupId=datastore)
    assert world.primary(HERE, name).set("b", "2")
    group = here.describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"][0]
    assert "GlobalReplicationGroupInfo" not in group


def test_changes_reach_every_member(world: World, name: str) -> None:
    ec = world.at(HERE)
    ec.create_cache_parameter_group(
        CacheParameterGroupName=name, CacheParameterGroupFamily="valkey9", Description="of the primary"
    )
    datastore = world.pair(name)
    try:
        _change_all(world, datastore, name)
    finally:
        world.clean()
        world.groups.clear()
        ec.delete_cache_parameter_group(CacheParameterGroupName=name)


def _change_all(world: World, datastore: str, name: str) -> None:
    ec = world.at(HERE)

    def modify(**changes: Any) -> None:
        ec.modify_global_replication_group(GlobalReplicationGroupId=datastore, ApplyImmediately=True, **changes)
        wait_for(lambda: world.described(datastore)["Status"] == "available", 60)

    def configured(region: str, setting: str) -> str:
        return str(world.primary(region, name).config_get(setting)[setting])

    before = configured(THERE, "maxmemory")
    modify(CacheNodeType="cache.m5.xlarge", GlobalReplicationGroupDescription="larger")
    assert world.described(datastore)["GlobalReplicationGroupDescription"] == "larger"
    for region in (HERE, THERE):
        assert int(configured(region, "maxmemory")) > int(before)
    modify(CacheParameterGroupName=name)
    policy = {"ParameterName": "maxmemory-policy", "ParameterValue": "allkeys-lfu"}
    ec.modify_cache_parameter_group(CacheParameterGroupName=name, ParameterNameValues=[policy])
    for region in (HERE, THERE):
        wait_for(lambda r=region: configured(r, "maxmemory-policy") == "allkeys-lfu", 60)
    modify(AutomaticFailoverEnabled=True)
    assert {m["AutomaticFailover"] for m in world.described(datastore)["Members"]} == {"enabled"}
    with pytest.raises(ec.exceptions.InvalidParameterCombinationException, match="ModifyGlobalReplicationGroup"):
        world.at(THERE).modify_replication_group(ReplicationGroupId=name, CacheNodeType=LARGE)


def test_requests_that_cannot_be(world: World, name: str) -> None:
    ec, faults = world.at(HERE), world.at(HERE).exceptions
    create = ec.create_global_replication_group
    with pytest.raises(faults.ReplicationGroupNotFoundFault):
        create(GlobalReplicationGroupIdSuffix=name, PrimaryReplicationGroupId="no-such-group")
    world.group(HERE, name, NumCacheClusters=1, CacheNodeType="cache.t4g.micro")
    with pytest.raises(faults.InvalidParameterValueException, match="node type"):
        create(GlobalReplicationGroupIdSuffix=name, PrimaryReplicationGroupId=name)
    other = f"{name}-b"
    world.group(HERE, other, NumCacheClusters=1)
    datastore = world.datastore(other)
    with pytest.raises(faults.GlobalReplicationGroupAlreadyExistsFault):
        create(GlobalReplicationGroupIdSuffix=other, PrimaryReplicationGroupId=other)
    for operation in (
        ec.increase_node_groups_in_global_replication_group,
        ec.decrease_node_groups_in_global_replication_group,
        ec.rebalance_slots_in_global_replication_group,
    ):
        more = {} if "rebalance" in operation.__name__ else {"NodeGroupCount": 2}
        with pytest.raises(faults.GlobalReplicationGroupNotFoundFault):
            operation(GlobalReplicationGroupId="no-such", ApplyImmediately=True, **more)
        with pytest.raises(faults.InvalidParameterValueException, match="cluster mode disabled"):
            operation(GlobalReplicationGroupId=datastore, ApplyImmediately=True, **more)
    there = world.at(THERE)
    with pytest.raises(there.exceptions.GlobalReplicationGroupNotFoundFault):
        there.create_replication_group(
            ReplicationGroupId=name, ReplicationGroupDescription="x", GlobalReplicationGroupId="no-such"
        )
    with pytest.raises(there.exceptions.InvalidParameterCombinationException, match="CacheNodeType"):
        there.create_replication_group(
            ReplicationGroupId=name,
            ReplicationGroupDescription="x",
            GlobalReplicationGroupId=datastore,
            CacheNodeType="cache.r6g.large",
        )
    with pytest.raises(faults.InvalidParameterValueException, match="already"):
        ec.create_replication_group(
            ReplicationGroupId=f"{name}-c", ReplicationGroupDescription="x", GlobalReplicationGroupId=datastore
        )
    for region, group, text in ((HERE, other, "already"), (THERE, "nobody", "not a secondary")):
        with pytest.raises(faults.InvalidParameterValueException, match=text):
            ec.failover_global_replication_group(
                GlobalReplicationGroupId=datastore, PrimaryRegion=region, PrimaryReplicationGroupId=group
            )


def _writes(world: World, region: str, name: str, key: str, value: str) -> bool:
    try:
        return bool(world.primary(region, name).set(key, value))
    except (valkey.ValkeyError, OSError):
        return False


def _reads(world: World, region: str, name: str, key: str) -> str | None:
    try:
        return str(world.primary(region, name).get(key))
    except (valkey.ValkeyError, OSError):
        return None


def test_the_members_of_a_secondary_change_roles_and_number(world: World, name: str) -> None:
    world.pair(name, AutomaticFailoverEnabled=True)
    there = world.at(THERE)
    there.modify_replication_group(ReplicationGroupId=name, AutomaticFailoverEnabled=True, ApplyImmediately=True)
    wait_for(lambda: group_status(there, name) == "available", 60)
    before = int(world.primary(THERE, name).info("server")["process_id"])
    there.test_failover(ReplicationGroupId=name, NodeGroupId="0001")
    wait_for(lambda: group_status(there, name) == "available", 60)
    now = world.primary(THERE, name)
    assert int(now.info("server")["process_id"]) != before
    assert now.info("replication")["role"] == "slave"
    there.increase_replica_count(ReplicationGroupId=name, NewReplicaCount=2, ApplyImmediately=True)
    wait_for(lambda: group_status(there, name) == "available", 60)
    assert _writes(world, HERE, name, "a", "1")
    wait_for(lambda: _reads(world, THERE, name, "a") == "1", 60)
    assert world.primary(THERE, name).info("replication")["connected_slaves"] == 2


@pytest.mark.slow
def test_every_member_comes_to_another_version(world: World, name: str) -> None:
    datastore = world.pair(name, Engine="valkey", EngineVersion="8.1")
    ec = world.at(HERE)
    writer = Writer(world.primary(HERE, name), "n")
    writer.start()
    ec.modify_global_replication_group(GlobalReplicationGroupId=datastore, EngineVersion="9.1", ApplyImmediately=True)
    wait_for(lambda: world.described(datastore)["Status"] == "available", 120)
    assert world.described(datastore)["EngineVersion"].startswith("9.1")
    for region in (HERE, THERE):
        assert world.primary(region, name).info("server")["valkey_version"].startswith("9.1")
    writer.join(30)
    assert 0 <= int(world.primary(HERE, name).get("n") or 0) - writer.acknowledged <= 1
    assert _writes(world, HERE, name, "a", "1")
    wait_for(lambda: _reads(world, THERE, name, "a") == "1", 60)


def _logged_in(made: valkey.Valkey[Any], password: str) -> valkey.Valkey[Any]:
    at = made.connection_pool.connection_kwargs
    return valkey.Valkey(at["host"], at["port"], password=password, socket_timeout=10, decode_responses=True)


@pytest.mark.slow
def test_a_guarded_datastore_is_followed_with_a_password_of_its_own(
    new_service: Callable[..., Service], name: str
) -> None:
    """Users are of a region; a member that stands open cannot join one that is guarded."""
    world = World(new_service(CACHEKEEP_AUTH_WITHOUT_TLS="true").start())
    password = "a-password-of-16-x"
    for region in (HERE, THERE):
        ec = world.at(region)
        ec.create_user(
            UserId="own", UserName="default", Engine="valkey", AccessString="on ~* +@all", Passwords=[password]
        )
        ec.create_user_group(UserGroupId="all", Engine="valkey", UserIds=["own"])
    world.group(HERE, name, UserGroupIds=["all"])
    datastore = world.datastore(name)
    there = world.at(THERE)
    with pytest.raises(there.exceptions.InvalidParameterCombinationException, match="Either all members"):
        there.create_replication_group(
            ReplicationGroupId=name, ReplicationGroupDescription="x", GlobalReplicationGroupId=datastore
        )
    world.group(THERE, name, GlobalReplicationGroupId=datastore, UserGroupIds=["all"])
    wait_for(lambda: world.roles(datastore)[THERE] == ("SECONDARY", "associated"), 60)
    with pytest.raises(valkey.AuthenticationError):
        world.primary(THERE, name).get("a")
    here, away = (_logged_in(world.primary(region, name), password) for region in (HERE, THERE))
    here.set("a", "1")
    wait_for(lambda: away.get("a") == "1")
    world.fail_over(datastore, THERE, name)
    wait_for(lambda: world.roles(datastore) == _roles(THERE, HERE), 60)
