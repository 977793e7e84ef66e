"""The service of global datastores in cluster mode: one living copy for each secondary, and what ends with one.

Level-triggered: who takes writes stands in the store (domain.global_group), and changes there in one transaction, so
that it does not matter where a service was killed. The order of a failover:

1. The API writes down to whom. From then on no member lets clients write: control takes that right from the engines.
2. Control has seen that every node of the primary did so, and writes that down (`fenced`).
3. The copy has all that was acknowledged until then. The roles are swapped, and with them who may write.

A failover that does not get so far is given up, and the former primary takes writes again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, replace

import structlog

from cachekeep.domain.cache_cluster import CacheCluster, Status
from cachekeep.domain.events import Event, SourceType
from cachekeep.domain.global_group import EVERYWHERE, GlobalGroup, GlobalMember, Mirrored
from cachekeep.domain.nodes import Address
from cachekeep.domain.ports import Clock, Conflict, Store
from cachekeep.domain.remote import Remote, RemoteError
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.serverless import shown_text
from cachekeep.mirror.shards import ShardMirror
from cachekeep.mirror.target import TargetLost
from cachekeep.rounds import Rounds

log = structlog.get_logger()

LOOK_EVERY_S = 0.5
TICK_S, SOON_S = 0.25, 0.02
AGAIN_S = 1.0
CHECK_EVERY_S = 3.0
# A secondary that is not in sync for so long does not take over any more; nodes of the primary that have not answered
# for so long since the failover was asked for are given up.
SYNC_WITHIN_S, GIVEN_UP_AFTER_S = 600.0, 30.0
# So long one that leaves waits for what it has not yet.
LEAVE_WITHIN_S = 30.0
_RESTS = (Status.CREATING, Status.CREATE_FAILED, Status.DELETING)
Lags = MutableMapping[tuple[str, str], float]


@dataclass(frozen=True)
class RegionalDoors:
    """own: a node of ours, logged in there. lags: by region and group, seconds that a secondary is behind."""

    store: Store
    clock: Clock
    own: Callable[[Address], Remote]
    lags: Lags


class RegionalMirroring:
    """Runs until cancelled."""

    def __init__(self, doors: RegionalDoors) -> None:
        self._doors = doors
        self._rounds = Rounds[GlobalMember](LOOK_EVERY_S)

    async def run(self) -> None:
        await self._rounds.run(self._look)

    def _look(self) -> None:
        for found in self._doors.store.all(GlobalGroup):
            for member in found.secondaries:
                if self._is_mirrored(member):
                    self._rounds.begin(member, Following(self._doors, found.id, member).run, f"copy for {member}")

    def _is_mirrored(self, member: GlobalMember) -> bool:
        group = self._doors.store.get(ReplicationGroup, member.region, member.group_id)
        return group is not None and group.clustered and group.status not in _RESTS


@dataclass(frozen=True)
class _Both:
    """The datastore, the primary and the secondary as stored."""

    found: GlobalGroup
    source: ReplicationGroup
    group: ReplicationGroup

    @property
    def failing(self) -> bool:
        me = GlobalMember(self.group.region, self.group.id)
        return self.found.failing_over_to == me

    @property
    def leaving(self) -> bool:
        return self.found.leaving == GlobalMember(self.group.region, self.group.id)


class Following:
    """One secondary, for as long as it is one."""

    def __init__(self, doors: RegionalDoors, name: str, me: GlobalMember) -> None:
        self._doors, self._store, self._name, self._me = doors, doors.store, name, me
        self._why = ""
        self._told_refused = False

    async def run(self) -> None:
        try:
            while (both := self._both()) is not None:
                try:
                    await self._copy(both)
                except RemoteError as error:
                    self._failed(error.what, source_away=True)
                except TargetLost as error:
                    self._failed(str(error), source_away=False)
                except Conflict:
                    log.debug("a global datastore changed meanwhile", datastore=self._name)
                    continue
                except Exception as error:
                    log.exception("a copy failed; it begins anew", group=str(self._me))
                    self._failed(str(error), source_away=False)
                await asyncio.sleep(AGAIN_S)
        finally:
            self._doors.lags.pop((self._me.region, self._me.group_id), None)

    async def _copy(self, both: _Both) -> None:
        """Until the roles change, or either end does. Raises RemoteError, TargetLost, Conflict."""
        target = self._addresses(both.group)
        known = both.group.mirrored
        run_ids = known.run_ids if known is not None and known.of == both.found.primary else ()
        mirror = ShardMirror(await self._answering(both), self._doors.own(target[0]), run_ids)
        try:
            await asyncio.to_thread(mirror.begin)
            await self._attend(mirror, both.found.primary)
        finally:
            await asyncio.to_thread(mirror.close)

    async def _answering(self, both: _Both) -> Remote:
        """A node of the source. Raises RemoteError when none answers."""
        remotes = [self._doors.own(address) for address in self._addresses(both.source)]
        for remote in remotes[:-1]:
            try:
                (await asyncio.to_thread(remote.connect)).close()
            except RemoteError as error:
                log.debug("a node of another region does not answer", reason=error.what)
            else:
                return remote
        return remotes[-1]

    async def _attend(self, mirror: ShardMirror, primary: GlobalMember) -> None:
        mark: int | None = None
        asked = 0.0
        checked = self._doors.clock.now()
        while (both := self._both()) is not None and both.found.primary == primary:
            mirror.tick()
            both = self._noted(both, mirror)
            ends = (both.failing and both.found.fenced) or both.leaving
            since = both.found.failing_since if both.failing else both.found.leaving_since
            if not ends or since != asked:
                mark, asked = (mirror.mark(), since) if ends else (None, 0.0)
            if mark is not None and await self._ended(both, mirror, mark):
                return
            self._give_up_late(both)
            if self._doors.clock.now() - checked > CHECK_EVERY_S:
                await asyncio.to_thread(mirror.target.check)
                checked = self._doors.clock.now()
            await asyncio.sleep(SOON_S if mark is not None else TICK_S)

    async def _ended(self, both: _Both, mirror: ShardMirror, mark: int) -> bool:
        """Whether it has all that it can have, and what was asked for is done. Raises what `_copy` does."""
        since = both.found.failing_since if both.failing else both.found.leaving_since
        late = self._doors.clock.now() - since > GIVEN_UP_AFTER_S
        away = mirror.away()
        without = (away if late else away & frozenset(mirror.held)) if self._was_whole(both) else frozenset[str]()
        if not mirror.has_all_of(mark, without, whole=not late):
            return False
        await asyncio.to_thread(mirror.end, without)
        if both.failing:
            names = ", ".join(sorted(without)) or ("" if mirror.is_covered() else "slots that no node has")
            self._take_over(both, f" without {names}: what had not arrived of it is lost" if names else "")
        else:
            self._leave(both)
        return True

    @staticmethod
    def _was_whole(both: _Both) -> bool:
        """It was in sync with this primary at some time."""
        known = both.group.mirrored
        return known is not None and known.of == both.found.primary and bool(known.run_ids)

    # The store

    def _both(self) -> _Both | None:
        """While it is wanted."""
        found = self._store.get(GlobalGroup, EVERYWHERE, self._name)
        if found is None or self._me not in found.secondaries:
            return None
        source = self._store.get(ReplicationGroup, found.primary.region, found.primary.group_id)
        group = self._store.get(ReplicationGroup, self._me.region, self._me.group_id)
        if source is None or group is None or group.status in _RESTS:
            return None
        return _Both(found, source, group)

    def _addresses(self, group: ReplicationGroup) -> list[Address]:
        """Of its nodes, the primaries first."""
        names = [shard.primary_id for shard in group.node_groups]
        names += [name for name in group.member_ids if name not in names]
        clusters = [self._store.get(CacheCluster, group.region, name) for name in names]
        return [cluster.nodes[0].address for cluster in clusters if cluster is not None]

    def _noted(self, both: _Both, mirror: ShardMirror) -> _Both:
        """What the copy has come to, with events where that is news. Raises Conflict."""
        in_sync, behind_s = mirror.in_sync(), mirror.behind_s()
        self._why = mirror.why_not_whole()
        key = self._me.region, self._me.group_id
        if behind_s is not None:
            self._doors.lags[key] = behind_s
        else:
            self._doors.lags.pop(key, None)
        before = both.group.mirrored or Mirrored(both.found.primary)
        if before.of != both.found.primary:
            before = Mirrored(both.found.primary)
        held = next(iter(mirror.held.values()), "")
        run_ids = tuple(sorted(mirror.run_ids)) if in_sync else before.run_ids
        new = replace(before, in_sync=in_sync, held=held, run_ids=run_ids)
        texts = []
        if in_sync and not before.in_sync:
            texts.append(f"{self._me} has what {both.found.primary} has, and is told of every change")
        if held and not before.held:
            texts.append(
                f"{held}: it is not copied from again, as that would delete them. Fail over to {self._me} to go on "
                "with them, or disassociate it"
            )
        if mirror.target.refused and not self._told_refused:
            self._told_refused = True
            texts.append(f"{self._me} cannot have all of {both.found.primary}: {self._why}")
        return self._put(both, new, texts)

    def _put(self, both: _Both, new: Mirrored, texts: list[str]) -> _Both:
        if new == both.group.mirrored and not texts:
            return both
        group = replace(both.group, mirrored=new)
        with self._store.transaction() as work:
            work.replace(both.group, group)
            for text in texts:
                work.add_event(self._event(self._me, text))
        return replace(both, group=group)

    def _failed(self, why: str, *, source_away: bool) -> None:
        """Not in sync; and where a failover or a leave waits for it, perhaps that is to be done without."""
        log.info("a copy ended; it begins anew", group=str(self._me), why=why)
        both = self._both()
        if both is None:
            return
        try:
            now, self._why = self._doors.clock.now(), why
            if both.group.mirrored is not None and both.group.mirrored.in_sync:
                both = self._put(both, replace(both.group.mirrored, in_sync=False), [])
            gone = source_away and self._was_whole(both) and now - both.found.failing_since > GIVEN_UP_AFTER_S
            if both.failing and both.found.fenced and gone:
                text = f" without {both.found.primary}, which does not answer: what had not arrived is lost"
                self._take_over(both, text)
            elif both.leaving and (source_away or now - both.found.leaving_since > LEAVE_WITHIN_S):
                self._leave(both)
            else:
                self._give_up_late(both)
        except Conflict:
            log.debug("a global datastore changed meanwhile", datastore=self._name)

    def _take_over(self, both: _Both, more: str) -> None:
        """Raises Conflict."""
        text = f"Failover of global datastore {both.found.id} to {self._me} completed{more}"
        self._write(both.found, both.found.swapped(), text, done=both.group)

    def _give_up_late(self, both: _Both) -> None:
        """Raises Conflict."""
        now = self._doors.clock.now()
        if both.failing and now - both.found.failing_since > SYNC_WITHIN_S:
            text = f"Failover of global datastore {both.found.id} failed: {self._me} is not in sync: {self._why}"
            self._write(both.found, both.found.taken_back(), text)
        elif both.leaving and now - both.found.leaving_since > LEAVE_WITHIN_S:
            self._leave(both)

    def _leave(self, both: _Both) -> None:
        """Raises Conflict."""
        found, group = both.found, both.group
        rest = tuple(m for m in found.secondaries if m != self._me)
        status = Status.MODIFYING if group.status is Status.AVAILABLE else group.status
        text = f"Replication group {group.id} left the global datastore {found.id}"
        with self._store.transaction() as work:
            work.replace(found, replace(found, secondaries=rest, leaving=None))
            work.replace(group, replace(group, global_id="", mirrored=None, status=status))
            work.add_event(self._event(self._me, text))

    def _write(self, found: GlobalGroup, new: GlobalGroup, text: str, done: ReplicationGroup | None = None) -> None:
        """done: copied from nobody from now on."""
        with self._store.transaction() as work:
            work.replace(found, new)
            if done is not None:
                work.replace(done, replace(done, mirrored=None))
            for member in new.members:
                work.add_event(self._event(member, text))
        log.info("failover ended", datastore=found.id, primary=str(new.primary))

    def _event(self, member: GlobalMember, text: str) -> Event:
        now = self._doors.clock.now()
        return Event(now, member.region, SourceType.REPLICATION_GROUP, member.group_id, shown_text(text))
