"""Every operation of AWS's model, asked of what is busy: by state, the fault that the model declares, or an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import pytest
from desk import SERVICE
from happy_requests import AWAY, HAPPY, HOME
from stage import MODEL, Stage

from cachekeep.domain.cache_cluster import CacheCluster, Status
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.serverless import ServerlessCache, ServerlessStatus
from cachekeep.domain.snapshot import Snapshot, SnapshotStatus
from cachekeep.domain.users import User, UserGroup, UserStatus

GROUP, CLUSTER = "InvalidReplicationGroupState", "InvalidCacheClusterState"
CACHE, CACHE_SNAPSHOT = "InvalidServerlessCacheStateFault", "InvalidServerlessCacheSnapshotStateFault"
DATASTORE, SNAPSHOT = "InvalidGlobalReplicationGroupState", "InvalidSnapshotState"
USER, USERS = "InvalidUserState", "InvalidUserGroupState"


@dataclass(frozen=True)
class Case:
    """more: beside the right request. free: the states in which it is answered, beside `available` or `active`."""

    operation: str
    kind: Any
    name: str
    code: str
    more: Mapping[str, Any] = field(default_factory=dict)
    free: frozenset[StrEnum] = frozenset()
    region: str = HOME

    def __str__(self) -> str:
        return "-".join((self.operation, self.kind.__name__, *self.more))

    @property
    def states(self) -> type[StrEnum]:
        return _STATES[self.kind]


_STATES: Mapping[Any, type[StrEnum]] = {
    ReplicationGroup: Status,
    CacheCluster: Status,
    ServerlessCache: ServerlessStatus,
    Snapshot: SnapshotStatus,
    User: UserStatus,
    UserGroup: UserStatus,
}
_AT_REST = {Status.AVAILABLE, ServerlessStatus.AVAILABLE, SnapshotStatus.AVAILABLE, UserStatus.ACTIVE}
# A delete gives up what else is under way, but for a snapshot that is being read.
_UNDER_WAY = frozenset(set(Status) - {Status.DELETING, Status.SNAPSHOTTING})
_ANY = frozenset(Status)

CASES = [
    Case("CompleteMigration", ReplicationGroup, "mig", GROUP, free=_ANY - {Status.DELETING}),
    Case("CopyServerlessCacheSnapshot", Snapshot, "serverless--ss", CACHE_SNAPSHOT),
    Case("CopySnapshot", Snapshot, "sn", SNAPSHOT),
    Case("CreateCacheCluster", ReplicationGroup, "g", GROUP, {"ReplicationGroupId": "g", "Engine": None}),
    Case("CreateGlobalReplicationGroup", ReplicationGroup, "g", GROUP),
    Case("CreateReplicationGroup", CacheCluster, "c", CLUSTER, {"PrimaryClusterId": "c"}),
    Case("CreateReplicationGroup", UserGroup, "ug", USERS, {"UserGroupIds": ["ug"]}),
    Case("CreateServerlessCache", UserGroup, "ug", USERS, {"UserGroupId": "ug"}),
    Case("CreateServerlessCacheSnapshot", ServerlessCache, "sc", CACHE),
    Case("CreateSnapshot", ReplicationGroup, "g", GROUP),
    Case("CreateSnapshot", CacheCluster, "c", CLUSTER, {"CacheClusterId": "c", "ReplicationGroupId": None}),
    Case("DecreaseReplicaCount", ReplicationGroup, "gc", GROUP),
    Case("DeleteCacheCluster", CacheCluster, "c", CLUSTER, free=_UNDER_WAY),
    Case("DeleteCacheCluster", CacheCluster, "c", CLUSTER, {"FinalSnapshotIdentifier": "new"}),
    Case("DeleteReplicationGroup", ReplicationGroup, "g", GROUP, free=_UNDER_WAY),
    Case("DeleteReplicationGroup", ReplicationGroup, "g", GROUP, {"FinalSnapshotIdentifier": "new"}),
    Case("DeleteReplicationGroup", ReplicationGroup, "g", GROUP, {"RetainPrimaryCluster": True}),
    Case(
        "DeleteServerlessCache", ServerlessCache, "sc", CACHE,
        free=frozenset(set(ServerlessStatus) - {ServerlessStatus.DELETING}),
    ),
    Case("DeleteServerlessCache", ServerlessCache, "sc", CACHE, {"FinalSnapshotName": "new"}),
    Case("DeleteServerlessCacheSnapshot", Snapshot, "serverless--ss", CACHE_SNAPSHOT),
    Case("DeleteSnapshot", Snapshot, "sn", SNAPSHOT),
    Case("DeleteUser", User, "u", USER),
    Case("DeleteUser", UserGroup, "ug", USER),
    Case("DeleteUserGroup", UserGroup, "ug", USERS),
    Case("DisassociateGlobalReplicationGroup", ReplicationGroup, "gs", DATASTORE, free=_ANY, region=AWAY),
    Case("ExportServerlessCacheSnapshot", Snapshot, "serverless--ss", CACHE_SNAPSHOT),
    Case("FailoverGlobalReplicationGroup", ReplicationGroup, "gs", DATASTORE, region=AWAY),
    Case("IncreaseReplicaCount", ReplicationGroup, "g", GROUP),
    Case("ModifyCacheCluster", CacheCluster, "m", CLUSTER),
    Case(
        "ModifyGlobalReplicationGroup", ReplicationGroup, "gs", DATASTORE, {"CacheNodeType": "cache.m5.xlarge"},
        region=AWAY,
    ),
    Case("ModifyReplicationGroup", ReplicationGroup, "g", GROUP),
    Case("ModifyReplicationGroup", UserGroup, "ug", USERS, {"UserGroupIdsToAdd": ["ug"]}),
    Case("ModifyReplicationGroupShardConfiguration", ReplicationGroup, "gc", GROUP),
    Case("ModifyServerlessCache", ServerlessCache, "sc", CACHE),
    Case("ModifyServerlessCache", UserGroup, "ug", USERS, {"UserGroupId": "ug"}),
    Case("ModifyUser", User, "u", USER),
    Case("ModifyUserGroup", UserGroup, "ug", USERS),
    Case("DecreaseNodeGroupsInGlobalReplicationGroup", ReplicationGroup, "gw", DATASTORE),
    Case("IncreaseNodeGroupsInGlobalReplicationGroup", ReplicationGroup, "gw", DATASTORE),
    Case("RebalanceSlotsInGlobalReplicationGroup", ReplicationGroup, "gw", DATASTORE),
    Case("RebootCacheCluster", CacheCluster, "c", CLUSTER),
    Case("PrepareMigration", ServerlessCache, "sc", CACHE),
    Case("StartMigration", ReplicationGroup, "g", GROUP),
    Case(
        "StopMigration", ServerlessCache, "scm", CACHE,
        free=frozenset(ServerlessStatus) - {ServerlessStatus.DELETING},
    ),
    Case("TestFailover", ReplicationGroup, "g", GROUP),
    Case("TestMigration", ReplicationGroup, "g", GROUP),
]  # fmt: skip
# Operations that declare a fault of state which is never reached here, and why.
_NEVER = {
    # Tags may be changed at any time.
    "AddTagsToResource", "ListTagsForResource", "RemoveTagsFromResource",
    # A security group has no states; the default one is tested beside them.
    "AuthorizeCacheSecurityGroupIngress", "RevokeCacheSecurityGroupIngress", "DeleteCacheSecurityGroup",
    # Nor has a parameter group: what counts is who uses it (tests/unit/api, tests/scenarios/test_parameter_groups).
    "CreateCacheParameterGroup", "DeleteCacheParameterGroup", "ModifyCacheParameterGroup", "ResetCacheParameterGroup",
    # Without secondaries there is nothing under way.
    "DeleteGlobalReplicationGroup",
}  # fmt: skip


def test_every_operation_that_declares_a_state_is_here() -> None:
    declaring = {
        name
        for name in MODEL.operation_names
        if any(
            code.startswith("Invalid") and "State" in code and "VPC" not in code
            for code in SERVICE.operations[name].faults
        )
    }
    assert declaring == {case.operation for case in CASES} | _NEVER


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_state(stage: Stage, case: Case) -> None:
    wish = {name: value for name, value in {**HAPPY[case.operation], **case.more}.items() if value is not None}
    fields = stage.fields(case.operation, wish)
    for state in case.states:
        with stage.scene() as scene:
            scene.put(case.kind, case.name, case.region, status=state)
            code, message = scene.refusal(fields)
        if state in _AT_REST or state in case.free:
            assert code == "", (state, message)
        else:
            assert code == case.code, (state, code, message)
            assert message, state
