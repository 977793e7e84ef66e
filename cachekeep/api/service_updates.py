"""Service updates in the store: which there are, whom they are for, and how one is begun.

Called by the operations, and by upkeep for what waits or is applied by itself.
"""

from __future__ import annotations

from dataclasses import replace

from cachekeep.api.context import Call, Services
from cachekeep.api.ops.members import members_of
from cachekeep.api.ops.modify_cluster import modify_cache_cluster
from cachekeep.api.ops.modify_group import modify_replication_group
from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.ports import Store, Transaction
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.service_updates import ServiceUpdate, UpdateAction, UpdateStatus
from cachekeep.plan.service_updates import Resource, observed, status_of


def offered_updates(services: Services) -> list[ServiceUpdate]:
    """Those that somebody could or can take, by name."""
    return [update for update in services.store.all(ServiceUpdate, "") if update.offered]


def shown_status(services: Services, update: ServiceUpdate) -> UpdateStatus:
    return status_of(update, services.catalogue.installs())


def resource_of(stored: Store | Transaction, action: UpdateAction) -> Resource | None:
    """The group or cluster that the action is for; None when it is gone, or became a member of a group."""
    if action.is_group:
        return stored.get(ReplicationGroup, action.region, action.resource_id)
    cluster = stored.get(CacheCluster, action.region, action.resource_id)
    return cluster if cluster is not None and cluster.replication_group_id is None else None


def members_for(stored: Store | Transaction, resource: Resource) -> list[CacheCluster]:
    return members_of(stored, resource) if isinstance(resource, ReplicationGroup) else [resource]


def as_seen(services: Services, action: UpdateAction) -> UpdateAction | None:
    """The action as its members show it now; None when whom it is for is gone."""
    store = services.store
    resource, update = resource_of(store, action), store.get(ServiceUpdate, "", action.update)
    if resource is None or update is None:
        return None
    return observed(action, update, resource, members_for(store, resource), services.clock.now())


def begin(services: Services, update: ServiceUpdate, resource: Resource) -> None:
    """Change the version now, exactly as a Modify with ApplyImmediately. Raises the fault that it would answer."""
    is_group = isinstance(resource, ReplicationGroup)
    params: dict[str, object] = {"EngineVersion": str(update.version), "ApplyImmediately": True}
    params["ReplicationGroupId" if is_group else "CacheClusterId"] = resource.id
    name = "ModifyReplicationGroup" if is_group else "ModifyCacheCluster"
    call = Call(services, name, resource.region, params)
    if is_group:
        modify_replication_group(call)
    else:
        modify_cache_cluster(call)


def stop(services: Services, group: ReplicationGroup) -> None:
    """End the change of version that goes on: nodes that have it keep it."""
    change = group.engine_change
    if change is None or change.done_at is not None:
        raise ValueError(f"{group.id} changes no version")
    with services.store.transaction() as work:
        work.replace(group, replace(group, engine_change=replace(change, stopping=True)))
