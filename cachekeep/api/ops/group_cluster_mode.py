"""ModifyReplicationGroup, ClusterMode: disabled -> compatible -> enabled, and back from compatible.

Source: ElastiCache guide, "Modifying cluster mode".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cachekeep.api import capacity, choose
from cachekeep.api.context import Call
from cachekeep.api.ops.create_group import with_endpoints
from cachekeep.api.ops.members import group_event, members_of, shown
from cachekeep.api.present import Shape
from cachekeep.domain.cache_cluster import CacheCluster, Status
from cachekeep.domain.faults import Fault, invalid_combination
from cachekeep.domain.replication_group import ClusterMode, ReplicationGroup
from cachekeep.domain.slots import divided
from cachekeep.domain.transit import Transit
from cachekeep.plan.upgrades import restarting

_WAYS = {
    (ClusterMode.DISABLED, ClusterMode.COMPATIBLE),
    (ClusterMode.COMPATIBLE, ClusterMode.ENABLED),
    (ClusterMode.COMPATIBLE, ClusterMode.DISABLED),
}
_ALONE = {"ReplicationGroupId", "ClusterMode", "ApplyImmediately", "CacheParameterGroupName"}


def asked_mode(call: Call, group: ReplicationGroup) -> ClusterMode | None:
    """The other mode that ClusterMode asks for; None when it names the present one, or is absent."""
    text = call.text("ClusterMode")
    mode = group.cluster_mode if text is None else ClusterMode(text)
    return None if mode is group.cluster_mode else mode


def change_mode(call: Call, group: ReplicationGroup, mode: ClusterMode) -> Shape:
    """Stored as wanted; control restarts the engines and moves the endpoints. Addresses that are no longer wanted
    stay with the group until nobody listens there."""
    _check_request(call, group, mode)
    members = members_of(call.services.store, group)
    choose.check_cluster_mode(
        call,
        choose.EngineChoice(group.engine, group.version, group.substitute, group.substitute_version),
        ClusterMode.COMPATIBLE,
        group.port,
    )
    if group.cluster_mode is ClusterMode.DISABLED:
        _check_databases(call, group, members)
    with call.services.store.transaction() as work:
        new = replace(group, cluster_mode=mode, mode_before=group.cluster_mode, status=Status.MODIFYING)
        if mode is ClusterMode.COMPATIBLE:
            new = with_endpoints(call, work, new)
        slots = () if mode is ClusterMode.DISABLED else divided(1)[0]
        new = new.with_shard(replace(new.node_groups[0], slots=slots))
        work.replace(group, new)
        if new.clustered != group.clustered:
            for member in members:
                work.replace(member, restarting(replace(member, status=Status.MODIFYING)))
        text = f"Changing cluster mode of replication group {group.id} from {group.cluster_mode.value} to {mode.value}"
        work.add_event(group_event(call, group, text))
        return shown(call, new, members_of(work, new))


def _check_request(call: Call, group: ReplicationGroup, mode: ClusterMode) -> None:
    now = group.cluster_mode
    if (now, mode) not in _WAYS:
        why = (
            "enabled is final."
            if now is ClusterMode.ENABLED
            else "set it to compatible first, and to enabled once all clients can use either."
        )
        raise invalid_combination(f"Cluster mode cannot be changed from {now.value} to {mode.value}: {why}")
    others = sorted(name for name, value in call.params.items() if name not in _ALONE and value is not None)
    parameters = call.text("CacheParameterGroupName")
    if parameters is not None and parameters.lower() != group.parameter_group:
        others.append("CacheParameterGroupName")
    if others:
        raise invalid_combination(f"A change of ClusterMode must be asked for alone, without {', '.join(others)}.")
    if group.transit is Transit.PREFERRED:
        raise invalid_combination(
            "While TransitEncryptionMode is preferred, the cluster mode cannot change: set required, or disable TLS."
        )
    if group.pending.anything:
        raise Fault(
            "InvalidReplicationGroupState",
            f"Modifications of replication group {group.id} wait for its maintenance window: apply them first.",
        )
    if not group.automatic_failover or len(group.member_ids) < 2:
        raise invalid_combination(
            "A change of ClusterMode needs automatic failover and at least one replica, so that nodes can be restarted "
            "one after the other."
        )
    if any(m.spare is not None for m in members_of(call.services.store, group)):
        raise Fault(
            "InvalidReplicationGroupState",
            f"Replication group {group.id} keeps instances of its former engine version for a rollback; cluster mode "
            "can be changed once they are released.",
        )


def _check_databases(call: Call, group: ReplicationGroup, members: Sequence[CacheCluster]) -> None:
    """Keys outside database 0 would be lost to clients in cluster mode."""
    facts = [facts for m in members if (facts := capacity.facts_of(call, m)) is not None]
    if not facts:
        raise Fault(
            "InvalidReplicationGroupState", f"No node of {group.id} has answered yet, so its keys are not known."
        )
    used = sorted({number for f in facts for number in f.databases_used if number})
    if used:
        raise invalid_combination(
            f"Replication group {group.id} holds keys in databases {', '.join(map(str, used))}; cluster mode has "
            "database 0 only: move or remove them first."
        )
