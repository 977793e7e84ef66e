"""Members of global datastores: whom their primary follows, resolved anew in every round. Called by control.loop.

The store says who shall take writes. While a failover is under way the engines say who does, and what they say is
written down by the round of the former primary's group: the one that hands over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace

import structlog

from cachekeep.control.unit import Unit
from cachekeep.domain.cache_cluster import CacheCluster, Status
from cachekeep.domain.events import Event, SourceType
from cachekeep.domain.global_group import EVERYWHERE, GlobalGroup, GlobalMember
from cachekeep.domain.nodes import NOTHING_SEEN, NodeFacts, NodeKey, NodeSpec, ObservedNode, ProgramKind
from cachekeep.domain.ports import Clock, Conflict, EngineAdmin, Store, WorldError
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.plan.upstream import Head, Upstream, has_taken_over, upstream_of
from cachekeep.plan.users import Entrants

log = structlog.get_logger()

# A former primary that has not answered for so long since the failover was asked for is given up.
GIVEN_UP_AFTER_S = 15.0
# And one of whose group no engine runs.
GONE_AFTER_S = 3.0
# A secondary that is not in sync for so long does not take over any more.
SYNC_WITHIN_S = 600.0


class Regions:
    """seen: the last look at every node."""

    def __init__(self, store: Store, admin: EngineAdmin, clock: Clock, seen: Mapping[NodeKey, ObservedNode]) -> None:
        self._store = store
        self._admin = admin
        self._clock = clock
        self._seen = seen

    def others(self, group: ReplicationGroup) -> list[Unit]:
        """The other members of its global datastore: a change of this one may concern them."""
        found = self._store.get(GlobalGroup, EVERYWHERE, group.global_id) if group.global_id else None
        return [] if found is None else units_of(found, GlobalMember(group.region, group.id))

    async def upstream(self, group: ReplicationGroup | None) -> Upstream | None:
        """To be asked after the group's own nodes were looked at: one that has just taken over is then seen to have,
        and not told to follow. Writes down a failover that is done."""
        found = self._store.get(GlobalGroup, EVERYWHERE, group.global_id) if group and group.global_id else None
        if found is None or group is None:
            return None
        me = GlobalMember(group.region, group.id)
        if me not in found.members:
            return None
        if group.clustered:
            # No engine follows another group (see mirror); but one that hangs cannot be told that it takes no writes.
            return Upstream(failing_over=me == found.primary and found.failing_over_to is not None)
        heads = {member: head for member in found.members if (head := self._head(member)) is not None}
        if found.failing_over_to is not None:
            heads = await self._looked_at((found.primary, found.failing_over_to), heads)
            found = self._done(me, found, heads)
        elif me == found.primary and not self._serves(heads.get(me)):
            heads = await self._looked_at(found.secondaries, heads)
        if group.status is Status.DELETING:
            return None
        return upstream_of(me, found, heads)

    def fence(self, group: ReplicationGroup | None, entrants: Entrants, specs: Mapping[NodeKey, NodeSpec]) -> None:
        """Writes down that no node of a primary in cluster mode lets clients write any more, where a failover is to be.

        To be asked after the look of a round that was made for these users: nothing is started meanwhile, and what is
        started later starts with them. Raises WorldError.
        """
        found = self._store.get(GlobalGroup, EVERYWHERE, group.global_id) if group and group.global_id else None
        if found is None or group is None or not group.clustered or not entrants.reads_only or found.fenced:
            return
        if found.failing_over_to is None or GlobalMember(group.region, group.id) != found.primary:
            return
        for key, spec in specs.items():
            if spec.program is not ProgramKind.ENGINE:
                continue  # the group's switch takes nothing for itself: what it passes on the engines refuse
            seen = self._seen.get(key, NOTHING_SEEN)
            if seen.process is not None and (seen.facts is None or seen.facts.acl != spec.acl):
                return
        try:
            with self._store.transaction() as work:
                work.replace(found, replace(found, fenced=True))
        except Conflict:
            log.debug("a failover changed meanwhile", datastore=found.id)

    def _head(self, member: GlobalMember) -> Head | None:
        """As stored and as last seen."""
        group = self._store.get(ReplicationGroup, member.region, member.group_id)
        cluster = self._store.get(CacheCluster, member.region, group.primary_id) if group is not None else None
        if group is None or cluster is None:
            return None
        node = cluster.nodes[0]
        clusters = [self._store.get(CacheCluster, member.region, name) for name in group.member_ids]
        seen = self._seen.get(cluster.key(node))
        return Head(
            cluster.key(node),
            node.address,
            seen.facts if seen is not None else None,
            group.primary_endpoint,
            tuple(address for c in clusters if c is not None for address in c.addresses),
        )

    def _serves(self, head: Head | None) -> bool:
        seen = self._seen.get(head.key) if head is not None else None
        return seen is not None and seen.serving

    async def _looked_at(
        self, members: Iterable[GlobalMember], heads: Mapping[GlobalMember, Head]
    ) -> dict[GlobalMember, Head]:
        """With fresh facts of these."""
        concerned = [member for member in members if member in heads]
        facts = await asyncio.gather(*(self._facts(member, heads[member]) for member in concerned))
        return {**heads, **{m: replace(heads[m], facts=f) for m, f in zip(concerned, facts, strict=True)}}

    async def _facts(self, member: GlobalMember, head: Head) -> NodeFacts | None:
        cluster = self._store.get(CacheCluster, member.region, head.key.cluster_id)
        if cluster is None:
            return None
        try:
            return await self._admin.facts(cluster.runs[0], head.address, ())
        except WorldError as error:
            log.debug("primary of another region does not answer", member=str(member), reason=str(error))
            return None

    def _done(self, me: GlobalMember, found: GlobalGroup, heads: Mapping[GlobalMember, Head]) -> GlobalGroup:
        """The datastore as it is from now on. Only the group that hands over may find that it did: none of its steps
        is under way while it looks. The one that takes over may find that there is nobody left to hand over."""
        old, new = heads.get(found.primary), heads.get(found.failing_over_to) if found.failing_over_to else None
        if new is None:
            return found
        text = f"Failover of global datastore {found.id} to {found.failing_over_to} completed"
        if old is not None and old.facts is not None:
            if me != found.primary:
                return found
            if has_taken_over(old, new):
                return found if old.is_primary else self._write(found, found.swapped(), text)
            if self._clock.now() - found.failing_since < SYNC_WITHIN_S:
                return found
            why = f"{found.failing_over_to} is not in sync with the primary"
            text = f"Failover of global datastore {found.id} failed: {why}"
            return self._write(found, replace(found, failing_over_to=None), text)
        patience_s = GONE_AFTER_S if self._is_gone(found.primary) else GIVEN_UP_AFTER_S
        over = self._clock.now() - found.failing_since >= patience_s
        if not (over and me == found.failing_over_to and new.facts is not None):
            return found
        text += f" without {found.primary}, which does not answer: what had not reached the new primary yet is lost"
        return self._write(found, found.swapped(), text)

    def _is_gone(self, member: GlobalMember) -> bool:
        """No node of it has a process, as last seen."""
        clusters = [
            c for c in self._store.all(CacheCluster, member.region) if c.replication_group_id == member.group_id
        ]
        seen = [self._seen.get(c.key(node)) for c in clusters for node in c.nodes]
        return all(one is not None and one.process is None for one in seen)

    def _write(self, found: GlobalGroup, new: GlobalGroup, text: str) -> GlobalGroup:
        try:
            with self._store.transaction() as work:
                work.replace(found, new)
                for member in new.members:
                    work.add_event(
                        Event(self._clock.now(), member.region, SourceType.REPLICATION_GROUP, member.group_id, text)
                    )
        except Conflict:
            return self._store.get(GlobalGroup, EVERYWHERE, found.id) or found
        log.info("failover ended", datastore=found.id, primary=str(new.primary))
        return new


def units_of(found: GlobalGroup, but: GlobalMember | None = None) -> list[Unit]:
    """The groups that are its members."""
    return [Unit(member.region, member.group_id, True) for member in found.members if member != but]
