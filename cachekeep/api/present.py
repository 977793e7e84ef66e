"""Stored resources as the dictionaries that AWS's response shapes want. Reads only what it is given.

Shape names: botocore elasticache 2015-02-02.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cachekeep.api import log_delivery
from cachekeep.api.context import Call
from cachekeep.domain.cache_cluster import CacheCluster, CacheNode, NodeStatus, Status, Upkeep
from cachekeep.domain.nodes import Address
from cachekeep.domain.parameters import Family, NodeType, ParameterGroup
from cachekeep.domain.subnet_group import SubnetGroup
from cachekeep.domain.transit import Transit
from cachekeep.plan.parameters import node_type_value
from cachekeep.plan.placement import zones_of

Shape = dict[str, Any]
# The network that the one subnet of this machine is shown to be in.
VPC_ID = "vpc-cachekeep"


def moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def endpoint(address: Address) -> Shape:
    return {"Address": address.host, "Port": address.port}


def cache_cluster(call: Call, cluster: CacheCluster, *, nodes: bool) -> Shape:
    """CacheCluster. nodes: with its CacheNodes."""
    zones = {n.zone for n in cluster.nodes}
    shape: Shape = {
        "CacheClusterId": cluster.id,
        "CacheNodeType": cluster.node_type,
        "Engine": cluster.engine.value,
        "EngineVersion": str(cluster.version),
        "CacheClusterStatus": cluster.told_word,
        "NumCacheNodes": len([n for n in cluster.nodes if n.status is not NodeStatus.DELETING]),
        "PreferredAvailabilityZone": zones.pop() if len(zones) == 1 else "Multiple",
        "CacheClusterCreateTime": moment(cluster.created_at),
        "PreferredMaintenanceWindow": cluster.upkeep.maintenance_window,
        "PendingModifiedValues": _cluster_pending(cluster),
        "CacheSecurityGroups": [],
        "CacheParameterGroup": _parameter_group_status(cluster),
        "CacheSubnetGroupName": cluster.subnet_group,
        "AutoMinorVersionUpgrade": cluster.upkeep.auto_minor_version_upgrade,
        "SecurityGroups": [{"SecurityGroupId": g, "Status": "active"} for g in cluster.upkeep.security_group_ids],
        **transit(cluster.transit),
        **auth_token(bool(cluster.auth_tokens), cluster.auth_token_at),
        "AtRestEncryptionEnabled": cluster.at_rest and bool(call.services.encrypted_at_rest),
        "ARN": call.arn("cluster", cluster.id),
        "ReplicationGroupLogDeliveryEnabled": bool(
            cluster.replication_group_id and any(d.is_wanted for d in cluster.upkeep.log_deliveries)
        ),
        "LogDeliveryConfigurations": log_delivery.shown(cluster.upkeep),
        "NetworkType": "ipv4",
        "IpDiscovery": "ipv4",
        **_notification(cluster.upkeep),
    }
    if cluster.engine.speaks_resp:
        shape |= {
            "SnapshotRetentionLimit": cluster.upkeep.snapshot_retention,
            "SnapshotWindow": cluster.upkeep.snapshot_window,
        }
    if cluster.replication_group_id is not None:
        shape["ReplicationGroupId"] = cluster.replication_group_id
    if cluster.configuration_endpoint is not None and cluster.status is not Status.CREATING:
        shape["ConfigurationEndpoint"] = endpoint(cluster.configuration_endpoint)
    if nodes:
        shape["CacheNodes"] = [_cache_node(cluster, node) for node in cluster.nodes]
    return shape


def transit(of: Transit) -> Shape:
    return {"TransitEncryptionEnabled": of.encrypted, **({"TransitEncryptionMode": of.value} if of.encrypted else {})}


def auth_token(enabled: bool, at: float | None) -> Shape:
    """What is told of a token: whether there is one, and since when."""
    shape: Shape = {"AuthTokenEnabled": enabled}
    return shape if at is None else {**shape, "AuthTokenLastModifiedDate": moment(at)}


def _cache_node(cluster: CacheCluster, node: CacheNode) -> Shape:
    shape: Shape = {
        "CacheNodeId": node.node_id,
        "CacheNodeStatus": node.status.value,
        "CacheNodeCreateTime": moment(node.created_at),
        "ParameterGroupStatus": node.parameters.value,
        "CustomerAvailabilityZone": node.zone,
    }
    if cluster.status not in (Status.CREATING, Status.CREATE_FAILED):
        shape["Endpoint"] = endpoint(told_address(node))
    return shape


def told_address(node: CacheNode) -> Address:
    """The address that users are told: it stays when an upgrade puts another instance in the node's place."""
    return node.published or node.address


def _cluster_pending(cluster: CacheCluster) -> Shape:
    pending = cluster.pending
    shape: Shape = {}
    scaling = cluster.scaling
    node_type = pending.node_type or (scaling.node_type if scaling is not None else None)
    if node_type is not None:
        shape["CacheNodeType"] = node_type
    config = pending.scale_config or (scaling.config if scaling is not None else None)
    if config is not None:
        shape["ScaleConfig"] = {
            "ScalePercentage": config.percentage,
            "ScaleIntervalMinutes": config.interval_minutes,
        }
    coming = cluster.spare.version if cluster.spare is not None and not cluster.spare.former else pending.version
    if coming is not None:
        shape["EngineVersion"] = str(coming)
    if pending.nodes_to_add or pending.node_ids_to_remove:
        shape["NumCacheNodes"] = len(cluster.nodes) + len(pending.nodes_to_add) - len(pending.node_ids_to_remove)
    if pending.node_ids_to_remove:
        shape["CacheNodeIdsToRemove"] = list(pending.node_ids_to_remove)
    return shape | log_delivery.pending(cluster.upkeep)


def _parameter_group_status(cluster: CacheCluster) -> Shape:
    """ParameterApplyStatus is the worst of the nodes': AWS shows in-sync, applying or pending-reboot."""
    order = ["in-sync", "applying", "pending-reboot"]
    return {
        "CacheParameterGroupName": cluster.parameter_group,
        "ParameterApplyStatus": max((n.parameters.value for n in cluster.nodes), key=order.index),
        "CacheNodeIdsToReboot": [n.node_id for n in cluster.nodes if n.parameters.value == "pending-reboot"],
    }


def _notification(upkeep: Upkeep) -> Shape:
    if upkeep.notification_topic is None:
        return {}
    status = "active" if upkeep.notification_active else "inactive"
    return {"NotificationConfiguration": {"TopicArn": upkeep.notification_topic, "TopicStatus": status}}


def parameter_group(call: Call, group: ParameterGroup) -> Shape:
    return {
        "CacheParameterGroupName": group.name,
        "CacheParameterGroupFamily": group.family,
        "Description": group.description,
        "IsGlobal": False,
        "ARN": call.arn("parametergroup", group.name),
    }


def parameters(group: ParameterGroup, family: Family, source: str | None, node_types: Mapping[str, NodeType]) -> Shape:
    """Parameters and CacheNodeTypeSpecificParameters of a group, sorted by name.

    source: `user` (values that the group gives), `system` (all others), or None for all.
    """
    plain: list[Shape] = []
    specific: list[Shape] = []
    for parameter in sorted(family.parameters.values(), key=lambda p: p.name):
        own = parameter.name in group.values
        where = "user" if own else "system"
        if source is not None and source != where:
            continue
        shape: Shape = {
            "ParameterName": parameter.name,
            "Description": parameter.description,
            "Source": where,
            "DataType": parameter.data_type,
            "AllowedValues": parameter.allowed or None,
            "IsModifiable": parameter.modifiable,
            "MinimumEngineVersion": parameter.minimum_engine_version,
            "ChangeType": parameter.change.value,
        }
        if not parameter.by_node_type:
            plain.append({**shape, "ParameterValue": group.values.get(parameter.name, parameter.default)})
            continue
        values = [
            {"CacheNodeType": name, "Value": value}
            for name, node_type in sorted(node_types.items())
            if (value := node_type_value(parameter.name, node_type))
        ]
        specific.append({**shape, "CacheNodeTypeSpecificValues": values})
    return {"Parameters": plain, "CacheNodeTypeSpecificParameters": specific}


def subnet_group(call: Call, group: SubnetGroup) -> Shape:
    zones = zones_of(call.region)
    return {
        "CacheSubnetGroupName": group.name,
        "CacheSubnetGroupDescription": group.description,
        "VpcId": VPC_ID,
        "Subnets": [
            {
                "SubnetIdentifier": subnet,
                "SubnetAvailabilityZone": {"Name": zones[i % len(zones)]},
                "SupportedNetworkTypes": ["ipv4"],
            }
            for i, subnet in enumerate(group.subnet_ids)
        ],
        "ARN": call.arn("subnetgroup", group.name),
        "SupportedNetworkTypes": ["ipv4"],
    }


def tag_list(tags: Mapping[str, str]) -> list[Shape]:
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]
