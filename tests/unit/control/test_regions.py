"""Failovers of global datastores: when they are done, given up, or taken over without the former primary."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from cachekeep.control.regions import GIVEN_UP_AFTER_S, SYNC_WITHIN_S, Regions
from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.global_group import EVERYWHERE, GlobalGroup, GlobalMember
from cachekeep.domain.nodes import Address, NodeFacts, NodeKey, NodeSpec, ObservedNode, Process, ProgramKind, Role
from cachekeep.domain.ports import EngineAdmin, WorldError
from cachekeep.domain.replication_group import ClusterMode, ReplicationGroup
from cachekeep.plan.upstream import Upstream
from cachekeep.plan.users import Entrants
from cachekeep.store.sqlite import SqliteStore
from tests.properties.stored import NOW, PRIMARY_HOST, cluster_of, group_of

HERE, THERE = "us-east-1", "eu-west-1"
A, B = GlobalMember(HERE, "a"), GlobalMember(THERE, "b")


@dataclass
class World:
    """Two groups of one node each, a failover from a to b under way; an admin that knows what engines say."""

    store: SqliteStore
    time: float = NOW
    says: dict[Address, NodeFacts] = field(default_factory=dict)
    seen: dict[NodeKey, ObservedNode] = field(default_factory=dict)

    def now(self) -> float:
        return self.time

    async def facts(self, _: Any, address: Address, __: Any) -> NodeFacts:
        if address not in self.says:
            raise WorldError(f"cannot connect to {address}")
        return self.says[address]

    def group(self, member: GlobalMember) -> ReplicationGroup:
        found = self.store.get(ReplicationGroup, member.region, member.group_id)
        assert found is not None
        return found

    def address(self, member: GlobalMember) -> Address:
        return cluster_of(member.group_id, 1 if member == A else 2).nodes[0].address

    def round(self, member: GlobalMember) -> GlobalGroup:
        """What the datastore is after a round of that member."""
        regions = Regions(self.store, cast(EngineAdmin, self), self, self.seen)
        asyncio.run(regions.upstream(self.group(member)))
        found = self.store.get(GlobalGroup, EVERYWHERE, "g")
        assert found is not None
        return found


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    store = SqliteStore(tmp_path / "store.sqlite")
    with store.transaction() as work:
        for number, member in enumerate((A, B), 1):
            name = member.group_id
            work.insert(replace(cluster_of(name, number, group=name), region=member.region))
            work.insert(replace(group_of(name, (name,)), region=member.region, global_id="g"))
        work.insert(GlobalGroup("g", "", A, NOW, (B,), failing_over_to=B, failing_since=NOW))
    yield World(store)
    store.close()


def primary(*more: str) -> NodeFacts:
    return NodeFacts("9.1.2", role=Role.PRIMARY, offset=9, keys=1, binds=("10.0.0.1", *more))


def replica(of: Address) -> NodeFacts:
    return NodeFacts("9.1.2", role=Role.REPLICA, offset=9, keys=1, primary=of, link_up=True, binds=("10.0.0.2",))


def test_only_the_group_that_hands_over_writes_down_that_it_did(world: World) -> None:
    world.says = {world.address(A): replica(world.address(B)), world.address(B): primary()}
    assert world.round(B).primary == A
    assert world.round(A).primary == B
    assert world.round(A).failing_over_to is None


def test_half_a_failover_is_no_failover_yet(world: World) -> None:
    world.says = {world.address(A): primary(), world.address(B): primary()}
    assert world.round(A).primary == A


def test_a_secondary_that_does_not_get_in_sync_is_given_up(world: World) -> None:
    world.says = {world.address(A): primary(PRIMARY_HOST)}
    assert world.round(A).failing_over_to == B
    world.time += SYNC_WITHIN_S + 1
    ended = world.round(A)
    assert (ended.primary, ended.failing_over_to) == (A, None)
    events = world.store.events(HERE, since=0, until=NOW * 2, source_type=None, source_id="a")
    assert [event.message for event in events] == [
        f"Failover of global datastore g failed: {B} is not in sync with the primary"
    ]


def test_without_the_former_primary_only_after_some_patience_and_only_by_a_living_successor(world: World) -> None:
    world.seen = {NodeKey(HERE, "a"): ObservedNode(Process(1, "1"))}
    world.says = {world.address(B): replica(world.address(A))}
    assert world.round(B).primary == A
    world.time += GIVEN_UP_AFTER_S + 1
    assert world.round(A).primary == A
    world.says = {}
    assert world.round(B).primary == A
    world.says = {world.address(B): replica(world.address(A))}
    assert world.round(B).primary == B


def test_a_failover_in_cluster_mode_waits_for_every_engine_and_for_nothing_else(world: World) -> None:
    """One that runs is to have the users that may not write; a switch that holds the group's port has none."""
    group = replace(world.group(A), cluster_mode=ClusterMode.ENABLED)
    node, switch = NodeKey(HERE, "a"), group.switch_key
    engine = NodeSpec(node, Engine.REDIS, EngineVersion((7, 0, 15)), world.address(A), users=(("default", "-@write"),))
    specs = {node: engine, switch: replace(engine, key=switch, program=ProgramKind.SWITCH)}
    regions = Regions(world.store, cast(EngineAdmin, world), world, world.seen)
    running = Process(1, "1")
    world.seen[switch] = ObservedNode(running)
    for seen, fenced in (
        (ObservedNode(running), False),
        (ObservedNode(running, replace(primary(), acl="as before")), False),
        (ObservedNode(running, replace(primary(), acl=engine.acl)), True),
    ):
        world.seen[node] = seen
        regions.fence(group, Entrants(reads_only=True), specs)
        found = world.store.get(GlobalGroup, EVERYWHERE, "g")
        assert found is not None
        assert found.fenced is fenced


def test_in_cluster_mode_the_primary_is_told_that_it_is_to_give_up_its_role(world: World) -> None:
    """So that engines of it that hang are fenced: they cannot be told that clients may not write any more."""
    regions = Regions(world.store, cast(EngineAdmin, world), world, world.seen)
    told = [
        asyncio.run(regions.upstream(replace(world.group(member), cluster_mode=ClusterMode.ENABLED)))
        for member in (A, B)
    ]
    assert told == [Upstream(failing_over=True), Upstream()]
