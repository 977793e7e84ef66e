"""The engines of an installation, seen without its service: what runs, and in which role. Called by status and down."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cachekeep import credentials
from cachekeep.domain.access import EngineLogin
from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.engine import Engine
from cachekeep.domain.nodes import Address, NodeFacts, NodeKey, Process, ProgramKind
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.world import WorldError
from cachekeep.engine.access import Access
from cachekeep.engine.admin import Admin
from cachekeep.engine.secured import Secured
from cachekeep.host.folder import folder_of, read_json
from cachekeep.host.listening import listening_below
from cachekeep.host.local import LocalHost

NODES_FOLDER = "nodes"
STORE_FILE = "store.sqlite"
LOADING_DEADLINE_S = 60.0
_LOADING_POLL_S = 0.1


@dataclass(frozen=True)
class RunningNode:
    """One living process of the installation, as node.json describes it. facts: None when it does not answer."""

    key: NodeKey
    process: Process
    program: ProgramKind
    engine: Engine
    version: str
    address: Address | None
    facts: NodeFacts | None = None


def running_nodes(host: LocalHost, state_dir: Path) -> list[RunningNode]:
    """Every node whose process lives, by key; not asked anything yet."""
    nodes = []
    for key in host.nodes():
        process = host.find(key)
        if process is None:
            continue
        record = read_json(folder_of(state_dir / NODES_FOLDER, key) / "node.json")
        host_name, colon, port = str(record.get("address", "")).rpartition(":")
        nodes.append(
            RunningNode(
                key,
                process,
                ProgramKind(record.get("program", ProgramKind.ENGINE)),
                Engine(record.get("engine", Engine.VALKEY)),
                str(record.get("version", "")),
                Address(host_name, int(port)) if colon else None,
            )
        )
    return nodes


def access_of(state_dir: Path) -> Access:
    """How one gets into the engines of this installation; as nobody where its password is not there or not usable."""
    secured = Secured(state_dir / "ca" / "ca.pem")
    for address, listening in listening_below(state_dir / NODES_FOLDER).items():
        secured.seen(address, listening)
    try:
        return Access(EngineLogin(credentials.load_engine_password(state_dir)), secured.context_for, secured)
    except credentials.CredentialsError:
        return Access(None, secured.context_for, secured)


async def facts_of(admin: Admin, node: RunningNode, loading_deadline_s: float = 0.0) -> NodeFacts | None:
    """What the node says of itself; None when it does not answer, or still loads its data after the deadline."""
    if node.program is not ProgramKind.ENGINE or node.address is None:
        return None
    deadline = asyncio.get_running_loop().time() + loading_deadline_s
    try:
        facts = await admin.facts(node.engine, node.address, ())
        while facts.loading and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(_LOADING_POLL_S)
            facts = await admin.facts(node.engine, node.address, ())
    except WorldError:
        return None
    return None if facts.loading and loading_deadline_s else facts


def primaries_of_record(state_dir: Path) -> Mapping[NodeKey, NodeKey]:
    """For every node of a replication group, the node of its shard that the next start takes for the primary.

    Second instances of an upgrade count to their member's shard. Nothing for clusters of their own, and nothing at
    all when there is no store or it cannot be read.
    """
    path = state_dir / STORE_FILE
    if not path.exists():
        return {}
    # Imported late: only `down` needs them, and every command would wait for them.
    import sqlite3

    import msgspec

    from cachekeep.store.sqlite import SqliteStore

    try:
        store = SqliteStore(path)
        try:
            groups = {(g.region, g.id): g for g in store.all(ReplicationGroup)}
            clusters = store.all(CacheCluster)
        finally:
            store.close()
    except (WorldError, sqlite3.Error, msgspec.MsgspecError, OSError):
        return {}
    by_name = {(c.region, c.id): c for c in clusters}
    found = {}
    for cluster in clusters:
        group = groups.get((cluster.region, cluster.replication_group_id or ""))
        shard = group.shard_of(cluster.id) if group is not None else None
        primary = by_name.get((cluster.region, shard.primary_id)) if shard is not None else None
        if primary is None:
            continue
        for node in (*cluster.nodes, *([cluster.spare.node] if cluster.spare is not None else [])):
            found[cluster.key(node)] = primary.key(primary.nodes[0])
    return found
