"""Service updates and update actions as AWS's shapes. Shape names: botocore elasticache 2015-02-02."""

from __future__ import annotations

from itertools import groupby

from cachekeep.api.context import Call
from cachekeep.api.present import Shape, moment
from cachekeep.api.service_updates import members_for, resource_of
from cachekeep.domain.service_updates import ActionStatus, NodeUpdate, ServiceUpdate, UpdateAction, UpdateStatus

# The only one that the model declares (ServiceUpdateType).
TYPE = "security-update"
# A second instance is brought up and in sync in about this time, plus what its data takes; measured on small data.
_SECONDS_PER_NODE = 30


def service_update(update: ServiceUpdate, status: UpdateStatus) -> Shape:
    return {
        "ServiceUpdateName": update.name,
        "ServiceUpdateReleaseDate": moment(update.seen_at),
        "ServiceUpdateSeverity": update.severity.value,
        "ServiceUpdateRecommendedApplyByDate": moment(update.apply_by),
        "ServiceUpdateStatus": status.value,
        "ServiceUpdateDescription": f"{update.engine.label} {update.version}, which this machine has",
        "ServiceUpdateType": TYPE,
        "Engine": update.engine.value,
        "EngineVersion": str(update.version),
        "AutoUpdateAfterRecommendedApplyByDate": False,
        "EstimatedUpdateTime": f"{_SECONDS_PER_NODE} seconds per node",
    }


def update_action(
    call: Call, action: UpdateAction, update: ServiceUpdate, status: UpdateStatus, *, nodes: bool
) -> Shape:
    """nodes: with the status of each (ShowNodeLevelUpdateStatus)."""
    done = sum(node.status is ActionStatus.COMPLETE for node in action.nodes)
    shape: Shape = {
        "ReplicationGroupId" if action.is_group else "CacheClusterId": action.resource_id,
        "ServiceUpdateName": update.name,
        "ServiceUpdateReleaseDate": moment(update.seen_at),
        "ServiceUpdateSeverity": update.severity.value,
        "ServiceUpdateStatus": status.value,
        "ServiceUpdateRecommendedApplyByDate": moment(update.apply_by),
        "ServiceUpdateType": TYPE,
        "UpdateActionAvailableDate": moment(action.available_at),
        "UpdateActionStatus": action.status.value,
        "NodesUpdated": f"{done}/{len(action.nodes)}",
        "UpdateActionStatusModifiedDate": moment(action.modified_at),
        "SlaMet": _sla_met(call, action, update),
        "EstimatedUpdateTime": f"{_SECONDS_PER_NODE * max(len(action.nodes) - done, 1)} seconds",
        "Engine": update.engine.value,
    }
    if nodes and action.is_group:
        shape["NodeGroupUpdateStatus"] = [
            {
                "NodeGroupId": shard,
                "NodeGroupMemberUpdateStatus": [
                    {"CacheClusterId": node.cluster_id} | _node(action, node) for node in of_shard
                ],
            }
            for shard, of_shard in groupby(sorted(action.nodes, key=lambda n: n.shard), key=lambda n: n.shard)
        ]
    elif nodes:
        shape["CacheNodeUpdateStatus"] = [_node(action, node) for node in action.nodes]
    return shape


def _node(action: UpdateAction, node: NodeUpdate) -> Shape:
    shape: Shape = {
        "CacheNodeId": node.node_id,
        "NodeUpdateStatus": node.status.value,
        "NodeUpdateStatusModifiedDate": moment(node.modified_at or action.available_at),
    }
    if node.started_at is not None:
        shape["NodeUpdateStartDate"] = moment(node.started_at)
    if node.ended_at is not None:
        shape["NodeUpdateEndDate"] = moment(node.ended_at)
    if action.asked_at is not None:
        shape |= {"NodeUpdateInitiatedBy": action.asked_by.value, "NodeUpdateInitiatedDate": moment(action.asked_at)}
    return shape


def _sla_met(call: Call, action: UpdateAction, update: ServiceUpdate) -> str:
    """yes: all nodes had it in time. n/a: whom it is for was made after that time (API reference, UpdateAction)."""
    resource = resource_of(call.services.store, action)
    members = members_for(call.services.store, resource) if resource is not None else []
    if resource is None or min([resource.created_at, *(m.created_at for m in members)]) > update.apply_by:
        return "n/a"
    in_time = all(
        node.status is ActionStatus.COMPLETE and (node.ended_at or 0.0) <= update.apply_by for node in action.nodes
    )
    return "yes" if in_time else "no"
