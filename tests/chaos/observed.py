"""Engines as they are seen from outside, without asking the service: processes, what they listen on, what they say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import valkey

from tests.scenarios.conftest import Service

PATIENCE_S = 0.3
ONLY_SHARD = "0001"


@dataclass(frozen=True)
class Seen:
    """A living process of a node. member: the cache cluster's id. instance: the name of its folder.

    shard: the node group's id, as the member's name tells it. host, port: its own address. stopped: by SIGSTOP.
    """

    pid: int
    member: str
    shard: str
    instance: str
    host: str
    port: int
    stopped: bool


def engines_of(service: Service, group: str) -> list[Seen]:
    """Of all members of a group, spares included."""
    pattern = re.compile(rf"{re.escape(group)}-(?:(\d{{4}})-)?\d{{3}}\Z")
    found = []
    for pid, folder in service.engines().items():
        member = Path(folder).parts[-2]
        named = pattern.match(member)
        if named and (seen := _seen(pid, member, named[1] or ONLY_SHARD, Path(folder))):
            found.append(seen)
    return sorted(found, key=lambda it: (it.member, it.instance))


def _seen(pid: int, member: str, shard: str, folder: Path) -> Seen | None:
    """None when it has ended meanwhile."""
    with suppress(psutil.NoSuchProcess, FileNotFoundError):
        process = psutil.Process(pid)
        told = dict(line.split(maxsplit=1) for line in (folder / "engine.conf").read_text().splitlines() if " " in line)
        stopped = process.status() == psutil.STATUS_STOPPED
        own, port = told["bind"].strip('"'), int(told["port"].strip('"'))
        # What it listens on now: the former instance of an upgrade has moved away from where it was started.
        listening = sorted(
            it.laddr.ip
            for it in process.net_connections("tcp")
            if it.status == psutil.CONN_LISTEN and it.laddr.port == port
        )
        host = own if own in listening or not listening else listening[0]
        return Seen(pid, member, shard, folder.name, host, port, stopped)
    return None


@contextmanager
def node_client(host: str, port: int, patience_s: float = PATIENCE_S) -> Iterator[Any]:
    """A client of one node itself."""
    client = valkey.Valkey(
        host=host, port=port, socket_timeout=patience_s, socket_connect_timeout=patience_s, decode_responses=True
    )
    with client:
        yield client


@dataclass(frozen=True)
class Said:
    """What an engine says of itself. in_sync: replicas that are online and less than a second behind."""

    primary: bool
    offset: int
    in_sync: int
    slots: frozenset[int] | None
    id: str = ""


def ask(seen: Seen) -> Said | None:
    """None when it does not answer."""
    if seen.stopped:
        return None
    try:
        with node_client(seen.host, seen.port) as client:
            told = client.info("replication")
            slots, name = _slots(client) if client.info("cluster").get("cluster_enabled") else (None, "")
            return Said(told["role"] == "master", int(told["master_repl_offset"]), _in_sync(told), slots, name)
    except (valkey.ValkeyError, OSError):
        return None


def _in_sync(told: dict[str, Any]) -> int:
    replicas = [value for name, value in told.items() if re.fullmatch(r"slave\d+", name)]
    return sum(it["state"] == "online" and it["lag"] <= 1 for it in replicas)


def _slots(client: Any) -> tuple[frozenset[int], str]:
    """The slots of this node, and its id."""
    lines = client.execute_command("CLUSTER NODES")
    if isinstance(lines, dict):  # the client has read them
        name, mine = next((it["node_id"], it) for it in lines.values() if "myself" in it["flags"])
        spans = [tuple(map(int, span)) for span in mine["slots"]]
        return frozenset(slot for span in spans for slot in range(span[0], span[-1] + 1)), str(name)
    raise AssertionError(f"CLUSTER NODES was answered {lines!r}")
