"""Which groups, clusters of their own and watched targets there are. Reads the store again only when they changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.metrics import WatchedTarget
from cachekeep.domain.ports import Resource, Store
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.serverless import is_behind_serverless


@dataclass(frozen=True)
class Entry:
    """kind: `group`, `cluster`, `serverless` (whose id is that of what is behind it) or `target`."""

    kind: str
    id: str


class Roster:
    """A thousand resources take the store a tenth of a second, which is too long for a page that is drawn anew."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, tuple[Entry, ...]] = {}
        store.subscribe(self._note)

    def entries(self, region: str) -> tuple[Entry, ...]:
        """Groups, clusters, targets, each in order of their ids."""
        if region not in self._known:
            self._known[region] = self._read(region)
        return self._known[region]

    def targets(self, region: str) -> frozenset[str]:
        """The ids of watched targets."""
        return frozenset(entry.id for entry in self.entries(region) if entry.kind == "target")

    def _read(self, region: str) -> tuple[Entry, ...]:
        groups = (Entry(_kind(group.id, "group"), group.id) for group in self._store.all(ReplicationGroup, region))
        clusters = (
            Entry(_kind(cluster.id, "cluster"), cluster.id)
            for cluster in self._store.all(CacheCluster, region)
            if not cluster.replication_group_id
        )
        targets = (Entry("target", target.id) for target in self._store.all(WatchedTarget, region))
        return (*groups, *clusters, *targets)

    def _note(self, touched: Sequence[Resource]) -> None:
        if any(isinstance(resource, (ReplicationGroup, CacheCluster, WatchedTarget)) for resource in touched):
            self._known.clear()


def _kind(resource_id: str, kind: str) -> str:
    return "serverless" if is_behind_serverless(resource_id) else kind
