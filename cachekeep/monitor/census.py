"""Whom to measure: the nodes of every cluster that serves. Reads the store, does nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cachekeep.domain.cache_cluster import CacheCluster, Status
from cachekeep.domain.metrics import Place, Subject
from cachekeep.domain.nodes import NOTHING_SEEN, Address, NodeKey, ObservedNode
from cachekeep.domain.ports import Resource, Store
from cachekeep.domain.replication_group import ReplicationGroup

_NOT_YET = frozenset({Status.CREATING, Status.CREATE_FAILED, Status.DELETING})


@dataclass(frozen=True)
class Measured:
    """A node to measure. group: its replication group, None for a cluster of its own. pid: None for a watched one.

    listens: every address that is its own now, endpoints among them.
    """

    subject: Subject
    place: Place
    group: Subject | None = None
    pid: int | None = None
    listens: tuple[Address, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)


class Census:
    """Reads the store again only when something changed in it. seen: the last looks of control."""

    def __init__(self, store: Store, seen: Callable[[], Mapping[NodeKey, ObservedNode]]) -> None:
        self._store, self._seen = store, seen
        self._clusters: list[tuple[CacheCluster, ReplicationGroup | None]] | None = None
        store.subscribe(self._note)

    def nodes(self) -> list[Measured]:
        if self._clusters is None:
            self._clusters = _serving(self._store)
        seen = self._seen()
        return [node for cluster, group in self._clusters for node in _nodes(cluster, group, seen)]

    def _note(self, touched: Sequence[Resource]) -> None:
        if any(isinstance(resource, (ReplicationGroup, CacheCluster)) for resource in touched):
            self._clusters = None


def _serving(store: Store) -> list[tuple[CacheCluster, ReplicationGroup | None]]:
    groups = {(group.region, group.id): group for group in store.all(ReplicationGroup)}
    return [
        (cluster, groups.get((cluster.region, cluster.replication_group_id or "")))
        for cluster in store.all(CacheCluster)
        if cluster.status not in _NOT_YET
    ]


def _nodes(
    cluster: CacheCluster, group: ReplicationGroup | None, seen: Mapping[NodeKey, ObservedNode]
) -> list[Measured]:
    found = []
    for node in cluster.nodes:
        look = seen.get(cluster.key(node), NOTHING_SEEN)
        binds = look.facts.binds if look.facts else ()
        port = node.address.port
        facts = {
            "engine": cluster.engine.value,
            "version": str(cluster.version),
            "node_type": cluster.node_type,
            "address": str(node.published or node.address),
        }
        if group is not None:
            facts["replication_group"] = group.id
        found.append(
            Measured(
                Subject(cluster.region, cluster.id, node.node_id),
                Place(node.address, speaks_resp=cluster.engine.speaks_resp),
                Subject(group.region, group.id) if group is not None else None,
                look.process.pid if look.process else None,
                tuple(dict.fromkeys((node.address, *(Address(host, port) for host in binds)))),
                facts,
            )
        )
    return found
