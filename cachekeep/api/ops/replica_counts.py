"""IncreaseReplicaCount and DecreaseReplicaCount: more or fewer replicas, in all shards alike or in each as asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cachekeep.api import capacity, choose, quota
from cachekeep.api.context import Call
from cachekeep.api.ops.members import (
    find_group,
    free_names,
    group_event,
    insert_members,
    leaving,
    members_of,
    pending_addresses,
    refuse_later,
    require_available,
    shown,
)
from cachekeep.api.present import Shape
from cachekeep.api.shards import MOST_REPLICAS
from cachekeep.domain.cache_cluster import CacheCluster, Status
from cachekeep.domain.faults import Fault, invalid_combination, invalid_value
from cachekeep.domain.replication_group import ClusterMode, NodeGroup, ReplicationGroup
from cachekeep.plan.placement import spread


@dataclass(frozen=True)
class _Wish:
    """What is wanted of one shard. zones: of its members afterwards, the primary's included; () for any."""

    shard: NodeGroup
    replicas: int
    zones: tuple[str, ...] = ()

    @property
    def more(self) -> int:
        return self.replicas - (len(self.shard.member_ids) - 1)


def increase_replica_count(call: Call) -> Shape:
    """New replicas are stored as `creating`; control brings them to life and lets them synchronise."""
    group = find_group(call, call.params["ReplicationGroupId"])
    refuse_later(call, "IncreaseReplicaCount")
    require_available(group)
    wishes = _wishes(call, group)
    for wish in wishes:
        if wish.more < 0:
            raise invalid_value(
                f"Node group {wish.shard.id} has {len(wish.shard.member_ids) - 1} replicas, and {wish.replicas} are "
                "fewer: use DecreaseReplicaCount."
            )
    more = sum(wish.more for wish in wishes)
    # The operation declares no fault for the nodes of one group alone.
    quota.check_group_nodes(call, len(group.member_ids) + more, "NodeQuotaForCustomerExceeded")
    quota.check_more_nodes(call, more, more)
    capacity.check_members_fit(call, group, more)
    with call.services.store.transaction() as work:
        new = group
        members = {m.id: m for m in members_of(work, group)}
        for wish in wishes:
            names = free_names(work, group, wish.shard, wish.more)
            zones = _new_zones(group, wish, members)
            insert_members(call, work, group, list(zip(names, zones, strict=True)))
            new = new.with_shard(replace(wish.shard, member_ids=(*wish.shard.member_ids, *names)))
        new = replace(new, status=Status.MODIFYING)
        work.replace(group, new)
        work.add_event(group_event(call, group, f"Increasing the replica count started: {_told(wishes)}"))
        return shown(call, new, members_of(work, new))


def decrease_replica_count(call: Call) -> Shape:
    """Replicas on their way out are stored as `deleting`; control ends them and forgets them."""
    group = find_group(call, call.params["ReplicationGroupId"])
    refuse_later(call, "DecreaseReplicaCount")
    require_available(group)
    named = call.texts("ReplicasToRemove")
    if named and (call.number("NewReplicaCount") is not None or call.params.get("ReplicaConfiguration")):
        raise invalid_combination("Use ReplicasToRemove alone: without NewReplicaCount and ReplicaConfiguration.")
    going = _named(group, named) if named else _chosen(call, group)
    wishes = [_after(shard, going) for shard in group.node_groups]
    for wish in wishes:
        _check_protected(group, wish)
    with call.services.store.transaction() as work:
        for member in members_of(work, group):
            if member.id in going:
                work.release(pending_addresses(member.pending))
                work.replace(member, leaving(member))
        new = replace(group, status=Status.MODIFYING)
        work.replace(group, new)
        fewer = [wish for wish in wishes if wish.more < 0]
        work.add_event(group_event(call, group, f"Decreasing the replica count started: {_told(fewer)}"))
        return shown(call, new, members_of(work, new))


def _told(wishes: Sequence[_Wish]) -> str:
    return "; ".join(
        f"node group {w.shard.id} from {len(w.shard.member_ids) - 1} to {w.replicas} replicas" for w in wishes
    )


def _wishes(call: Call, group: ReplicationGroup) -> list[_Wish]:
    """The shards whose number of replicas is to change. Raises NoOperationFault when none is."""
    count = call.number("NewReplicaCount")
    given = call.params.get("ReplicaConfiguration") or []
    if (count is None) == (not given):
        raise invalid_combination("Use either NewReplicaCount or ReplicaConfiguration.")
    if count is not None:
        wishes = [_Wish(shard, _checked(count)) for shard in group.node_groups]
    else:
        wishes = [_configured(call, group, entry) for entry in given]
    doubled = [name for name, times in Counter(w.shard.id for w in wishes).items() if times > 1]
    if doubled:
        raise invalid_value(f"ReplicaConfiguration names node group {doubled[0]} twice.")
    wishes = [wish for wish in wishes if wish.more]
    if not wishes:
        raise Fault("NoOperationFault", f"Replication group {group.id} has that many replicas already.")
    return wishes


def _configured(call: Call, group: ReplicationGroup, entry: Mapping[str, Any]) -> _Wish:
    if entry.get("PreferredOutpostArns"):
        raise invalid_combination("PreferredOutpostArns: there are no Outposts in this account.")
    name, replicas = entry.get("NodeGroupId"), entry.get("NewReplicaCount")
    shard = group.shard(str(name))
    if shard is None:
        raise invalid_value(f"Replication group {group.id} has no node group {str(name)[:40]}.")
    wish = _Wish(shard, _checked(replicas), choose.check_zones(call, *(entry.get("PreferredAvailabilityZones") or ())))
    if wish.zones and len(wish.zones) != wish.replicas + 1:
        raise invalid_value(
            f"PreferredAvailabilityZones of node group {shard.id} names {len(wish.zones)} zones: it must name "
            f"{wish.replicas + 1}, for {wish.replicas} replicas and the primary."
        )
    return wish


def _checked(replicas: object) -> int:
    if not isinstance(replicas, int) or not 0 <= replicas <= MOST_REPLICAS:
        raise invalid_value(f"NewReplicaCount must be between 0 and {MOST_REPLICAS}, not {replicas}.")
    return replicas


def _new_zones(group: ReplicationGroup, wish: _Wish, members: Mapping[str, CacheCluster]) -> list[str]:
    """A zone for each new replica: of those asked for, what the present members leave over."""
    have = [members[name].nodes[0].zone for name in wish.shard.member_ids if name in members]
    if wish.zones:
        left = list((Counter(wish.zones) - Counter(have)).elements())
        return (left + list(wish.zones))[: wish.more]
    several = group.multi_az or len(set(have)) > 1
    return spread(group.region, len(have) + wish.more, tuple(have), several=several)[len(have) :]


def _named(group: ReplicationGroup, names: Sequence[str]) -> set[str]:
    """ReplicasToRemove, by cache cluster id."""
    going = {name.lower() for name in names}
    for name in sorted(going):
        shard = group.shard_of(name)
        if shard is None:
            raise invalid_value(f"{name[:60]} is not a member of replication group {group.id}.")
        if shard.primary_id == name:
            raise invalid_value(
                f"{name} is the primary of node group {shard.id} and cannot be removed: only replicas can."
            )
    return going


def _chosen(call: Call, group: ReplicationGroup) -> set[str]:
    """The replicas with the highest numbers, or those in zones that are not wanted any more."""
    members = {m.id: m for m in members_of(call.services.store, group)}
    going: set[str] = set()
    for wish in _wishes(call, group):
        if wish.more > 0:
            raise invalid_value(
                f"Node group {wish.shard.id} has {len(wish.shard.member_ids) - 1} replicas, and {wish.replicas} are "
                "more: use IncreaseReplicaCount."
            )
        wanted = Counter(wish.zones)
        unwanted: list[str] = []
        others: list[str] = []
        # The primary first, since it stays; then from the lowest number on.
        for name in sorted(wish.shard.member_ids, key=lambda n: (n != wish.shard.primary_id, _by_number(n))):
            zone = members[name].nodes[0].zone if name in members else ""
            fits = wanted[zone] > 0
            wanted[zone] -= fits
            if name != wish.shard.primary_id:
                (others if fits or not wish.zones else unwanted).append(name)
        going.update((*others, *unwanted)[wish.more :])
    return going


def _by_number(name: str) -> tuple[int, str]:
    """Ids that end in a number by that number, those that users chose behind them."""
    end = name.rpartition("-")[2]
    return (int(end), name) if end.isdecimal() else (1000, name)


def _after(shard: NodeGroup, going: set[str]) -> _Wish:
    return _Wish(shard, len(shard.member_ids) - 1 - len(going & set(shard.member_ids)))


def _check_protected(group: ReplicationGroup, wish: _Wish) -> None:
    """The last replica stays while something is promised that needs it."""
    if wish.replicas > 0 or wish.more == 0:
        return
    # With cluster mode enabled automatic failover is always on, and shards without replicas are allowed.
    automatic = group.automatic_failover or bool(group.pending.automatic_failover)
    if group.multi_az or (automatic and group.cluster_mode is not ClusterMode.ENABLED):
        why = "Multi-AZ" if group.multi_az else "automatic failover"
        raise invalid_combination(
            f"The last replica of node group {wish.shard.id} cannot be removed while {why} is on for replication "
            f"group {group.id}: turn it off first."
        )
