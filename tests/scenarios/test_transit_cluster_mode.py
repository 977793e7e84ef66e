"""A group in cluster mode that goes to TLS while it is used, and back: clients, replication and the cluster bus."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import valkey
from valkey.cluster import ValkeyCluster
from valkey.exceptions import ValkeyClusterException

from cachekeep.domain.engine import Engine, with_tls
from cachekeep.host.authority import Authority
from cachekeep.host.installs import MachineCatalogue

from .conftest import Service, group_status, messages, wait_for

pytestmark = pytest.mark.slow
LOST = (valkey.ValkeyError, ValkeyClusterException, OSError)
KEYS = [f"k{n}" for n in range(40)]


@pytest.fixture(scope="module", autouse=True)
def _redis_with_tls() -> None:
    if with_tls(MachineCatalogue().installs(), Engine.REDIS) is None:
        pytest.skip("needs a redis-server with TLS on the machine")


def _secured(service: Service) -> dict[str, Any]:
    return {"ssl": True, "ssl_ca_certs": str(service.state_dir / "ca" / "ca.pem"), "ssl_check_hostname": True}


def _cluster(service: Service, at: dict[str, Any], *, tls: bool) -> Any:
    how: dict[str, Any] = {"decode_responses": True, "socket_timeout": 3}
    return ValkeyCluster(host=at["Address"], port=at["Port"], **how, **(_secured(service) if tls else {}))


class Writer(threading.Thread):
    """Counts up keys of all shards, as fast as they are acknowledged, by TLS or plain, whichever is understood."""

    def __init__(self, service: Service, at: dict[str, Any]) -> None:
        super().__init__(daemon=True)
        self._service, self._at = service, at
        self.acknowledged = dict.fromkeys(KEYS, 0)
        self.stopping = threading.Event()

    @property
    def total(self) -> int:
        return sum(self.acknowledged.values())

    def run(self) -> None:
        tls = False
        while not self.stopping.is_set():
            try:
                client = _cluster(self._service, self._at, tls=tls)
            except LOST:
                tls = not tls
                continue
            try:
                while not self.stopping.is_set():
                    for key in KEYS:
                        client.incr(key)
                        self.acknowledged[key] += 1
            except LOST:
                tls = not tls
            finally:
                client.close()


@pytest.fixture
def writers() -> Iterator[list[Writer]]:
    made: list[Writer] = []
    yield made
    for writer in made:
        writer.stopping.set()
        writer.join(30)


def _bus_is_encrypted(service: Service, host: str, port: int) -> bool:
    context = ssl.create_default_context(cafile=service.state_dir / "ca" / "ca.pem")
    try:
        with socket.create_connection((host, port + 10_000), 5) as plain:
            context.wrap_socket(plain, server_hostname=host).close()
    except OSError:
        return False
    return True


def _node(service: Service, host: str, *, tls: bool) -> Any:
    more = _secured(service) if tls else {}
    return valkey.Valkey(host, 6379, decode_responses=True, socket_timeout=5, **more)


def _asked(service: Service, host: str, *words: str, tls: bool) -> Any:
    client = _node(service, host, tls=tls)
    try:
        return client.execute_command(*words)
    finally:
        client.close()


def _answers(service: Service, host: str, *, tls: bool) -> bool:
    context = ssl.create_default_context(cafile=service.state_dir / "ca" / "ca.pem")
    try:
        with (
            socket.create_connection((host, 6379), 5) as plain,
            context.wrap_socket(plain, server_hostname=host) if tls else plain as line,
        ):
            line.sendall(b"PING\r\n")
            return line.recv(100) == b"+PONG\r\n"
    except OSError:
        return False


def _links_made(service: Service, host: str, *, tls: bool) -> list[int]:
    """When each link of the node's bus was made, ms since 1970."""
    found = _asked(service, host, "CLUSTER", "LINKS", tls=tls)
    links = [link if isinstance(link, dict) else dict(zip(link[::2], link[1::2], strict=True)) for link in found]
    return [int(link["create-time"]) for link in links]


def _is_whole(service: Service, hosts: list[str], *, tls: bool) -> bool:
    """Every node has a link to and from each other, takes the cluster for sound, and follows if it is a replica."""
    for host in hosts:
        client = _node(service, host, tls=tls)
        try:
            sound = "cluster_state:ok" in str(client.execute_command("CLUSTER", "INFO"))
            replication = client.info("replication")
        except valkey.ValkeyError:
            return False
        finally:
            client.close()
        follows = replication["role"] == "master" or replication["master_link_status"] == "up"
        if not (sound and follows and len(_links_made(service, host, tls=tls)) == 2 * (len(hosts) - 1)):
            return False
    return True


def _change(service: Service, ec: Any, name: str, hosts: list[str], was: str, mode: str) -> None:
    """To another mode; afterwards all of the bus speaks as it shall, and not a link of it is from before."""
    begun = {host: _asked(service, host, "TIME", tls=bool(was)) for host in hosts}
    how = {"TransitEncryptionMode": mode} if mode else {}
    ec.modify_replication_group(
        ReplicationGroupId=name, ApplyImmediately=True, TransitEncryptionEnabled=bool(mode), **how
    )
    wait_for(lambda: group_status(ec, name) == "available", 90)
    shape = ec.describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"][0]
    assert (shape["TransitEncryptionEnabled"], shape.get("TransitEncryptionMode", "")) == (bool(mode), mode)
    tls = bool(mode)
    wait_for(lambda: _is_whole(service, hosts, tls=tls), 60)
    for host in hosts:
        assert _answers(service, host, tls=True) is tls
        assert _answers(service, host, tls=False) is (mode != "required")
        assert _bus_is_encrypted(service, host, 6379) is tls
        since = int(begun[host][0]) * 1000
        if bool(was) is not tls:
            assert min(_links_made(service, host, tls=tls)) >= since
        limit = _asked(service, host, "CONFIG", "GET", "cluster-link-sendbuf-limit", tls=tls)
        assert "0" in str(limit), limit


def test_cluster_mode_goes_to_tls_and_back_under_load(
    service: Service, ec: Any, name: str, created: list[tuple[str, str]], writers: list[Writer]
) -> None:
    Authority(service.state_dir / "ca").certificate()
    created.append(("group", name))
    ec.create_replication_group(
        ReplicationGroupId=name, ReplicationGroupDescription="d", Engine="redis", EngineVersion="7.0",
        CacheNodeType="cache.t4g.micro", NumNodeGroups=3, ReplicasPerNodeGroup=1,
        CacheParameterGroupName="default.redis7.cluster.on",
    )  # fmt: skip
    wait_for(lambda: group_status(ec, name) == "available", 60)
    shape = ec.describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"][0]
    at = shape["ConfigurationEndpoint"]
    lines = _asked(service, at["Address"], "CLUSTER", "NODES", tls=False).splitlines()
    hosts = sorted(line.split()[1].partition(":")[0] for line in lines)
    assert len(hosts) == 6
    pids = sorted(pid for member in shape["MemberClusters"] for pid in service.engines(member))
    writer = Writer(service, at)
    writers.append(writer)
    writer.start()
    wait_for(lambda: writer.total > 100, 30)

    for was, mode in (("", "preferred"), ("preferred", "required"), ("required", "preferred"), ("preferred", "")):
        before = writer.total
        _change(service, ec, name, hosts, was, mode)
        wait_for(lambda least=before: writer.total > least + 100, 60)  # type: ignore[misc]
        if mode == "required":
            assert not service.engines(name), "the switch is gone"
    writer.stopping.set()
    writer.join(30)
    assert not writer.is_alive()
    client = _cluster(service, at, tls=False)
    assert all(int(client.get(key) or 0) >= count for key, count in writer.acknowledged.items())
    client.close()
    assert sorted(pid for m in shape["MemberClusters"] for pid in service.engines(m)) == pids, "no node was restarted"


def _serial(service: Service, host: str) -> str:
    context = ssl.create_default_context(cafile=service.state_dir / "ca" / "ca.pem")
    with (
        socket.create_connection((host, 6379), 5) as plain,
        context.wrap_socket(plain, server_hostname=host) as line,
    ):
        return str((line.getpeercert() or {})["serialNumber"])


def test_certificates_are_renewed_in_cluster_mode_without_a_dropped_connection(
    new_service: Callable[..., Service], name: str
) -> None:
    service = new_service(CACHEKEEP_CERTIFICATE_HOURS="0.03").start()
    ec = service.client()
    ec.create_replication_group(
        ReplicationGroupId=name, ReplicationGroupDescription="d", Engine="redis", EngineVersion="7.0",
        CacheNodeType="cache.t4g.micro", NumNodeGroups=2, ReplicasPerNodeGroup=1, TransitEncryptionEnabled=True,
        CacheParameterGroupName="default.redis7.cluster.on",
    )  # fmt: skip
    wait_for(lambda: group_status(ec, name) == "available", 60)
    at = ec.describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"][0]["ConfigurationEndpoint"]
    lines = _asked(service, at["Address"], "CLUSTER", "NODES", tls=True).splitlines()
    hosts = sorted(line.split()[1].partition(":")[0] for line in lines)
    wait_for(lambda: _is_whole(service, hosts, tls=True), 60)
    before = {host: (_serial(service, host), sorted(_links_made(service, host, tls=True))) for host in hosts}
    held = [_node(service, host, tls=True) for host in hosts]
    numbers = [client.client_id() for client in held]

    wait_for(lambda: all(_serial(service, host) != before[host][0] for host in hosts), 150)
    assert [client.client_id() for client in held] == numbers, "no connection was dropped"
    for host in hosts:
        assert sorted(_links_made(service, host, tls=True)) == before[host][1], "nor a link of the bus"
    told = messages(ec, "cache-cluster", f"{name}-0001-001")
    assert "Certificate renewal complete for cache node 0001" in told, told
    for client in held:
        client.close()
