"""Migrations that are asked for, ended and stopped at odd moments: before they follow, twice, without their source, and
with the service killed in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import valkey
from botocore.exceptions import ClientError

from .conftest import Service, connect, group_status, messages, wait_for
from .test_migration import (
    Created,
    Outside,
    Writer,
    client_of,
    endpoint_list,
    outside,  # noqa: F401 - a fixture
    primary_of,
    target,
)
from .test_migration_by_capture import serverless

pytestmark = pytest.mark.slow
WRONG_STATE = "InvalidReplicationGroupState"
NOT_UNDER = "ReplicationGroupNotUnderMigrationFault"
ALREADY = "ReplicationGroupAlreadyUnderMigrationFault"
UNHEALTHY = "MigrationHealthFault"


def refusal(operation: Callable[..., Any], **parameters: Any) -> str:
    """The code of the fault; "" where there was none. Raises for an answer that is the service's own failure."""
    try:
        operation(**parameters)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500:
            raise
        return str(error.response["Error"]["Code"])
    return ""


def started(ec: Any, name: str, at: Any) -> None:
    ec.start_migration(ReplicationGroupId=name, CustomerNodeEndpointList=endpoint_list(at))


def completed(ec: Any, name: str) -> bool:
    """Asked until it is taken; only refusals of the moment are passed over."""
    code = refusal(ec.complete_migration, ReplicationGroupId=name)
    assert code in ("", WRONG_STATE, UNHEALTHY)
    return not code


def test_at_the_wrong_time_everything_is_refused_and_nothing_is_lost(
    ec: Any,
    created: Created,
    name: str,
    outside: Outside,  # noqa: F811
) -> None:
    at = outside()
    client_of(at).mset({f"key:{n}": n for n in range(1000)})
    group = target(ec, created, name)
    primary_of(group).set("mine", "1")
    assert refusal(ec.complete_migration, ReplicationGroupId=name, Force=True) == NOT_UNDER
    assert primary_of(group).set("mine", "2"), "nothing has begun"
    started(ec, name, at)
    # Before it follows: neither completed, nor forced, nor begun again, nor tested, nor deleted half way.
    assert refusal(ec.complete_migration, ReplicationGroupId=name) in (WRONG_STATE, UNHEALTHY)
    for operation in (ec.start_migration, ec.test_migration):
        again = {"ReplicationGroupId": name, "CustomerNodeEndpointList": endpoint_list(at)}
        assert refusal(operation, **again) == ALREADY
    writer = Writer(client_of(at), "count")
    writer.start()
    wait_for(lambda: writer.acknowledged > 100)
    count = writer.stop()
    wait_for(lambda: completed(ec, name), 60)
    # A second time, while it is completed and afterwards.
    assert refusal(ec.complete_migration, ReplicationGroupId=name, Force=True) in (WRONG_STATE, NOT_UNDER)
    wait_for(lambda: group_status(ec, name) == "available", 60)
    assert refusal(ec.complete_migration, ReplicationGroupId=name) == NOT_UNDER
    primary = primary_of(group)
    assert (int(primary.get("count") or 0), primary.dbsize()) == (count, 1001)
    assert primary.set("mine", "now")
    assert messages(ec, "replication-group", name).count(f"Complete Migration successful for {name}") == 1


def test_a_source_that_dies_before_it_was_followed_leaves_the_group_as_it_was(
    ec: Any,
    created: Created,
    name: str,
    outside: Outside,  # noqa: F811
) -> None:
    at = outside()
    group = target(ec, created, name)
    primary_of(group).set("mine", "kept")
    client_of(at).shutdown(nosave=True)
    ec.test_migration(ReplicationGroupId=name, CustomerNodeEndpointList=endpoint_list(at))
    assert refusal(ec.test_migration, ReplicationGroupId=name, CustomerNodeEndpointList=endpoint_list(at)) in (
        ALREADY,
        WRONG_STATE,
        "",  # the first has failed already
    )
    wait_for(lambda: group_status(ec, name) == "available", 60)
    started(ec, name, at)
    wait_for(lambda: group_status(ec, name) == "available", 60)
    assert refusal(ec.complete_migration, ReplicationGroupId=name, Force=True) == NOT_UNDER
    assert primary_of(group).get("mine") == "kept"
    assert primary_of(group).set("mine", "writable")


@pytest.mark.parametrize("moment", ["begun", "following", "completing"])
def test_a_killed_service_goes_on_with_it(
    new_service: Callable[..., Service],
    outside: Outside,  # noqa: F811
    moment: str,
) -> None:
    at = outside()
    client_of(at).mset({f"key:{n}": n for n in range(5000)})
    service = new_service().start()
    ec = service.client()
    group = target(ec, [], "demo")
    writer = Writer(client_of(at), "count")
    writer.start()
    started(ec, "demo", at)
    if moment == "begun":
        service.kill()
    else:
        wait_for(lambda: _linked(group), 60)
        if moment == "following":
            service.kill()
    wait_for(lambda: writer.acknowledged > 200)
    count = writer.stop()
    if moment == "completing":
        wait_for(lambda: completed(ec, "demo"), 60)
        service.kill()
    service.start()
    ec = service.client()
    if moment != "completing":
        wait_for(lambda: completed(ec, "demo"), 60)
    wait_for(lambda: group_status(ec, "demo") == "available", 60)
    primary = primary_of(group)
    assert primary.info("replication")["role"] == "master"
    assert (int(primary.get("count") or 0), primary.dbsize()) == (count, 5001)
    wait_for(lambda: primary.set("mine", "now"))
    wait_for(lambda: _replica_has(group, "mine", "now"), 60)
    assert client_of(at).exists("mine") == 0
    assert "Traceback" not in service.log.read_text()


def _linked(group: dict[str, Any]) -> bool:
    try:
        return bool(primary_of(group).info("replication").get("master_link_status") == "up")
    except valkey.ConnectionError:
        return False


def _replica_has(group: dict[str, Any], key: str, value: str) -> bool:
    members = group["NodeGroups"][0]["NodeGroupMembers"]
    return all(connect(member["ReadEndpoint"]).get(key) == value for member in members)


def test_a_serverless_cache_is_stopped_at_any_time(
    new_service: Callable[..., Service],
    outside: Outside,  # noqa: F811
) -> None:
    at = outside()
    client_of(at).mset({f"key:{n}": n for n in range(2000)})
    service = new_service().start()
    ec, name = service.client(), "carts"
    ec.create_serverless_cache(ServerlessCacheName=name, Engine="valkey")
    wait_for(lambda: serverless(ec, name)["Status"] == "AVAILABLE", 60)
    ec.prepare_migration(ServerlessCacheName=name, CustomerNodeEndpointList=endpoint_list(at))
    service.kill()
    service.start()
    wait_for(lambda: status(ec, name) == "prepared", 60)
    assert refusal(ec.stop_migration, ServerlessCacheName=name) == "InvalidServerlessCacheStateFault"
    ec.start_migration(ServerlessCacheName=name)
    service.kill()
    service.start()
    # Stopped as soon as it can be, whatever it has by then, and only once.
    ec.stop_migration(ServerlessCacheName=name)
    assert refusal(ec.stop_migration, ServerlessCacheName=name) == "InvalidServerlessCacheStateFault"
    service.kill()
    service.start()
    assert status(ec, name) == "stopped"
    where = serverless(ec, name)["Endpoint"]
    there = valkey.ValkeyCluster(where["Address"], where["Port"], decode_responses=True)
    there.set("mine", "while it is stopped")
    assert refusal(ec.complete_migration, ServerlessCacheName=name) == "InvalidServerlessCacheStateFault"
    # Its source is gone: begun again it waits, and can be stopped again.
    client_of(at).shutdown(nosave=True)
    wait_for(lambda: not refusal(ec.start_migration, ServerlessCacheName=name, ClearTargetCacheData=True), 60)
    assert refusal(ec.complete_migration, ServerlessCacheName=name) in (
        "MigrationHealthFault",
        "InvalidServerlessCacheStateFault",
    )
    assert there.get("mine") == "while it is stopped", "a source that is not there takes nothing along"
    # It may have stopped by itself by now.
    assert refusal(ec.stop_migration, ServerlessCacheName=name) in ("", "InvalidServerlessCacheStateFault")
    ec.complete_migration(ServerlessCacheName=name, Force=True)
    wait_for(lambda: not status(ec, name), 60)
    assert there.get("mine") == "while it is stopped"
    assert "Traceback" not in service.log.read_text()


def status(ec: Any, name: str) -> str:
    return str(serverless(ec, name).get("Migration", {}).get("Status", ""))
