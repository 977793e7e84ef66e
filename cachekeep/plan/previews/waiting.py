"""What a request leaves for the maintenance window, and when that opens. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from cachekeep.domain.cache_cluster import CacheCluster, NodeStatus, Pending, ScaleConfig
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.plan import windows
from cachekeep.plan.previews import scaling, values, versions, words
from cachekeep.plan.previews.scene import Part, Scene

_MINUTE_S = 60
_WEEK_M = 7 * 24 * 60


def next_opening(window: str, now: float) -> float:
    """When the weekly window opens next, in seconds since 1970; `now` while it is open."""
    if windows.is_open(window, now):
        return now
    # A window is open for an hour at least, so no look half an hour apart misses it; then minute by minute.
    start = now - now % _MINUTE_S
    found = next(m for m in range(0, _WEEK_M + 60, 30) if windows.is_open(window, start + m * _MINUTE_S))
    first = next(m for m in range(found - 30, found + 1) if windows.is_open(window, start + m * _MINUTE_S))
    return start + first * _MINUTE_S


def of_group(scene: Scene, old: ReplicationGroup, new: ReplicationGroup) -> list[Part]:
    """Parts for what waits after the request and did not wait, or waited otherwise, before it."""
    was, waits = old.pending, new.pending
    members = scene.before.members(old)
    parts = []
    if waits.node_type is not None and waits.node_type != was.node_type:
        parts.append(values.node_type(scene, members, old.node_type, waits.node_type, clustered=new.clustered))
    if waits.version is not None and waits.version != was.version:
        parts.append(versions.of_group(scene, old, waits.engine or old.engine, waits.version))
    if waits.automatic_failover is not None and waits.automatic_failover != was.automatic_failover:
        parts.append(automatic_failover(enabled=waits.automatic_failover))
    done = {new.node_type, new.automatic_failover, new.engine_change.version if new.engine_change else None}
    return _at_the_window(scene, new, parts) + _taken_back(was, waits, done)


def automatic_failover(*, enabled: bool) -> Part:
    if enabled:
        text = "A primary that dies or hangs is replaced by its best replica without being asked for."
    else:
        text = "A primary that hangs is not replaced any more; replicas may be promoted with PrimaryClusterId."
    back = str(not enabled).lower()
    return Part((text,), undo=(f"AutomaticFailoverEnabled={back}.",))


def of_cluster(scene: Scene, old: CacheCluster, new: CacheCluster) -> list[Part]:
    """The same for a cluster of its own."""
    was, waits = old.pending, new.pending
    parts = []
    if waits.node_type is not None and waits.node_type != was.node_type:
        if new.engine.speaks_resp:
            parts.append(values.node_type(scene, [old], old.node_type, waits.node_type, clustered=False))
        else:
            config = waits.scale_config or ScaleConfig()
            parts.append(scaling.memcached(old, waits.node_type, config, len(old.nodes)))
    if waits.version is not None and waits.version != was.version:
        parts.append(versions.of_cluster(scene, old, waits.engine or old.engine, waits.version))
    if waits.nodes_to_add and waits.nodes_to_add != was.nodes_to_add:
        names = words.listed([str(n.address) for n in waits.nodes_to_add])
        count = len(waits.nodes_to_add)
        parts.append(Part((f"{words.several(count, 'node')} {words.do(count, 'start')} empty: {names}.",)))
    if waits.node_ids_to_remove and waits.node_ids_to_remove != was.node_ids_to_remove:
        parts.append(Part((f"With what is in them, these nodes end: {words.listed(waits.node_ids_to_remove)}.",)))
    types = {new.node_type, new.scaling.node_type if new.scaling is not None else None}
    done = {*types, new.version, new.nodes[len(old.nodes) :] or None}
    gone = tuple(n.node_id for n in new.nodes if n.status is NodeStatus.DELETING)
    return _at_the_window(scene, new, parts) + _taken_back(was, waits, {*done, gone or None})


def _at_the_window(scene: Scene, resource: ReplicationGroup | CacheCluster, parts: Sequence[Part]) -> list[Part]:
    if not parts:
        return []
    window = resource.upkeep.maintenance_window
    opens = next_opening(window, scene.now)
    first = f"Nothing happens before the maintenance window {window} opens, next at {words.moment(opens)}; then:"
    undo = "Until then: ask for the present value again, and nothing waits any more."
    head = Part((first,), undo=(undo,), begins_at=opens)
    return [head, *(replace(part, begins_at=opens) for part in parts)]


def _taken_back(was: Pending, waits: Pending, done: Collection[object]) -> list[Part]:
    """done: what waited and is applied by this request."""
    waited = (
        ("node type", was.node_type, waits.node_type),
        ("engine version", was.version, waits.version),
        ("nodes to be added", was.nodes_to_add or None, waits.nodes_to_add or None),
        ("nodes to be removed", was.node_ids_to_remove or None, waits.node_ids_to_remove or None),
        ("automatic failover", was.automatic_failover, waits.automatic_failover),
    )
    dropped = [what for what, old, new in waited if old is not None and new is None and old not in done]
    return [Part((f"What waited for the window ({words.listed(dropped)}) waits no more.",))] if dropped else []
