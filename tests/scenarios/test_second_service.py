"""Two services and one state directory: one serves, the other says why it does not, and touches nothing."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Service, connect, create_group, group_status, wait_for

pytestmark = pytest.mark.slow
REFUSED = "another Cachekeep runs with the state directory"


def begun(service: Service, **settings: str) -> subprocess.Popen[str]:
    """A service beside it: the same state directory, other settings."""
    command = [sys.executable, "-m", "cachekeep", "serve"]
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    return subprocess.Popen(
        command, env=service.environment | settings, stdin=nothing, stdout=nothing, stderr=pipe, text=True
    )


def kept(service: Service) -> dict[str, str]:
    """The digests of what a start would make or change. Not what the one that serves writes all the time."""
    found = [*service.state_dir.glob("*"), *service.nodes_root.rglob("*.conf"), *service.nodes_root.rglob("*.json")]
    moving = ("sqlite", "-wal", "-shm", ".log")
    files = [path for path in found if path.is_file() and not path.name.endswith(moving)]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_second_is_refused_by_whatever_way_it_comes_and_harms_nothing(
    new_service: Callable[..., Service], tmp_path: Path
) -> None:
    service = new_service().start()
    ec = service.client()
    group = create_group(ec, [], "demo")
    client = connect(group["NodeGroups"][0]["PrimaryEndpoint"])
    client.set("a", "1")
    before, engines = kept(service), service.engines()
    assert (service.state_dir / "service.json") in map(Path, before)
    other_name = tmp_path / "another-name"
    other_name.symlink_to(service.state_dir)
    ways = [
        {},
        {"CACHEKEEP_PORT": str(new_service().port)},
        {"CACHEKEEP_PORT": str(new_service().port), "CACHEKEEP_STATE_DIR": str(other_name)},
    ]
    for settings in ways:
        second = begun(service, **settings)
        _, told = second.communicate(timeout=60)
        assert second.returncode == 2
        assert REFUSED in told
        assert "`cachekeep down` stops it" in told
        assert "Traceback" not in told
    assert (kept(service), service.engines()) == (before, engines)
    assert client.get("a") == "1"
    assert group_status(ec, "demo") == "available"
    # The lock ends with its holder, however that ends.
    service.kill()
    service.start()
    assert service.engines() == engines
    assert connect(group["NodeGroups"][0]["PrimaryEndpoint"]).get("a") == "1"


def test_of_several_that_begin_at_once_one_serves(new_service: Callable[..., Service]) -> None:
    """On a new state directory, where each would make keys and a store."""
    service = new_service()
    ports = [service.port, *(new_service().port for _ in range(3))]
    all_begun = {port: begun(service, CACHEKEEP_PORT=str(port)) for port in ports}
    try:
        ended = wait_for(lambda: _refused(all_begun), 60)
        (serving,) = set(ports) - set(ended)
        told = json.loads(wait_for(lambda: _read(service.state_dir / "service.json"), 60))
        assert told["pid"] == all_begun[serving].pid
        service.port, service.url = serving, f"http://127.0.0.1:{serving}"
        wait_for(lambda: _lists(service))
    finally:
        for process in all_begun.values():
            process.terminate()
            process.communicate(timeout=60)


def _refused(all_begun: dict[int, subprocess.Popen[str]]) -> dict[int, int]:
    """The ports of those that have ended, once only one goes on."""
    ended = {port: code for port, process in all_begun.items() if (code := process.poll()) is not None}
    assert len(ended) < len(all_begun), "nobody serves"
    return ended if len(ended) == len(all_begun) - 1 else {}


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _lists(service: Service) -> Any:
    return service.client().describe_cache_clusters()["CacheClusters"] == []
