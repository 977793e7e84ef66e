"""A pulse: every living engine is pinged about once a second, beside the looks. Called by control.loop.

A death is seen by pidfd; this is for processes that live and do not answer: stopped, or busy with a script; and for
roles that somebody else changed. Silence is counted only while it was really asked: a service that was suspended itself
finds nobody hung when it wakes up, and one that lost the authority by which it knows its nodes stops none of them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from cachekeep.domain.nodes import Address, NodeKey
from cachekeep.domain.ports import EngineAdmin, WorldError
from cachekeep.domain.world import NotAskedError

log = structlog.get_logger()

LONGEST_INTERVAL_S = 1.0
# A script may run for half of the time after which its engine counts as hung; then it is told to end.
BUSY_SHARE = 0.5
# A ping that ends so much later than its timeout says more of this process than of the engine.
LATE = 1.3


class Heartbeat:
    """hang_s: silence after which a node's resource is woken to decide. wake: called with the node's key."""

    def __init__(self, admin: EngineAdmin, hang_s: float, wake: Callable[[NodeKey], None]) -> None:
        self._admin = admin
        self._hang_s = hang_s
        self._wake = wake
        self._interval_s = min(LONGEST_INTERVAL_S, hang_s / 4)
        self._targets: dict[NodeKey, Address] = {}
        self._silent: dict[NodeKey, float] = {}
        self._interrupted: set[NodeKey] = set()
        self._unasked: set[NodeKey] = set()
        self._roles: dict[NodeKey, str] = {}

    def watch(self, key: NodeKey, address: Address) -> None:
        """Ping this node from now on."""
        self._targets[key] = address

    def forget(self, key: NodeKey) -> None:
        """Its process is gone."""
        self._targets.pop(key, None)
        self._roles.pop(key, None)
        self._answered(key)

    def silent_s(self, key: NodeKey) -> float:
        """For how long it has not answered; 0.0 when it did."""
        return self._silent.get(key, 0.0)

    async def run(self) -> None:
        """Until cancelled."""
        before = time.monotonic()
        while True:
            await asyncio.sleep(self._interval_s)
            now = time.monotonic()
            asked_for = min(now - before, 2 * self._interval_s)
            before = now
            await self.beat(asked_for)

    async def beat(self, asked_for_s: float) -> None:
        """Ping every node once. asked_for_s: what a silence of now counts for."""
        await asyncio.gather(*(self._ping(key, address, asked_for_s) for key, address in list(self._targets.items())))

    async def _ping(self, key: NodeKey, address: Address, asked_for: float) -> None:
        began = time.monotonic()
        try:
            role = await self._admin.ping(address, self._interval_s)
        except NotAskedError as error:
            if key not in self._unasked:
                log.warning("a node cannot be asked; it is not held against it", node=str(key), reason=str(error))
            self._unasked.add(key)
            return
        except WorldError as error:
            # An answer may have lain there while this process itself was held up: that is no silence of the engine's.
            late = time.monotonic() - began > self._interval_s * LATE
            if key in self._targets and not late:
                await self._silence(key, address, asked_for, str(error))
            return
        changed = role is not None and self._roles.get(key, role) != role
        if role is not None:
            self._roles[key] = role
        if self._answered(key) or changed:
            self._wake(key)

    def _answered(self, key: NodeKey) -> bool:
        """Whether it had been silent."""
        self._interrupted.discard(key)
        self._unasked.discard(key)
        return self._silent.pop(key, 0.0) > 0

    async def _silence(self, key: NodeKey, address: Address, asked_for: float, why: str) -> None:
        # Pings and the time between them both count: the next one only begins when all of these have ended.
        self._silent[key] = silent = self._silent.get(key, 0.0) + asked_for
        if "BUSY" in why and silent >= self._hang_s * BUSY_SHARE and key not in self._interrupted:
            self._interrupted.add(key)
            log.warning("ending a script that keeps an engine busy", node=str(key))
            try:
                await self._admin.interrupt(address)
            except WorldError as error:
                log.warning("the script goes on", node=str(key), reason=str(error))
        if silent >= self._hang_s:
            log.warning("does not answer", node=str(key), silent_s=round(silent, 1), reason=why)
            self._wake(key)
