"""StartMigration, TestMigration and CompleteMigration: a replication group follows or copies a living server not ours.

What the source is, is found out by control, which asks it: TestMigration and StartMigration answer at once, and events
tell what came of it ("Async API", API reference of TestMigration). What concerns serverless caches is in
ops.serverless_migration.
Rules: ElastiCache guide, "Online migration to ElastiCache".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from cachekeep.api.context import Call
from cachekeep.api.entry import Entry, Truth
from cachekeep.api.ops import serverless_migration
from cachekeep.api.ops.members import find_group, members_of, shown
from cachekeep.api.ops.migration_source import check_not_own, source_of
from cachekeep.api.present import Shape
from cachekeep.domain.cache_cluster import Status
from cachekeep.domain.faults import Fault, invalid_combination, invalid_value
from cachekeep.domain.migration import Migration, MigrationPhase
from cachekeep.domain.replication_group import ReplicationGroup

_SCENARIOS = "tests/scenarios/test_migration.py::"


def test_migration(call: Call) -> Shape:
    """Ask control to look at the source; the group goes on as it is."""
    return _begin(call, MigrationPhase.TESTING, Status.MODIFYING)


def start_migration(call: Call) -> Shape:
    """The group's data is replaced by the source's, once control has seen that the source can be followed."""
    name = _serverless_name(call)
    if name is not None:
        return serverless_migration.start_migration(call, name)
    for name in ("AutoCutover", "ClearTargetCacheData"):
        if call.params.get(name) is not None:
            raise invalid_combination(f"{name} is for migrations to serverless caches.")
    return _begin(call, MigrationPhase.STARTING, Status.MIGRATING)


def complete_migration(call: Call) -> Shape:
    """The group takes over: with Force at once, else once it has all that the source had when it was last asked."""
    name = _serverless_name(call)
    if name is not None:
        return serverless_migration.complete_migration(call, name)
    group = _group(call)
    migration = group.migration
    if migration is None:
        raise Fault("ReplicationGroupNotUnderMigrationFault", f"Replication group {group.id} is not under migration.")
    if group.status is Status.DELETING:
        raise Fault("InvalidReplicationGroupState", f"Replication group {group.id} is being deleted.")
    if migration.phase is not MigrationPhase.FOLLOWING:
        raise Fault(
            "InvalidReplicationGroupState",
            f"The migration of replication group {group.id} is {migration.phase.value}; wait until it follows.",
        )
    force = bool(call.flag("Force"))
    if not force:
        _check_link(call, group, migration)
    now = call.services.clock.now()
    new = replace(group, migration=replace(migration, phase=MigrationPhase.COMPLETING, since=now, force=force))
    with call.services.store.transaction() as work:
        work.replace(group, new)
        return shown(call, new, members_of(work, new))


def _begin(call: Call, phase: MigrationPhase, status: Status) -> Shape:
    group = _group(call)
    if group.migration is not None:
        raise Fault(
            "ReplicationGroupAlreadyUnderMigrationFault",
            f"Replication group {group.id} is under migration from {group.migration.source} already.",
        )
    if group.status is not Status.AVAILABLE:
        raise Fault(
            "InvalidReplicationGroupState",
            f"Replication group {group.id} must be available for a migration, and it is {group.status.value}.",
        )
    source = source_of(call)
    _check_target(group)
    check_not_own(call, group, source)
    now = call.services.clock.now()
    new = replace(group, status=status, migration=Migration(source, phase, now, started=now))
    with call.services.store.transaction() as work:
        work.replace(group, new)
        return shown(call, new, members_of(work, new))


def _group(call: Call) -> ReplicationGroup:
    name = call.text("ReplicationGroupId")
    if name is None:
        raise invalid_value("The parameter ReplicationGroupId must be given.")
    return find_group(call, name)


def _serverless_name(call: Call) -> str | None:
    """Of a request that concerns a serverless cache; None for one that concerns a group."""
    name = call.text("ServerlessCacheName")
    if name is not None and call.text("ReplicationGroupId") is not None:
        raise invalid_combination("Use either ReplicationGroupId or ServerlessCacheName, not both.")
    return name


def _check_target(group: ReplicationGroup) -> None:
    if not group.automatic_failover or not group.multi_az:
        raise invalid_combination(
            f"Replication group {group.id} must have automatic failover and Multi-AZ enabled for a migration."
        )
    if group.user_group_ids or group.auth_tokens:
        raise invalid_combination(f"Replication group {group.id} must be without users and AUTH token for a migration.")
    if group.transit.encrypted or group.at_rest:
        raise invalid_combination(
            f"Replication group {group.id} must be without encryption in transit and at rest for a migration."
        )
    if group.engine_change is not None:
        raise Fault(
            "InvalidReplicationGroupState",
            f"Replication group {group.id} keeps the instances of a change of its engine, to take it back.",
        )
    if group.global_id:
        raise invalid_combination(
            f"Replication group {group.id} is a member of the global datastore {group.global_id}."
        )


def _check_link(call: Call, group: ReplicationGroup, migration: Migration) -> None:
    """Raises MigrationHealthFault as long as the primary has not synchronised with the source."""
    if migration.is_captured:
        if not migration.in_sync:
            raise Fault(
                "MigrationHealthFault",
                f"Replication group {group.id} has not all that {migration.source} has: an event tells when it does. "
                "Wait for it, or use Force to end the migration with the data as it is.",
            )
        return
    primary = next((m for m in members_of(call.services.store, group) if m.id == group.primary_id), None)
    seen = call.services.seen().get(primary.key(primary.nodes[0])) if primary is not None else None
    facts = seen.facts if seen is not None else None
    if facts is None or facts.primary != migration.source or not facts.link_up:
        raise Fault(
            "MigrationHealthFault",
            f"The primary {group.primary_id} is not in sync with {migration.source}: MasterLinkHealthStatus must be 1. "
            "Wait for it, or use Force to end the migration with the data as it is.",
        )


_CAPTURE = "tests/scenarios/test_migration_by_capture.py::"
_SERVERLESS = "test_a_serverless_cache_takes_over"

OPERATIONS: Mapping[str, Entry] = {
    "CompleteMigration": Entry(
        complete_migration,
        Truth.REAL,
        _SCENARIOS + "test_a_living_server_moves_in_without_a_lost_write",
        "Waits until the group has all that the source had acknowledged; Force does not.",
    ),
    "PrepareMigration": Entry(
        serverless_migration.prepare_migration,
        Truth.REAL,
        _CAPTURE + _SERVERLESS,
        "Looks at the source; an event tells the result. Sources with a password or TLS are refused, and the cache's "
        "endpoint does not route to the source.",
    ),
    "StartMigration": Entry(
        start_migration,
        Truth.REAL,
        _CAPTURE + "test_a_source_without_psync_moves_in_without_a_lost_write",
        "By replication; key by key into cluster mode, into serverless caches, and from a source that lets no replica "
        "follow. A source in cluster mode is refused, and AutoCutover is.",
    ),
    "StopMigration": Entry(
        serverless_migration.stop_migration,
        Truth.REAL,
        _CAPTURE + _SERVERLESS,
        "The copy ends, the cache keeps what has arrived.",
    ),
    "TestMigration": Entry(
        test_migration,
        Truth.REAL,
        _SCENARIOS + "test_a_source_is_really_tested",
        "Connects to the source and compares version, databases and mode; an event tells the result and the way.",
    ),
}
