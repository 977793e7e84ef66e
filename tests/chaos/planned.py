"""Planned work: requests to the service. Each function makes one, and says what it asked for. No write may be lost."""

from __future__ import annotations

from typing import Any

from .world import Group, World

NODE_TYPES = ("cache.t4g.micro", "cache.t4g.small", "cache.t4g.medium")
MOST_SHARDS = 4
MOST_REPLICAS = 3


def test_failover(world: World, group: Group) -> str:
    shard = world.chance.choice(world.described(group)["NodeGroups"])["NodeGroupId"]
    world.call("test_failover", ReplicationGroupId=group.id, NodeGroupId=shard)
    return f"asked: node group {shard}"


def promote(world: World, group: Group) -> str:
    """PrimaryClusterId: refused while automatic failover is on, so that is turned off first, and on again."""
    members = _members(world, group)
    if group.clustered or not members:
        return "no target"
    chosen = world.chance.choice(members)
    group.wants_failover = True
    world.call(
        "modify_replication_group",
        ReplicationGroupId=group.id,
        AutomaticFailoverEnabled=False,
        PrimaryClusterId=chosen,
        ApplyImmediately=True,
    )
    return f"asked: {chosen}"


def failover_on(world: World, group: Group) -> str:
    world.call(
        "modify_replication_group", ReplicationGroupId=group.id, AutomaticFailoverEnabled=True, ApplyImmediately=True
    )
    group.wants_failover = False
    return "asked"


def more_replicas(world: World, group: Group) -> str:
    return _replicas(world, group, "increase_replica_count", +1)


def fewer_replicas(world: World, group: Group) -> str:
    return _replicas(world, group, "decrease_replica_count", -1)


def _replicas(world: World, group: Group, operation: str, by: int) -> str:
    now = min(len(shard["NodeGroupMembers"]) - 1 for shard in world.described(group)["NodeGroups"])
    count = now + by
    if not 1 <= count <= MOST_REPLICAS:
        return "no target"
    world.call(operation, ReplicationGroupId=group.id, NewReplicaCount=count, ApplyImmediately=True)
    return f"asked: {count} replicas"


def node_type(world: World, group: Group) -> str:
    now = world.described(group)["CacheNodeType"]
    wanted = world.chance.choice([name for name in NODE_TYPES if name != now])
    world.call("modify_replication_group", ReplicationGroupId=group.id, CacheNodeType=wanted, ApplyImmediately=True)
    return f"asked: {wanted}"


def parameters(world: World, group: Group) -> str:
    values = {
        "timeout": world.chance.choice(["0", "300", "600"]),
        "appendonly": world.chance.choice(["yes", "no"]),
        "maxmemory-policy": world.chance.choice(["noeviction", "volatile-lru"]),
    }
    name = world.chance.choice(sorted(values))
    world.call(
        "modify_cache_parameter_group",
        CacheParameterGroupName=world.chance.choice(sorted(group.parameter_groups.values())),
        ParameterNameValues=[{"ParameterName": name, "ParameterValue": values[name]}],
    )
    return f"asked: {name} {values[name]}"


def reboot_replica(world: World, group: Group) -> str:
    """Of a replica: the reboot of a primary is an end with data loss by its own right where nothing is saved."""
    shard = world.chance.choice(world.described(group)["NodeGroups"])
    replicas = [m["CacheClusterId"] for m in shard["NodeGroupMembers"] if m.get("CurrentRole") == "replica"]
    if not replicas:
        return "no target"
    chosen = world.chance.choice(replicas)
    world.call("reboot_cache_cluster", CacheClusterId=chosen, CacheNodeIdsToReboot=["0001"])
    return f"asked: {chosen}"


def reshard(world: World, group: Group) -> str:
    """One shard more, one less, or the same number with the slots in other places."""
    if not group.clustered:
        return "no target"
    shards = [shard["NodeGroupId"] for shard in world.described(group)["NodeGroups"]]
    count = world.chance.choice([n for n in (len(shards) - 1, len(shards) + 1, len(shards)) if 1 < n <= MOST_SHARDS])
    more: dict[str, Any] = {}
    if count < len(shards):
        more["NodeGroupsToRemove"] = [world.chance.choice(shards)]
    world.call(
        "modify_replication_group_shard_configuration",
        ReplicationGroupId=group.id,
        NodeGroupCount=count,
        ApplyImmediately=True,
        **more,
    )
    return f"asked: {len(shards)} -> {count} shards {' '.join(more.get('NodeGroupsToRemove', []))}".rstrip()


def upgrade(world: World, group: Group) -> str:
    """To the other version: up, or back."""
    now = _version(world, group)
    wanted = group.versions[0] if now.startswith(group.versions[1]) else group.versions[1]
    world.call(
        "modify_replication_group",
        ReplicationGroupId=group.id,
        EngineVersion=wanted,
        CacheParameterGroupName=group.parameter_groups[wanted.partition(".")[0]],
        ApplyImmediately=True,
    )
    return f"asked: {now} -> {wanted}"


def other_group(world: World, group: Group) -> str:
    """Create another group, or delete one."""
    if len(world.others) > 1:
        name = world.chance.choice(world.others)
        world.call("delete_replication_group", ReplicationGroupId=name)
        world.others.remove(name)
        return f"asked: delete {name}"
    name = f"other{len(world.happened)}"
    world.call(
        "create_replication_group",
        ReplicationGroupId=name,
        ReplicationGroupDescription="another",
        CacheNodeType=NODE_TYPES[0],
        NumCacheClusters=2,
        AutomaticFailoverEnabled=True,
    )
    world.others.append(name)
    return f"asked: create {name}"


def _members(world: World, group: Group) -> list[str]:
    return list(world.described(group)["MemberClusters"])


def _version(world: World, group: Group) -> str:
    member = _members(world, group)[0]
    answer = world.call("describe_cache_clusters", CacheClusterId=member)
    return str(answer["CacheClusters"][0]["EngineVersion"])
