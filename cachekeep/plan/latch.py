"""A source that has lost its data must not take those of the group with it. Pure. Called by plan.replication_group.

An engine that follows a server outside synchronises anew, by itself and within a second, whenever that server is
started again: with nothing, if that one starts empty. So as soon as the group's primary is in sync it is latched: it
keeps its link and can make no other (steps.Latch). When the link is lost, the source is asked first. The latch is
lifted for a source that still has its data:

| the source | |
|---|---|
| does not answer | waited for |
| has no keys, and the group has some | not followed |
| is the process that was followed before | followed: most often by what was missed alone |
| is another process, with at least half as many keys | followed, with a whole synchronisation |
| is another process, with fewer | not followed |

It is told as an event; a completion by Force keeps the data, and so does waiting for the source to have its own again.
"""

from __future__ import annotations

from dataclasses import replace

from cachekeep.domain.cache_cluster import Status
from cachekeep.domain.migration import Migration, SourceFacts
from cachekeep.domain.nodes import NOTHING_SEEN, NodeFacts, NodeKey, Role
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.steps import Latch, Step
from cachekeep.plan.decision import Decision, Look
from cachekeep.plan.story import Story

_GONE = (Status.DELETING, Status.CREATE_FAILED)


def may_follow(migration: Migration | None, look: Look) -> bool:
    """Whether a node of the group may synchronise with the source now. Before it ever did: always."""
    if migration is None or not migration.run_id:
        return True
    return look.source is not None and not look.source.refusal and has_its_data(migration, look.source, _keys(look))


def has_its_data(migration: Migration, source: SourceFacts, keys: int) -> bool:
    """Whether what the source has may replace these keys of the group: see the table above."""
    if not keys:
        return True
    return source.keys > 0 and (source.run_id == migration.run_id or source.keys * 2 >= keys)


def _keys(look: Look) -> int:
    """Of the node that has most of them."""
    return max((seen.facts.keys for seen in look.nodes.values() if seen.serving and seen.facts), default=0)


def watched(story: Story, head: NodeKey) -> Story:
    """The migration with the process of the source that is followed, or held, with an event that says why."""
    migration, source = story.group.migration, story.look.source
    facts = story.look.nodes.get(head, NOTHING_SEEN).facts
    if migration is None or source is None or source.refusal:
        return story
    if facts is not None and _is_linked(migration, facts):
        return _noted(story, migration, run_id=source.run_id, held=False)
    if may_follow(migration, story.look) or migration.held:
        return story
    text = (
        f"{migration.source} has been started anew with {source.keys} keys, and {story.group.id} has "
        f"{_keys(story.look)}: it is not followed again, as that would replace them. Put the data of the source back, "
        "or complete the migration with Force to go on with those of the group"
    )
    return _noted(story, migration, run_id=migration.run_id, held=True).tell(text)


def _noted(story: Story, migration: Migration, *, run_id: str, held: bool) -> Story:
    new = replace(migration, run_id=run_id, held=held)
    return story if new == migration else story.with_group(replace(story.group, migration=new))


def _is_linked(migration: Migration, facts: NodeFacts) -> bool:
    return facts.primary == migration.source and facts.link_up


def with_latch(group: ReplicationGroup, head: NodeKey, look: Look, decision: Decision) -> Decision:
    """The decision with the latches that are to be set or lifted, before anything else. head: the primary's node."""
    if group.status in _GONE:
        return decision
    steps: tuple[Step, ...] = tuple(
        Latch(key, look.specs[key].address, on)
        for key, seen in look.nodes.items()
        if seen.serving and seen.facts is not None and key in look.specs
        for on in [_wanted(group.migration if key == head else None, seen.facts, look)]
        if on != seen.facts.latched
    )
    return replace(decision, stages=(steps, *decision.stages)) if steps else decision


def _wanted(migration: Migration | None, facts: NodeFacts, look: Look) -> bool:
    """migration: None for a node that follows nobody outside."""
    if migration is None or not migration.follows or facts.role is not Role.REPLICA:
        return False
    if facts.primary != migration.source:
        return False
    if facts.link_up:
        return True
    # One that was never latched is about to synchronise: that was allowed.
    return facts.latched and not may_follow(migration, look)
