"""A group that goes to TLS while it is used: off, preferred, required, and the way back. No write is lost."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import valkey

from cachekeep.domain.engine import Engine, with_tls
from cachekeep.host.installs import MachineCatalogue

from .conftest import Service, create_group, group_status, wait_for


@pytest.fixture(autouse=True)
def _redis_with_tls() -> None:
    if with_tls(MachineCatalogue().installs(), Engine.REDIS) is None:
        pytest.skip("needs a redis-server with TLS on the machine")


def _client(service: Service, endpoint: dict[str, Any], *, tls: bool) -> valkey.Valkey:
    more = {"ssl": True, "ssl_ca_certs": str(service.state_dir / "ca" / "ca.pem"), "ssl_check_hostname": True}
    return valkey.Valkey(
        endpoint["Address"], endpoint["Port"], decode_responses=True, socket_timeout=3, **(more if tls else {})
    )


def _asked(service: Service, endpoint: dict[str, Any], *words: str, tls: bool) -> Any:
    client = _client(service, endpoint, tls=tls)
    try:
        return client.execute_command(*words)
    finally:
        client.close()


def _answers(service: Service, endpoint: dict[str, Any], *, tls: bool) -> bool:
    context = ssl.create_default_context(cafile=service.state_dir / "ca" / "ca.pem")
    with closing(socket.socket()) as plain:
        plain.settimeout(3)
        try:
            plain.connect((endpoint["Address"], endpoint["Port"]))
            line = context.wrap_socket(plain, server_hostname=endpoint["Address"]) if tls else plain
            with closing(line):
                line.sendall(b"PING\r\n")
                return line.recv(100) == b"+PONG\r\n"
        except OSError:
            return False


# A plain server waits for the rest of what it takes for a command: a TLS client of it times out.
class Writer(threading.Thread):
    """Counts up one key, as fast as it is acknowledged; connects anew where it must, by whatever is understood."""

    def __init__(self, service: Service, endpoint: dict[str, Any]) -> None:
        super().__init__(daemon=True)
        self._service, self._endpoint = service, endpoint
        self.acknowledged = 0
        self.stopping = threading.Event()

    def run(self) -> None:
        tls = False
        client = _client(self._service, self._endpoint, tls=tls)
        while not self.stopping.is_set():
            try:
                client.incr("count")
                self.acknowledged += 1
            except (valkey.ConnectionError, valkey.TimeoutError, valkey.ReadOnlyError):
                client.close()
                tls = not tls
                client = _client(self._service, self._endpoint, tls=tls)
        client.close()


def _run(service: Service, *words: str) -> str:
    argv = [sys.executable, "-m", "cachekeep", *words]
    done = subprocess.run(argv, env=service.environment, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def writers() -> Iterator[list[Writer]]:
    made: list[Writer] = []
    yield made
    for writer in made:
        writer.stopping.set()
        writer.join(20)


def _modes(ec: Any, name: str) -> tuple[bool, str | None, str]:
    group = ec.describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"][0]
    return group["TransitEncryptionEnabled"], group.get("TransitEncryptionMode"), group["Status"]


def _change(ec: Any, name: str, **how: Any) -> None:
    ec.modify_replication_group(ReplicationGroupId=name, ApplyImmediately=True, **how)
    wait_for(lambda: group_status(ec, name) == "available", 60)


def test_off_preferred_required_and_back_under_load(
    service: Service, ec: Any, name: str, created: list[tuple[str, str]], writers: list[Writer]
) -> None:
    shape = create_group(ec, created, name, Engine="redis", EngineVersion="7.0", AutomaticFailoverEnabled=True)
    shard = shape["NodeGroups"][0]
    primary, reader = shard["PrimaryEndpoint"], shard["ReaderEndpoint"]
    pids = sorted(p for m in shape["MemberClusters"] for p in service.engines(m))
    writer = Writer(service, primary)
    writers.append(writer)
    writer.start()
    wait_for(lambda: writer.acknowledged > 100, 30)

    with pytest.raises(ec.exceptions.InvalidParameterCombinationException, match="preferred first"):
        ec.modify_replication_group(ReplicationGroupId=name, TransitEncryptionEnabled=True, ApplyImmediately=True)
    _change(ec, name, TransitEncryptionEnabled=True, TransitEncryptionMode="preferred")
    assert _modes(ec, name) == (True, "preferred", "available")
    for endpoint in (primary, reader):
        assert _answers(service, endpoint, tls=True)
        assert _answers(service, endpoint, tls=False)

    # Roles still move, and the endpoint with them.
    ec.test_failover(ReplicationGroupId=name, NodeGroupId="0001")
    wait_for(lambda: group_status(ec, name) == "available", 60)
    for tls in (True, False):
        client = _client(service, primary, tls=tls)
        assert client.info("replication")["role"] == "master"
        client.close()

    _change(ec, name, TransitEncryptionMode="required")
    assert _modes(ec, name) == (True, "required", "available")
    assert _answers(service, primary, tls=True)
    assert not _answers(service, primary, tls=False)
    assert not service.engines(name), "the switch is gone"
    before = writer.acknowledged
    wait_for(lambda: writer.acknowledged > before + 100, 30)
    checker = _client(service, primary, tls=True)
    assert checker.wait(1, 20_000) == 1, "the replica is attached by TLS"

    _change(ec, name, TransitEncryptionMode="preferred")
    _change(ec, name, TransitEncryptionEnabled=False)
    assert _modes(ec, name) == (False, None, "available")
    assert not _answers(service, primary, tls=True)
    writer.stopping.set()
    writer.join(20)
    plain = _client(service, primary, tls=False)
    assert int(plain.get("count") or 0) >= writer.acknowledged > before
    still = sorted(p for m in shape["MemberClusters"] for p in service.engines(m))
    assert len(set(still) & set(pids)) >= 1, "only the node that TestFailover replaces was started anew"
    for client in (checker, plain):
        client.close()


@pytest.mark.slow
def test_a_service_that_dies_on_the_way_goes_on_with_it_and_down_keeps_the_data(
    new_service: Callable[..., Service], name: str
) -> None:
    service = new_service().start()
    ec = service.client()
    shape = create_group(ec, [], name, Engine="redis", EngineVersion="7.0", AutomaticFailoverEnabled=True)
    primary = shape["NodeGroups"][0]["PrimaryEndpoint"]
    assert _asked(service, primary, "SET", "k", "v", tls=False)
    how = {"ReplicationGroupId": name, "ApplyImmediately": True}
    ec.modify_replication_group(**how, TransitEncryptionEnabled=True, TransitEncryptionMode="preferred")
    service.kill()
    service.start()
    wait_for(lambda: group_status(ec, name) == "available", 60)
    assert _answers(service, primary, tls=True)
    assert _answers(service, primary, tls=False)
    (switch,) = service.engines(name)
    os.kill(switch, signal.SIGKILL)
    wait_for(lambda: _answers(service, primary, tls=True), 60)

    service.stop()
    assert "the data is saved" in _run(service, "down")
    assert not service.engines()
    service.start()
    wait_for(lambda: group_status(ec, name) == "available" and _answers(service, primary, tls=True), 60)
    assert _asked(service, primary, "GET", "k", tls=True) == "v"
    wait_for(lambda: _modes(ec, name)[2] == "available" and _replica_is_attached(service, primary), 60)

    ec.modify_replication_group(**how, TransitEncryptionMode="required")
    service.kill()
    service.start()
    wait_for(lambda: group_status(ec, name) == "available" and not _answers(service, primary, tls=False), 60)
    wait_for(lambda: len(service.engines()) == 2 and _answers(service, primary, tls=True), 60)
    pids = set(service.engines())
    service.kill()
    service.start()
    wait_for(lambda: "measured" in _health(service, name), 60)
    assert set(service.engines()) == pids, "adopted, by TLS"
    service.stop()
    assert "the data is saved" in _run(service, "down")
    service.start()
    wait_for(lambda: group_status(ec, name) == "available" and _answers(service, primary, tls=True), 60)
    assert _asked(service, primary, "GET", "k", tls=True) == "v"


def _replica_is_attached(service: Service, primary: dict[str, Any]) -> bool:
    return len(_asked(service, primary, "ROLE", tls=True)[2]) == 1


def _health(service: Service, name: str) -> str:
    argv = [sys.executable, "-m", "cachekeep", "health", name]
    done = subprocess.run(argv, env=service.environment, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout
