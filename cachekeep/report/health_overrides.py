"""The numbers that groups, clusters and watched targets have of their own: set, read, and gone with their owner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.faults import Fault, invalid_value
from cachekeep.domain.metrics import WatchedTarget
from cachekeep.domain.ports import Resource, Store
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.verdicts import Threshold, ThresholdOverrides
from cachekeep.plan.verdict import overridden

Values = Mapping[str, Mapping[str, float]]
_NOTHING: Values = {}


def owner_since(store: Store, region: str, name: str) -> float | None:
    """When the group, cluster or watched target of that name was made; None if there is none."""
    group = store.get(ReplicationGroup, region, name)
    if group is not None:
        return group.created_at
    target = store.get(WatchedTarget, region, name)
    if target is not None:
        return target.added_at
    cluster = store.get(CacheCluster, region, name)
    return None if cluster is None else cluster.created_at


def not_found(region: str, name: str) -> Fault:
    return Fault("ResourceNotFoundFault", f"There is no group, cluster or watched target {name[:60]} in {region}.", 404)


class Overrides:
    """thresholds: the package's, which stand where nobody said otherwise."""

    def __init__(self, store: Store, thresholds: Sequence[Threshold]) -> None:
        self._store, self._thresholds = store, tuple(thresholds)
        self._names = {threshold.metric.lower(): threshold.metric for threshold in thresholds}
        self._stored: dict[tuple[str, str], ThresholdOverrides] | None = None
        store.subscribe(self._note)

    def values(self, region: str, name: str) -> Values:
        """By metric; empty for most."""
        if self._stored is None:
            self._stored = {(entry.region, entry.id): entry for entry in self._store.all(ThresholdOverrides)}
        entry = self._stored.get((region, name))
        if entry is None or entry.owner_since != owner_since(self._store, region, name):
            return _NOTHING
        return entry.values

    def thresholds(self, region: str, name: str) -> tuple[Threshold, ...]:
        found: Sequence[Threshold] = self._thresholds
        for metric, numbers in self.values(region, name).items():
            try:
                found = overridden(found, {metric: numbers})
            except ValueError:
                # Made for other thresholds, by an earlier Cachekeep: ours stand.
                continue
        return tuple(found)

    def change(self, region: str, name: str, wish: Mapping[str, Any], unset: Sequence[str]) -> Values:
        """What it has of its own then. wish: metric -> `warning`, `risk` or both. unset: metrics, or `all`.

        Raises Fault with a sentence for what there is not, and for numbers that make no sense.
        """
        with self._store.transaction() as work:
            since = owner_since(self._store, region, name)
            if since is None:
                raise not_found(region, name)
            cluster = work.get(CacheCluster, region, name)
            if cluster is not None and cluster.replication_group_id:
                raise invalid_value(f"{name} belongs to {cluster.replication_group_id}, which has the thresholds.")
            old = work.get(ThresholdOverrides, region, name)
            values = {} if old is None or old.owner_since != since else {k: dict(v) for k, v in old.values.items()}
            self._apply(values, wish, unset)
            for entry in work.all(ThresholdOverrides):
                # Those of owners that are gone go now, and the old ones of this owner.
                gone = entry.owner_since != owner_since(self._store, entry.region, entry.id)
                if gone or (entry.region, entry.id) == (region, name):
                    work.delete(entry)
            if values:
                work.insert(ThresholdOverrides(region, name, since, values))
        return values

    def _apply(self, values: dict[str, dict[str, float]], wish: Mapping[str, Any], unset: Sequence[str]) -> None:
        for given in unset:
            if given.lower() == "all":
                values.clear()
            else:
                values.pop(self._metric(given), None)
        for given, numbers in wish.items():
            metric = self._metric(given)
            if not isinstance(numbers, Mapping):
                raise invalid_value(f"{metric}: give warning, risk or both, each a number")
            values[metric] = {**values.get(metric, {}), **numbers}
        try:
            overridden(self._thresholds, values)
        except ValueError as error:
            raise invalid_value(f"{error}.") from error

    def _metric(self, given: str) -> str:
        if given.lower() not in self._names:
            raise invalid_value(
                f"There is no threshold for {given[:60]!r}; {', '.join(self._names.values())} have one."
            )
        return self._names[given.lower()]

    def _note(self, touched: Sequence[Resource]) -> None:
        if any(isinstance(resource, ThresholdOverrides) for resource in touched):
            self._stored = None
