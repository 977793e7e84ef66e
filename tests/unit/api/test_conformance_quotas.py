"""Every quota of AWS's model, by operation: the request that is right but for one too many gets the declared fault."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from desk import SERVICE
from happy_requests import G_ARN, GLOBAL, HAPPY, HOME
from stage import Stage

from cachekeep.api.ops import security_groups, serverless, serverless_snapshots, user_groups, users
from cachekeep.api.ops.failover import MOST_TESTS
from cachekeep.domain.quotas import Quotas
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.security_group import SecurityGroup
from cachekeep.domain.serverless import ServerlessCache
from cachekeep.domain.snapshot import Snapshot
from cachekeep.domain.users import User, UserGroup
from cachekeep.plan.placement import Machine

NODES, CLUSTERS = "NodeQuotaForCustomerExceeded", "ClusterQuotaForCustomerExceeded"
OF_GROUP, NODE_GROUPS = "NodeQuotaForClusterExceeded", "NodeGroupsPerReplicationGroupQuotaExceeded"
SNAPSHOTS, CACHE_SNAPSHOTS = "SnapshotQuotaExceededFault", "ServerlessCacheSnapshotQuotaExceededFault"
TAGS = "TagQuotaPerResourceExceeded"


@dataclass(frozen=True)
class Case:
    """more: beside the right request. services: of the scene. full: what makes it full there."""

    operation: str
    code: str
    more: Mapping[str, Any] = field(default_factory=dict)
    services: Mapping[str, Any] = field(default_factory=dict)
    full: Callable[[Stage], None] = lambda _: None

    def __str__(self) -> str:
        return f"{self.operation}-{self.code}"


def filled(kind: Any, name: str, most: int) -> Callable[[Stage], None]:
    """As many of a kind as there may be: copies of one."""

    def fill(scene: Stage) -> None:
        with scene.services.store.transaction() as work:
            one = work.get(kind, HOME, name)
            assert one is not None
            called = "id" if hasattr(one, "id") else "name"
            for number in range(most - len(work.all(kind, HOME))):
                work.insert(replace(one, **{called: f"filler{number}"}))

    return fill


def of_cluster(scene: Stage) -> None:
    scene.put(Snapshot, "sn", group_id=None, cluster_id="c")


def of_serverless(scene: Stage) -> None:
    with scene.services.store.transaction() as work:
        one = work.get(Snapshot, HOME, "serverless--ss")
        assert one is not None
        for number in range(serverless_snapshots.MOST_IN_A_DAY - 1):
            work.insert(replace(one, name=f"serverless--filler{number}"))


def after_many_failovers(scene: Stage) -> None:
    scene.put(ReplicationGroup, "g", tested_at=(scene.services.clock.now(),) * MOST_TESTS)


def quotas(**given: int) -> dict[str, Any]:
    return {"quotas": Quotas(**given)}


_FULL = quotas(nodes_per_region=1)
_FULL_CLUSTERS = quotas(clusters_per_region=1)
_DAY = {"snapshots_per_day": 1}
_MANY_SUBNETS = {"SubnetIds": [f"subnet-{number}" for number in range(21)]}
_MEMCACHED = {"Engine": "memcached", "NumCacheNodes": 41}

CASES = [
    Case("CopyServerlessCacheSnapshot", CACHE_SNAPSHOTS, full=of_serverless),
    Case("CopySnapshot", SNAPSHOTS, services=_DAY),
    Case("CreateCacheCluster", CLUSTERS, services=_FULL_CLUSTERS),
    Case("CreateCacheCluster", NODES, services=_FULL),
    Case("CreateCacheCluster", OF_GROUP, _MEMCACHED),
    Case("CreateCacheParameterGroup", "CacheParameterGroupQuotaExceeded", services=quotas(parameter_groups=1)),
    Case(
        "CreateCacheSecurityGroup", "QuotaExceeded.CacheSecurityGroup",
        full=filled(SecurityGroup, "csg", security_groups.MOST_GROUPS),
    ),
    Case("CreateCacheSubnetGroup", "CacheSubnetGroupQuotaExceeded", services=quotas(subnet_groups=1)),
    Case("CreateCacheSubnetGroup", "CacheSubnetQuotaExceededFault", _MANY_SUBNETS),
    Case("CreateReplicationGroup", CLUSTERS, services=_FULL_CLUSTERS),
    Case("CreateReplicationGroup", NODES, services=_FULL),
    Case(
        "CreateReplicationGroup", OF_GROUP, {"NumNodeGroups": 2, "ReplicasPerNodeGroup": 1},
        quotas(nodes_per_cluster=3),
    ),
    Case("CreateReplicationGroup", NODE_GROUPS, {"NumNodeGroups": 91}),
    Case(
        "CreateServerlessCache", "ServerlessCacheQuotaForCustomerExceededFault",
        full=filled(ServerlessCache, "sc", serverless.MOST_CACHES),
    ),
    Case("CreateServerlessCacheSnapshot", CACHE_SNAPSHOTS, full=of_serverless),
    Case("CreateSnapshot", SNAPSHOTS, services=_DAY),
    Case("CreateUser", "UserQuotaExceeded", full=filled(User, "u", users.MOST_USERS)),
    Case("CreateUserGroup", "UserGroupQuotaExceeded", full=filled(UserGroup, "ug", user_groups.MOST_GROUPS)),
    Case("DeleteCacheCluster", SNAPSHOTS, {"FinalSnapshotIdentifier": "new"}, _DAY, of_cluster),
    Case("DeleteReplicationGroup", SNAPSHOTS, {"FinalSnapshotIdentifier": "new"}, _DAY),
    Case("IncreaseReplicaCount", CLUSTERS, services=_FULL_CLUSTERS),
    Case("IncreaseReplicaCount", NODES, services=_FULL),
    Case("ModifyCacheCluster", NODES, services=_FULL),
    Case("ModifyCacheCluster", OF_GROUP, {"NumCacheNodes": 41}),
    Case("ModifyCacheSubnetGroup", "CacheSubnetQuotaExceededFault", _MANY_SUBNETS),
    Case("ModifyReplicationGroupShardConfiguration", NODE_GROUPS, {"NodeGroupCount": 91}),
    Case("ModifyReplicationGroupShardConfiguration", NODES, services=_FULL),
    Case(
        "PurchaseReservedCacheNodesOffering", "ReservedCacheNodeQuotaExceeded",
        services=quotas(reserved_nodes_per_region=1),
    ),
    Case("TestFailover", "APICallRateForCustomerExceeded", full=after_many_failovers),
    *(
        Case(name, TAGS, {"Tags": [{"Key": f"key-{number}", "Value": "x"} for number in range(51)]})
        for name in sorted(SERVICE.operations) if TAGS in SERVICE.operations[name].faults
    ),
]  # fmt: skip
# Declared, and never reached: these operations make nothing more of it.
_NEVER = {
    ("DecreaseReplicaCount", CLUSTERS), ("DecreaseReplicaCount", NODES), ("DecreaseReplicaCount", NODE_GROUPS),
    ("IncreaseReplicaCount", NODE_GROUPS), ("ModifyReplicationGroup", OF_GROUP), ("ModifyReplicationGroup", NODES),
}  # fmt: skip


def test_every_quota_that_the_model_declares_is_here() -> None:
    words = ("Quota", "APICallRate")
    declared = {
        (name, code) for name, op in SERVICE.operations.items() for code in op.faults if any(w in code for w in words)
    }
    assert {(case.operation, case.code) for case in CASES} | _NEVER == declared


@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_too_many(stage: Stage, case: Case) -> None:
    fields = stage.fields(case.operation, {**HAPPY[case.operation], **case.more})
    with stage.scene(**case.services) as scene:
        case.full(scene)
        code, message = scene.refusal(fields)
    assert code == case.code, message
    assert message


def test_fifty_tags_in_all(stage: Stage) -> None:
    """What there is counts, too: `g` has one."""
    for more, code in ((49, ""), (50, TAGS)):
        tags = [{"Key": f"key-{number}", "Value": "x"} for number in range(more)]
        with stage.scene() as scene:
            wish = scene.fields("AddTagsToResource", {"ResourceName": G_ARN, "Tags": tags})
            assert scene.refusal(wish)[0] == code


def test_a_global_datastore_changes_as_a_whole_or_not_at_all(stage: Stage) -> None:
    """Of machines that have memory for none, one and all of its members, only the last lets any of them begin."""
    before = stage.everything()
    wish = {"GlobalReplicationGroupId": GLOBAL, "ApplyImmediately": True, "CacheNodeType": "cache.m5.xlarge"}
    fields = stage.fields("ModifyGlobalReplicationGroup", wish)
    refused = 0
    for gib in range(8, 1024, 4):
        machine = Machine(gib << 30, 1.0)
        with stage.scene(machine=machine) as scene:
            if scene.refusal(fields)[0] == "":
                break
        small = Stage(replace(stage.services, machine=machine), stage.names)
        assert small.refusal(fields)[0] == "InvalidParameterValue"
        assert small.everything() == before
        refused += 1
    assert 0 < refused < 254
