"""What one round knows of a replication group, built up step by step and turned into a Decision at the end. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.events import Event, SourceType
from cachekeep.domain.nodes import Address
from cachekeep.domain.replication_group import NodeGroup, ReplicationGroup
from cachekeep.domain.serverless import shown_text
from cachekeep.plan.decision import Look


@dataclass(frozen=True)
class Story:
    """The group and its members as they shall be stored, and what is to be told. members: by id, in order.

    released: addresses that nobody uses any more.
    """

    group: ReplicationGroup
    members: Mapping[str, CacheCluster]
    look: Look
    events: tuple[Event, ...] = ()
    released: tuple[Address, ...] = ()
    notes: tuple[str, ...] = ()

    def tell(self, message: str) -> Story:
        """An event of the group."""
        event = Event(self.look.now, self.group.region, SourceType.REPLICATION_GROUP, self.group.id, message)
        return replace(self, events=(*self.events, event))

    def tell_user(self, message: str) -> Story:
        """An event of the group, or of the serverless cache that it is behind."""
        if self.group.serverless is None:
            return self.tell(message)
        name = self.group.serverless
        event = Event(self.look.now, self.group.region, SourceType.SERVERLESS_CACHE, name, shown_text(message))
        return replace(self, events=(*self.events, event))

    def tell_member(self, cluster_id: str, *messages: str) -> Story:
        """Events of one member."""
        more = (
            Event(self.look.now, self.group.region, SourceType.CACHE_CLUSTER, cluster_id, message)
            for message in messages
        )
        return replace(self, events=(*self.events, *more))

    def note(self, sentence: str) -> Story:
        """For the journal only."""
        return replace(self, notes=(*self.notes, sentence))

    def with_group(self, group: ReplicationGroup) -> Story:
        return replace(self, group=group)

    def with_shard(self, shard: NodeGroup) -> Story:
        return replace(self, group=self.group.with_shard(shard))

    def with_member(self, cluster: CacheCluster) -> Story:
        return replace(self, members={**self.members, cluster.id: cluster})

    def without_member(self, cluster_id: str) -> Story:
        """The member is gone: from the list of members and from its shard."""
        members = {name: cluster for name, cluster in self.members.items() if name != cluster_id}
        shard = self.group.shard_of(cluster_id)
        group = self.group
        if shard is not None:
            left = tuple(name for name in shard.member_ids if name != cluster_id)
            group = group.with_shard(replace(shard, member_ids=left))
        return replace(self, group=group, members=members)

    def of_shard(self, shard: NodeGroup) -> list[CacheCluster]:
        return [self.members[name] for name in shard.member_ids if name in self.members]

    def release(self, *addresses: Address) -> Story:
        return replace(self, released=(*self.released, *addresses))
