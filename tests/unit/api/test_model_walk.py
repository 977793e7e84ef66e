"""A long walk of requests that are made from AWS's model: every answer is one that the model allows.

Requests meet resources in whatever state earlier ones left them in. Nothing carries out what is stored but `settle`
of the desk, now and then; so groups are seen in the middle of changes, too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from desk import _MODEL, _PARSER, REGION, SERVICE, Desk
from model_requests import Requests

from cachekeep.api.context import Call
from cachekeep.api.operations import OPERATIONS
from cachekeep.codec.query import decode_request, parse_form
from cachekeep.codec.xml import encode_response
from cachekeep.domain.cache_cluster import CacheCluster, Status
from cachekeep.domain.faults import Fault
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.serverless import ServerlessCache, ServerlessStatus
from cachekeep.domain.snapshot import Snapshot, SnapshotStatus

# What any operation may answer. Source: ElastiCache API reference, "Common Errors".
COMMON = {"InvalidParameterCombination", "InvalidParameterValue", "MissingParameter", "MalformedQueryString"}
STEPS = 4000
DESCRIBES = sorted(name for name in OPERATIONS if name.startswith("Describe"))


def answer(desk: Desk, body: bytes) -> tuple[str, Any]:
    """("", the answer as botocore reads it) or (a fault's code, its message)."""
    try:
        operation, params = decode_request(SERVICE, parse_form(body))
        result = OPERATIONS[operation.name].handler(Call(desk.services, operation.name, REGION, params))
    except Fault as fault:
        return fault.code, f"{fault.status} {fault.message}"
    encoded = encode_response(SERVICE, operation, result, "id")
    shape: Any = _MODEL.operation_model(operation.name).output_shape
    return "", None if shape is None else _PARSER.parse({"status_code": 200, "headers": {}, "body": encoded}, shape)


_UNDER_WAY = (Status.CREATING, Status.MODIFYING, Status.SNAPSHOTTING)


def settle_some(desk: Desk, turn: int) -> None:
    """Most unfinished groups and clusters become available, and those on their way out go."""
    for group in desk.store.all(ReplicationGroup, REGION)[turn % 2 :]:
        if group.status in _UNDER_WAY and group.engine_change is None:
            desk.settle(group.id)
        elif group.status is Status.DELETING:
            remove(desk, group)
    for cluster in desk.store.all(CacheCluster, REGION)[turn % 2 :]:
        if cluster.replication_group_id is None and cluster.status is Status.DELETING:
            with desk.store.transaction() as work:
                work.delete(cluster)
                work.release(cluster.addresses)
    with desk.store.transaction() as work:
        for cache in work.all(ServerlessCache, REGION):
            if cache.status is not ServerlessStatus.DELETING:
                work.replace(cache, replace(cache, status=ServerlessStatus.AVAILABLE))
            elif work.get(ReplicationGroup, REGION, cache.backing_id) is None:
                work.delete(cache)
        for snapshot in work.all(Snapshot, REGION):
            if snapshot.status is SnapshotStatus.DELETING:
                work.delete(snapshot)
            else:
                work.replace(snapshot, replace(snapshot, status=SnapshotStatus.AVAILABLE))


def remove(desk: Desk, group: ReplicationGroup) -> None:
    with desk.store.transaction() as work:
        for member in [desk.cluster(name) for name in group.member_ids]:
            work.delete(member)
            work.release(member.addresses)
        work.delete(group)
        work.release(group.endpoints)


def every_address_has_one_owner(desk: Desk) -> None:
    groups, clusters = desk.store.all(ReplicationGroup), desk.store.all(CacheCluster)
    owned = [a for g in groups for a in g.endpoints] + [a for c in clusters for a in c.addresses]
    assert len(owned) == len(set(owned))
    with desk.store.transaction() as work:
        assert set(owned) <= work.addresses()


@pytest.mark.parametrize("seed", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
def test_every_answer_is_one_that_the_model_allows(desk: Desk, seed: int) -> None:
    requests = Requests(_MODEL, seed)
    operations = sorted(OPERATIONS)
    answered: dict[str, int] = {}
    for step in range(STEPS):
        operation = requests.choice(operations)
        body, fields = requests.body(operation)
        code, told = answer(desk, body)
        if code:
            assert code in {*SERVICE.operations[operation].faults, *COMMON}, (fields, code, told)
            assert told.startswith("4"), (fields, code, told)
        else:
            answered[operation] = answered.get(operation, 0) + 1
        if step % 50 == 49:
            settle_some(desk, step // 50)
            every_address_has_one_owner(desk)
            for name in DESCRIBES:
                answer(desk, f"Action={name}&Version={SERVICE.api_version}".encode())
    # A walk that is refused everywhere would prove little.
    assert len(answered) > len(operations) / 2, sorted(set(operations) - set(answered))
