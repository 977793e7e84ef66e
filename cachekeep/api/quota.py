"""What a request would bring the region or one group to, held against the quotas. Asked before anything begins.

The numbers: domain.quotas and the setting of that name. Whether this machine has the memory is api.capacity's.
"""

from __future__ import annotations

from cachekeep.api.context import Call
from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.faults import Fault


def check_more_nodes(call: Call, more: int, clusters: int = 0) -> None:
    """more: nodes that would be added, `clusters`: how many of the cache clusters that hold them would be new.

    Raises NodeQuotaForCustomerExceeded or ClusterQuotaForCustomerExceeded. Nodes that wait for a window count, those
    that are leaving do until they are gone.
    """
    # Those behind serverless caches are none that anybody has asked for.
    have = [c for c in call.services.store.all(CacheCluster, call.region) if c.serverless is None]
    nodes = sum(len(cluster.nodes) + len(cluster.pending.nodes_to_add) for cluster in have)
    quotas = call.services.quotas
    if nodes + more > quotas.nodes_per_region:
        raise Fault(
            "NodeQuotaForCustomerExceeded",
            f"A region can have at most {quotas.nodes_per_region} cache nodes; {call.region} has {nodes}, and {more} "
            "more were asked for.",
        )
    if clusters and len(have) + clusters > quotas.clusters_per_region:
        raise Fault(
            "ClusterQuotaForCustomerExceeded",
            f"A region can have at most {quotas.clusters_per_region} cache clusters; {call.region} has {len(have)}, "
            f"and {clusters} more were asked for.",
        )


def check_group_nodes(call: Call, total: int, code: str) -> None:
    """total: nodes that a replication group would have. code: the fault that the operation declares for it."""
    most = call.services.quotas.nodes_per_cluster
    if total > most:
        raise Fault(code, f"A replication group can have at most {most} nodes, and it would have {total}.")


def check_node_groups(call: Call, total: int) -> None:
    """Raises NodeGroupsPerReplicationGroupQuotaExceeded."""
    most = call.services.quotas.node_groups_per_replication_group
    if total > most:
        raise Fault(
            "NodeGroupsPerReplicationGroupQuotaExceeded",
            f"A replication group can have at most {most} node groups, and {total} were asked for.",
        )
