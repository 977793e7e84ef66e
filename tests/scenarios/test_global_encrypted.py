"""Global datastores whose members speak TLS: a secondary is encrypted as its primary is, and follows it over TLS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import valkey
from valkey.cluster import ValkeyCluster

from cachekeep.domain.engine import Engine, with_tls
from cachekeep.host.installs import MachineCatalogue

from . import test_global_clusters as clusters
from .conftest import Service, group_status, wait_for
from .test_global_datastore import HERE, THERE, World, _writes, fails_over_and_back


@pytest.fixture(scope="module", autouse=True)
def _redis_with_tls() -> None:
    if with_tls(MachineCatalogue().installs(), Engine.REDIS) is None:
        pytest.skip("needs a redis-server with TLS on the machine")


class Encrypted(World):
    """Its clients verify what they talk to."""

    @property
    def secured(self) -> dict[str, Any]:
        ca = str(self.service.state_dir / "ca" / "ca.pem")
        return {"ssl": True, "ssl_ca_certs": ca, "ssl_check_hostname": True, "decode_responses": True}

    def connect(self, endpoint: dict[str, Any], **login: str) -> valkey.Valkey:
        return valkey.Valkey(endpoint["Address"], endpoint["Port"], socket_timeout=10, **self.secured, **login)

    def cluster(self, endpoint: dict[str, Any], **login: str) -> ValkeyCluster:
        at = {"host": endpoint["Address"], "port": endpoint["Port"]}
        return ValkeyCluster(**at, socket_timeout=10, **self.secured, **login)


@pytest.fixture
def world(service: Service) -> Iterator[Encrypted]:
    it = Encrypted(service)
    yield it
    it.clean()


@pytest.mark.parametrize("mode", ["required", "preferred"])
def test_a_secondary_follows_over_tls_and_a_planned_failover_loses_nothing(
    world: Encrypted, name: str, mode: str
) -> None:
    datastore = world.pair(name, Engine="redis", TransitEncryptionEnabled=True, TransitEncryptionMode=mode)
    assert world.described(datastore)["TransitEncryptionEnabled"] is True
    there = world.at(THERE)
    group = there.describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"][0]
    assert (group["TransitEncryptionEnabled"], group["TransitEncryptionMode"]) == (True, mode)
    _links_are_encrypted(world, HERE, name, 2)
    fails_over_and_back(world, datastore, name)
    _links_are_encrypted(world, HERE, name, 2)
    _links_are_encrypted(world, THERE, name, 1)
    world.at(HERE).disassociate_global_replication_group(
        GlobalReplicationGroupId=datastore, ReplicationGroupId=name, ReplicationGroupRegion=THERE
    )
    wait_for(lambda: group_status(there, name) == "available", 60)
    apart = world.primary(THERE, name)
    assert (apart.set("mine", "1"), apart.get("taken by")) == (True, HERE)
    assert world.primary(HERE, name).get("mine") is None
    assert _writes(world, HERE, name, "a", "1")


def _links_are_encrypted(world: Encrypted, region: str, name: str, count: int) -> None:
    """So many replicas, those of other regions among them, came in by the port that speaks TLS, and none by another."""
    primary = world.primary(region, name)
    port = primary.config_get("tls-port")["tls-port"]

    def ports() -> list[str]:
        return [client["laddr"].rpartition(":")[2] for client in primary.client_list(_type="replica")]

    wait_for(lambda: ports() == [port] * count)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["required", "preferred"])
def test_a_copy_in_cluster_mode_is_made_over_tls(world: Encrypted, name: str, mode: str) -> None:
    wish = {"Engine": "redis", "TransitEncryptionEnabled": True, "TransitEncryptionMode": mode}
    datastore = clusters.pair(world, name, here={**wish, "CacheParameterGroupName": "default.redis7.cluster.on"})
    assert world.described(datastore)["TransitEncryptionEnabled"] is True
    clusters.fails_over(world, datastore, HERE, THERE, name, 1)
    clusters.fails_over(world, datastore, THERE, HERE, name, 2)
    world.at(HERE).disassociate_global_replication_group(
        GlobalReplicationGroupId=datastore, ReplicationGroupId=name, ReplicationGroupRegion=THERE
    )
    wait_for(lambda: world.described(datastore)["Status"] == "primary-only", 60)
    wait_for(lambda: group_status(world.at(THERE), name) == "available", 60)
    wait_for(lambda: clusters._takes(world, THERE, name, "mine", "1"), 60)
    assert clusters.cluster(world, HERE, name).get("mine") is None
    assert clusters.cluster(world, THERE, name).get("taken by") == HERE
