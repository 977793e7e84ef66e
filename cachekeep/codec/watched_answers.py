"""What a watched endpoint tells of its nodes: INFO replication, CLUSTER NODES, `config get cluster`. Pure.

Called by engine.explorer and meter. Whatever cannot be read is left out: these are answers of servers that are not
ours.
Sources: valkey server.c `genValkeyInfoString`, cluster_legacy.c `clusterGenNodeDescription`; ElastiCache guide "Adding
auto discovery to your client library".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from cachekeep.domain.nodes import Address

# AWS has at most 500 nodes in a cluster; twice as many lines while nodes are replaced.
_MOST = 1000
_VERSION = re.compile(r"[0-9A-Za-z.+-]{1,32}")
_HOST = re.compile(r"[0-9A-Za-z._:%-]{1,253}")


@dataclass(frozen=True)
class ClusterRow:
    """A line of CLUSTER NODES. address: None where it has none. shard: the id of the shard's primary. slot: its first
    one, 16384 for none."""

    address: Address | None
    host_name: str
    shard: str
    primary: bool
    myself: bool
    slot: int


def engine_of(info: Mapping[str, str]) -> tuple[str, str]:
    """Engine and version. Valkey tells a version of Redis, too."""
    if "valkey_version" in info:
        return "valkey", version_of(info["valkey_version"])
    return "redis", version_of(info.get("redis_version", ""))


def version_of(text: str) -> str:
    """`unknown` for what cannot be one: it goes to terminals and labels."""
    return text if not text or _VERSION.fullmatch(text) else "unknown"


def printable(text: str, most: int) -> str:
    """What a server says, cut to so many characters and without those that a terminal would obey."""
    return "".join(char if char.isprintable() else "?" for char in text[:most])


def replicas_of(info: Mapping[str, str]) -> list[Address]:
    """From lines `slave0:ip=10.0.0.5,port=6379,state=online,...`, in their order."""
    found = []
    for name, line in list(info.items())[: 10 * _MOST]:
        if name.startswith("slave") and name[5:].isdecimal():
            parts = dict(part.partition("=")[::2] for part in line.split(","))
            found.append(_address(parts.get("ip", ""), parts.get("port", "")))
    return [address for address in found if address is not None][:_MOST]


def primary_of(info: Mapping[str, str]) -> Address | None:
    """Whom a replica follows; the host may be a name."""
    return _address(info.get("master_host", ""), info.get("master_port", ""))


def cluster_rows(text: str) -> list[ClusterRow]:
    """Members, in the order of their shards' slots and primaries first. Those in handshake are none yet."""
    rows = []
    for line in text.splitlines()[:_MOST]:
        fields = line.split()
        flags = fields[2].split(",") if len(fields) >= 8 else ["handshake"]
        if "handshake" in flags:
            continue
        where, _, more = fields[1].partition(",")
        host, _, port = where.partition("@")[0].rpartition(":")
        primary = "slave" not in flags
        rows.append(
            ClusterRow(
                address=_address(host, port) if "noaddr" not in flags else None,
                host_name=_host_name(more.partition(",")[0]),
                shard=fields[0] if primary else fields[3],
                primary=primary,
                myself="myself" in flags,
                slot=_first_slot(fields[8:]) if primary else 16384,
            )
        )
    slots = {row.shard: row.slot for row in rows if row.primary}
    return sorted(rows, key=lambda row: (slots.get(row.shard, 16384), row.shard, not row.primary))


def config_members(data: bytes) -> list[tuple[str, Address | None, int]]:
    """Host, address and port of each `host|ip|port` in the second line of the configuration; none of an error."""
    lines = data.decode("ascii", "replace").splitlines()
    if len(lines) < 3 or not lines[0].startswith("CONFIG cluster"):
        return []
    found = []
    for word in lines[2].split()[:_MOST]:
        parts = word.split("|")
        if len(parts) == 3 and parts[2].isdecimal() and 0 < int(parts[2][:6]) < 65536:
            host, address = _host_name(parts[0]), _address(parts[1], parts[2])
            if host or address is not None:
                found.append((host, address, int(parts[2])))
    return found


def _first_slot(words: list[str]) -> int:
    firsts = [int(first) for word in words if (first := word.partition("-")[0]).isdecimal() and len(first) < 6]
    return min(firsts, default=16384)


def _host_name(text: str) -> str:
    """Empty for none: what stands there may be an option already, `shard-id=...`."""
    return text if _HOST.fullmatch(text) else ""


def _address(host: str, port: str) -> Address | None:
    known = _HOST.fullmatch(host) and port.isdecimal() and len(port) < 6 and 0 < int(port) < 65536
    return Address(host, int(port)) if known else None
