"""Replication groups and their members: finding them, naming and shaping new members, and putting them in the store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import count, islice

from cachekeep.api.context import Call, pick_addresses
from cachekeep.api.present import Shape
from cachekeep.api.present_group import replication_group
from cachekeep.domain.cache_cluster import CacheCluster, CacheNode, Pending, Spare, Status
from cachekeep.domain.events import Event, SourceType
from cachekeep.domain.faults import Fault
from cachekeep.domain.ids import member_id
from cachekeep.domain.nodes import Address
from cachekeep.domain.ports import Store, Transaction
from cachekeep.domain.replication_group import ClusterMode, NodeGroup, ReplicationGroup


def find_group(call: Call, name: str) -> ReplicationGroup:
    """Raises ReplicationGroupNotFoundFault."""
    group = call.services.store.get(ReplicationGroup, call.region, name.lower())
    if group is None or group.serverless is not None:
        raise Fault("ReplicationGroupNotFoundFault", f"ReplicationGroup {name[:60]} not found.")
    return group


def require_available(group: ReplicationGroup) -> None:
    """Raises InvalidReplicationGroupState while anything is being done with the group."""
    if group.status is not Status.AVAILABLE:
        raise Fault(
            "InvalidReplicationGroupState",
            f"Replication group must be in available state to modify: {group.id} is {group.status.value}.",
        )


def members_of(stored: Store | Transaction, group: ReplicationGroup) -> list[CacheCluster]:
    """In the order of group.member_ids."""
    found = (stored.get(CacheCluster, group.region, name) for name in group.member_ids)
    return [m for m in found if m is not None]


def shown(call: Call, group: ReplicationGroup, members: Iterable[CacheCluster]) -> Shape:
    """The answer of an operation on a group."""
    return {"ReplicationGroup": replication_group(call, group, {m.id: m for m in members})}


def group_event(call: Call, group: ReplicationGroup, message: str) -> Event:
    return Event(call.services.clock.now(), group.region, SourceType.REPLICATION_GROUP, group.id, message)


def member_name(group: ReplicationGroup, shard_id: str, number: int) -> str:
    """`demo-001`, or with cluster mode enabled `demo-0001-001`."""
    if group.cluster_mode is ClusterMode.ENABLED:
        return member_id(f"{group.id}-{shard_id}", number)
    return member_id(group.id, number)


def free_names(work: Transaction, group: ReplicationGroup, shard: NodeGroup, wanted: int) -> list[str]:
    """The next ids that no member of the shard and no other cache cluster has."""
    names = (member_name(group, shard.id, number) for number in count(1))
    free = (n for n in names if n not in shard.member_ids and work.get(CacheCluster, group.region, n) is None)
    return list(islice(free, wanted))


def new_member(group: ReplicationGroup, name: str, address: Address, zone: str, now: float) -> CacheCluster:
    """A member cluster, shaped by its group."""
    return CacheCluster(
        region=group.region,
        id=name,
        engine=group.engine,
        version=group.version,
        node_type=group.node_type,
        port=group.port,
        parameter_group=group.parameter_group,
        subnet_group=group.subnet_group,
        upkeep=group.upkeep,
        created_at=now,
        nodes=(CacheNode("0001", address, zone, now),),
        replication_group_id=group.id,
        tags=group.tags,
        substitute=group.substitute,
        substitute_version=group.substitute_version,
        at_rest=group.at_rest,
        transit=group.transit,
        transit_moves=group.transit_moves,
        serverless=group.serverless,
        auth_tokens=group.auth_tokens,
        auth_token_at=group.auth_token_at,
    )


def insert_members(
    call: Call, work: Transaction, group: ReplicationGroup, places: Sequence[tuple[str, str]]
) -> list[CacheCluster]:
    """Store new members (id and zone of each), each with an address of its own, and with one for the second instance
    if a change of engine waits for the window."""
    waits = group.pending.version is not None
    each = 1 + waits * (2 if call.services.pool.movable and not group.clustered else 1)
    addresses = pick_addresses(call, work, group.port, len(places) * each)
    now = call.services.clock.now()
    members = [
        new_member(group, name, address, zone, now) for (name, zone), address in zip(places, addresses, strict=False)
    ]
    if waits:
        spares = [tuple(addresses[len(places) + n :: len(places)]) for n in range(len(places))]
        members = [waiting_for(group.pending, m, spare, now) for m, spare in zip(members, spares, strict=True)]
    work.claim(group.id, addresses)
    for member in members:
        work.insert(member)
    return members


def waiting_for(pending: Pending, member: CacheCluster, addresses: Sequence[Address], now: float) -> CacheCluster:
    """The member with what waits for its group. addresses: of the instance to come, and where addresses move of the
    former one after that; none when it needs none."""
    waits = replace(pending, automatic_failover=None, spare=None, transit=None)
    if not addresses or pending.engine is None or pending.version is None or pending.parameter_group is None:
        return replace(member, pending=waits)
    node = member.nodes[0]
    coming = CacheNode(node.node_id, addresses[0], node.zone, now, instance=_next_instance(member))
    reserve = addresses[1] if len(addresses) > 1 else None
    spare = Spare(coming, pending.engine, pending.version, pending.parameter_group, reserve=reserve)
    return replace(member, pending=replace(waits, spare=spare))


def _next_instance(member: CacheCluster) -> str:
    """`0001-2` is the second instance of node 0001; none of those that are still there."""
    there = {node.instance or node.node_id for node in member.nodes}
    if member.spare is not None:
        there.add(member.spare.node.instance or member.spare.node.node_id)
    node_id = member.nodes[0].node_id
    return next(name for number in count(2) if (name := f"{node_id}-{number}") not in there)


def leaving(member: CacheCluster) -> CacheCluster:
    """The member on its way out; nothing waits for it any more."""
    return replace(member, status=Status.DELETING, pending=Pending())


def pending_addresses(pending: Pending) -> list[Address]:
    """Claimed for nodes that have no process yet."""
    spare = list(pending.spare.addresses) if pending.spare is not None else []
    return [node.address for node in pending.nodes_to_add] + spare


def refuse_later(call: Call, what: str) -> None:
    """Raises InvalidParameterValue unless ApplyImmediately is true, as AWS demands of what it never defers."""
    if not call.flag("ApplyImmediately"):
        raise Fault("InvalidParameterValue", f"{what} is only possible at once: ApplyImmediately must be true.")
