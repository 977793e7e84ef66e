"""A Memcached cluster on its way to another node type: batches, how long, and what is lost. Pure."""

from __future__ import annotations

from cachekeep.domain.cache_cluster import CacheCluster, ScaleConfig
from cachekeep.plan.previews import figures, words
from cachekeep.plan.previews.scene import Part, gap


def memcached(cluster: CacheCluster, node_type: str, config: ScaleConfig, nodes: int) -> Part:
    """cluster: as it was. nodes: how many are to get the type."""
    each = -(-nodes * config.percentage // 100)
    batches = -(-nodes // each) if nodes else 0
    pause_s = config.interval_minutes * 60.0
    steps = [
        f"{words.several(nodes, 'node')} of {cluster.id} {words.do(nodes, 'end')} and start empty with the memory of "
        f"{node_type}, {each} at a time."
    ]
    if batches > 1:
        steps.append(
            f"{words.several(batches, 'batch', 'batches')}, {words.seconds(pause_s)} between their beginnings; the "
            "cluster is `modifying` until the last is done."
        )
    warning = f"What the nodes of {cluster.id} hold is lost, batch after batch."
    total_s = pause_s * max(batches - 1, 0)
    return Part(
        tuple(steps),
        (gap(figures.empty_restart(), f"nodes of {cluster.id}", nodes),),
        (f"CacheNodeType={cluster.node_type} goes back in the same way; the data is gone.",),
        (warning,),
        least_s=total_s,
        most_s=total_s + 1.0,
    )
