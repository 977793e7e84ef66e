"""Service updates: made of the engine versions of this machine, offered, applied, stopped, and applied in windows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.host.installs import MachineCatalogue

from .conftest import Service, cluster_status, connect, create_cluster, create_group, group_status, messages, wait_for

Created = list[tuple[str, str]]


@pytest.fixture
def major(new_service: Callable[..., Service]) -> Service:
    """A service that offers the next major version too: this machine has Valkey 8.1 and 9.1."""
    return new_service(CACHEKEEP_UPDATE_NEXT_MAJOR="true").start()


@pytest.fixture
def older_patch(tmp_path: Path, catalogue: MachineCatalogue) -> str:
    """A PATH with a Valkey that says it is 9.1.1: a copy of the 9.1.2 of this machine, with another number in it."""
    install = catalogue.best(Engine.VALKEY, EngineVersion((9, 1)))
    assert install is not None
    program = tmp_path / "bin" / "valkey-server"
    program.parent.mkdir()
    program.write_bytes(Path(install.program).read_bytes().replace(str(install.version).encode(), b"9.1.1"))
    program.chmod(0o755)
    return f"{program.parent}:/usr/bin:/bin"


def _action(ec: Any, name: str, kind: str = "ReplicationGroupIds", **more: Any) -> dict[str, Any]:
    found = ec.describe_update_actions(**{kind: [name]}, **more)["UpdateActions"]
    return dict(found[0]) if found else {}


def _versions(ec: Any, group: dict[str, Any]) -> list[str]:
    return [
        ec.describe_cache_clusters(CacheClusterId=name)["CacheClusters"][0]["EngineVersion"]
        for name in group["MemberClusters"]
    ]


def test_an_update_is_offered_applied_and_complete(major: Service) -> None:
    ec, made = major.client(), Created()
    group = create_group(ec, made, "some", Engine="valkey", EngineVersion="8.1", NumCacheClusters=3)
    create_cluster(ec, made, "new", Engine="valkey", EngineVersion="9.1")
    action = wait_for(lambda: _action(ec, "some"), 40)
    assert (action["UpdateActionStatus"], action["NodesUpdated"]) == ("not-applied", "0/3")
    update = action["ServiceUpdateName"]
    (shown,) = ec.describe_service_updates(ServiceUpdateName=update)["ServiceUpdates"]
    assert update.startswith("valkey-9-1-2-patch-20")
    assert (shown["Engine"], shown["EngineVersion"], shown["ServiceUpdateStatus"]) == ("valkey", "9.1.2", "available")
    assert shown["ServiceUpdateSeverity"] == "important"
    by, released = shown["ServiceUpdateRecommendedApplyByDate"], shown["ServiceUpdateReleaseDate"]
    assert (by - released).days == 30
    assert any(f"Service update {update} is available" in text for text in messages(ec, "cache-cluster", "some-001"))
    assert ec.describe_update_actions(CacheClusterIds=["new", "some-001"])["UpdateActions"] == []
    assert ec.describe_update_actions(UpdateActionStatus=["complete"])["UpdateActions"] == []

    primary = group["NodeGroups"][0]["PrimaryEndpoint"]
    with connect(primary) as client:
        client.set("kept", "yes")
    answer = ec.batch_apply_update_action(ServiceUpdateName=update, ReplicationGroupIds=["some", "nobody"])
    assert answer["ProcessedUpdateActions"][0]["UpdateActionStatus"] == "in-progress"
    (left,) = answer["UnprocessedUpdateActions"]
    assert (left["ReplicationGroupId"], left["ErrorType"]) == ("nobody", "ReplicationGroupNotFoundFault")
    major.kill()
    major.start()
    wait_for(lambda: _action(ec, "some")["UpdateActionStatus"] == "complete", 90)
    action = _action(ec, "some", ShowNodeLevelUpdateStatus=True)
    assert (action["NodesUpdated"], action["SlaMet"]) == ("3/3", "yes")
    nodes = action["NodeGroupUpdateStatus"][0]["NodeGroupMemberUpdateStatus"]
    assert [node["NodeUpdateStatus"] for node in nodes] == ["complete"] * 3
    assert {node["NodeUpdateInitiatedBy"] for node in nodes} == {"customer"}
    ended = {node["CacheClusterId"]: node["NodeUpdateEndDate"] for node in nodes}
    assert max(ended, key=lambda name: ended[name]) == "some-001", "the primary is the last"
    assert _versions(ec, group) == ["9.1.2"] * 3
    with connect(primary) as client:
        assert client.get("kept") == "yes"
        assert client.info("server")["valkey_version"] == "9.1.2"
    answer = ec.batch_apply_update_action(ServiceUpdateName=update, ReplicationGroupIds=["some"])
    assert "already" in answer["UnprocessedUpdateActions"][0]["ErrorMessage"]


def test_an_update_is_stopped_and_goes_on_later(major: Service) -> None:
    ec, made = major.client(), Created()
    group = create_group(ec, made, "halt", Engine="valkey", EngineVersion="8.1", NumCacheClusters=5)
    update = wait_for(lambda: _action(ec, "halt"), 40)["ServiceUpdateName"]
    with pytest.raises(ClientError) as caught:
        ec.batch_apply_update_action(ServiceUpdateName=update)
    assert caught.value.response["Error"]["Code"] == "InvalidParameterValue"
    answer = ec.batch_apply_update_action(ServiceUpdateName=update, CacheClusterIds=["halt-001", "nobody"])
    assert [left["ErrorType"] for left in answer["UnprocessedUpdateActions"]] == [
        "InvalidParameterCombination",
        "CacheClusterNotFound",
    ]
    answer = ec.batch_stop_update_action(ServiceUpdateName=update, ReplicationGroupIds=["halt"])
    assert "is not being applied" in answer["UnprocessedUpdateActions"][0]["ErrorMessage"]
    primary = group["NodeGroups"][0]["PrimaryEndpoint"]
    with connect(primary) as client:
        client.set("kept", "yes")
    ec.batch_apply_update_action(ServiceUpdateName=update, ReplicationGroupIds=["halt"])
    wait_for(lambda: _action(ec, "halt")["NodesUpdated"] != "0/5", 60)
    (answer,) = ec.batch_stop_update_action(ServiceUpdateName=update, ReplicationGroupIds=["halt"])[
        "ProcessedUpdateActions"
    ]
    assert answer["UpdateActionStatus"] in ("stopping", "stopped")
    major.kill()
    major.start()
    wait_for(lambda: _action(ec, "halt")["UpdateActionStatus"] == "stopped", 60)
    wait_for(lambda: group_status(ec, "halt") == "available", 60)
    action = _action(ec, "halt", ShowNodeLevelUpdateStatus=True)
    done, of = map(int, action["NodesUpdated"].split("/"))
    assert 0 < done < of
    versions = _versions(ec, group)
    assert versions.count("9.1.2") == done
    assert versions[0].startswith("8.1"), "the primary comes last"
    with connect(primary) as client:
        assert client.get("kept") == "yes"
        wait_for(lambda: client.info("replication")["connected_slaves"] == 4, 40)
    assert any("was stopped" in text for text in messages(ec, "replication-group", "halt"))

    ec.batch_apply_update_action(ServiceUpdateName=update, ReplicationGroupIds=["halt"])
    wait_for(lambda: _action(ec, "halt")["UpdateActionStatus"] == "complete", 90)
    assert set(_versions(ec, group)) == {"9.1.2"}
    with connect(primary) as client:
        assert client.get("kept") == "yes"


@pytest.mark.slow
def test_a_newer_patch_is_applied_in_the_window_where_it_may(
    new_service: Callable[..., Service], older_patch: str
) -> None:
    service = new_service(PATH=older_patch).start()
    ec, made = service.client(), Created()
    create_cluster(ec, made, "auto", Engine="valkey", EngineVersion="9.1.1")
    create_cluster(ec, made, "mine", Engine="valkey", EngineVersion="9.1.1", AutoMinorVersionUpgrade=False)
    group = create_group(ec, made, "both", Engine="valkey", EngineVersion="9.1.1")
    wait_for(lambda: _action(ec, "auto", "CacheClusterIds") and _action(ec, "mine", "CacheClusterIds"), 40)
    wait_for(lambda: _action(ec, "both"), 40)
    assert cluster_status(ec, "auto") == "available", "its window is half a week away"
    now = datetime.now(UTC) - timedelta(minutes=5)
    window = f"{now:%a:%H:%M}-{now + timedelta(hours=2):%a:%H:%M}".lower()
    for name in ("auto", "mine"):
        ec.modify_cache_cluster(CacheClusterId=name, PreferredMaintenanceWindow=window)
    ec.modify_replication_group(ReplicationGroupId="both", PreferredMaintenanceWindow=window)
    wait_for(lambda: _action(ec, "auto", "CacheClusterIds")["UpdateActionStatus"] == "complete", 60)
    wait_for(lambda: _action(ec, "both")["UpdateActionStatus"] == "complete", 60)
    assert _versions(ec, group) == ["9.1.2"] * 2
    action = _action(ec, "auto", "CacheClusterIds", ShowNodeLevelUpdateStatus=True)
    assert action["CacheNodeUpdateStatus"][0]["NodeUpdateInitiatedBy"] == "system"
    assert any("as AutoMinorVersionUpgrade asks for" in text for text in messages(ec, "cache-cluster", "auto"))
    assert _action(ec, "mine", "CacheClusterIds")["UpdateActionStatus"] == "not-applied"


@pytest.mark.slow
def test_memcached_nodes_are_updated_one_after_the_other(
    new_service: Callable[..., Service], tmp_path: Path, catalogue: MachineCatalogue
) -> None:
    install = catalogue.best(Engine.MEMCACHED, None)
    if install is None or b"memcached " + str(install.version).encode() not in Path(install.program).read_bytes():
        pytest.skip("needs a memcached that has its version in its program")
    program = tmp_path / "bin" / "memcached"
    program.parent.mkdir()
    version = str(install.version)
    program.write_bytes(Path(install.program).read_bytes().replace(version.encode(), b"1.6.10"))
    program.chmod(0o755)
    service = new_service(PATH=f"{program.parent}:{Path(install.program).parent}:/bin").start()
    ec, made = service.client(), Created()
    create_cluster(ec, made, "mem", Engine="memcached", EngineVersion="1.6.10", NumCacheNodes=3)
    update = wait_for(lambda: _action(ec, "mem", "CacheClusterIds"), 40)["ServiceUpdateName"]
    ec.batch_apply_update_action(ServiceUpdateName=update, CacheClusterIds=["mem"])
    service.kill()
    service.start()
    wait_for(lambda: _action(ec, "mem", "CacheClusterIds")["UpdateActionStatus"] == "complete", 60)
    told = [text.split()[2:] for text in messages(ec, "cache-cluster", "mem") if text.startswith("Cache node ")]
    assert sorted({number for number, _ in told}) == ["0001", "0002", "0003"]
    assert [word for _, word in told] == ["shutdown", "restarted"] * 3
    assert all(a[0] == b[0] for a, b in zip(told[::2], told[1::2], strict=True)), "one at a time"
    (cluster,) = ec.describe_cache_clusters(CacheClusterId="mem")["CacheClusters"]
    assert cluster["EngineVersion"] == version


def test_what_is_unknown_is_told(ec: Any) -> None:
    for ask in (
        lambda: ec.batch_apply_update_action(ServiceUpdateName="valkey-9-patch-1", ReplicationGroupIds=["a"]),
        lambda: ec.batch_stop_update_action(ServiceUpdateName="valkey-9-patch-1", CacheClusterIds=["a"]),
        lambda: ec.describe_service_updates(ServiceUpdateName="valkey-9-patch-1"),
    ):
        with pytest.raises(ClientError) as caught:
            ask()
        assert caught.value.response["Error"]["Code"] == "ServiceUpdateNotFoundFault"
    for more in ({"UpdateActionStatus": ["done"]}, {"ServiceUpdateStatus": ["old"]}, {"Engine": "mysql"}):
        with pytest.raises(ClientError) as caught:
            ec.describe_update_actions(**more)
        assert caught.value.response["Error"]["Code"] == "InvalidParameterValue"


def test_the_end_of_support_of_an_engine_is_told_once(service: Service, ec: Any, created: Created, name: str) -> None:
    create_cluster(ec, created, name, Engine="redis", EngineVersion="6.2")

    def told() -> list[str]:
        return [text for text in messages(ec, "cache-cluster", name) if "Standard support of Redis 6" in text]

    wait_for(told, 40)
    assert "2027-01-31" in told()[0]
    ec.modify_cache_cluster(CacheClusterId=name, PreferredMaintenanceWindow="mon:03:00-mon:05:00")
    wait_for(lambda: cluster_status(ec, name) == "available")
    assert len(told()) == 1
