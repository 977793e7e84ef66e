"""One look at an endpoint: what it is, how much it holds, which nodes have it, what it allows. Called before all else.

The least that it needs: INFO, and in cluster mode CLUSTER SLOTS. All else is asked for and may be refused.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from cachekeep.backup.abilities import probe
from cachekeep.backup.survey_types import DatabaseSize, Node, Survey
from cachekeep.codec.dump import Target
from cachekeep.codec.info import parse_info
from cachekeep.codec.resp import Word, pack
from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.remote import Connection, Refusal, Remote, RemoteError, RemoteFault, understood

_VERSION = re.compile(r"[0-9]{1,4}(\.[0-9]{1,4}){1,3}")
_NODES_AT_ONCE = 8
_CLOCK_ROUNDS = 3


def survey(remote: Remote) -> Survey:
    """Raises RemoteError: out of reach; DENIED without INFO; FOREIGN for what is neither Valkey nor Redis."""
    with understood(remote.address):
        return _survey(remote)


def _survey(remote: Remote) -> Survey:
    with remote.connect() as connection:
        seen = _look(connection)
        clock_ahead_ms = _clock_ahead_ms(connection)
        cluster = _is_cluster(seen.info)
        owners = _owners(connection, remote) if cluster else {}
        limit = _database_limit(connection, cluster=cluster)
    looks = _looks(remote, owners) if cluster else [seen]
    target = _target(seen.info, remote.address)
    return Survey(
        name=remote.name,
        target=target,
        server=f"{target.engine.label} {target.version}",
        mode="cluster" if cluster else "standalone",
        # Of a cluster only primaries are talked to, whichever node the URL names.
        role="replica" if seen.info.get("role") == "slave" and not cluster else "primary",
        nodes=tuple(_nodes(owners, looks)) if cluster else (Node("", _port(remote), seen.info.get("run_id", "")),),
        databases=_databases(look.info for look in looks),
        denied=probe(remote),
        clock_ahead_ms=clock_ahead_ms,
        used_bytes=sum(_number(look.info, "used_memory") for look in looks),
        modules=tuple(sorted({name for look in looks for name in look.modules})),
        database_limit=limit,
        eviction=seen.info.get("maxmemory_policy"),
    )


@dataclass(frozen=True)
class _Look:
    info: Mapping[str, str]
    modules: tuple[str, ...]


Owners = dict[tuple[str, int], list[tuple[int, int]]]


def _look(connection: Connection) -> _Look:
    # Without a section: before 7.0 there may be only one, and "all" adds the statistics of every command.
    reply = _told(connection, "INFO")
    if isinstance(reply, Refusal):
        fault = RemoteFault.DENIED if reply.code in ("NOPERM", "NOAUTH", "ERR") else RemoteFault.UNREACHABLE
        what = f"{connection.address} does not answer INFO to this user: {str(reply)[:200]}"
        raise RemoteError(fault, what, "allow at least INFO, SELECT, SCAN and DUMP, and CLUSTER SLOTS in cluster mode")
    if not isinstance(reply, bytes):
        raise _foreign(connection.address, "its INFO is no text")
    text = reply.decode("utf-8", "replace")
    # Several lines of one name, so not from the mapping: module:name=ReJSON,ver=20609,...
    modules = re.findall(r"^module:name=([^,\r\n]+)", text, re.MULTILINE)
    # Valkey 9.1 counts its own script engine as one; it has no types of keys.
    return _Look(parse_info(text), tuple(name for name in modules if name != "lua"))


def _target(info: Mapping[str, str], address: str) -> Target:
    """Valkey says so; everything else is the Redis that it claims to be compatible with (KeyDB, Dragonfly)."""
    valkey = "valkey_version" in info or info.get("server_name") == "valkey"
    told = info.get("valkey_version" if "valkey_version" in info else "redis_version", "")
    number = _VERSION.match(told)
    if number is None:
        raise _foreign(address, f"its INFO has no version of Redis or Valkey ({told[:40] or 'none'})")
    return Target(Engine.VALKEY if valkey else Engine.REDIS, EngineVersion.parse(number.group()))


def _foreign(address: str, why: str) -> RemoteError:
    return RemoteError(RemoteFault.FOREIGN, f"{address} is no Redis or Valkey: {why}", "check the address")


def _is_cluster(info: Mapping[str, str]) -> bool:
    return info.get("cluster_enabled") == "1" or "cluster" in (info.get("redis_mode"), info.get("server_mode"))


def _owners(connection: Connection, remote: Remote) -> Owners:
    """Who has slots, and which. An empty host is the node that was asked; "?" one that has none to tell."""
    reply = _told(connection, "CLUSTER", "SLOTS")
    if isinstance(reply, Refusal):
        fault = RemoteFault.DENIED if reply.code in ("NOPERM", "ERR") else RemoteFault.UNREACHABLE
        what = f"{connection.address} does not tell which node has which slots: {str(reply)[:200]}"
        raise RemoteError(fault, what, "allow CLUSTER SLOTS to this user")
    owners: Owners = {}
    try:
        for first, last, primary, *_ in reply:
            host = (primary[0] or b"").decode()
            host = _host(remote) if host in ("", "?") else host
            owners.setdefault((host, int(primary[1])), []).append((int(first), int(last)))
    except (TypeError, ValueError, IndexError):
        raise _foreign(connection.address, "its CLUSTER SLOTS is no list of slots") from None
    if not owners:
        what = f"{connection.address} is in cluster mode, and no node of it has slots"
        raise RemoteError(RemoteFault.UNREACHABLE, what, "assign its slots first: `redis-cli --cluster fix`")
    return owners


def _looks(remote: Remote, owners: Owners) -> list[_Look]:
    """One per owner, in order. Raises RemoteError: without one of them, it is not the whole."""

    def look(address: tuple[str, int]) -> _Look:
        with remote.at(*address).connect() as connection:
            return _look(connection)

    with ThreadPoolExecutor(min(_NODES_AT_ONCE, len(owners)), thread_name_prefix="survey") as pool:
        return list(pool.map(look, owners))


def _nodes(owners: Owners, looks: Iterable[_Look]) -> list[Node]:
    """By their first slot."""
    nodes = [
        Node(host, port, look.info.get("run_id", ""), tuple(sorted(slots)))
        for ((host, port), slots), look in zip(owners.items(), looks, strict=True)
    ]
    return sorted(nodes, key=lambda node: node.slots)


def _databases(infos: Iterable[Mapping[str, str]]) -> dict[int, DatabaseSize]:
    """From `db0:keys=7,expires=1,avg_ttl=0`, summed; a database without keys has no line."""
    found: dict[int, DatabaseSize] = {}
    for info in infos:
        for name, value in info.items():
            if not (name.startswith("db") and name[2:].isdecimal()):
                continue
            fields = dict(field.partition("=")[::2] for field in value.split(","))
            size = found.get(int(name[2:]), DatabaseSize(0, 0))
            found[int(name[2:])] = DatabaseSize(
                size.keys + _number(fields, "keys"), size.expires + _number(fields, "expires")
            )
    return dict(sorted(found.items()))


def _clock_ahead_ms(connection: Connection) -> int:
    """From the fastest of a few round trips; 0 where TIME is denied."""
    best: tuple[float, int] | None = None
    for _ in range(_CLOCK_ROUNDS):
        asked = time.time()
        reply = _told(connection, "TIME")
        answered = time.time()
        if not (isinstance(reply, list) and len(reply) == 2):
            return 0
        there = int(reply[0]) + int(reply[1]) / 1e6
        measured = (answered - asked, round((there - (asked + answered) / 2) * 1000))
        best = min(best or measured, measured)
    return best[1] if best else 0


def _database_limit(connection: Connection, *, cluster: bool) -> int | None:
    # Valkey 9 has several databases in cluster mode too, by a setting of its own; nobody else.
    reply = _told(connection, "CONFIG", "GET", "cluster-databases" if cluster else "databases")
    if isinstance(reply, list):
        return int(reply[1]) if len(reply) == 2 else 1
    return None


def _told(connection: Connection, *words: Word) -> Any:  # noqa: ANN401  # whatever a server answers
    connection.send(pack(*words))
    return connection.receive(1)[0]


def _number(fields: Mapping[str, str], name: str) -> int:
    text = fields.get(name, "")
    return int(text) if text.isdecimal() else 0


def _host(remote: Remote) -> str:
    """Of the URL, without an IPv6 address's brackets; empty for a unix socket."""
    address = remote.address
    return "" if address.startswith("unix:") else address.rpartition(":")[0].strip("[]")


def _port(remote: Remote) -> int:
    address = remote.address
    return 0 if address.startswith("unix:") else int(address.rpartition(":")[2])
