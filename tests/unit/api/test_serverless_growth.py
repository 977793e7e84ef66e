"""The scaler's looks, on a real store: what it writes for what was measured, and when it leaves things alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from desk import REGION, Desk

from cachekeep.domain.cache_cluster import CacheCluster, Status
from cachekeep.domain.metrics import Current, Subject
from cachekeep.domain.nodes import NodeFacts, ObservedNode
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.serverless import ServerlessCache, ServerlessStatus
from cachekeep.domain.slots import SLOTS, numbers_of
from cachekeep.plan.placement import Machine
from cachekeep.plan.serverless import Scaling
from cachekeep.serverless.scaler import Scaler

MIB, GIB = 1 << 20, 1 << 30
GROUP = "serverless--s"


class Bench:
    """A cache `s` whose nodes hold what the test says."""

    def __init__(self, desk: Desk, **limits: int) -> None:
        scaling = Scaling(headroom_bytes=100 * MIB, shard_bytes=1000 * MIB, calm_s=60.0)
        desk.services = replace(desk.services, scaling=scaling)
        self.desk = desk
        self.used: dict[str, int] = {}
        self.ecpu = 0.0
        self.scaler = Scaler(desk.services, self.current)
        given = {"CacheUsageLimits": {"DataStorage": {"Unit": "GB", **limits}}} if limits else {}
        desk.ask("CreateServerlessCache", ServerlessCacheName="s", Engine="valkey", **given)
        desk.settle(GROUP)
        self.look()

    def current(self, subject: Subject) -> Current | None:
        if subject == Subject(REGION, GROUP):
            return Current(self.desk.clock.now(), {"ElastiCacheProcessingUnits": self.ecpu})
        used = self.used.get(subject.id)
        return None if used is None else Current(self.desk.clock.now(), {"BytesUsedForCache": float(used * MIB)})

    def look(self, **used: int) -> None:
        """Each shard's primary (`s0001`) holds so many MiB; looked at once."""
        for shard, held in used.items():
            self.used[f"{GROUP}-{shard[1:]}-001"] = held
        cache = self.cache
        assert cache is not None
        self.scaler._look(cache)

    @property
    def cache(self) -> ServerlessCache | None:
        return self.desk.store.get(ServerlessCache, REGION, "s")

    @property
    def memory(self) -> list[int]:
        """Of the primaries, in MiB; replicas have the same."""
        found = []
        for shard in self.desk.group(GROUP).node_groups:
            (memory,) = {self.desk.cluster(name).memory_bytes for name in shard.member_ids}
            found.append((memory or 0) // MIB)
        return found

    def events(self) -> list[str]:
        told = self.desk.store.events(REGION, since=0, until=2e9, source_type="serverless-cache", source_id="s")
        return [event.message for event in told]

    def set_cache(self, **changes: Any) -> None:
        cache = self.cache
        assert cache is not None
        with self.desk.store.transaction() as work:
            work.replace(cache, replace(cache, **changes))


@pytest.fixture
def bench(desk: Desk) -> Bench:
    return Bench(desk)


def test_it_is_available_once_its_group_is(bench: Bench) -> None:
    assert bench.cache is not None
    assert bench.cache.status is ServerlessStatus.AVAILABLE
    assert bench.events()[-1] == "Serverless cache s created"


def test_all_members_of_a_shard_grow(bench: Bench) -> None:
    assert bench.memory == [100]
    bench.look(s0001=200)
    assert bench.memory == [350]
    before = bench.desk.everything()
    bench.look(s0001=201)
    assert bench.desk.everything() == before, "no write without a need"


def test_what_is_not_known_is_not_decided_on(bench: Bench) -> None:
    before = bench.desk.everything()
    bench.look()
    assert bench.desk.everything() == before


def test_it_shrinks_when_it_was_too_large_for_long(bench: Bench) -> None:
    bench.look(s0001=400)
    assert bench.memory == [600]
    bench.look(s0001=10)
    bench.desk.clock.time += 59
    bench.look(s0001=10)
    assert bench.memory == [600]
    bench.desk.clock.time += 2
    bench.look(s0001=10)
    assert bench.memory == [112]


def test_a_machine_that_is_full_is_told_once_and_bounds_it(bench: Bench) -> None:
    bench.desk.services = replace(bench.desk.services, machine=Machine(400 * MIB, 1.0))
    bench.scaler = Scaler(bench.desk.services, bench.current)
    bench.look(s0001=190)
    assert bench.memory == [200], "two nodes of 200 are all that this machine promises"
    bench.look(s0001=195)
    (told,) = [text for text in bench.events() if "cannot grow" in text]
    assert "this machine promises 0.39 GiB" in told
    bench.desk.services = replace(bench.desk.services, machine=Machine(8 * GIB, 1.0))
    bench.scaler = Scaler(bench.desk.services, bench.current)
    bench.look(s0001=195)
    assert bench.memory == [343]
    assert bench.cache is not None
    assert bench.cache.trouble == ""


def test_more_shards_share_the_slots_and_can_hold_everything_meanwhile(bench: Bench) -> None:
    bench.look(s0001=900)
    bench.look(s0001=900)
    group = bench.desk.group(GROUP)
    assert (group.status, group.resharding) == (Status.MODIFYING, 0.0)
    slots = [slot for shard in group.node_groups for slot in numbers_of(shard.slots)]
    assert sorted(slots) == list(range(SLOTS))
    assert [len(shard.member_ids) for shard in group.node_groups] == [2, 2]
    assert bench.memory == [1225, 1225]
    bench.look(s0001=900, s0002=0)
    bench.look(s0001=1000, s0002=100)
    assert bench.memory == [1475, 1475], "clients write on while slots move"
    assert "Serverless cache s goes from 1 to 2 shards" in bench.events()
    assert bench.cache is not None
    assert bench.cache.status is ServerlessStatus.AVAILABLE


def test_fewer_shards_when_there_is_little_for_long(bench: Bench) -> None:
    bench.look(s0001=900)
    bench.look(s0001=900)
    bench.desk.settle(GROUP)
    bench.look(s0001=100, s0002=100)
    bench.desk.clock.time += 61
    for _ in range(2):
        bench.look(s0001=100, s0002=100)
    first, second = bench.desk.group(GROUP).node_groups
    assert (first.leaving, second.leaving) == (False, True)
    assert len(numbers_of(first.slots)) == SLOTS


def test_a_change_is_complete_once_the_engines_say_so(desk: Desk) -> None:
    bench = Bench(desk, Maximum=1)
    bench.look(s0001=10)
    limits = {"DataStorage": {"Unit": "GB", "Minimum": 2, "Maximum": 3}}
    desk.ask("ModifyServerlessCache", ServerlessCacheName="s", CacheUsageLimits=limits)
    for _ in range(2):
        bench.look(s0001=10)
    assert bench.memory == [2048]
    assert bench.cache is not None
    assert bench.cache.status is ServerlessStatus.MODIFYING
    for member in desk.store.all(CacheCluster):
        facts = NodeFacts("9.1.2", maxmemory_bytes=2 * GIB)
        desk.seen[member.key(member.nodes[0])] = ObservedNode(facts=facts)
    bench.look(s0001=10)
    assert bench.cache.status is ServerlessStatus.AVAILABLE
    assert bench.events()[-1] == "Modification of serverless cache s completed"


def test_it_is_gone_when_its_group_is(bench: Bench) -> None:
    bench.desk.ask("DeleteServerlessCache", ServerlessCacheName="s")
    bench.look(s0001=900)
    assert bench.cache is not None, "its group is still there"
    assert bench.memory == [100], "what goes grows no more"
    group = bench.desk.group(GROUP)
    with bench.desk.store.transaction() as work:
        for member in bench.desk.store.all(CacheCluster):
            work.delete(member)
        work.delete(group)
    bench.look()
    assert bench.cache is None
    assert bench.events()[-1] == "Serverless cache s deleted"


def test_a_group_that_cannot_start_fails_the_cache(desk: Desk) -> None:
    bench = Bench(desk)
    bench.set_cache(status=ServerlessStatus.CREATING)
    group = desk.group(GROUP)
    with desk.store.transaction() as work:
        work.replace(group, replace(group, status=Status.CREATE_FAILED))
    bench.look()
    assert bench.cache is not None
    assert bench.cache.status is ServerlessStatus.CREATE_FAILED
    assert desk.ask("DescribeServerlessCaches")["ServerlessCaches"][0]["Status"] == "CREATE-FAILED"
    assert desk.store.get(ReplicationGroup, REGION, GROUP) is not None


def test_more_ecpu_than_its_limit_is_told_once_each_time(bench: Bench) -> None:
    assert bench.cache is not None
    bench.set_cache(limits=replace(bench.cache.limits, ecpu_most=1000))
    for minute in (1e5, 1e5, 1e3, 1e5):
        bench.ecpu = minute
        bench.look()
    told = [text for text in bench.events() if "1667 ECPU per second, and its limit is 1000" in text]
    assert len(told) == 2
