"""TLS at the engines: groups, clusters and Memcached that speak nothing else, seen by clients that verify."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import valkey
from pymemcache.client.base import Client as MemcacheClient

from cachekeep.domain.engine import Engine, with_tls
from cachekeep.host.authority import Authority
from cachekeep.host.installs import MachineCatalogue

from .conftest import Service, create_group, group_status, wait_for


@pytest.fixture(scope="module", autouse=True)
def _redis_with_tls() -> None:
    if with_tls(MachineCatalogue().installs(), Engine.REDIS) is None:
        pytest.skip("needs a redis-server with TLS on the machine")


@pytest.fixture
def trust(service: Service) -> ssl.SSLContext:
    """What a client of the installation verifies with."""
    Authority(service.state_dir / "ca").certificate()
    return ssl.create_default_context(cafile=service.state_dir / "ca" / "ca.pem")


@pytest.fixture
def lines(service: Service) -> Iterator[Any]:
    """Call it with an endpoint for a verifying client; closed after the test."""
    opened: list[valkey.Valkey] = []

    def connect(endpoint: dict[str, Any]) -> valkey.Valkey:
        ca = str(service.state_dir / "ca" / "ca.pem")
        client = valkey.Valkey(
            endpoint["Address"], endpoint["Port"], ssl=True, ssl_ca_certs=ca, ssl_check_hostname=True,
            decode_responses=True, socket_timeout=10,
        )  # fmt: skip
        opened.append(client)
        return client

    yield connect
    for client in opened:
        client.close()


def _is_refused_in_the_clear(endpoint: dict[str, Any]) -> bool:
    """A client that speaks no TLS gets no answer in its own protocol."""
    with socket.create_connection((endpoint["Address"], endpoint["Port"]), 10) as line:
        try:
            line.sendall(b"PING\r\n")
            answer = line.recv(100)
        except ConnectionError:
            return True
        return not answer.startswith((b"+", b"-", b"ERROR"))


def _assert_clients_refuse_a_wrong_name_and_a_foreign_authority(
    service: Service, endpoint: dict[str, Any], folder: Path
) -> None:
    ca, at = service.state_dir / "ca" / "ca.pem", (endpoint["Address"], endpoint["Port"])
    with (
        socket.create_connection(at, 10) as line,
        pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"),
    ):
        ssl.create_default_context(cafile=ca).wrap_socket(line, server_hostname="cache.example")
    Authority(folder).certificate()
    stranger = valkey.Valkey(*at, ssl=True, ssl_ca_certs=str(folder / "ca.pem"), ssl_check_hostname=True)
    with pytest.raises(valkey.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        stranger.ping()
    stranger.close()  # type: ignore[no-untyped-call]
    program = shutil.which("redis-cli")
    for authority, heard in ((ca, True), (folder / "ca.pem", False)) if program else ():
        argv = [str(program), "--tls", "--cacert", str(authority), "-h", at[0], "-p", str(at[1]), "PING"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
        assert (done.stdout == "PONG\n") is heard, done


def _group(ec: Any, name: str) -> dict[str, Any]:
    return dict(ec.describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"][0])


def test_a_group_with_tls_replicates_fails_over_and_grows_over_tls(
    service: Service, ec: Any, name: str, created: list[tuple[str, str]], lines: Any, tmp_path: Path
) -> None:
    shape = create_group(
        ec, created, name, Engine="redis", NumCacheClusters=2, AutomaticFailoverEnabled=True,
        TransitEncryptionEnabled=True,
    )  # fmt: skip
    assert (shape["TransitEncryptionEnabled"], shape["TransitEncryptionMode"]) == (True, "required")
    shard = shape["NodeGroups"][0]
    primary = lines(shard["PrimaryEndpoint"])
    assert primary.info("replication")["role"] == "master"
    assert primary.set("k", "v")
    assert primary.wait(1, 20_000) == 1
    assert lines(shard["ReaderEndpoint"]).get("k") == "v"
    assert _is_refused_in_the_clear(shard["PrimaryEndpoint"])
    _assert_clients_refuse_a_wrong_name_and_a_foreign_authority(service, shard["PrimaryEndpoint"], tmp_path)
    replica = next(m for m in shard["NodeGroupMembers"] if m["CurrentRole"] == "replica")
    assert lines(replica["ReadEndpoint"]).config_get("tls-replication") == {"tls-replication": "yes"}

    ec.test_failover(ReplicationGroupId=name, NodeGroupId="0001")
    wait_for(lambda: group_status(ec, name) == "available", 60)
    assert lines(shard["PrimaryEndpoint"]).get("k") == "v"
    ec.increase_replica_count(ReplicationGroupId=name, NewReplicaCount=2, ApplyImmediately=True)
    wait_for(lambda: group_status(ec, name) == "available", 60)
    new = lines(shard["PrimaryEndpoint"])
    assert new.set("k", "w")
    assert new.wait(2, 20_000) == 2
    assert {m["ReadEndpoint"]["Port"] for m in _group(ec, name)["NodeGroups"][0]["NodeGroupMembers"]} == {6379}


@pytest.mark.slow
def test_cluster_mode_talks_tls_on_the_bus_and_moves_slots(
    service: Service, ec: Any, name: str, created: list[tuple[str, str]], lines: Any
) -> None:
    created.append(("group", name))
    ec.create_replication_group(
        ReplicationGroupId=name, ReplicationGroupDescription="d", Engine="redis", CacheNodeType="cache.t4g.micro",
        NumNodeGroups=2, ReplicasPerNodeGroup=1, TransitEncryptionEnabled=True,
        CacheParameterGroupName="default.redis7.cluster.on",
    )  # fmt: skip
    wait_for(lambda: group_status(ec, name) == "available", 60)
    shape = _group(ec, name)
    ca = str(service.state_dir / "ca" / "ca.pem")
    at = shape["ConfigurationEndpoint"]
    cluster = valkey.ValkeyCluster(
        host=at["Address"], port=at["Port"], ssl=True, ssl_ca_certs=ca, ssl_check_hostname=True, decode_responses=True
    )
    for n in range(50):
        cluster.set(f"k{n}", n)
    for node in cluster.get_nodes():
        assert _is_refused_in_the_clear({"Address": node.host, "Port": node.port})
        assert _is_refused_in_the_clear({"Address": node.host, "Port": node.port + 10000}), "the bus"
        assert len(lines({"Address": node.host, "Port": node.port}).execute_command("CLUSTER LINKS")) == 6
    ec.modify_replication_group_shard_configuration(ReplicationGroupId=name, NodeGroupCount=3, ApplyImmediately=True)
    wait_for(lambda: group_status(ec, name) == "available", 240)
    assert [cluster.get(f"k{n}") for n in range(50)] == [str(n) for n in range(50)]
    cluster.close()


def test_memcached_speaks_tls_at_its_nodes_and_at_its_configuration_endpoint(
    service: Service, ec: Any, name: str, created: list[tuple[str, str]], trust: ssl.SSLContext
) -> None:
    if with_tls(MachineCatalogue().installs(), Engine.MEMCACHED) is None:
        pytest.skip("needs memcached with TLS on the machine")
    created.append(("cluster", name))
    ec.create_cache_cluster(CacheClusterId=name, Engine="memcached", NumCacheNodes=2, TransitEncryptionEnabled=True)
    wait_for(lambda: _cluster(ec, name)["CacheClusterStatus"] == "available", 60)
    shape = _cluster(ec, name)
    assert shape["TransitEncryptionEnabled"] is True
    nodes = [(n["Endpoint"]["Address"], n["Endpoint"]["Port"]) for n in shape["CacheNodes"]]
    for node in nodes:
        client = MemcacheClient(node, tls_context=_for_memcached(trust, node[0]), timeout=10, connect_timeout=10)
        assert client.set("k", node[0])
        assert client.get("k") == node[0].encode()
        client.close()
        stranger = MemcacheClient(node, tls_context=ssl.create_default_context(), timeout=10, connect_timeout=10)
        with pytest.raises(ssl.SSLCertVerificationError):
            stranger.get("k")
        assert _is_refused_in_the_clear({"Address": node[0], "Port": node[1]})
    at = shape["ConfigurationEndpoint"]
    with (
        socket.create_connection((at["Address"], at["Port"]), 10) as plain,
        trust.wrap_socket(plain, server_hostname=at["Address"]) as line,
        line.makefile("rb") as answers,
    ):
        line.sendall(b"set c 0 0 1\r\nx\r\nget c\r\nconfig get cluster\r\n")
        said = [answers.readline() for _ in range(9)]
    assert said[:4] == [b"STORED\r\n", b"VALUE c 0 1\r\n", b"x\r\n", b"END\r\n"]
    assert all(host.encode() in said[6] for host, _ in nodes), said


def _cluster(ec: Any, name: str) -> dict[str, Any]:
    return dict(ec.describe_cache_clusters(CacheClusterId=name, ShowCacheNodeInfo=True)["CacheClusters"][0])


def _for_memcached(trust: ssl.SSLContext, host: str) -> Any:
    """pymemcache names the host that it connects to, which is what the certificate is to name."""
    assert trust.check_hostname
    return trust


def test_without_an_engine_with_tls_the_request_is_refused_and_the_package_named(ec: Any, name: str) -> None:
    able = with_tls(MachineCatalogue().installs(), Engine.VALKEY) is not None
    if able:
        pytest.skip("this machine has a Valkey with TLS")
    with pytest.raises(ec.exceptions.InvalidParameterCombinationException, match="valkey-server"):
        ec.create_replication_group(
            ReplicationGroupId=name, ReplicationGroupDescription="d", Engine="valkey", NumCacheClusters=1,
            TransitEncryptionEnabled=True,
        )  # fmt: skip
