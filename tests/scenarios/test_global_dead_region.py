"""Global datastores in cluster mode whose primary region is gone as a whole, while the service is there."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
import valkey
from valkey.exceptions import ValkeyClusterException

from .conftest import group_status, is_running, messages, wait_for
from .test_global_clusters import _reads, _takes, cluster, nodes, pair, refuses_writes
from .test_global_datastore import (
    HERE,
    THERE,
    World,
    _roles,
    world,  # noqa: F401 - a fixture
)

pytestmark = pytest.mark.slow


def _processes(world: World, name: str) -> dict[int, tuple[str, int]]:  # noqa: F811
    """Of all nodes of the primary's region: where each listens."""
    found = {}
    for node in nodes(world, HERE, name):
        at = node.connection_pool.connection_kwargs
        found[int(node.info("server")["process_id"])] = (at["host"], at["port"])
    return found


def _kill(pids: dict[int, tuple[str, int]]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        wait_for(lambda p=pid: not is_running(p))


def _has_all(world: World, region: str, name: str) -> bool:  # noqa: F811
    """Also while its nodes come back. What is new may be there before what is old."""
    try:
        made = cluster(world, region, name)
        return all(made.get(f"key:{n}") == str(n) for n in range(500))
    except (valkey.ValkeyError, ValkeyClusterException, OSError):
        return False


def _told(world: World, region: str, name: str, text: str) -> bool:  # noqa: F811
    return any(text in told for told in messages(world.at(region), "replication-group", name))


def test_a_region_that_comes_back_without_data_gets_it_from_the_other(world: World, name: str) -> None:  # noqa: F811
    """All at once: no node has an heir. What the region takes before the failover is not copied, and gone after it."""
    datastore = pair(world, name, replicas=1)
    gone = _processes(world, name)
    assert len(gone) == 4
    _kill(gone)
    wait_for(lambda: _told(world, HERE, name, "it starts empty"), 60)
    wait_for(lambda: _told(world, THERE, name, "not copied from again"), 60)
    wait_for(lambda: _takes(world, HERE, name, "between", "1"), 60)
    assert _has_all(world, THERE, name)
    assert all(refuses_writes(node) for node in nodes(world, THERE, name))

    world.fail_over(datastore, THERE, name)
    wait_for(lambda: world.roles(datastore) == _roles(THERE, HERE), 120)
    wait_for(lambda: _takes(world, THERE, name, "new", "1"), 60)
    assert _has_all(world, THERE, name)
    wait_for(lambda: _reads(world, HERE, name, "new") == "1", 60)
    wait_for(lambda: _has_all(world, HERE, name), 60)
    assert cluster(world, THERE, name).get("between") is None
    wait_for(lambda: cluster(world, HERE, name).get("between") is None, 60)
    assert all(refuses_writes(node) for node in nodes(world, HERE, name))
    assert _told(world, THERE, name, "what had not arrived of it is lost")


def test_a_region_that_stays_away_is_left_and_follows_once_it_is_back(world: World, name: str) -> None:  # noqa: F811
    datastore = pair(world, name, replicas=1)
    gone = _processes(world, name)
    assert world.service.process is not None
    with ExitStack() as taken:
        # None of them can start again: somebody else has its address.
        os.kill(world.service.process.pid, signal.SIGSTOP)
        try:
            _kill(gone)
            for at in gone.values():
                taken.enter_context(_occupied(at))
        finally:
            os.kill(world.service.process.pid, signal.SIGCONT)
        world.fail_over(datastore, THERE, name)
        wait_for(lambda: _takes(world, THERE, name, "new", "1"), 60)
        assert _has_all(world, THERE, name)
        assert world.described(datastore)["Members"][0]["ReplicationGroupRegion"] == THERE
        assert _told(world, THERE, name, "is lost")
        assert not any(f"/{HERE}/{name}-" in folder for folder in world.service.engines().values())
    wait_for(lambda: _reads(world, HERE, name, "new") == "1", 120)
    wait_for(lambda: _has_all(world, HERE, name), 60)
    wait_for(lambda: world.roles(datastore) == _roles(THERE, HERE), 60)
    wait_for(lambda: group_status(world.at(HERE), name) == "available", 60)
    assert all(refuses_writes(node) for node in nodes(world, HERE, name))


@contextmanager
def _occupied(at: tuple[str, int]) -> Iterator[None]:
    """Somebody listens there who hangs up on everybody."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(at)
        listening.listen()

        def hang_up() -> None:
            with suppress(OSError):
                while True:
                    listening.accept()[0].close()

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        yield
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(10)


@pytest.mark.parametrize("replicas", [0, 1])
def test_a_region_whose_engines_all_hang_is_fenced_and_left(world: World, name: str, replicas: int) -> None:  # noqa: F811
    """Whatever they would do when they wake up, they do not: none of them can take a write any more."""
    datastore = pair(world, name, replicas=replicas)
    hanging = _processes(world, name)
    for pid in hanging:
        os.kill(pid, signal.SIGSTOP)
    world.fail_over(datastore, THERE, name)
    wait_for(lambda: _takes(world, THERE, name, "new", "1"), 60)
    assert not any(is_running(pid) for pid in hanging)
    assert _told(world, THERE, name, "is lost")
    assert _has_all(world, THERE, name)
    wait_for(lambda: _reads(world, HERE, name, "new") == "1", 120)
    wait_for(lambda: _has_all(world, HERE, name), 60)
    assert all(refuses_writes(node) for node in nodes(world, HERE, name))
