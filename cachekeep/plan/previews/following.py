"""Migrations in and global datastores: who follows whom afterwards, and whose data goes. Pure."""

from __future__ import annotations

from cachekeep.domain.global_group import GlobalGroup
from cachekeep.domain.migration import Migration, MigrationPhase
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.plan.previews import figures
from cachekeep.plan.previews.scene import Part, Scene, gap


def migrations(old: ReplicationGroup, new: ReplicationGroup) -> list[Part]:
    """One part when the group's migration is another."""
    migration = new.migration
    if migration is None or migration == old.migration:
        return []
    return [_migration(new, migration)]


def _migration(group: ReplicationGroup, migration: Migration) -> Part:
    source, primary = migration.source, group.primary_id
    match migration.phase:
        case MigrationPhase.TESTING | MigrationPhase.PREPARING:
            return Part((f"{source} is asked whether it can be followed; an event tells. Nothing else changes.",))
        case MigrationPhase.PREPARED | MigrationPhase.STOPPED:
            return Part((f"The copy from {source} ends; {group.id} keeps what has arrived.",))
        case MigrationPhase.STARTING | MigrationPhase.FOLLOWING:
            return Part(
                (_way(group, migration),),
                undo=("CompleteMigration with Force ends it with the data that has arrived; the former data is gone.",),
                warnings=(f"The data of {group.id} is replaced by that of {source}.",),
            )
        case MigrationPhase.COMPLETING:
            waits = "with the data as it is" if migration.force else f"once it has all that {source} had acknowledged"
            lost = f"What is written at {source} afterwards stays there: stop its writers first."
            return Part(
                (f"{primary} becomes a primary, {waits}, and takes writes.",),
                undo=("None: a migration can be started again.",),
                warnings=(lost,),
            )


def _way(group: ReplicationGroup, migration: Migration) -> str:
    source = migration.source
    if group.clustered:
        return f"{source} is asked whether it can be copied. If so, what changes there is written into {group.id}."
    return (
        f"{source} is asked whether it can be followed. If so, {group.primary_id} becomes a replica of it, and the "
        "other members follow that one: writes to the group are refused until CompleteMigration. If it lets no "
        "replica follow it, what changes there is written into the group."
    )


def datastores(scene: Scene) -> list[Part]:
    """One part for each global datastore that is another."""
    old, new = scene.before.datastores, scene.after.datastores
    parts = []
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        if before is None and after is not None:
            text = f"{after.primary} becomes the primary of {name}; it serves on as it does."
            parts.append(Part((text,), undo=("Delete the global datastore; its primary stays.",)))
        elif after is None and before is not None:
            parts.append(Part((f"{name} ends; {before.primary} stays as a group of its own.",)))
        elif before is not None and after is not None:
            parts += _changed(before, after)
    return parts


def _changed(before: GlobalGroup, after: GlobalGroup) -> list[Part]:
    parts = []
    wish = after.failing_over_to
    if wish is not None and before.failing_over_to is None:
        parts.append(
            Part(
                (
                    f"Writes wait at {before.primary} until {wish} has every one of them; then that one takes "
                    f"writes, and {before.primary} follows it.",
                    f"Connections to the primary endpoint of {before.primary} are cut; it refuses writes afterwards.",
                ),
                (gap(figures.SWITCH_OVER, f"writes to {after.id}"),),
                (f"Fail over to {before.primary}.",),
                (
                    f"If {before.primary} does not answer, {wish} takes over with what has arrived there.",
                    "Clients find the new primary at another endpoint: they are not sent there.",
                ),
                most_s=1.0,
            )
        )
    parts += [
        Part((f"{member} follows {after.primary}, and refuses writes.",))
        for member in after.secondaries
        if member not in before.members
    ]
    undo = ("None: it can only be made anew as a secondary.",)
    parts += [
        Part((f"{member} takes writes, with the data that it has by then.",), undo=undo)
        for member in before.secondaries
        if member not in after.members
    ]
    return parts
