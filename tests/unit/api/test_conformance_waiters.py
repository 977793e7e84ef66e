"""The waiters of AWS's own clients, over every state that a cluster or group can be in: they end where AWS's end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from botocore.exceptions import WaiterError
from botocore.loaders import Loader
from botocore.waiter import Waiter, WaiterModel
from stage import Stage

from cachekeep.domain.cache_cluster import CacheCluster, Status
from cachekeep.domain.faults import Fault
from cachekeep.domain.replication_group import ReplicationGroup

_MODEL = WaiterModel(Loader().load_service_model("elasticache", "waiters-2", api_version="2015-02-02"))
DONE, FAILED, WAITING = "done", "failed", "waiting"
# What each does in states that it does not wait through.
_ENDS: Mapping[str, Mapping[str, str]] = {
    "CacheClusterAvailable": {"available": DONE, "deleting": FAILED, "restore-failed": FAILED},
    "CacheClusterDeleted": {
        "gone": DONE, "available": FAILED, "creating": FAILED, "modifying": FAILED, "snapshotting": FAILED,
        "restore-failed": FAILED,
    },
    "ReplicationGroupAvailable": {"available": DONE},
    "ReplicationGroupDeleted": {"gone": DONE, "available": FAILED},
}  # fmt: skip


def waits(stage: Stage, name: str, resource: str) -> str:
    """What one look of the stock waiter comes to."""
    config = _MODEL.get_waiter(name)
    config.max_attempts, config.delay = 1, 0

    def ask(**params: Any) -> dict[str, Any]:
        try:
            return stage.ask(config.operation, params)
        except Fault as fault:
            return {"Error": {"Code": fault.code, "Message": fault.message}}

    key = "CacheClusterId" if name.startswith("CacheCluster") else "ReplicationGroupId"
    try:
        Waiter(name, config, ask).wait(**{key: resource})
    except WaiterError as error:
        return WAITING if "Max attempts exceeded" in str(error) else FAILED
    return DONE


@pytest.mark.parametrize("name", _ENDS)
def test_each_state_ends_a_waiter_or_does_not(stage: Stage, name: str) -> None:
    of_cluster = name.startswith("CacheCluster")
    kind: Any = CacheCluster if of_cluster else ReplicationGroup
    resource = "c" if of_cluster else "g"
    for state in Status:
        with stage.scene() as scene:
            scene.put(kind, resource, status=state)
            assert waits(scene, name, resource) == _ENDS[name].get(state.value, WAITING), state
    gone = _ENDS[name].get("gone", FAILED)
    assert waits(stage, name, "nobody") == gone


def test_a_failed_restore_ends_both_waiters_of_a_cluster(stage: Stage) -> None:
    """AWS's word for it is among those that its waiters know."""
    with stage.scene() as scene:
        scene.put(CacheCluster, "c", status=Status.CREATE_FAILED, restore_failed=True)
        for name in ("CacheClusterAvailable", "CacheClusterDeleted"):
            assert waits(scene, name, "c") == FAILED
