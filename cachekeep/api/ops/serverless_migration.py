"""PrepareMigration, StartMigration, StopMigration and CompleteMigration of serverless caches.

A serverless cache runs in cluster mode, so what changes at the source is written into it key by key (cachekeep.mirror).
Until CompleteMigration, clients go on using the source: AWS routes them there from the cache's endpoint, which nothing
does here. What is kept is the migration of the replication group behind the cache. Source: botocore elasticache
2015-02-02, documentation of the four operations; the words for a migration's status are Cachekeep's own.
"""

from __future__ import annotations

from dataclasses import replace

from cachekeep.api.context import Call
from cachekeep.api.ops.migration_source import check_not_own, source_of
from cachekeep.api.ops.serverless_found import find_cache, wrong_state
from cachekeep.api.present import Shape
from cachekeep.api.present_serverless import serverless_cache
from cachekeep.domain.cache_cluster import Status
from cachekeep.domain.faults import Fault, invalid_combination, invalid_value
from cachekeep.domain.migration import Migration, MigrationPhase, Way
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.serverless import ServerlessCache, ServerlessStatus

_RESTING = (MigrationPhase.PREPARED, MigrationPhase.STOPPED)


def prepare_migration(call: Call) -> Shape:
    """Control looks at the source; an event tells what came of it, and the migration is `prepared`, or is none."""
    cache = find_cache(call, call.params["ServerlessCacheName"])
    source = source_of(call)
    _check_login(call)
    group = _group(call, cache)
    if cache.status is not ServerlessStatus.AVAILABLE or group is None or group.status is not Status.AVAILABLE:
        raise wrong_state(cache, "migrated to")
    if group.migration is not None:
        raise Fault(
            "ServerlessCacheAlreadyUnderMigrationFault",
            f"Serverless cache {cache.name} is under migration from {group.migration.source} already.",
        )
    check_not_own(call, group, source)
    made = Migration(source, MigrationPhase.PREPARING, call.services.clock.now(), way=Way.CAPTURE, clear=False)
    return _put(call, cache, group, made)


def start_migration(call: Call, name: str) -> Shape:
    """From the source that was prepared. Keys of the cache are deleted only with ClearTargetCacheData."""
    cache, group, migration = _under_migration(call, name)
    if call.params.get("CustomerNodeEndpointList"):
        raise invalid_combination("The source of a serverless cache's migration is the one that was prepared.")
    if call.flag("AutoCutover"):
        raise invalid_combination(
            "AutoCutover is not possible here: the writers of the source have to be stopped before CompleteMigration, "
            "since the endpoint of the cache does not route them there."
        )
    clear = bool(call.flag("ClearTargetCacheData"))
    if migration.phase not in _RESTING or group.status is not Status.AVAILABLE:
        raise _wrong_phase(cache, migration, "started")
    if migration.phase is MigrationPhase.STOPPED and not clear:
        raise invalid_combination("ClearTargetCacheData is needed to start a migration again that was stopped.")
    now = call.services.clock.now()
    new = replace(migration, phase=MigrationPhase.STARTING, since=now, run_id="", held=False, clear=clear, started=now)
    return _put(call, cache, replace(group, status=Status.MIGRATING), new, over=group)


def stop_migration(call: Call) -> Shape:
    """The cache keeps what has arrived and takes writes; the migration stays open, and may be started again."""
    cache, group, migration = _under_migration(call, call.params["ServerlessCacheName"])
    if migration.phase not in (MigrationPhase.STARTING, MigrationPhase.FOLLOWING):
        raise _wrong_phase(cache, migration, "stopped")
    new = replace(migration, phase=MigrationPhase.STOPPED, since=call.services.clock.now(), in_sync=False, held=False)
    return _put(call, cache, replace(group, status=Status.AVAILABLE), new, over=group)


def complete_migration(call: Call, name: str) -> Shape:
    """Once the cache has all that the source had acknowledged; with Force at once, whatever it has."""
    cache, group, migration = _under_migration(call, name)
    force = bool(call.flag("Force"))
    if force and not migration.goes_on:
        return _put(call, cache, replace(group, status=Status.AVAILABLE), None, over=group)
    if migration.phase is not MigrationPhase.FOLLOWING and not force:
        raise _wrong_phase(cache, migration, "completed")
    if not force and not migration.in_sync:
        raise Fault(
            "MigrationHealthFault",
            f"Serverless cache {cache.name} has not all that {migration.source} has: wait until its migration is "
            "in-sync, or use Force to end it with the data as it is.",
        )
    now = call.services.clock.now()
    return _put(call, cache, group, replace(migration, phase=MigrationPhase.COMPLETING, since=now, force=force))


def _put(
    call: Call,
    cache: ServerlessCache,
    group: ReplicationGroup,
    migration: Migration | None,
    *,
    over: ReplicationGroup | None = None,
) -> Shape:
    """over: what is stored, where that is not `group`."""
    with call.services.store.transaction() as work:
        work.replace(over or group, replace(group, migration=migration))
        return {"ServerlessCache": serverless_cache(call, work, cache)}


def _group(call: Call, cache: ServerlessCache) -> ReplicationGroup | None:
    return call.services.store.get(ReplicationGroup, call.region, cache.backing_id)


def _under_migration(call: Call, name: str) -> tuple[ServerlessCache, ReplicationGroup, Migration]:
    """Raises ServerlessCacheNotFoundFault, ServerlessCacheNotUnderMigrationFault."""
    cache = find_cache(call, name)
    group = _group(call, cache)
    if group is None or group.migration is None:
        raise Fault("ServerlessCacheNotUnderMigrationFault", f"Serverless cache {cache.name} is not under migration.")
    if cache.status is ServerlessStatus.DELETING:
        raise wrong_state(cache, "migrated to")
    return cache, group, group.migration


def _wrong_phase(cache: ServerlessCache, migration: Migration, done: str) -> Fault:
    way_out = " Start it, or close it by CompleteMigration with Force." if migration.rests else ""
    return Fault(
        "InvalidServerlessCacheStateFault",
        f"The migration of serverless cache {cache.name} is {migration.told} and cannot be {done} now.{way_out}",
    )


def _check_login(call: Call) -> None:
    """Raises InvalidParameterValue: there is no Secrets Manager here, and a source is talked to without TLS."""
    if call.params.get("SourceAuthenticationConfiguration"):
        raise invalid_value("SourceAuthenticationConfiguration: there is no Secrets Manager here.")
    if ((call.params.get("SourceTlsConfiguration") or {}).get("SourceTlsMode") or "none") != "none":
        raise invalid_value("SourceTlsMode: only `none` is possible here; put a tunnel before a source with TLS.")
