"""How a migration in goes on: tested, started, followed, completed; and why a source cannot be followed. Pure.

Called by plan.replication_group. A migration ends by the source being forgotten: plan.shard promotes the primary then.
Event of the completion and the words of a failed one: ElastiCache guide, "Completing the data migration".
"""

from __future__ import annotations

from dataclasses import replace

from cachekeep.domain.cache_cluster import Status
from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.migration import Migration, MigrationPhase, SourceFacts, Way
from cachekeep.domain.nodes import NOTHING_SEEN, NodeKey, ObservedNode
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.plan.latch import watched
from cachekeep.plan.story import Story
from cachekeep.plan.upgrades import Runs, follows

# So long a completion waits for the primary to have everything; then the migration goes on, as AWS's does.
COMPLETE_WITHIN_S = 30.0
# The first link of a primary comes within a second or two.
LINK_WITHIN_S = 10.0


def advance(story: Story) -> Story:
    """The group with its migration as it stands after this look. look.source: what the source said just before it."""
    migration, source = story.group.migration, story.look.source
    if migration is None or source is None or migration.is_captured or migration.rests:
        return story
    if migration.follows:
        story = watched(story, _head(story))
        migration = story.group.migration or migration
    match migration.phase:
        case MigrationPhase.TESTING:
            return _tested(story, migration, source)
        case MigrationPhase.PREPARING:
            return _prepared(story, migration, source)
        case MigrationPhase.STARTING:
            return _started(story, migration, source)
        case MigrationPhase.FOLLOWING:
            return _linked(story, migration)
        case MigrationPhase.PREPARED | MigrationPhase.STOPPED:
            return story
        case MigrationPhase.COMPLETING:
            return _completed(story, migration, source)


def _tested(story: Story, migration: Migration, source: SourceFacts) -> Story:
    way = way_of(story, source)
    if not isinstance(way, Way):
        return _abandoned(story.tell_user(_failed("Test", story, migration, way)))
    told = f"Test migration successful for {story.group.id}"
    if way is Way.CAPTURE:
        told = f"{told}: {migration.source} would be copied key by key, since {why_no_replica(story, source)}"
    return _abandoned(story.tell_user(told))


def _prepared(story: Story, migration: Migration, source: SourceFacts) -> Story:
    """Open from then on; or there is none. The group stays as it is."""
    way, group = way_of(story, source), story.group
    if not isinstance(way, Way):
        story = story.tell_user(_failed("Prepare", story, migration, way))
        return story.with_group(replace(group, migration=None))
    story = story.tell_user(f"Prepare migration successful for {group.id} from {migration.source}")
    return story.with_group(replace(group, migration=replace(migration, phase=MigrationPhase.PREPARED)))


def _started(story: Story, migration: Migration, source: SourceFacts) -> Story:
    way = way_of(story, source)
    if not isinstance(way, Way):
        return _abandoned(story.tell_user(_failed("Start", story, migration, way)), migration)
    going = replace(migration, phase=MigrationPhase.FOLLOWING, since=story.look.now, way=way)
    story = story.with_group(replace(story.group, migration=going))
    if way is Way.REPLICATION:
        return story.tell_user(f"Start migration successful for {story.group.id}: it follows {migration.source}")
    why = why_no_replica(story, source)
    return story.tell_user(
        f"Start migration successful for {story.group.id}: {migration.source} is copied key by key, since {why}"
    )


def _linked(story: Story, migration: Migration) -> Story:
    """Told once when the primary has had no link for so long. The service may reach a source that refuses the
    primary, whose address is another one."""
    facts = story.look.nodes.get(_head(story), NOTHING_SEEN).facts
    early = story.look.now - migration.since < LINK_WITHIN_S
    if early or migration.no_link or migration.run_id or facts is None or facts.link_up or facts.syncing:
        return story
    story = story.with_group(replace(story.group, migration=replace(migration, no_link=True)))
    return story.tell_user(
        f"{story.group.primary_id} has no link to {migration.source} yet, and goes on trying: the source may refuse "
        "the address it comes from (protected mode, bind, a firewall); the log of the node has its answer"
    )


def _completed(story: Story, migration: Migration, source: SourceFacts) -> Story:
    why = None if migration.force else _behind(story, migration, source)
    if why is None:
        # Still `migrating`: plan.group_record tells of the success once the primary is seen to be one.
        return story.with_group(replace(story.group, migration=None))
    if story.look.now - migration.since < COMPLETE_WITHIN_S:
        return story.note(f"waiting to complete the migration: {why}")
    going = replace(migration, phase=MigrationPhase.FOLLOWING, since=story.look.now)
    story = story.with_group(replace(story.group, migration=going))
    return story.tell_user(_failed("Complete", story, migration, f"data not in sync: {why}"))


def _abandoned(story: Story, started: Migration | None = None) -> Story:
    """Nothing was followed yet; `available` comes once everything is in its role. started: of a serverless cache it is
    open as before."""
    left = not_started(story.group, started) if started is not None else None
    return story.with_group(replace(story.group, migration=left, status=Status.MODIFYING))


def not_started(group: ReplicationGroup, migration: Migration) -> Migration | None:
    """What is left of a migration that cannot go on."""
    if group.serverless is None:
        return None
    return replace(migration, phase=MigrationPhase.STOPPED, in_sync=False, held=False)


def _failed(what: str, story: Story, migration: Migration, why: str) -> str:
    return f"{what} migration failed for {story.group.id} from {migration.source}: {why}"


def _behind(story: Story, migration: Migration, source: SourceFacts) -> str | None:
    """The source was asked before the primary was: what it had acknowledged by then, the primary must have applied."""
    if source.refusal:
        return source.refusal
    seen = story.look.nodes.get(_head(story), NOTHING_SEEN)
    facts = seen.facts
    if facts is None or facts.primary != migration.source or not facts.link_up:
        return f"{story.group.primary_id} has no link to {migration.source}"
    missing = source.offset - facts.offset
    return f"{story.group.primary_id} is {missing} bytes behind" if missing > 0 else None


def way_of(story: Story, source: SourceFacts) -> Way | str:
    """How the group comes to have what the source has; or why it cannot, in words."""
    why = _why_neither(story, source)
    if why is not None:
        return why
    if why_no_replica(story, source) is None:
        return Way.REPLICATION
    if source.unreadable:
        return f"{why_no_replica(story, source)}, and its keys cannot be read one by one ({source.unreadable})"
    return Way.CAPTURE


def why_no_replica(story: Story, source: SourceFacts) -> str | None:
    """Why the group's primary cannot be a replica of the source; None when it can."""
    if story.group.clustered:
        return f"{story.group.id} runs in cluster mode, where an engine follows only nodes of its own cluster"
    return None if source.serves_replicas else f"it lets no replica follow it ({source.no_replicas})"


def _why_neither(story: Story, source: SourceFacts) -> str | None:
    """Why the group can have this source in no way, in words."""
    group, look = story.group, story.look
    if source.refusal:
        return source.refusal
    key = _head(story)
    own = {seen.facts.run_id for seen in look.nodes.values() if seen.facts is not None}
    if source.run_id in own:
        return f"it is a node of {group.id} itself"
    if source.clustered:
        return "it runs in cluster mode, and only one node of it would be followed"
    spec = look.specs[key]
    try:
        writer = Runs(Engine.VALKEY if source.valkey else Engine.REDIS, EngineVersion.parse(source.version))
    except ValueError:
        return f"its version is {source.version[:40]!r}, which is not known here"
    reader = Runs(spec.engine, spec.version)
    if not follows(reader, writer):
        return f"{reader} cannot replicate from {writer}"
    if group.clustered:
        return f"it has keys in database {source.used}, and {group.id} has only one database" if source.used else None
    databases = _databases(look.nodes.get(key, NOTHING_SEEN), spec.config.get("databases", "16"))
    if databases < source.databases:
        return f"it has {source.databases} databases, and {group.id} has {databases}"
    return None


def _databases(seen: ObservedNode, configured: str) -> int:
    running = seen.started_with.get("databases", configured) if seen.started_with is not None else configured
    return int(running) if running.isdecimal() else 16


def _head(story: Story) -> NodeKey:
    primary = story.members[story.group.primary_id]
    return primary.key(primary.nodes[0])
