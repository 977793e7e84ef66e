"""Units of control: a replication group with its members, or a cluster of its own."""

from __future__ import annotations

from dataclasses import dataclass

from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.ports import Store
from cachekeep.domain.replication_group import ReplicationGroup


@dataclass(frozen=True)
class Unit:
    """Names what one task cares for."""

    region: str
    id: str
    is_group: bool

    def __str__(self) -> str:
        return f"{'group' if self.is_group else 'cluster'} {self.region}/{self.id}"


def unit_of(resource: ReplicationGroup | CacheCluster) -> Unit:
    """A member is cared for by its group."""
    if isinstance(resource, ReplicationGroup):
        return Unit(resource.region, resource.id, True)
    if resource.replication_group_id is not None:
        return Unit(resource.region, resource.replication_group_id, True)
    return Unit(resource.region, resource.id, False)


def load_unit(store: Store, unit: Unit) -> tuple[ReplicationGroup | None, list[CacheCluster]]:
    """The group, if it is one, and its clusters in order; (None, []) when it is gone."""
    if not unit.is_group:
        cluster = store.get(CacheCluster, unit.region, unit.id)
        return None, [cluster] if cluster is not None and cluster.replication_group_id is None else []
    group = store.get(ReplicationGroup, unit.region, unit.id)
    if group is None:
        return None, []
    members = [store.get(CacheCluster, unit.region, member_id) for member_id in group.member_ids]
    return group, [m for m in members if m is not None]
