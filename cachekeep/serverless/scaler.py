"""The scaler: looks at what each serverless cache holds, and writes to the store what it shall be able to hold.

Control then brings the nodes there, as it does for any group. Between looks only what was seen is remembered (what each
shard held last, since when a cache is too large, who was told of its limit), so a service that was killed anywhere goes
on where the store is. The room stands above the API's: members are made and claimed as its operations make them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from cachekeep.api.context import Services
from cachekeep.domain.cache_cluster import CacheCluster, Status
from cachekeep.domain.metrics import Current, Subject
from cachekeep.domain.ports import Conflict, Resource
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.serverless import ServerlessCache, ServerlessStatus
from cachekeep.rounds import woken
from cachekeep.serverless import life
from cachekeep.serverless.grow import Grower
from cachekeep.serverless.usage import Usage

log = structlog.get_logger()

INTERVAL_S = 1.0


class Scaler:
    """current: what monitoring saw last of a node, each of which it asks every second, or of a cache as a whole."""

    def __init__(self, services: Services, current: Callable[[Subject], Current | None]) -> None:
        self._services = services
        self._grower = Grower(services, current)
        self._usage = Usage(services, current)
        self._wake = asyncio.Event()
        services.store.subscribe(self._changed)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._wake.clear()
            for cache in self._services.store.all(ServerlessCache):
                try:
                    self._look(cache)
                except Conflict:
                    log.debug("a serverless cache changed meanwhile", cache=cache.name)
                    self._wake.set()
                except Exception:
                    # One that cannot be looked after must not keep the others from growing.
                    log.exception("a serverless cache could not be looked after", cache=cache.name)
                # Others have their turn between two caches.
                await asyncio.sleep(0)
            await woken(self._wake, INTERVAL_S)

    def _look(self, cache: ServerlessCache) -> None:
        store = self._services.store
        group = store.get(ReplicationGroup, cache.region, cache.backing_id)
        cluster = store.get(CacheCluster, cache.region, cache.backing_id)
        backing = group or cluster
        if backing is None:
            self._grower.forget(cache)
        self._usage.look(cache)
        # Until its final snapshot is taken it serves, and grows.
        last = group is not None and group.status is Status.SNAPSHOTTING
        wanted = last or cache.status is not ServerlessStatus.DELETING
        if not (wanted and group is not None and self._grower.look(cache, group)):
            life.advance(self._services, cache, backing)

    def _changed(self, resources: Sequence[Resource]) -> None:
        if any(getattr(r, "serverless", None) is not None or isinstance(r, ServerlessCache) for r in resources):
            self._wake.set()
