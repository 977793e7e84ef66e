"""Whom to measure: the nodes of every cluster that serves, and those that are watched. Reads the store, no more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from cachekeep.domain.cache_cluster import CacheCluster, Status
from cachekeep.domain.metrics import Place, Subject
from cachekeep.domain.nodes import NOTHING_SEEN, Address, NodeKey, ObservedNode
from cachekeep.domain.ports import Resource, Store
from cachekeep.domain.replication_group import ReplicationGroup

_NOT_YET = frozenset({Status.CREATING, Status.CREATE_FAILED, Status.DELETING})


@dataclass(frozen=True)
class Measured:
    """A node to measure. group: its replication group, None for a cluster of its own. pid: None for a watched one.

    listens: every address that is its own now, endpoints among them. leads: the primary of a member of a global
    datastore. behind_s: how far a primary of a secondary in cluster mode is behind the other region, as its copy knows.
    """

    subject: Subject
    place: Place
    group: Subject | None = None
    pid: int | None = None
    listens: tuple[Address, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    leads: bool = False
    behind_s: float | None = None


class Census:
    """Reads the store again only when something changed in it. seen: the last looks of control. watched: nodes of
    endpoints that are not ours; a target whose name, or a node's, a resource of ours has too is left out: numbers would
    mix. lags: of living copies, by region and group, seconds."""

    def __init__(
        self,
        store: Store,
        seen: Callable[[], Mapping[NodeKey, ObservedNode]],
        watched: Callable[[], Sequence[Measured]] = tuple,
        lags: Mapping[tuple[str, str], float] = MappingProxyType({}),
    ) -> None:
        self._lags = lags
        self._store, self._seen, self._watched = store, seen, watched
        self._clusters: list[tuple[CacheCluster, ReplicationGroup | None]] | None = None
        self._own: set[tuple[str, str]] = set()
        store.subscribe(self._note)

    def nodes(self) -> list[Measured]:
        if self._clusters is None:
            clusters, groups = self._store.all(CacheCluster), self._store.all(ReplicationGroup)
            self._clusters = _serving(clusters, groups)
            self._own = {(c.region, c.id) for c in clusters} | {(g.region, g.id) for g in groups}
        seen = self._seen()
        ours = [node for cluster, group in self._clusters for node in _nodes(cluster, group, seen, self._lags)]
        watched = self._watched()
        taken = {_target(node) for node in watched if _target(node) in self._own or _cluster(node) in self._own}
        return ours + [node for node in watched if _target(node) not in taken]

    def _note(self, touched: Sequence[Resource]) -> None:
        if any(isinstance(resource, (ReplicationGroup, CacheCluster)) for resource in touched):
            self._clusters = None


def _target(node: Measured) -> tuple[str, str]:
    return node.subject.region, node.facts.get("watched", node.subject.id)


def _cluster(node: Measured) -> tuple[str, str]:
    return node.subject.region, node.subject.id


def _serving(
    clusters: Sequence[CacheCluster], groups: Sequence[ReplicationGroup]
) -> list[tuple[CacheCluster, ReplicationGroup | None]]:
    by_name = {(group.region, group.id): group for group in groups}
    return [
        (cluster, by_name.get((cluster.region, cluster.replication_group_id or "")))
        for cluster in clusters
        if cluster.status not in _NOT_YET
    ]


def _whole(cluster: CacheCluster, group: ReplicationGroup | None) -> Subject | None:
    """What it is a part of: its group, or a serverless cache that is a single cluster."""
    if group is not None:
        return Subject(group.region, group.id)
    return Subject(cluster.region, cluster.id) if cluster.serverless is not None else None


def _nodes(
    cluster: CacheCluster,
    group: ReplicationGroup | None,
    seen: Mapping[NodeKey, ObservedNode],
    lags: Mapping[tuple[str, str], float],
) -> list[Measured]:
    found = []
    heads = {shard.primary_id for shard in group.node_groups} if group is not None else set()
    behind_s = lags.get((group.region, group.id)) if group is not None and cluster.id in heads else None
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
                Place(node.address, speaks_resp=cluster.engine.speaks_resp, own=True),
                _whole(cluster, group),
                look.process.pid if look.process else None,
                tuple(dict.fromkeys((node.address, *(Address(host, port) for host in binds)))),
                facts,
                leads=group is not None and bool(group.global_id) and group.primary_id == cluster.id,
                behind_s=behind_s,
            )
        )
    return found
