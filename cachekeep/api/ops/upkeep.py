"""Windows, notification and the like: what ModifyReplicationGroup and ModifyCacheCluster change without any engine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cachekeep.api import choose
from cachekeep.api.context import Call
from cachekeep.api.log_delivery import with_log_deliveries
from cachekeep.domain.cache_cluster import CacheCluster, Upkeep
from cachekeep.domain.faults import invalid_value
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.plan import windows


def modified_upkeep(call: Call, resource: ReplicationGroup | CacheCluster) -> Upkeep:
    """The upkeep with what the request changes of it."""
    choose.refuse_cache_security_groups(call)
    changes: dict[str, Any] = {}
    maintenance = call.text("PreferredMaintenanceWindow")
    if maintenance is not None:
        changes["maintenance_window"] = windows.maintenance_window(maintenance)
    snapshot = call.text("SnapshotWindow")
    if snapshot is not None:
        changes["snapshot_window"] = windows.snapshot_window(snapshot)
    days = choose.snapshot_retention(call)
    if days is not None:
        choose.refuse_snapshots_of(resource.engine, resource.node_type, days)
        changes["snapshot_retention"] = days
    automatic = call.flag("AutoMinorVersionUpgrade")
    if automatic is not None:
        changes["auto_minor_version_upgrade"] = automatic
    topic = call.text("NotificationTopicArn")
    if topic is not None:
        # Named again it is not looked up again: what was deleted meanwhile does not stand in the way of other changes.
        same = topic == resource.upkeep.notification_topic
        named = topic if same else choose.notification_topic(call, topic)
        changes |= {"notification_topic": named, "notification_active": True}
    topic_status = call.text("NotificationTopicStatus")
    if topic_status is not None:
        if topic_status not in ("active", "inactive"):
            raise invalid_value("NotificationTopicStatus must be active or inactive.")
        changes["notification_active"] = topic_status == "active"
    if call.params.get("SecurityGroupIds") is not None:
        changes["security_group_ids"] = call.texts("SecurityGroupIds")
    changed = replace(resource.upkeep, **changes)
    return with_log_deliveries(call, changed, resource.engine, resource.version)
