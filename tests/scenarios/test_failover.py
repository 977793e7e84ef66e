"""Failover: planned, after a crash, a hang, several deaths at once, and with the service away."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import valkey

from tests.chaos.observed import Seen, ask
from tests.chaos.scene import Scene, scene, written
from tests.chaos.writers import plain

from .conftest import Service, is_running, wait_for

FAILED_OVER = "Failover from primary node .* completed"
STORY = ("Test Failover API called", FAILED_OVER, "Recovering cache nodes", "Finished recovery for cache nodes")


def _recoveries(it: Scene, member: str) -> int:
    told = it.ec.describe_events(SourceType="cache-cluster", SourceIdentifier=member, Duration=600)["Events"]
    return sum(event["Message"] == "Finished recovery for cache nodes 0001" for event in told)


def _recovered(it: Scene, member: str) -> bool:
    return _recoveries(it, member) > 0


def _roles(it: Scene) -> dict[str, str]:
    return {m["CacheClusterId"]: m["CurrentRole"] for m in it.shard()["NodeGroupMembers"]}


def _new_primary(it: Scene, old: Seen) -> Seen:
    """The primary that took the place of an engine, once it is described as such."""
    wait_for(lambda: _roles(it)[old.member] == "replica" and "primary" in _roles(it).values())
    (name,) = (member for member, role in _roles(it).items() if role == "primary")
    return it.engine(name)


def test_test_failover(service: Service, name: str) -> None:
    with scene(service, name, NumCacheClusters=3) as it:
        old = it.primary()
        with it.writing() as load:
            written(load, 200)
            it.ec.test_failover(ReplicationGroupId=name, NodeGroupId="0001")
            new = _new_primary(it, old)
            wait_for(lambda: _recovered(it, old.member))
            written(load, 200)
        it.nothing_lost()
        moved = f"Failover from primary node {old.member} to replica node {new.member} completed"
        assert it.texts(*STORY) == [
            "Test Failover API called for node group 0001",
            moved,
            moved,
            "Recovering cache nodes 0001",
            "Finished recovery for cache nodes 0001",
        ]
        assert not is_running(old.pid), "the old primary's node is replaced"
        assert it.primary().member == new.member


def test_a_failover_is_refused_where_there_is_nobody_to_take_over(service: Service, name: str) -> None:
    with scene(service, name, NumCacheClusters=1) as it:
        with pytest.raises(it.ec.exceptions.ClientError) as caught:
            it.ec.test_failover(ReplicationGroupId=name, NodeGroupId="0001")
        assert caught.value.response["Error"]["Code"] in (
            "InvalidParameterCombination",
            "TestFailoverNotAvailableFault",
        )
        with pytest.raises(it.ec.exceptions.NodeGroupNotFoundFault):
            it.ec.test_failover(ReplicationGroupId=name, NodeGroupId="0002")
        assert it.group()["Status"] == "available"


def test_a_primary_that_crashes_is_replaced(service: Service, name: str) -> None:
    with scene(service, name, NumCacheClusters=3) as it:
        old = it.primary()
        with it.writing() as load:
            written(load, 200)
            it.hurt(old)
            new = _new_primary(it, old)
            wait_for(lambda: _recovered(it, old.member))
            written(load, 200)
        it.reckon()
        moved = f"Failover from primary node {old.member} to replica node {new.member} completed"
        assert it.texts(*STORY) == [
            moved,
            moved,
            "Recovering cache nodes 0001",
            "Finished recovery for cache nodes 0001",
        ]


def test_a_primary_that_hangs_is_fenced_and_replaced(new_service: Callable[..., Service]) -> None:
    service = new_service(CACHEKEEP_HANG_TIMEOUT="1").start()
    with scene(service, "hang", NumCacheClusters=3) as it:
        old = it.primary()
        with it.writing() as load:
            written(load, 100)
            it.hurt(old, signal.SIGSTOP)
            _new_primary(it, old)
            assert not is_running(old.pid), "it could wake up and take writes"
            written(load, 100)
        it.reckon()
        before = it.primary()
        replica = it.replicas()[0]
        recoveries = _recoveries(it, replica.member)
        with it.writing() as load:
            it.hurt(replica, signal.SIGSTOP)
            wait_for(lambda: not is_running(replica.pid))
            wait_for(lambda: _recoveries(it, replica.member) > recoveries)
        it.reckon()
        assert it.primary() == before
        _loop_for_ever(before)
        wait_for(lambda: _takes_writes(it))
        it.wait_available()


def _loop_for_ever(seen: Seen) -> None:
    client = valkey.Valkey(host=seen.host, port=seen.port, socket_timeout=0.2)
    with suppress(valkey.ValkeyError, OSError):
        client.eval("while true do end", 0)


def _takes_writes(it: Scene) -> bool:
    try:
        return bool(plain(*it.endpoint)().set("after", "1"))
    except (valkey.ValkeyError, OSError):
        return False


def test_two_deaths_at_once(service: Service, name: str) -> None:
    with scene(service, name, NumCacheClusters=3) as it:
        primary, (first, second) = it.primary(), it.replicas()
        with it.writing() as load:
            written(load, 200)
            it.hurt(primary)
            it.hurt(first)
            wait_for(lambda: _roles(it)[second.member] == "primary")
            for member in (primary.member, first.member):
                wait_for(lambda m=member: _recovered(it, m))
            written(load, 200)
        assert it.reckon().acknowledged > 400


def test_a_primary_that_dies_while_the_service_is_down(new_service: Callable[..., Service]) -> None:
    service = new_service().start()
    with scene(service, "away", NumCacheClusters=2) as it:
        old = it.primary()
        with it.writing() as load:
            written(load, 200)
            service.kill()
            it.hurt(old)
            service.start()
            _new_primary(it, old)
            wait_for(lambda: _recovered(it, old.member))
            written(load, 200)
        it.reckon()


def test_a_primary_is_never_started_empty_over_living_replicas(new_service: Callable[..., Service]) -> None:
    """Automatic failover is off, nothing is saved, and the service is away: the replica has the only copy."""
    service = new_service().start()
    with scene(service, "copy", NumCacheClusters=2, AutomaticFailoverEnabled=False) as it:
        old, (replica,) = it.primary(), it.replicas()
        with it.writing() as load:
            written(load, 200)
        wait_for(lambda: _offset(old) == _offset(replica))
        service.kill()
        it.hurt(old)
        it.deaths.clear()
        service.start()
        wait_for(lambda: _takes_writes(it))
        it.nothing_lost()


def _offset(seen: Seen) -> int:
    said = ask(seen)
    return said.offset if said else -1


def test_a_group_whose_members_all_died_starts_anew(service: Service, name: str) -> None:
    with scene(service, name, NumCacheClusters=2) as it:
        with it.writing() as load:
            written(load, 100)
            pids = [seen.pid for seen in it.engines()]
            for seen in it.engines():
                it.hurt(seen, in_sync=False)
            wait_for(lambda: not any(is_running(pid) for pid in pids))
            wait_for(lambda: _takes_writes(it))
            written(load, 100)
        it.reckon()


@pytest.mark.slow
def test_replicas_that_die_one_after_another_change_no_role(service: Service, name: str) -> None:
    with scene(service, name, NumCacheClusters=3) as it:
        primary = it.primary()
        with it.writing() as load:
            for _ in range(5):
                for seen in it.replicas():
                    os.kill(seen.pid, signal.SIGKILL)
                    wait_for(lambda s=seen: not is_running(s.pid))
                it.wait_available()
                wait_for(lambda: len(it.replicas()) == 2)
            written(load, 100)
        it.nothing_lost()
        assert it.primary() == primary


@pytest.mark.slow
def test_primaries_that_die_one_after_another(service: Service, name: str) -> None:
    with scene(service, name, NumCacheClusters=3) as it:
        with it.writing() as load:
            for _ in range(5):
                old = it.primary()
                it.hurt(old)
                _new_primary(it, old)
                wait_for(lambda: _both_in_sync(it))
                written(load, 100)
        it.reckon()


def _both_in_sync(it: Scene) -> Any:
    said = ask(it.primary())
    return said is not None and said.in_sync == 2
