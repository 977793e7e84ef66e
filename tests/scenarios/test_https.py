"""The API over HTTPS: boto3, the command line and the renewal of its certificate; and who may connect at all."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.exceptions import SSLError

from cachekeep import credentials
from cachekeep.host.authority import Authority, trusting

from .conftest import Service, wait_for


@pytest.fixture
def secured(new_service: Callable[..., Service]) -> Service:
    """A service over HTTPS whose certificates live for 36 s: they are renewed all the time."""
    it = new_service(CACHEKEEP_TLS="on", CACHEKEEP_CERTIFICATE_HOURS="0.01")
    it.url = it.url.replace("http:", "https:")
    Authority(it.state_dir / "ca").certificate()
    it.trust = str(it.state_dir / "ca" / "ca.pem")
    return it.start()


def _client(service: Service, verify: str | bool) -> Any:
    key = credentials.load(service.state_dir)
    return boto3.client(
        "elasticache", endpoint_url=service.url, region_name="us-east-1", verify=verify,
        aws_access_key_id=key.id, aws_secret_access_key=key.secret,
    )  # fmt: skip


def test_boto3_and_the_command_line_over_https(secured: Service) -> None:
    ca = str(secured.state_dir / "ca" / "ca.pem")
    assert _client(secured, ca).describe_cache_clusters()["CacheClusters"] == []
    with pytest.raises(SSLError):
        _client(secured, True).describe_cache_clusters()
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        urllib.request.urlopen(secured.url.replace("https:", "http:") + "/healthz", timeout=5)

    def run(*words: str) -> str:
        argv = [sys.executable, "-m", "cachekeep", *words]
        done = subprocess.run(argv, env=secured.environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert json.loads(run("status", "--json"))["service"]["url"] == secured.url
    assert f"export AWS_CA_BUNDLE={ca}" in run("env")
    assert run("ca", "--path").strip() == ca
    with urllib.request.urlopen(f"{secured.url}/_cachekeep/ca.pem", timeout=5, context=trusting(ca)) as answer:
        assert answer.read().decode() == run("ca")


def test_the_certificate_is_renewed_and_an_open_connection_stays(secured: Service) -> None:
    context = trusting(secured.state_dir / "ca" / "ca.pem")
    held = http.client.HTTPSConnection("127.0.0.1", secured.port, timeout=20, context=context)
    held.request("GET", "/healthz")
    assert held.getresponse().read()
    old = _serial(secured, context)
    file = secured.state_dir / "ca" / "api.pem"
    # As after two thirds of its life: what is there ends too soon.
    Authority(secured.state_dir / "ca", 1.0).issue(file, "Cachekeep API", ["127.0.0.1"])
    wait_for(lambda: _serial(secured, context) != old, 60)
    held.request("GET", "/healthz")
    assert held.getresponse().status == 200
    held.close()


def _serial(service: Service, context: ssl.SSLContext) -> str:
    with (
        socket.create_connection(("127.0.0.1", service.port), 10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as line,
    ):
        found = line.getpeercert()
        assert found is not None
        return str(found["serialNumber"])


def test_a_broken_authority_keeps_the_service_from_starting_and_nothing_is_served_in_the_clear(
    secured: Service,
) -> None:
    secured.stop()
    (secured.state_dir / "ca" / "ca.key").unlink()
    done = subprocess.run(
        [sys.executable, "-m", "cachekeep", "serve"],
        env=secured.environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "ca.key is gone" in done.stderr
    assert not (secured.state_dir / "ca" / "ca.key").exists()


def test_an_address_that_is_not_allowed_gets_no_answer(new_service: Callable[..., Service]) -> None:
    # 127.0.0.0/31: the address that the fixture's own probes come from, and its neighbour.
    service = new_service(CACHEKEEP_ALLOWED_SOURCES="127.0.0.0/31").start()
    request = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"

    def asked_from(source: str) -> bytes:
        with socket.create_connection(("127.0.0.1", service.port), 10, source_address=(source, 0)) as line:
            try:
                line.sendall(request)
                return line.recv(4096)
            except ConnectionError:
                return b""

    assert asked_from("127.0.0.1").startswith(b"HTTP/1.1 200")
    assert asked_from("127.0.0.9") == b""
