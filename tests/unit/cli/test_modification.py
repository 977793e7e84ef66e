"""`cachekeep groups modify` picks the one request of the API that does it."""

from __future__ import annotations

from typing import Any

import pytest

from cachekeep.cli.modification import Changes, request_for, why_not_done
from cachekeep.cli.refusal import Refused


def group(replicas: tuple[int, ...] = (1,), *, clustered: bool = False) -> dict[str, Any]:
    """A group as the status page shows it: so many replicas in each shard."""
    nodes = [
        {"id": f"g-{shard:04d}-{n:03d}", "shard": f"{shard:04d}", "spare": None, "role": "replica" if n else "primary"}
        for shard, count in enumerate(replicas, 1)
        for n in range(count + 1)
    ]
    shards = [{"id": f"{n:04d}", "leaving": False} for n in range(1, len(replicas) + 1)] if clustered else []
    return {
        "id": "g", "nodes": nodes, "shards": shards, "node_type": "cache.t4g.micro", "engine": "valkey",
        "version": "9.1.2", "parameter_group": "default.valkey9", "cluster_mode": "disabled",
        "automatic_failover": True,
    }  # fmt: skip


def test_what_one_request_takes_goes_together() -> None:
    request = request_for(group(), Changes(node_type="cache.m7g.large", engine_version="9.1"))
    assert request.operation == "ModifyReplicationGroup"
    assert request.fields == {
        "ReplicationGroupId": "g", "CacheNodeType": "cache.m7g.large", "EngineVersion": "9.1",
        "ApplyImmediately": "true",
    }  # fmt: skip


def test_in_the_window_is_not_at_once() -> None:
    assert request_for(group(), Changes(automatic_failover=False, now=False)).fields == {
        "ReplicationGroupId": "g", "AutomaticFailoverEnabled": "false", "ApplyImmediately": "false",
    }  # fmt: skip


@pytest.mark.parametrize(("wanted", "operation"), [(2, "IncreaseReplicaCount"), (0, "DecreaseReplicaCount")])
def test_replicas_are_increased_or_decreased(wanted: int, operation: str) -> None:
    request = request_for(group((1, 1), clustered=True), Changes(replicas=wanted))
    assert (request.operation, request.fields["NewReplicaCount"]) == (operation, str(wanted))


def test_second_instances_are_no_replicas() -> None:
    page = group()
    page["nodes"].append({"id": "g-0001-000", "shard": "0001", "spare": "coming", "role": "replica"})
    with pytest.raises(Refused, match="has 1 replica in each shard already"):
        request_for(page, Changes(replicas=1))


def test_uneven_shards_are_not_guessed_about() -> None:
    with pytest.raises(Refused, match="0001 have fewer than 1 replicas and 0002 have more"):
        request_for(group((0, 2), clustered=True), Changes(replicas=1))


def test_shards_that_were_added_last_leave_first() -> None:
    fields = request_for(group((1, 1, 1, 1), clustered=True), Changes(shards=2)).fields
    assert fields["NodeGroupCount"] == "2"
    assert [v for k, v in fields.items() if k.startswith("NodeGroupsToRemove.")] == ["0003", "0004"]
    more = request_for(group((1, 1), clustered=True), Changes(shards=3)).fields
    assert not [k for k in more if k.startswith("NodeGroupsToRemove")]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (Changes(), "say what to change"),
        (Changes(replicas=2, shards=3), "requests of their own"),
        (Changes(replicas=2, node_type="cache.m7g.large"), "requests of their own"),
        (Changes(replicas=2, now=False), "at once only"),
        (Changes(shards=2), "does not run in cluster mode"),
    ],
)
def test_what_is_not_one_request_is_refused(changes: Changes, says: str) -> None:
    with pytest.raises(Refused, match=says):
        request_for(group(), changes)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (Changes(node_type="cache.t4g.micro", engine_version="9.1", primary="g-0001-000"), None),
        (Changes(engine_version="9"), None),
        (Changes(engine_version="9.x"), None),
        (Changes(engine_version="8.1"), "runs valkey 9.1.2, not 8.1"),
        (Changes(engine_version="9.10"), "not 9.10"),
        (Changes(node_type="cache.m7g.large"), "node type is cache.t4g.micro"),
        (Changes(primary="g-0001-001"), "primary is g-0001-000"),
    ],
)
def test_a_change_that_was_taken_back_is_noticed(changes: Changes, says: str | None) -> None:
    reason = why_not_done(group(), changes)
    assert (reason is None) if says is None else (says in str(reason))
