"""One look at a Valkey or Redis node: INFO, CONFIG GET and what it knows of its cluster. Used by engine.admin."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from libvalkey import ReplyError

from cachekeep.codec.cluster_nodes import parse_cluster
from cachekeep.codec.info import has_module, parse_info
from cachekeep.domain.access import acl_seen
from cachekeep.domain.nodes import ClusterFacts, NodeFacts
from cachekeep.domain.world import WorldError
from cachekeep.engine.facts import IAM_MODULE, facts_of_engine
from cachekeep.engine.resp import Command, ask, must, refused
from cachekeep.engine.wire import Wire

# From this version on CONFIG GET takes several names, CONFIG SET several values (all or nothing) and INFO
# several sections.
TAKES_MANY = 7
_SECTIONS = ("server", "clients", "memory", "persistence", "stats", "replication", "cluster", "keyspace", "modules")
_CLUSTER: tuple[Command, ...] = (("CLUSTER", "NODES"), ("CLUSTER", "INFO"), ("CLUSTER", "GETSLOTMIGRATIONS"))


async def look(wire: Wire, settings: Collection[str]) -> NodeFacts:
    """One exchange, two when the connection is new and the node in cluster mode. settings: directives to read back.

    Of a node that loads its data it is not told what it knows of its cluster. Raises WorldError.
    """
    names = ["bind", "masteruser", *sorted(set(settings) - {"bind"})]
    if wire.major >= TAKES_MANY:
        commands: list[Command] = [("INFO", *_SECTIONS), ("CONFIG", "GET", *names)]
    else:  # or not known yet
        commands = [("INFO",), *(("CONFIG", "GET", name) for name in names)]
    more = _cluster_commands(wire) if wire.cluster else []
    *replies, users = await ask(wire, *commands, *more, ("ACL", "USERS"))
    for command, reply in zip(commands, replies, strict=False):
        if isinstance(reply, ReplyError):
            raise refused(wire, command, reply)
    info = parse_info(replies[0])
    if has_module(replies[0], IAM_MODULE):
        info |= {IAM_MODULE: "loaded"}
    wire.major = major_of(info)
    wire.cluster = info.get("cluster_enabled") == "1"
    config = _config(replies[1 : len(commands)])
    if not wire.cluster or info.get("loading") == "1":  # it refuses CLUSTER while it loads
        return facts_of_engine(info, config, acl=_acl(wire, users))
    if not more:
        more = _cluster_commands(wire)
        replies += await ask(wire, *more)
    return facts_of_engine(info, config, _cluster(wire, more, replies[len(commands) :]), acl=_acl(wire, users))


def _acl(wire: Wire, users: Any) -> str | None:  # noqa: ANN401  # whatever was answered
    """Not in as the service's own user: whatever the others are, that one is to be set."""
    if wire.access.login is None:
        return None
    return acl_seen(users) if wire.logged_in and isinstance(users, list) else ""


async def major_of_wire(wire: Wire) -> int:
    """The engine's major version, asked for where the wire does not know it yet."""
    if not wire.major:
        wire.major = major_of(parse_info((await must(wire, ("INFO", "server")))[0]))
    return wire.major


def major_of(info: Mapping[str, str]) -> int:
    """The engine's major version as far as commands go: Valkey calls itself Redis 7.2.4 there."""
    major = info.get("redis_version", "").partition(".")[0]
    return int(major) if major.isdecimal() else 0


def _cluster_commands(wire: Wire) -> list[Command]:
    return list(_CLUSTER if wire.migrates else _CLUSTER[:2])


def _cluster(wire: Wire, commands: Sequence[Command], replies: Sequence[Any]) -> ClusterFacts:
    for command, reply in zip(commands[:2], replies, strict=False):
        if isinstance(reply, ReplyError):
            raise refused(wire, command, reply)
    migrations = replies[2] if len(replies) > 2 else None
    if isinstance(migrations, ReplyError):
        wire.migrates = False  # an engine before Valkey 9
    try:
        return parse_cluster(replies[0], replies[1], migrations)
    except ValueError as error:
        raise WorldError(f"{wire.address}: {error}") from error


def _config(replies: Sequence[Sequence[str]]) -> dict[str, str]:
    """Join replies of CONFIG GET, each a flat list of names and values."""
    return {pairs[at]: pairs[at + 1] for pairs in replies for at in range(0, len(pairs), 2)}
