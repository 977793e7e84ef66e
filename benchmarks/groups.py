"""Replication groups for measuring: created, waited for, deleted, through an AWS client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.installation import BenchmarkError, wait_for

NODE_TYPE = "cache.t4g.micro"
CREATE_DEADLINE_S = 30.0
DELETE_DEADLINE_S = 30.0


def create(client: Any, group_id: str, nodes: int) -> None:
    client.create_replication_group(
        ReplicationGroupId=group_id,
        ReplicationGroupDescription="benchmark",
        Engine="valkey",
        CacheNodeType=NODE_TYPE,
        NumCacheClusters=nodes,
    )


def describe(client: Any, group_id: str) -> dict[str, Any]:
    answer = client.describe_replication_groups(ReplicationGroupId=group_id)
    return dict(answer["ReplicationGroups"][0])


def wait_available(client: Any, group_id: str, deadline_s: float = CREATE_DEADLINE_S) -> dict[str, Any]:
    """The group as it is described once it is available. Raises BenchmarkError when it failed."""
    found: dict[str, Any] = {}

    def available() -> bool:
        found.update(describe(client, group_id))
        if found["Status"] == "create-failed":
            raise BenchmarkError(f"{group_id} could not be created")
        return bool(found["Status"] == "available")

    wait_for(available, deadline_s, f"{group_id} is available")
    return found


def delete(client: Any, group_id: str) -> None:
    """Delete, and wait until nothing of it is described any more."""
    client.delete_replication_group(ReplicationGroupId=group_id)

    def gone() -> bool:
        try:
            describe(client, group_id)
        except client.exceptions.ReplicationGroupNotFoundFault:
            return True
        return False

    wait_for(gone, DELETE_DEADLINE_S, f"{group_id} is deleted")


@contextmanager
def group(client: Any, group_id: str, nodes: int) -> Iterator[dict[str, Any]]:
    """An available group for the length of a block."""
    create(client, group_id, nodes)
    yield wait_available(client, group_id)
    delete(client, group_id)
