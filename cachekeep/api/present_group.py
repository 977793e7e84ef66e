"""A stored replication group as AWS's ReplicationGroup shape. Reads only what it is given.

Shape names: botocore elasticache 2015-02-02.
"""

from __future__ import annotations

from collections.abc import Mapping

from cachekeep.api import log_delivery
from cachekeep.api.context import Call
from cachekeep.api.guards import token_status
from cachekeep.api.present import Shape, auth_token, endpoint, moment, told_address, transit
from cachekeep.api.present_global import membership
from cachekeep.domain.cache_cluster import CacheCluster, Status
from cachekeep.domain.nodes import Address
from cachekeep.domain.replication_group import ClusterMode, NodeGroup, ReplicationGroup
from cachekeep.domain.slots import slots_text

Members = Mapping[str, CacheCluster]
_UNBORN = (Status.CREATING, Status.CREATE_FAILED)


def replication_group(call: Call, group: ReplicationGroup, members: Members) -> Shape:
    """ReplicationGroup. members: by id; those that are missing are left out."""
    present = {name: members[name] for name in group.member_ids if name in members}
    mode = _shown_mode(group)
    shape: Shape = {
        "ReplicationGroupId": group.id,
        "Description": group.description,
        "Status": group.told_status.value,
        "PendingModifiedValues": _pending(group),
        "MemberClusters": list(present),
        "NodeGroups": [_node_group(group, shard, present) for shard in group.node_groups],
        "AutomaticFailover": _automatic_failover(group),
        "MultiAZ": "enabled" if group.multi_az else "disabled",
        "SnapshotRetentionLimit": group.upkeep.snapshot_retention,
        "SnapshotWindow": group.upkeep.snapshot_window,
        "ClusterEnabled": mode is not ClusterMode.DISABLED,
        "ClusterMode": mode.value,
        "CacheNodeType": group.node_type,
        **transit(group.transit),
        "AtRestEncryptionEnabled": group.at_rest and bool(call.services.encrypted_at_rest),
        "ARN": call.arn("replicationgroup", group.id),
        "LogDeliveryConfigurations": log_delivery.shown(group.upkeep),
        **auth_token(bool(group.auth_tokens), group.auth_token_at),
        "UserGroupIds": list(group.user_group_ids),
        "ReplicationGroupCreateTime": moment(group.created_at),
        "DataTiering": "disabled",
        "AutoMinorVersionUpgrade": group.upkeep.auto_minor_version_upgrade,
        "NetworkType": "ipv4",
        "IpDiscovery": "ipv4",
        "Engine": group.engine.value,
    }
    if group.snapshotting_cluster is not None:
        shape["SnapshottingClusterId"] = group.snapshotting_cluster
    shape |= membership(call, group)
    configuration = _configuration_endpoint(group, present)
    if mode is not ClusterMode.DISABLED and configuration is not None and group.status not in _UNBORN:
        shape["ConfigurationEndpoint"] = endpoint(configuration)
    return shape


def _shown_mode(group: ReplicationGroup) -> ClusterMode:
    """The one that clients can rely on: during a change, the one before."""
    return group.mode_before or group.cluster_mode


def _automatic_failover(group: ReplicationGroup) -> str:
    if group.pending.automatic_failover is not None:
        return "enabling" if group.pending.automatic_failover else "disabling"
    return "enabled" if group.automatic_failover else "disabled"


def _pending(group: ReplicationGroup) -> Shape:
    """A pending node type or version shows on the members only: the group's shape has no place for them."""
    shape: Shape = {}
    failover = group.pending.automatic_failover
    if failover is not None:
        shape["AutomaticFailoverStatus"] = "enabled" if failover else "disabled"
    wanted = next((s.hand_over.to for s in group.node_groups if s.hand_over is not None and s.hand_over.to), None)
    if wanted is not None:
        shape["PrimaryClusterId"] = wanted
    if group.resharding is not None:
        shape["Resharding"] = {"SlotMigration": {"ProgressPercentage": group.resharding}}
    if group.pending.transit is not None:
        shape |= transit(group.pending.transit)
    if (token := token_status(group)) is not None:
        shape["AuthTokenStatus"] = token
    if group.user_groups_before is not None and group.status is Status.MODIFYING:
        shape["UserGroups"] = {
            "UserGroupIdsToAdd": [g for g in group.user_group_ids if g not in group.user_groups_before],
            "UserGroupIdsToRemove": [g for g in group.user_groups_before if g not in group.user_group_ids],
        }
    if group.mode_before is not None:
        shape["ClusterMode"] = group.cluster_mode.value
    return shape | log_delivery.pending(group.upkeep)


def _configuration_endpoint(group: ReplicationGroup, members: Members) -> Address | None:
    """The group's own, or where addresses cannot move that of the first member."""
    if group.configuration_endpoint is not None:
        return group.configuration_endpoint
    first = next((m for m in members.values() if m.status not in (Status.CREATING, Status.DELETING)), None)
    return None if first is None else told_address(first.nodes[0])


def _node_group(group: ReplicationGroup, shard: NodeGroup, present: Members) -> Shape:
    """Endpoints appear once there is something behind them."""
    members = [present[name] for name in shard.member_ids if name in present]
    mode = _shown_mode(group)
    shape: Shape = {"NodeGroupId": shard.id, "Status": _status(group, shard, members)}
    if mode is not ClusterMode.DISABLED and shard.slots:
        shape["Slots"] = slots_text(shard.slots)
    if group.status in _UNBORN:
        return {**shape, "NodeGroupMembers": []}
    with_roles = mode is not ClusterMode.ENABLED
    if with_roles:
        shape |= _endpoints(group, shard, members)
    shape["NodeGroupMembers"] = [
        _member(member, shard, with_role=with_roles) for member in members if member.status is not Status.CREATING
    ]
    return shape


def _endpoints(group: ReplicationGroup, shard: NodeGroup, members: list[CacheCluster]) -> Shape:
    primary = next((m for m in members if m.id == shard.primary_id), None)
    replica = next((m for m in members if m.id != shard.primary_id), primary)
    writes = group.primary_endpoint or (primary and told_address(primary.nodes[0]))
    reads = group.reader_endpoint or (replica and told_address(replica.nodes[0]))
    return {"PrimaryEndpoint": endpoint(writes), "ReaderEndpoint": endpoint(reads)} if writes and reads else {}


def _member(member: CacheCluster, shard: NodeGroup, *, with_role: bool) -> Shape:
    """With cluster mode enabled AWS tells neither the role nor an endpoint: clients ask the cluster."""
    node = member.nodes[0]
    shape: Shape = {
        "CacheClusterId": member.id,
        "CacheNodeId": node.node_id,
        "PreferredAvailabilityZone": node.zone,
    }
    if with_role:
        shape["ReadEndpoint"] = endpoint(told_address(node))
        shape["CurrentRole"] = "primary" if member.id == shard.primary_id else "replica"
    return shape


def _status(group: ReplicationGroup, shard: NodeGroup, members: list[CacheCluster]) -> str:
    """With several shards each says whether anything is being done with itself."""
    if group.status in _UNBORN:
        return "creating"
    if group.status is Status.MIGRATING:
        return "modifying"
    if group.told_status is Status.SNAPSHOTTING:  # a node group has no word for it
        return Status.AVAILABLE.value
    if group.status is not Status.MODIFYING or len(group.node_groups) == 1:
        return group.told_status.value
    if members and all(member.status is Status.CREATING for member in members):
        return "creating"
    changing = (
        shard.leaving
        or shard.hand_over is not None
        or group.resharding is not None
        or any(member.status is not Status.AVAILABLE for member in members)
    )
    return "modifying" if changing else "available"
