"""Tells when a serverless cache uses more ECPU than its limit. AWS would throttle it; nothing is throttled here."""

from __future__ import annotations

from collections.abc import Callable

from cachekeep.api.context import Services
from cachekeep.domain.metrics import MINUTE_S, Current, Subject
from cachekeep.domain.serverless import ServerlessCache
from cachekeep.serverless.life import event

_ECPU = "ElastiCacheProcessingUnits"


class Usage:
    """current: what monitoring knows of a cache as a whole: its last whole minute."""

    def __init__(self, services: Services, current: Callable[[Subject], Current | None]) -> None:
        self._services, self._current = services, current
        self._told: set[tuple[str, str]] = set()

    def look(self, cache: ServerlessCache) -> None:
        """One event when the limit is crossed, the next one only after a minute below it."""
        key, limit = (cache.region, cache.name), cache.limits.ecpu_most
        seen = self._current(Subject(cache.region, cache.backing_id))
        rate = (seen.values.get(_ECPU, 0.0) if seen is not None else 0.0) / MINUTE_S
        if limit is None or rate <= limit:
            self._told.discard(key)
        elif key not in self._told:
            self._told.add(key)
            text = (
                f"Serverless cache {cache.name} used about {rate:.0f} ECPU per second, and its limit is {limit}: "
                "ElastiCache would throttle it, Cachekeep does not"
            )
            with self._services.store.transaction() as work:
                work.add_event(event(self._services, cache, text))
