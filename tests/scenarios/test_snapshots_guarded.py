"""Snapshots of caches that let nobody in unasked: by TLS, by TLS and plain TCP at once, with users."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import valkey

from cachekeep.domain.engine import Engine, with_tls
from cachekeep.host.installs import MachineCatalogue

from .conftest import Service, create_group, group_status, wait_for
from .test_snapshots import begin_group, take

KEYS = 500
PASSWORD = "a password of the test"


@pytest.fixture(autouse=True)
def _redis_with_tls() -> None:
    if with_tls(MachineCatalogue().installs(), Engine.REDIS) is None:
        pytest.skip("needs a redis-server with TLS on the machine")


@pytest.fixture
def lines(service: Service) -> Iterator[Any]:
    """Call it with a described group for a client of its primary, or of its cluster; closed after the test."""
    opened: list[Any] = []

    def client(group: dict[str, Any], **more: Any) -> Any:
        if group["TransitEncryptionEnabled"]:
            ca = str(service.state_dir / "ca" / "ca.pem")
            more |= {"ssl": True, "ssl_ca_certs": ca, "ssl_check_hostname": True}
        at = group.get("ConfigurationEndpoint") or group["NodeGroups"][0]["PrimaryEndpoint"]
        kind = valkey.ValkeyCluster if group["ClusterEnabled"] else valkey.Valkey
        opened.append(kind(host=at["Address"], port=at["Port"], decode_responses=True, **more))
        return opened[-1]

    yield client
    for one in opened:
        one.close()


def test_by_tls_and_with_users_and_into_another_shape(
    service: Service, ec: Any, name: str, created: list[tuple[str, str]], lines: Any
) -> None:
    """By files into the same shape; key by key, also over TLS, into two node groups."""
    ec.create_user(UserId=f"{name}-d", UserName="default", Engine="redis", NoPasswordRequired=True,
                   AccessString="off -@all")  # fmt: skip
    ec.create_user(UserId=f"{name}-u", UserName="ann", Engine="redis", Passwords=[PASSWORD],
                   AccessString="on ~* &* +@all")  # fmt: skip
    ec.create_user_group(UserGroupId=f"{name}-all", Engine="redis", UserIds=[f"{name}-d", f"{name}-u"])
    guard = {"TransitEncryptionEnabled": True, "UserGroupIds": [f"{name}-all"]}
    group = create_group(ec, created, name, Engine="redis", **guard)
    ann = {"username": "ann", "password": PASSWORD}
    client = lines(group, **ann)
    client.mset({f"key:{n}": f"value {n}" for n in range(KEYS)})
    assert client.wait(1, 20_000) == 1
    take(ec, f"{name}-snap", ReplicationGroupId=name)
    same = begin_group(ec, created, f"{name}-same", SnapshotName=f"{name}-snap", NumCacheClusters=1, **guard)
    assert same["Status"] == "available"
    assert lines(same, **ann).dbsize() == KEYS
    with pytest.raises(valkey.AuthenticationError):
        lines(same).get("key:1")
    cut = {"NumNodeGroups": 2, "ReplicasPerNodeGroup": 0, "CacheParameterGroupName": "default.redis7.cluster.on"}
    other = begin_group(ec, created, f"{name}-cut", SnapshotName=f"{name}-snap", **guard, **cut)
    assert other["Status"] == "available"
    found = lines(other, **ann)
    assert sum(found.dbsize(target_nodes=node) for node in found.get_primaries()) == KEYS


def test_of_a_group_that_speaks_both(
    service: Service, ec: Any, name: str, created: list[tuple[str, str]], lines: Any
) -> None:
    """Its engine listens on two ports of its own, and is asked there."""
    group = create_group(ec, created, name, Engine="redis", NumCacheClusters=1)
    lines(group).mset({f"key:{n}": f"value {n}" for n in range(KEYS)})
    ec.modify_replication_group(ReplicationGroupId=name, ApplyImmediately=True, TransitEncryptionEnabled=True,
                                TransitEncryptionMode="preferred")  # fmt: skip
    wait_for(lambda: group_status(ec, name) == "available", 60)
    take(ec, f"{name}-snap", ReplicationGroupId=name)
    again = begin_group(ec, created, f"{name}-r", SnapshotName=f"{name}-snap", NumCacheClusters=1)
    assert lines(again).dbsize() == KEYS
