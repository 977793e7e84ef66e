"""Which request of the API brings a wanted change about. Pure; called by `cachekeep groups modify`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cachekeep.cli.refusal import Refused


@dataclass(frozen=True)
class Changes:
    """What shall be otherwise; None: as it is. replicas: of each shard. now: not in the maintenance window."""

    node_type: str | None = None
    engine_version: str | None = None
    engine: str | None = None
    parameter_group: str | None = None
    automatic_failover: bool | None = None
    cluster_mode: str | None = None
    primary: str | None = None
    replicas: int | None = None
    shards: int | None = None
    now: bool = True


@dataclass(frozen=True)
class Request:
    """fields: of the Query protocol."""

    operation: str
    fields: Mapping[str, str]


def request_for(group: Mapping[str, Any], changes: Changes) -> Request:
    """The one request that does it. group: as the status page shows it.

    Raises Refused when nothing is asked for, or what only several requests can do.
    """
    plain = _plain(changes)
    asked = [
        *(["--replicas"] if changes.replicas is not None else []),
        *(["--shards"] if changes.shards is not None else []),
        *([", ".join(plain)] if plain else []),
    ]
    if not asked:
        raise Refused("say what to change: `cachekeep groups modify --help` lists what can be")
    if len(asked) > 1:
        raise Refused(f"{' and '.join(asked)} are requests of their own: ask for one, and for the next when it is done")
    if not changes.now and not plain:
        raise Refused(f"{asked[0]} cannot wait for the maintenance window: ElastiCache does it at once only")
    if changes.replicas is not None:
        return _replicas(group, changes.replicas)
    if changes.shards is not None:
        return _shards(group, changes.shards)
    fields = dict(plain.values())
    return Request(
        "ModifyReplicationGroup",
        {"ReplicationGroupId": group["id"], **fields, "ApplyImmediately": str(changes.now).lower()},
    )


def _plain(changes: Changes) -> dict[str, tuple[str, str]]:
    """What ModifyReplicationGroup takes, by our option: the parameter and its value."""
    automatic = None if changes.automatic_failover is None else str(changes.automatic_failover).lower()
    given = {
        "--node-type": ("CacheNodeType", changes.node_type),
        "--engine-version": ("EngineVersion", changes.engine_version),
        "--engine": ("Engine", changes.engine),
        "--parameter-group": ("CacheParameterGroupName", changes.parameter_group),
        "--automatic-failover": ("AutomaticFailoverEnabled", automatic),
        "--cluster-mode": ("ClusterMode", changes.cluster_mode),
        "--primary": ("PrimaryClusterId", changes.primary),
    }
    return {option: (name, value) for option, (name, value) in given.items() if value is not None}


def _replicas(group: Mapping[str, Any], wanted: int) -> Request:
    """Increase or decrease, whichever brings every shard to that number."""
    members: dict[str, int] = {}
    for node in group["nodes"]:
        if node["spare"] is None:
            members[node["shard"]] = members.get(node["shard"], 0) + 1
    have = {shard: count - 1 for shard, count in members.items()}
    less = [shard for shard, count in have.items() if count < wanted]
    more = [shard for shard, count in have.items() if count > wanted]
    if less and more:
        raise Refused(
            f"shards {', '.join(less)} have fewer than {wanted} replicas and {', '.join(more)} have more: change them "
            "by increase-replica-count and decrease-replica-count with a ReplicaConfiguration"
        )
    if not less and not more:
        raise Refused(f"{group['id']} has {wanted} {'replica' if wanted == 1 else 'replicas'} in each shard already", 1)
    fields = {"ReplicationGroupId": group["id"], "NewReplicaCount": str(wanted), "ApplyImmediately": "true"}
    return Request("IncreaseReplicaCount" if less else "DecreaseReplicaCount", fields)


def _shards(group: Mapping[str, Any], wanted: int) -> Request:
    """Fewer: those that were added last leave. As many as there are: the slots are spread evenly."""
    have = sorted(shard["id"] for shard in group["shards"] if not shard["leaving"])
    if not have:
        raise Refused(f"{group['id']} does not run in cluster mode, so it has one shard; see --cluster-mode")
    fields = {"ReplicationGroupId": group["id"], "NodeGroupCount": str(wanted), "ApplyImmediately": "true"}
    for number, shard in enumerate(have[wanted:], 1):
        fields[f"NodeGroupsToRemove.NodeGroupToRemove.{number}"] = shard
    return Request("ModifyReplicationGroupShardConfiguration", fields)


def why_not_done(group: Mapping[str, Any], changes: Changes) -> str | None:
    """What a group that is at rest again is, where something else was asked for; None when all is as wanted."""
    shown = {
        "node type": (group["node_type"], changes.node_type),
        "engine": (group["engine"], changes.engine),
        "parameter group": (group["parameter_group"], changes.parameter_group),
        "cluster mode": (group["cluster_mode"], changes.cluster_mode),
        "automatic failover": (group["automatic_failover"], changes.automatic_failover),
        "number of shards": (len(group["shards"]), changes.shards),
    }
    for what, (value, wanted) in shown.items():
        if wanted is not None and value != wanted:
            return f"its {what} is {value}, not {wanted}"
    version = changes.engine_version
    if version is not None and f"{group['version']}.".startswith(f"{version.removesuffix('.x')}.") is False:
        return f"it runs {group['engine']} {group['version']}, not {version}"
    primaries = [node["id"] for node in group["nodes"] if node["role"] == "primary" and node["spare"] is None]
    if changes.primary is not None and changes.primary not in primaries:
        return f"its primary is {', '.join(primaries) or 'not known'}, not {changes.primary}"
    return None
