"""Groups and clusters as the API stores them, in short; shared by the transcripts, properties and loop tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from cachekeep.data.load import families
from cachekeep.domain.cache_cluster import CacheCluster, CacheNode, Pending, Spare, Upkeep
from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.nodes import Address, NodeKey, NodeSpec, ProgramKind
from cachekeep.domain.parameters import Family
from cachekeep.domain.replication_group import NodeGroup, ReplicationGroup
from cachekeep.plan.upgrades import Begun, begin

REGION = "us-east-1"
# 1750000000 is a Sunday, 15:06 UTC.
NOW = 1_750_000_000.0
OPEN_WINDOW = "sun:15:00-sun:16:00"
CLOSED_WINDOW = "mon:03:00-mon:04:00"
V9 = EngineVersion.parse("9.1")
M16 = EngineVersion.parse("1.6.22")
PRIMARY_HOST = "10.0.9.1"
READER_HOST = "10.0.9.2"
MEMORY = {"cache.t4g.micro": 1000, "cache.m7g.large": 100_000, "cache.tiny": 15}


def upkeep(window: str = CLOSED_WINDOW) -> Upkeep:
    return Upkeep(window, "05:00-06:00")


def address_of(number: int, port: int = 6379) -> Address:
    return Address(f"10.0.0.{number}", port)


def cluster_of(
    name: str, number: int, *, group: str | None = None, node_type: str = "cache.t4g.micro", window: str = CLOSED_WINDOW
) -> CacheCluster:
    node = CacheNode("0001", address_of(number), "us-east-1a", NOW)
    return CacheCluster(
        REGION,
        name,
        Engine.VALKEY,
        V9,
        node_type,
        6379,
        "default.valkey9",
        "default",
        upkeep(window),
        NOW,
        (node,),
        replication_group_id=group,
    )


def group_of(name: str, members: tuple[str, ...], *, window: str = CLOSED_WINDOW) -> ReplicationGroup:
    return ReplicationGroup(
        REGION,
        name,
        "a test",
        Engine.VALKEY,
        V9,
        "cache.t4g.micro",
        6379,
        "default.valkey9",
        "default",
        upkeep(window),
        NOW,
        (NodeGroup("0001", members, members[0]),),
        primary_endpoint=Address(PRIMARY_HOST, 6379),
        reader_endpoint=Address(READER_HOST, 6379),
    )


def upgrading(group: ReplicationGroup, members: Sequence[CacheCluster], version: str, now: float) -> Begun:
    """As ModifyReplicationGroup with an EngineVersion leaves them. The second instance of node 3 is at 103."""
    wanted = EngineVersion.parse(version)
    pending = Pending(engine=group.engine, version=wanted, parameter_group=group.parameter_group)
    waiting = []
    for member in members:
        if member.version == wanted and member.spare is None:
            # Of a change that was stopped.
            waiting.append(member)
            continue
        number = int(member.nodes[0].address.host.rpartition(".")[2]) % 100
        instance = version if member.nodes[0].instance != version else f"{version}b"
        taken = {member.nodes[0].address, member.nodes[0].published}
        address = address_of(number + 100) if address_of(number + 100) not in taken else address_of(number)
        node = CacheNode("0001", address, member.nodes[0].zone, now, instance=instance)
        spare = Spare(node, group.engine, wanted, group.parameter_group)
        waiting.append(replace(member, pending=replace(pending, spare=spare)))
    return begin(replace(group, pending=pending), waiting, now)


def memcached_of(name: str, numbers: tuple[int, ...], *, window: str = CLOSED_WINDOW) -> CacheCluster:
    return CacheCluster(
        REGION,
        name,
        Engine.MEMCACHED,
        M16,
        "cache.t4g.micro",
        11211,
        "default.memcached1.6",
        "default",
        upkeep(window),
        NOW,
        tuple(CacheNode(f"{n:04d}", address_of(n, 11211), "us-east-1a", NOW) for n in numbers),
        configuration_endpoint=Address(PRIMARY_HOST, 11211),
    )


def specs_of(
    *clusters: CacheCluster, memory: Mapping[str, int] = MEMORY, more: Mapping[str, str] | None = None
) -> dict[NodeKey, NodeSpec]:
    """Specs with a configuration small enough to read. more: further directives, of all that speak RESP."""
    specs = {}
    for cluster in clusters:
        limit = str(memory[cluster.node_type])
        config = {"maxmemory": limit, **(more or {})} if cluster.engine.speaks_resp else {"-m": limit}
        for node in cluster.nodes:
            key = cluster.key(node)
            specs[key] = NodeSpec(key, cluster.engine, cluster.version, node.address, config)
        if cluster.spare is not None:
            key = cluster.key(cluster.spare.node)
            specs[key] = NodeSpec(key, cluster.spare.engine, cluster.spare.version, cluster.spare.node.address, config)
        if cluster.configuration_endpoint is not None:
            key = cluster.discovery_key
            specs[key] = NodeSpec(
                key, cluster.engine, cluster.version, cluster.configuration_endpoint, program=ProgramKind.DISCOVERY
            )
    return specs


def families_of(*clusters: CacheCluster) -> dict[NodeKey, Family]:
    found: dict[NodeKey, Family] = {}
    for cluster in clusters:
        family = families()["memcached1.6" if cluster.engine is Engine.MEMCACHED else "valkey9"]
        spares = (cluster.spare.node,) if cluster.spare is not None else ()
        found |= {cluster.key(node): family for node in (*cluster.nodes, *spares)}
    return found
