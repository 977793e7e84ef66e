"""The status of a serverless cache, by that of what runs it: CREATING, AVAILABLE, MODIFYING, DELETING, CREATE-FAILED.

Growing and shrinking by itself changes no status, as on AWS.
"""

from __future__ import annotations

from dataclasses import replace

from cachekeep.api.context import Services
from cachekeep.api.ops.members import members_of
from cachekeep.domain.cache_cluster import CacheCluster, Status
from cachekeep.domain.events import Event, SourceType
from cachekeep.domain.nodes import NOTHING_SEEN
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.serverless import ServerlessCache, ServerlessStatus


def advance(services: Services, cache: ServerlessCache, backing: ReplicationGroup | CacheCluster | None) -> None:
    """Store the next status, if there is one. Raises Conflict when the cache was changed meanwhile."""
    if backing is None:
        _end(services, cache)
        return
    following, text = _next(services, cache, backing)
    if following is None:
        return
    with services.store.transaction() as work:
        # An engine change that was abandoned left what ran before.
        runs = replace(cache, engine=backing.engine, version=backing.version)
        work.replace(cache, replace(runs, status=following))
        work.add_event(event(services, cache, text))


def _next(
    services: Services, cache: ServerlessCache, backing: ReplicationGroup | CacheCluster
) -> tuple[ServerlessStatus | None, str]:
    ready = backing.status is Status.AVAILABLE
    match cache.status:
        case ServerlessStatus.CREATING if backing.status is Status.CREATE_FAILED:
            return ServerlessStatus.CREATE_FAILED, f"Failed to create serverless cache {cache.name}"
        case ServerlessStatus.CREATING if ready:
            return ServerlessStatus.AVAILABLE, f"Serverless cache {cache.name} created"
        case ServerlessStatus.MODIFYING if ready and _is_applied(services, backing):
            return ServerlessStatus.AVAILABLE, f"Modification of serverless cache {cache.name} completed"
        case ServerlessStatus.DELETING if ready:
            # What is deleted is no more available behind the scenes: this one was waiting for its final snapshot.
            text = f"Serverless cache {cache.name} was not deleted: its final snapshot failed"
            return ServerlessStatus.AVAILABLE, text
    return None, ""


def _is_applied(services: Services, backing: ReplicationGroup | CacheCluster) -> bool:
    """Every node says that it may hold what is wanted. Memcached takes no new memory while it runs."""
    if isinstance(backing, CacheCluster):
        return True
    seen = services.seen()
    for member in members_of(services.store, backing):
        facts = seen.get(member.key(member.nodes[0]), NOTHING_SEEN).facts
        if facts is None or facts.maxmemory_bytes != member.memory_bytes:
            return False
    return True


def _end(services: Services, cache: ServerlessCache) -> None:
    """What ran it is gone: wanted, or there is nothing left to serve from."""
    with services.store.transaction() as work:
        work.replace(cache, cache)
        work.delete(cache)
        work.add_event(event(services, cache, f"Serverless cache {cache.name} deleted"))


def event(services: Services, cache: ServerlessCache, text: str) -> Event:
    return Event(services.clock.now(), cache.region, SourceType.SERVERLESS_CACHE, cache.name, text)
