"""Clients that users have find all nodes of a Memcached cluster and follow its changes.

Two ways: the exchange of each client, byte for byte as its published source has it, in every run; and the clients
themselves, installed from their registries, in the slow run.
Sources of the exchanges: memcached-elasticache 1.1.1 index.js with memcached 2.2.2; django-elastipymemcache 3.0.0
client.py, which is pymemcache's AWSElastiCacheHashClient; elasticache-auto-discovery 1.0.0.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .conftest import cluster_status, create_cluster, wait_for
from .test_memcached import described, endpoints

Created = list[tuple[str, str]]
PROGRAMS = Path(__file__).parent / "discovery_clients"
PIP = ("django-elastipymemcache==3.0.0", "elasticache-auto-discovery==1.0.0")
NPM = "memcached-elasticache@1.1.1"


def exchanged(at: tuple[str, int], request: bytes, end: bytes) -> bytes:
    with socket.create_connection(at, 10) as link:
        link.sendall(request)
        got = b""
        while not got.endswith(end):
            chunk = link.recv(1024)
            assert chunk, f"hung up after {got!r}"
            got += chunk
    return got


def by_pymemcache(at: tuple[str, int]) -> set[str]:
    """raw_command(b"config get cluster", end_tokens=b"\\n\\r\\nEND\\r\\n"), then _parse_config_get_cluster_response."""
    response = exchanged(at, b"config get cluster\r\n", b"\n\r\nEND\r\n").removesuffix(b"\n\r\nEND\r\n")
    header, version, *body = [line.decode().strip() for line in response.splitlines() if line.strip()]
    assert header.lower().startswith("config cluster")
    assert version.isdigit()
    tokens = [token.split("|") for token in " ".join(body).split(" ")]
    return {f"{ip or host}:{int(port)}" for host, ip, port in tokens}


def by_auto_discovery(at: tuple[str, int]) -> set[str]:
    """Reads until the last five bytes are END\\r\\n, and takes the third line."""
    lines = exchanged(at, b"config get cluster\r\n", b"END\r\n").split(b"\n")
    return {f"{c.split(b'|')[1].decode()}:{int(c.split(b'|')[2])}" for c in lines[2].split(b" ")}


def by_node(at: tuple[str, int], command: bytes = b"config get cluster") -> set[str]:
    """`version` first, then the command on the same connection; the block of data by its length, hosts by field 0."""
    with socket.create_connection(at, 10) as link, link.makefile("rb") as stream:
        link.sendall(b"version\r\n")
        major, minor, *_ = (int(part) for part in stream.readline().split()[1].decode().split("."))
        assert (major, minor) >= (1, 4)
        link.sendall(command + b"\r\n")
        title, key, flags, length = stream.readline().split()
        assert (title, key, flags) in ((b"CONFIG", b"cluster", b"0"), (b"VALUE", b"AmazonElastiCache:cluster", b"0"))
        data = stream.read(int(length))
        assert stream.read(2) == b"\r\n"
        assert stream.readline() == b"END\r\n"
    parts = [entry.split("|") for entry in data.decode().split("\n")[1].split(" ")]
    return {f"{host}:{port}" for host, _, port in parts}


def by_old_node(at: tuple[str, int]) -> set[str]:
    return by_node(at, b"get AmazonElastiCache:cluster")


def named(cluster: dict[str, Any]) -> set[str]:
    return {f"{host}:{port}" for host, port in endpoints(cluster)}


def config_endpoint(cluster: dict[str, Any]) -> tuple[str, int]:
    at = cluster["ConfigurationEndpoint"]
    return at["Address"], at["Port"]


def grown(ec: Any, name: str, count: int) -> dict[str, Any]:
    ec.modify_cache_cluster(CacheClusterId=name, NumCacheNodes=count, ApplyImmediately=True)
    wait_for(lambda: cluster_status(ec, name) == "available", 60)
    return described(ec, name)


def test_the_exchanges_of_the_clients(ec: Any, created: Created, name: str) -> None:
    cluster = create_cluster(ec, created, name, Engine="memcached", NumCacheNodes=2)
    at = config_endpoint(cluster)
    clients = (by_pymemcache, by_auto_discovery, by_node, by_old_node)
    assert {client.__name__: client(at) for client in clients} == dict.fromkeys(
        [client.__name__ for client in clients], named(cluster)
    )
    more = named(grown(ec, name, 3))
    assert len(more) == 3
    assert all(client(at) == more for client in clients)


@contextmanager
def running(command: list[str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=folder) as program:
        try:
            yield program
        finally:
            program.terminate()


def told(program: subprocess.Popen[str]) -> dict[str, Any]:
    assert program.stdout is not None
    line = program.stdout.readline()
    assert line, f"it ended with {program.wait(20)}"
    return dict(json.loads(line))


@pytest.mark.slow
def test_python_clients_follow_a_change(ec: Any, created: Created, name: str, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "client"], check=True)
    python = str(tmp_path / "client" / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "-q", *PIP], check=True)
    cluster = create_cluster(ec, created, name, Engine="memcached", NumCacheNodes=2)
    host, port = config_endpoint(cluster)
    with running([python, str(PROGRAMS / "elasticache_python.py"), f"{host}:{port}"], tmp_path) as program:
        assert told(program) == {"nodes": sorted(named(cluster)), "discovered": sorted(named(cluster)), "found": 40}
        more = named(grown(ec, name, 3))

        def follows() -> bool:
            assert program.stdin is not None
            program.stdin.write("again\n")
            program.stdin.flush()
            return told(program) == {"nodes": sorted(more), "discovered": sorted(more), "found": 40}

        wait_for(follows, 60)


@pytest.mark.slow
def test_a_node_client_follows_a_change(ec: Any, created: Created, name: str, tmp_path: Path) -> None:
    subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent", NPM], check=True, cwd=tmp_path)
    program_file = tmp_path / "client.js"
    program_file.write_text((PROGRAMS / "elasticache_node.js").read_text())
    cluster = create_cluster(ec, created, name, Engine="memcached", NumCacheNodes=2)
    host, port = config_endpoint(cluster)
    with running(["node", str(program_file), f"{host}:{port}"], tmp_path) as program:
        assert told(program) == {"nodes": sorted(named(cluster)), "found": 40}
        more = named(grown(ec, name, 3))
        answer = told(program)
        assert (sorted(answer["nodes"]), answer["found"]) == (sorted(more), 40)
