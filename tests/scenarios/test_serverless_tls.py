"""Serverless caches that speak TLS: both on one port, as clients of AWS's connect, and what the setting makes of it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import valkey
from pymemcache.client.base import Client as MemcacheClient
from valkey.cluster import ValkeyCluster

from cachekeep.domain.engine import Engine, with_tls
from cachekeep.host.authority import trusting
from cachekeep.host.installs import MachineCatalogue

from .conftest import Service, messages, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _redis_with_tls() -> None:
    if with_tls(MachineCatalogue().installs(), Engine.REDIS) is None:
        pytest.skip("needs a redis-server with TLS on the machine")


def _shown(ec: Any, name: str) -> dict[str, Any]:
    return dict(ec.describe_serverless_caches(ServerlessCacheName=name)["ServerlessCaches"][0])


def _create(ec: Any, name: str, engine: str) -> dict[str, Any]:
    ec.create_serverless_cache(ServerlessCacheName=name, Engine=engine)
    wait_for(lambda: _shown(ec, name)["Status"] == "AVAILABLE", 60)
    return _shown(ec, name)


def _delete(ec: Any, name: str) -> None:
    ec.delete_serverless_cache(ServerlessCacheName=name)
    wait_for(lambda: not ec.describe_serverless_caches()["ServerlessCaches"], 60)


def _secured(service: Service) -> dict[str, Any]:
    return {"ssl": True, "ssl_ca_certs": str(service.state_dir / "ca" / "ca.pem"), "ssl_check_hostname": True}


def _cli(service: Service, host: str, port: int, *words: str) -> str:
    argv = ["redis-cli", "--tls", "--cacert", str(service.state_dir / "ca" / "ca.pem"), "-h", host, "-p", str(port)]
    return subprocess.run([*argv, *words], capture_output=True, text=True, timeout=30, check=False).stdout


def test_redis_answers_tls_and_plain_clients_on_one_port_and_leaves_tls_for_a_valkey_without(
    new_service: Callable[..., Service], name: str
) -> None:
    service = new_service().start()
    ec = service.client()
    at = _create(ec, name, "redis")["Endpoint"]
    host, port = at["Address"], at["Port"]
    secured: Any = ValkeyCluster(host=host, port=port, decode_responses=True, **_secured(service))
    plain: Any = ValkeyCluster(host=host, port=port, decode_responses=True)
    assert secured.set("k", "v")
    assert plain.get("k") == "v"
    reader = _shown(ec, name)["ReaderEndpoint"]
    replica: Any = valkey.Valkey(reader["Address"], reader["Port"], decode_responses=True, **_secured(service))
    assert replica.info("replication")["master_link_status"] == "up"
    if shutil.which("redis-cli"):
        assert _cli(service, host, port, "GET", "k") == "v\n"
    for client in (secured, plain, replica):
        client.close()

    if with_tls(MachineCatalogue().installs(), Engine.VALKEY) is None:
        ec.modify_serverless_cache(ServerlessCacheName=name, Engine="valkey", MajorEngineVersion="9")
        wait_for(lambda: _shown(ec, name)["Status"] == "AVAILABLE" and _shown(ec, name)["Engine"] == "valkey", 120)
        after: Any = ValkeyCluster(host=host, port=port, decode_responses=True)
        assert after.get("k") == "v"
        after.close()
        assert any("speaks TLS no more" in text for text in messages(ec, "serverless-cache", name))
    _delete(ec, name)


def test_required_speaks_nothing_but_tls_and_needs_an_engine_that_can(
    new_service: Callable[..., Service], name: str
) -> None:
    service = new_service(CACHEKEEP_SERVERLESS_TLS="required").start()
    ec = service.client()
    at = _create(ec, name, "redis")["Endpoint"]
    secured: Any = ValkeyCluster(host=at["Address"], port=at["Port"], decode_responses=True, **_secured(service))
    assert secured.set("k", "v")
    secured.close()
    plain: Any = valkey.Valkey(at["Address"], at["Port"], socket_timeout=5)
    with pytest.raises(valkey.ConnectionError):
        plain.ping()
    plain.close()
    if with_tls(MachineCatalogue().installs(), Engine.VALKEY) is None:
        with pytest.raises(ec.exceptions.InvalidParameterCombinationException, match="valkey-server"):
            ec.create_serverless_cache(ServerlessCacheName=f"{name}-v", Engine="valkey")
    _delete(ec, name)
    if with_tls(MachineCatalogue().installs(), Engine.MEMCACHED) is not None:
        at = _create(ec, name, "memcached")["Endpoint"]
        context = trusting(service.state_dir / "ca" / "ca.pem")
        client: Any = MemcacheClient((at["Address"], at["Port"]), tls_context=context, timeout=10, connect_timeout=10)
        assert client.set("k", "v")
        assert client.get("k") == b"v"
        client.close()
        _delete(ec, name)
