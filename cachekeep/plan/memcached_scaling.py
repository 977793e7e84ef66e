"""A Memcached cluster on its way to another node type: a part of its nodes at a time, a while between. Pure.

Each node of a batch is started anew with the memory of the new type, and comes back empty; the others serve on. The
batches: ScalePercentage of the nodes, rounded up, each begun ScaleIntervalMinutes after the one before, and never
before all nodes are in place again. Called by plan.memcached.
Source: ElastiCache guide "On-demand scaling for Memcached clusters".
"""

from __future__ import annotations

from dataclasses import replace

from cachekeep.domain.cache_cluster import CacheCluster, NodeStatus, Pending, ScaleConfig, Scaling

_MINUTE_S = 60.0


def begun(cluster: CacheCluster, pending: Pending) -> CacheCluster:
    """On its way. pending: what waited and is applied now; nodes that join have the new type from the start."""
    node_type, config = pending.node_type, pending.scale_config
    if node_type is None or node_type == cluster.node_type:
        return cluster
    new = tuple(n.node_id for n in pending.nodes_to_add)
    return replace(cluster, scaling=Scaling(node_type, config or ScaleConfig(), new))


def wait_s(cluster: CacheCluster, now: float) -> float | None:
    """Seconds until the next batch may begin, once all nodes are in place; None when nothing is on its way."""
    scaling = cluster.scaling
    if scaling is None:
        return None
    if scaling.step_at is None or len(scaling.scaled) >= len(cluster.nodes):
        return 0.0
    return max(scaling.step_at + scaling.config.interval_minutes * _MINUTE_S - now, 0.0)


def step(cluster: CacheCluster, now: float) -> tuple[CacheCluster, list[str]]:
    """The next batch begun, or the end; with the sentences to tell. Asked when all nodes are in place, and due."""
    scaling = cluster.scaling
    if scaling is None:
        return cluster, []
    left = [n for n in cluster.nodes if n.node_id not in scaling.scaled]
    if not left:
        text = f"Succeeded applying modification to cache node type to {scaling.node_type}"
        return replace(cluster, node_type=scaling.node_type, scaling=None), [text]
    size = -(-len(cluster.nodes) * scaling.config.percentage // 100)
    batch = [n.node_id for n in left[:size]]
    nodes = tuple(
        replace(n, status=NodeStatus.REBOOTING, reboot_from=n.process) if n.node_id in batch else n
        for n in cluster.nodes
    )
    scaling = replace(scaling, scaled=(*scaling.scaled, *batch), step_at=now)
    # The members are the same, but clients that keep connections open are to look again.
    version = cluster.configuration_version + 1
    text = f"Scaling cache nodes {', '.join(batch)} to {scaling.node_type}"
    return replace(cluster, nodes=nodes, scaling=scaling, configuration_version=version), [text]
