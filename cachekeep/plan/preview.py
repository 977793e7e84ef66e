"""What a request will mean before it is carried out: steps, pause of writes, memory, what can be undone. Pure.

Computed from the stored resources before and after it, as its own handler would leave them; called by api.rehearsal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.nodes import NodeKey, ObservedNode
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.plan.decision import Limits
from cachekeep.plan.placement import node_bytes
from cachekeep.plan.previews import (
    following,
    membership,
    modes,
    roles,
    scaling,
    shards,
    snapshots,
    users,
    values,
    versions,
    waiting,
)
from cachekeep.plan.previews.scene import Gap, Part, Resources, Scene, is_going
from cachekeep.plan.specs import Abilities, Catalog


@dataclass(frozen=True)
class Memory:
    """What the nodes of the resources concerned may grow to, in bytes: now, at most meanwhile, and afterwards."""

    now_bytes: int = 0
    meanwhile_bytes: int = 0
    afterwards_bytes: int = 0


@dataclass(frozen=True)
class Preview:
    """resources: what is concerned, by name. changes: anything at all would be stored.

    begins_at: seconds since 1970, None for at once. least_s, most_s: how long it takes, 0 where it is no matter.
    """

    resources: tuple[str, ...]
    changes: bool
    steps: tuple[str, ...]
    gaps: tuple[Gap, ...]
    memory: Memory
    undo: tuple[str, ...]
    warnings: tuple[str, ...]
    begins_at: float | None
    least_s: float
    most_s: float


def preview(
    before: Resources,
    after: Resources,
    seen: Mapping[NodeKey, ObservedNode],
    catalog: Catalog,
    abilities: Abilities,
    *,
    now: float,
    limits: Limits | None = None,
) -> Preview:
    """now: seconds since 1970. seen: the last look at every node; what it lacks is told as not known."""
    scene = Scene(before, after, seen, catalog, abilities, limits or Limits(), now)
    groups, clusters = _concerned(scene)
    parts = [part for name in groups for part in _group(scene, name)]
    parts += [part for name in clusters for part in _cluster(scene, name)]
    parts += _parameter_groups(scene)
    parts += following.datastores(scene)
    parts += snapshots.snapshots(scene)
    parts += users.told(scene)
    changes = before != after
    if not parts:
        text = "Only what is shown changes; no engine is concerned." if changes else "Nothing changes."
        parts = [Part((text,))]
    begins = [part.begins_at for part in parts]
    return Preview(
        resources=(*groups, *clusters),
        changes=changes,
        steps=_once(step for part in parts for step in part.steps),
        gaps=tuple(gap for part in parts for gap in part.gaps),
        memory=_memory(scene, groups, clusters),
        undo=_once(text for part in parts for text in part.undo),
        warnings=_once(text for part in parts for text in part.warnings),
        begins_at=min((at for at in begins if at is not None), default=None) if None not in begins else None,
        least_s=sum(part.least_s for part in parts),
        most_s=sum(part.most_s for part in parts),
    )


def _once(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))


def _concerned(scene: Scene) -> tuple[list[str], list[str]]:
    """Names of the groups, and of the clusters of no group, that would be stored anew."""
    old, new = scene.before, scene.after
    clusters = sorted(
        name for name in old.clusters.keys() | new.clusters.keys() if old.clusters.get(name) != new.clusters.get(name)
    )
    groups = {name for name in old.groups.keys() | new.groups.keys() if old.groups.get(name) != new.groups.get(name)}
    own = []
    for name in clusters:
        owners = {c.replication_group_id for c in (old.clusters.get(name), new.clusters.get(name)) if c is not None}
        owners.discard(None)
        groups |= {owner for owner in owners if owner is not None}
        if not owners:
            own.append(name)
    return sorted(groups), own


def _group(scene: Scene, name: str) -> list[Part]:
    old, new = scene.before.groups.get(name), scene.after.groups.get(name)
    if old is None:
        return [membership.created(scene, new)] if new is not None else []
    if new is None or new.final_snapshot != old.final_snapshot or (new.status != old.status and _is_deleted(new)):
        return [membership.deleted(scene, new or old)]
    parts = _structure(scene, old, new)
    parts += _engine(scene, old, new)
    parts += roles.hand_overs(scene, old, new)
    parts += following.migrations(old, new)
    parts += _reboots(scene, new)
    if new.automatic_failover != old.automatic_failover:
        parts.append(waiting.automatic_failover(enabled=new.automatic_failover))
    return parts + waiting.of_group(scene, old, new)


def _is_deleted(group: ReplicationGroup) -> bool:
    return group.status.value == "deleting"


def _structure(scene: Scene, old: ReplicationGroup, new: ReplicationGroup) -> list[Part]:
    """Members, shards, cluster mode."""
    parts = membership.replicas(scene, old, new)
    if new.cluster_mode is not old.cluster_mode:
        return [*parts, modes.cluster_mode(scene, old, new)]
    moved = shards.resharding(scene, old, new) if new.clustered else None
    return [*parts, moved] if moved is not None else parts


def _engine(scene: Scene, old: ReplicationGroup, new: ReplicationGroup) -> list[Part]:
    """Version, node type, parameters."""
    members = scene.before.members(old)
    parts = []
    if new.node_type != old.node_type:
        parts.append(values.node_type(scene, members, old.node_type, new.node_type, clustered=new.clustered))
    change = new.engine_change
    if change is not None and change != old.engine_change:
        return [*parts, versions.of_group(scene, old, change.engine, change.version)]
    if new.parameter_group != old.parameter_group:
        after = scene.after.members(new)
        parts.append(values.parameters(scene, after, old.parameter_group, clustered=new.clustered))
    return parts


def _reboots(scene: Scene, group: ReplicationGroup) -> list[Part]:
    parts = []
    for member in scene.after.members(group):
        before = scene.before.clusters.get(member.id)
        part = membership.rebooted(scene, before, member, group) if before is not None else None
        if part is not None:
            parts.append(part)
    return parts


def _cluster(scene: Scene, name: str) -> list[Part]:
    old, new = scene.before.clusters.get(name), scene.after.clusters.get(name)
    if old is None:
        return [membership.single_created(scene, new)] if new is not None else []
    if new is None or new.final_snapshot != old.final_snapshot or (is_going(new) and not is_going(old)):
        return [membership.single_deleted(scene, new or old)]
    parts = []
    if new.node_type != old.node_type:
        parts.append(values.node_type(scene, [old], old.node_type, new.node_type, clustered=False))
    if (new.engine, new.version) != (old.engine, old.version):
        parts.append(versions.of_cluster(scene, old, new.engine, new.version))
    elif new.parameter_group != old.parameter_group:
        parts.append(values.parameters(scene, [new], old.parameter_group, clustered=False))
    reboot = membership.rebooted(scene, old, new, None)
    parts += [reboot] if reboot is not None else []
    if not new.engine.speaks_resp:
        parts += membership.memcached_nodes(scene, old, new)
    if new.scaling is not None and new.scaling != old.scaling:
        count = len(new.nodes) - len(new.scaling.scaled)
        parts.append(scaling.memcached(old, new.scaling.node_type, new.scaling.config, count))
    return parts + waiting.of_cluster(scene, old, new)


def _parameter_groups(scene: Scene) -> list[Part]:
    parts = []
    for name in sorted(scene.before.parameters.keys() | scene.after.parameters.keys()):
        old, new = scene.before.parameters.get(name), scene.after.parameters.get(name)
        if old is None and new is not None:
            parts.append(
                Part((f"The parameter group {name} is made; no cache runs with it yet.",), undo=("Delete it.",))
            )
        elif new is None and old is not None:
            parts.append(Part((f"The parameter group {name} goes; no cache runs with it.",), undo=("Make it again.",)))
        elif old is not None and new is not None and old != new:
            parts += values.group_values(scene, old, new)
    return parts


def _memory(scene: Scene, groups: list[str], clusters: list[str]) -> Memory:
    """Of every cluster that belongs to what is concerned: second instances count meanwhile."""
    names = set(clusters)
    for resources in (scene.before, scene.after):
        names |= {c.id for c in resources.clusters.values() if c.replication_group_id in groups}
    now = meanwhile = afterwards = 0
    for name in names:
        old, new = scene.before.clusters.get(name), scene.after.clusters.get(name)
        was = _cluster_bytes(scene, old, spare=True) if old is not None else 0
        will = _cluster_bytes(scene, new, spare=True) if new is not None else 0
        now += was
        meanwhile += max(was, will)
        afterwards += 0 if new is None or is_going(new) else _cluster_bytes(scene, new, spare=False)
    return Memory(now, meanwhile, afterwards)


def _cluster_bytes(scene: Scene, cluster: CacheCluster, *, spare: bool) -> int:
    """spare: while everything that comes or leaves is there, with the larger of the node types; else in the end."""
    types = scene.catalog.node_types
    pending = cluster.pending
    coming = cluster.scaling.node_type if cluster.scaling is not None else pending.node_type
    sizes = [node_bytes(cluster.engine, types[t]) for t in (cluster.node_type, coming) if t is not None]
    if cluster.memory_bytes is not None:
        sizes = [cluster.memory_bytes]
    nodes = len(cluster.nodes) + len(pending.nodes_to_add)
    if spare:
        return max(sizes) * (nodes + (cluster.spare is not None) + (pending.spare is not None))
    return sizes[-1] * (nodes - len(pending.node_ids_to_remove))
