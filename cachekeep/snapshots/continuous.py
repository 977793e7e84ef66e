"""Continuous backups: for every group whose tag asks for one, a capture that is kept going. Called by the app.

Level-triggered, as snapshots are: what is wanted stands in the store. A capture is begun again when it failed, later
each time, and when the group's primary is another one; it ends, sealed, with the tag, the group or the service.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import replace
from functools import partial

import structlog

from cachekeep.domain.cache_cluster import CacheCluster, Status
from cachekeep.domain.continuous import CaptureNews, CaptureOrder, CaptureState, CaptureWorker, Standing, window_hours
from cachekeep.domain.events import Event, Note, SourceType
from cachekeep.domain.ports import Clock, Conflict, Resource, Store, WorldError
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.snapshot_work import WorkFailed
from cachekeep.rounds import Rounds

log = structlog.get_logger()

Key = tuple[str, str]

LOOK_EVERY_S = 15.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
# The first failures pass by themselves: a primary that is just being replaced, the last capture that still seals.
TOLD_FROM = 3
# One that went on for so long has not failed again: it failed anew.
CALM_S = 60.0
_WITHOUT = (Status.CREATING, Status.CREATE_FAILED, Status.DELETING)


class Continuous:
    """Runs until cancelled. standings: where it is told how each backup stands, for whoever asks."""

    def __init__(
        self, store: Store, worker: CaptureWorker, clock: Clock, standings: MutableMapping[Key, Standing] | None = None
    ) -> None:
        self._store, self._worker, self._clock = store, worker, clock
        self._standings = {} if standings is None else standings
        self._rounds = Rounds[Key](LOOK_EVERY_S)
        self._orders: dict[Key, CaptureOrder] = {}
        self._ending: set[Key] = set()
        self._in_trouble: set[Key] = set()
        store.subscribe(self._changed)

    def _changed(self, resources: Sequence[Resource]) -> None:
        if any(isinstance(one, (ReplicationGroup, CacheCluster)) for one in resources):
            self._rounds.wake()

    async def run(self) -> None:
        await self._rounds.run(self._look)

    def _look(self) -> None:
        """End what is no longer wanted so, begin what is and does not run."""
        wanted: dict[Key, CaptureOrder] = {}
        for group in self._store.all(ReplicationGroup):
            if (order := self._order(group)) is not None:
                wanted[group.region, group.id] = order
        for key in self._rounds.under_way():
            if key not in self._ending and wanted.get(key) != self._orders[key]:
                self._ending.add(key)
                self._rounds.cancel(key)
                if key not in wanted:
                    self._write(self._orders[key], "continuous backup ends; what it kept stays", event=False)
        self._in_trouble &= wanted.keys()
        for key in self._standings.keys() - wanted.keys():
            del self._standings[key]
        for key, order in wanted.items():
            if key not in self._rounds.under_way():
                self._orders[key] = order
                self._standings[key] = replace(self._standings.get(key, Standing(self._clock.now())), follows=False)
                self._rounds.begin(key, partial(self._kept, key, order), f"continuous backup {order.group}")

    def _order(self, group: ReplicationGroup) -> CaptureOrder | None:
        try:
            hours = window_hours(group.tags)
        except ValueError:  # stored before values of this tag were looked at
            return None
        if hours is None or group.serverless or group.status in _WITHOUT:
            return None
        found = (self._store.get(CacheCluster, group.region, name) for name in group.member_ids)
        members = {member.id: member.nodes[0].address for member in found if member is not None and member.nodes}
        address = members.get(group.primary_id)
        before = self._orders.get((group.region, group.id))
        if group.clustered and before is not None and before.address in members.values():
            address = before.address  # a capture of a cluster follows its failovers by itself
        return CaptureOrder(group.region, group.id, address, hours) if address is not None else None

    async def _kept(self, key: Key, order: CaptureOrder) -> None:
        loop, failures = asyncio.get_running_loop(), 0
        try:
            while True:
                began = loop.time()
                try:
                    await self._worker.capture(order, lambda news: self._told(order, news))
                    reason = "it came to its end"
                except WorkFailed as error:
                    reason = str(error)
                self._stands(key, lambda known: replace(known, follows=False))
                failures = failures + 1 if loop.time() - began < CALM_S else 1
                log.warning(
                    "a continuous backup failed, begun again", group=order.group, reason=reason, in_row=failures
                )
                if failures >= TOLD_FROM:
                    self._troubled(order, reason)
                await asyncio.sleep(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(failures - 1, 10)))
        except asyncio.CancelledError:
            log.info("a continuous backup ended", group=order.group, window_hours=order.hours)
            raise
        except Exception:
            log.exception("a continuous backup failed, begun again", group=order.group)
            await asyncio.sleep(FIRST_PAUSE_S)
        finally:
            self._ending.discard(key)
            self._rounds.wake()

    def _told(self, order: CaptureOrder, news: CaptureNews | CaptureState) -> None:
        key = order.region, order.group
        if isinstance(news, CaptureState):
            until = None if news.until_ms is None else news.until_ms / 1000
            self._stands(key, lambda known: replace(known, bytes=news.bytes, until=until or known.until))
            return
        match news.kind:
            case "following":
                self._stands(key, lambda known: replace(known, since=self._clock.now(), follows=True, trouble=""))
                log.info("a continuous backup follows", group=order.group, address=str(order.address), method=news.text)
                if key in self._in_trouble:
                    self._in_trouble.discard(key)
                    self._write(order, f"Continuous backup of replication group {order.group} goes on", event=True)
                else:
                    self._write(order, f"continuous backup by {news.text}, kept for {order.hours} hours", event=False)
            case "trouble":
                self._troubled(order, news.text)
            case "expired":
                log.info("of a continuous backup something is over", group=order.group, generation=news.text)

    def _troubled(self, order: CaptureOrder, reason: str) -> None:
        """One event for as long as it lasts."""
        key = order.region, order.group
        self._stands(key, lambda known: replace(known, follows=False, trouble=reason))
        if key not in self._in_trouble:
            self._in_trouble.add(key)
            self._stands(key, lambda known: replace(known, since=self._clock.now()))
            text = f"Continuous backup of replication group {order.group} cannot be kept, tried again. Reason: {reason}"
            self._write(order, text, event=True)

    def _stands(self, key: Key, changed: Callable[[Standing], Standing]) -> None:
        """Nothing, for one that is not wanted any more and just ends."""
        if key in self._standings:
            self._standings[key] = changed(self._standings[key])

    def _write(self, order: CaptureOrder, text: str, *, event: bool) -> None:
        """What cannot be written, as on a full disk, stands in the log."""
        now, kind = self._clock.now(), SourceType.REPLICATION_GROUP
        try:
            with self._store.transaction() as work:
                if event:
                    work.add_event(Event(now, order.region, kind, order.group, text))
                else:
                    work.add_note(Note(now, order.region, order.group, text))
        except (WorldError, Conflict) as error:
            log.warning("news of a continuous backup cannot be stored", news=text, reason=str(error))
