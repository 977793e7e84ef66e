"""Users and user groups: who is concerned by a change, and whether it has reached every engine. Called by control.loop.

What has arrived becomes `active`, or goes. A change is on its way while a node that runs has other users than it
should, or does not say. What does not run is no matter: it starts with the users that are wanted then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import structlog

from cachekeep.control.unit import Unit, load_unit, unit_of
from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.events import Event, SourceType
from cachekeep.domain.global_group import EVERYWHERE, GlobalGroup, GlobalMember
from cachekeep.domain.nodes import NOTHING_SEEN, NodeKey, NodeSpec, ObservedNode
from cachekeep.domain.ports import Clock, Resource, Store, WorldError
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.users import User, UserGroup, UserStatus
from cachekeep.plan.users import Entrants, entrants_of, scope_of

log = structlog.get_logger()

RETRY_S = 2.0
# Users are changed by the hundred, a request each. What comes without such a pause between goes to the engines
# together, but none of it later than after so long.
PAUSE_S = 0.05
LONGEST_S = 0.5
# What the specs of a unit's nodes were last made from, as far as users are concerned, and those specs.
Known = Callable[[Unit], tuple[Entrants, Mapping[NodeKey, NodeSpec]] | None]


class UserChanges:
    """known: the specs of a unit's last look. seen: the last look at every node. wake: have a unit looked at."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        known: Known,
        seen: Mapping[NodeKey, ObservedNode],
        wake: Callable[[Unit], None],
    ) -> None:
        self._store, self._clock, self._known, self._seen, self._wake = store, clock, known, seen, wake
        # Units that are to be looked at, when the first change of theirs came, and when the last.
        self._gathered: set[Unit] = set()
        self._first = self._last = 0.0
        self._pause = PAUSE_S
        self._waiting = True
        self._idle = asyncio.Event()
        self._entrants: dict[tuple[object, ...], Entrants] = {}
        store.subscribe(self._forget)

    def entrants(self, owner: ReplicationGroup | CacheCluster) -> Entrants:
        """Who may log in to the nodes of a group, or of a cluster of its own."""
        region, scope, reads_only = owner.region, scope_of(owner), self._reads_only(owner)
        # Many caches may have the same hundred users, and each round of each asks for them.
        key = region, owner.user_group_ids, owner.auth_tokens, scope, reads_only
        found = self._entrants.get(key)
        if found is None:
            found = entrants_of(
                owner,
                lambda name: self._store.get(UserGroup, region, name),
                lambda name: self._store.get(User, region, name),
            )
            found = self._entrants[key] = replace(found, scope=scope, reads_only=reads_only)
        return found

    def _reads_only(self, owner: ReplicationGroup | CacheCluster) -> bool:
        """A member of a global datastore in cluster mode that is not to take writes now."""
        if not isinstance(owner, ReplicationGroup) or not (owner.global_id and owner.clustered):
            return False
        found = self._store.get(GlobalGroup, EVERYWHERE, owner.global_id)
        return found is not None and not found.writes(GlobalMember(owner.region, owner.id))

    def _forget(self, resources: Sequence[Resource]) -> None:
        """Also when a cache changes: those that are gone are not to be remembered for ever."""
        if any(isinstance(one, (User, UserGroup, ReplicationGroup, CacheCluster)) for one in resources):
            self._entrants.clear()

    def note(self, resource: Resource) -> None:
        """Something changed in the store: the units that it concerns are looked at after a moment."""
        if not isinstance(resource, (User, UserGroup)) or resource.status is UserStatus.ACTIVE:
            return
        self._waiting = True
        names = {resource.id}
        if isinstance(resource, User):
            names = {g.id for g in self._store.all(UserGroup, resource.region) if _has(g, resource.id)}
        units = self._guarded_by(resource.region, names)
        if not units:
            self._idle.set()
            return
        loop = asyncio.get_running_loop()
        gap, self._last = loop.time() - self._last, loop.time()
        # On a busy machine each request of such a row takes longer.
        self._pause = max(PAUSE_S, 2 * gap) if gap < LONGEST_S else PAUSE_S
        if not self._gathered:
            self._first = self._last
            loop.call_later(PAUSE_S, self._wake_gathered)
        self._gathered.update(units)

    def _wake_gathered(self) -> None:
        loop = asyncio.get_running_loop()
        due = min(self._last + self._pause, self._first + LONGEST_S)
        if loop.time() < due:
            loop.call_at(due, self._wake_gathered)
            return
        units, self._gathered = self._gathered, set()
        for unit in units:
            self._wake(unit)

    async def run(self) -> None:
        """Settles what no cache is concerned with; the rest is settled by the rounds of those that are."""
        self._idle.set()
        while True:
            await self._idle.wait()
            self._idle.clear()
            try:
                self.settle()
            except WorldError as error:
                log.warning("changes of users could not be written down", reason=str(error))
                await asyncio.sleep(RETRY_S)
                self._idle.set()

    def settle(self) -> None:
        """Write down what has arrived, all in one go. Raises WorldError when the store cannot be written."""
        if not self._waiting:
            return
        groups, users = self._store.all(UserGroup), self._store.all(User)
        stored: list[User | UserGroup] = [*groups, *users]
        changes = [one for one in stored if one.status is not UserStatus.ACTIVE]
        # Users by the hundred share their groups, and groups their caches: each is looked at once.
        told = {
            (group.region, group.id): all(map(self._is_told, self._guarded_by(group.region, (group.id,))))
            for group in groups
            if any(change.region == group.region for change in changes)
        }
        arrived = [one for one in changes if all(told[at] for at in _concerned(one, groups))]
        self._waiting = len(arrived) < len(changes)
        if arrived:
            self._write(arrived)

    def _is_told(self, unit: Unit) -> bool:
        """Every node of it, as last seen, has the users that are wanted now."""
        group, clusters = load_unit(self._store, unit)
        if not clusters:
            return True
        known = self._known(unit)
        if known is None or known[0] != self.entrants(group or clusters[0]):
            return False  # not looked at since
        for key, spec in known[1].items():
            look = self._seen.get(key, NOTHING_SEEN)
            if look.process is not None and (look.facts is None or look.facts.acl != spec.acl):
                return False
        return True

    def _guarded_by(self, region: str, user_groups: Collection[str]) -> list[Unit]:
        groups, clusters = self._store.all(ReplicationGroup, region), self._store.all(CacheCluster, region)
        owners: tuple[ReplicationGroup | CacheCluster, ...] = (*groups, *clusters)
        return list(dict.fromkeys(unit_of(o) for o in owners if not set(user_groups).isdisjoint(o.user_group_ids)))

    def _write(self, arrived: Sequence[User | UserGroup]) -> None:
        with self._store.transaction() as work:
            for old in arrived:
                if work.get(type(old), old.region, old.id) != old:
                    self._waiting = True  # changed again meanwhile
                    continue
                new = replace(old, status=UserStatus.ACTIVE)
                if isinstance(new, UserGroup):
                    new = replace(new, before=None)
                work.replace(old, new)
                if old.status is UserStatus.DELETING:
                    work.delete(new)
                work.add_event(self._event(old))

    def _event(self, old: User | UserGroup) -> Event:
        kind, word = (SourceType.USER, "User") if isinstance(old, User) else (SourceType.USER_GROUP, "User group")
        done = {UserStatus.DELETING: "deleted", UserStatus.CREATING: "created"}.get(old.status, "modified")
        return Event(self._clock.now(), old.region, kind, old.id, f"{word} {old.id} {done}")


def _concerned(change: User | UserGroup, groups: Sequence[UserGroup]) -> list[tuple[str, str]]:
    """The user groups that the change is in, by region and id."""
    if isinstance(change, UserGroup):
        return [(change.region, change.id)]
    return [(group.region, group.id) for group in groups if group.region == change.region and _has(group, change.id)]


def _has(group: UserGroup, user_id: str) -> bool:
    """Now, or until its last change has reached every engine."""
    return user_id in group.user_ids or user_id in (group.before or ())
