"""The truth table: every operation of the model, what it does here, and the test that proves it.

`docs/api-coverage.md` is drawn from it, and a test holds table, model and document together.
"""

from __future__ import annotations

from collections.abc import Mapping

from cachekeep.api.entry import Entry, Truth
from cachekeep.api.ops import (
    account,
    cache_clusters,
    create_group,
    failover,
    global_groups,
    global_node_groups,
    migration,
    modify_cluster,
    modify_group,
    parameter_groups,
    replica_counts,
    replication_groups,
    reserved_nodes,
    resharding,
    security_groups,
    serverless,
    serverless_snapshots,
    service_updates,
    snapshots,
    subnet_groups,
    tags,
    user_groups,
    users,
)
from cachekeep.codec.aws_model import Operation
from cachekeep.domain.faults import Fault

_GROUPS = "tests/scenarios/test_replication_groups.py::"
_CLUSTERS = "tests/scenarios/test_cache_clusters.py::"
_MEMCACHED = "tests/scenarios/test_memcached.py::"
_PARAMETERS = "tests/scenarios/test_parameter_groups.py::"
_SCALING = "tests/scenarios/test_scaling.py::"
_ACCOUNT = "tests/scenarios/test_account.py::"
REFUSED_PROOF = "tests/scenarios/test_refusals.py::test_every_other_operation_answers_a_declared_fault"

# Of the modules that say themselves what their operations do.
_OF_MODULES: Mapping[str, Entry] = {
    **snapshots.OPERATIONS,
    **reserved_nodes.OPERATIONS,
    **serverless.OPERATIONS,
    **serverless_snapshots.OPERATIONS,
    **service_updates.OPERATIONS,
    **global_groups.OPERATIONS,
    **global_node_groups.OPERATIONS,
    **migration.OPERATIONS,
    **users.OPERATIONS,
    **user_groups.OPERATIONS,
    **security_groups.OPERATIONS,
}

OPERATIONS: Mapping[str, Entry] = {
    **_OF_MODULES,
    "AddTagsToResource": Entry(
        tags.add_tags_to_resource, Truth.RECORDED, _ACCOUNT + "test_tags_by_arn", "Those of a group reach its members."
    ),
    "CreateCacheCluster": Entry(
        cache_clusters.create_cache_cluster,
        Truth.REAL,
        _CLUSTERS + "test_a_cluster_is_a_real_engine",
        "Valkey, Redis, Memcached, and a replica for a group. Snapshots, tokens, log delivery are real, TLS where an "
        "engine has it; zones, security and subnet groups are recorded; outposts are refused.",
    ),
    "CreateCacheParameterGroup": Entry(
        parameter_groups.create_cache_parameter_group, Truth.REAL, _PARAMETERS + "test_values_reach_the_engine"
    ),
    "CreateCacheSubnetGroup": Entry(
        subnet_groups.create_cache_subnet_group, Truth.RECORDED, _ACCOUNT + "test_subnet_groups"
    ),
    "CreateReplicationGroup": Entry(
        create_group.create_replication_group,
        Truth.REAL,
        _GROUPS + "test_replicas_really_replicate",
        "Cluster mode disabled, compatible and enabled, 1-90 node groups with their slots; or around a cluster that "
        "is there (PrimaryClusterId). Snapshots, users, tokens and log delivery are real, TLS where an engine has it, "
        "encryption at rest where the disk is encrypted. Zones, security and subnet groups are recorded; tiering and "
        "durability are refused.",
    ),
    "DecreaseReplicaCount": Entry(
        replica_counts.decrease_replica_count,
        Truth.REAL,
        _SCALING + "test_increase_and_decrease",
        "In all node groups or in some, or replicas by name. ApplyImmediately must be true.",
    ),
    "DeleteCacheCluster": Entry(
        cache_clusters.delete_cache_cluster, Truth.REAL, _CLUSTERS + "test_delete_leaves_nothing"
    ),
    "DeleteCacheParameterGroup": Entry(
        parameter_groups.delete_cache_parameter_group, Truth.REAL, _PARAMETERS + "test_a_group_in_use_is_kept"
    ),
    "DeleteCacheSubnetGroup": Entry(
        subnet_groups.delete_cache_subnet_group, Truth.RECORDED, _ACCOUNT + "test_subnet_groups"
    ),
    "DeleteReplicationGroup": Entry(
        replication_groups.delete_replication_group,
        Truth.REAL,
        _GROUPS + "test_delete_leaves_no_process_and_no_folder",
        "RetainPrimaryCluster and a final snapshot are real.",
    ),
    "DescribeCacheClusters": Entry(
        cache_clusters.describe_cache_clusters, Truth.REAL, _CLUSTERS + "test_a_cluster_is_a_real_engine"
    ),
    "DescribeCacheEngineVersions": Entry(
        account.describe_cache_engine_versions, Truth.REAL, _ACCOUNT + "test_engine_versions_are_those_of_this_machine"
    ),
    "DescribeCacheParameterGroups": Entry(
        parameter_groups.describe_cache_parameter_groups, Truth.REAL, _PARAMETERS + "test_default_groups"
    ),
    "DescribeCacheParameters": Entry(
        parameter_groups.describe_cache_parameters, Truth.REAL, _PARAMETERS + "test_values_reach_the_engine"
    ),
    "DescribeCacheSubnetGroups": Entry(
        subnet_groups.describe_cache_subnet_groups, Truth.RECORDED, _ACCOUNT + "test_subnet_groups"
    ),
    "DescribeEngineDefaultParameters": Entry(
        parameter_groups.describe_engine_default_parameters, Truth.REAL, _PARAMETERS + "test_default_groups"
    ),
    "DescribeEvents": Entry(account.describe_events, Truth.REAL, _GROUPS + "test_events_tell_what_happened"),
    "DescribeReplicationGroups": Entry(
        replication_groups.describe_replication_groups, Truth.REAL, _GROUPS + "test_replicas_really_replicate"
    ),
    "IncreaseReplicaCount": Entry(
        replica_counts.increase_replica_count,
        Truth.REAL,
        _SCALING + "test_increase_and_decrease",
        "In all node groups or in some. Zones are recorded. ApplyImmediately must be true.",
    ),
    "ListAllowedNodeTypeModifications": Entry(
        account.list_allowed_node_type_modifications, Truth.REAL, _ACCOUNT + "test_node_type_modifications"
    ),
    "ListTagsForResource": Entry(tags.list_tags_for_resource, Truth.RECORDED, _ACCOUNT + "test_tags_by_arn"),
    "ModifyCacheCluster": Entry(
        modify_cluster.modify_cache_cluster,
        Truth.REAL,
        _MEMCACHED + "test_nodes_are_added_and_removed",
        "Node count, node type (of Memcached by ScaleConfig, batch after batch), parameter group, windows, engine and "
        "version (by a restart) are real.",
    ),
    "ModifyCacheParameterGroup": Entry(
        parameter_groups.modify_cache_parameter_group, Truth.REAL, _PARAMETERS + "test_values_reach_the_engine"
    ),
    "ModifyCacheSubnetGroup": Entry(
        subnet_groups.modify_cache_subnet_group, Truth.RECORDED, _ACCOUNT + "test_subnet_groups"
    ),
    "ModifyReplicationGroup": Entry(
        modify_group.modify_replication_group,
        Truth.REAL,
        _GROUPS + "test_node_type_changes_maxmemory_at_once_or_in_the_window",
        "Node type, parameter group, automatic failover, PrimaryClusterId, engine and version (and back again), "
        "cluster mode and windows are real; description, Multi-AZ and topic are recorded; "
        "encryption in transit (off, preferred, required), users and tokens are real.",
    ),
    "ModifyReplicationGroupShardConfiguration": Entry(
        resharding.modify_replication_group_shard_configuration,
        Truth.REAL,
        "tests/scenarios/test_cluster_mode.py::test_resharding",
        "More node groups, fewer, or evenly divided slots. Zones are recorded; ApplyImmediately must be true.",
    ),
    "RebootCacheCluster": Entry(
        cache_clusters.reboot_cache_cluster,
        Truth.REAL,
        _CLUSTERS + "test_reboot_restarts_the_process_and_keeps_the_data",
    ),
    "RemoveTagsFromResource": Entry(tags.remove_tags_from_resource, Truth.RECORDED, _ACCOUNT + "test_tags_by_arn"),
    "ResetCacheParameterGroup": Entry(
        parameter_groups.reset_cache_parameter_group, Truth.REAL, _PARAMETERS + "test_reset_takes_values_back"
    ),
    "TestFailover": Entry(
        failover.test_failover,
        Truth.REAL,
        "tests/scenarios/test_failover.py::test_test_failover",
        "By a hand-over that loses nothing; the former primary's node is replaced afterwards. 15 node groups in 24 h.",
    ),
}

STS_OPERATIONS: Mapping[str, Entry] = {
    "GetCallerIdentity": Entry(account.get_caller_identity, Truth.RECORDED, _ACCOUNT + "test_caller_identity"),
}


def refusal(operation: Operation) -> Fault:
    """The declared fault of an operation that is not carried out yet."""
    text = f"{operation.name} is not available in this version of Cachekeep."
    for code in ("InvalidParameterCombination", "InvalidParameterValue"):
        if code in operation.faults:
            return Fault(code, text)
    return Fault("InvalidAction", text)
