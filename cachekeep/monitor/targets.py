"""Watches endpoints that are not ours: finds their nodes again and again, and tells whom to measure and how they are.

Reads only. A target that is gone stays, with its nodes and the reason, until it is back; it costs the others nothing:
so many are looked at side by side, each with a deadline. Implements domain.metric_ports.Watching.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import structlog

from cachekeep.codec.target_url import TargetUrl, parse_target_url
from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.metric_ports import Explored, Explorer
from cachekeep.domain.metrics import Current, Place, Subject, WatchedNode, WatchedTarget
from cachekeep.domain.nodes import Address, is_ip
from cachekeep.domain.ports import Conflict, Resource, Store, WorldError
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.monitor.census import Measured
from cachekeep.monitor.target_names import named
from cachekeep.monitor.target_rows import row_of
from cachekeep.rounds import woken

log = structlog.get_logger()

INTERVAL_S = 30.0
AT_ONCE = 32
# A node that its target does not name any more is measured for so long yet: it may only be restarting.
KEPT_S = 900.0


@dataclass
class _Seen:
    """What is known of a target beside what the store has. found: when each node was found last, monotonic."""

    trouble: str | None = None
    note: str | None = None
    found: dict[WatchedNode, float] = field(default_factory=dict)


class Targets:
    """current: what a node showed last (see domain.metric_ports.Gauges)."""

    def __init__(
        self,
        store: Store,
        explorer: Explorer,
        current: Callable[[Subject], Current | None],
        interval_s: float = INTERVAL_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._explorer, self._current = store, explorer, current
        self._interval_s, self._monotonic = interval_s, monotonic
        self._seen: dict[tuple[str, str], _Seen] = {}
        self._measured: list[Measured] | None = None
        self._wake = asyncio.Event()
        store.subscribe(self._note)

    def nodes(self) -> Sequence[Measured]:
        """Whom to measure. Quick."""
        if self._measured is None:
            self._measured = [node for target in self._store.all(WatchedTarget) for node in measured(target)]
        return self._measured

    def watched(self, region: str) -> list[dict[str, Any]]:
        """See the port."""
        rows = []
        for target in self._store.all(WatchedTarget, region):
            seen = self._seen.get((region, target.id), _Seen())
            taken = self._taken(target)
            currents = [] if taken else [self._current(node.subject) for node in measured(target)]
            rows.append(row_of(target, currents, taken or seen.trouble, seen.note))
        return rows

    async def explored(self, target: WatchedTarget) -> WatchedTarget:
        """See the port."""
        found = await self._explore(target)
        return _with(target, found, ())

    async def run(self) -> None:
        """Until cancelled: look at every target, wait, begin anew; at once when one was added."""
        while True:
            self._wake.clear()
            await self.look()
            await woken(self._wake, self._interval_s)

    async def look(self) -> None:
        """At every target, once."""
        turns = asyncio.Semaphore(AT_ONCE)
        targets = self._store.all(WatchedTarget)
        there = {(target.region, target.id) for target in targets}
        self._seen = {key: seen for key, seen in self._seen.items() if key in there}

        async def one(target: WatchedTarget) -> None:
            async with turns:
                await self._look(target)

        async with asyncio.TaskGroup() as tasks:
            for target in targets:
                tasks.create_task(one(target), name=f"look at {target.id}")

    async def _look(self, target: WatchedTarget) -> None:
        seen = self._seen.setdefault((target.region, target.id), _Seen())
        try:
            found = await self._explore(target)
        except WorldError as error:
            if seen.trouble is None:
                log.info("a watched target cannot be looked at", target=target.id, reason=str(error))
            seen.trouble = str(error)
            return
        except Exception:
            # An endpoint may answer anything, and is not ours: it costs nobody else theirs.
            if seen.trouble is None:
                log.exception("what a watched target answers could not be understood", target=target.id)
            seen.trouble = "what it answers could not be understood; the service's log tells more"
            return
        if seen.trouble is not None:
            log.info("a watched target can be looked at again", target=target.id)
        seen.trouble, seen.note = None, found.note
        now = self._monotonic()
        kept = [node for node in target.nodes if now - seen.found.setdefault(node, now) < KEPT_S]
        after = _with(target, found, kept)
        told = {node.address for node in found.nodes}
        seen.found = {n: now if n.address in told else seen.found.get(n, now) for n in after.nodes}
        if after != target:
            self._keep(target, after)

    async def _explore(self, target: WatchedTarget) -> Explored:
        url = _url(target)
        place = _place(target, Address(url.host, url.port))
        return await self._explorer.explore(place, [node.address for node in target.nodes])

    def _keep(self, before: WatchedTarget, after: WatchedTarget) -> None:
        try:
            with self._store.transaction() as work:
                work.replace(before, after)
        except Conflict:  # removed or changed meanwhile: the next look sees
            return
        except WorldError as error:
            log.warning("nodes of a watched target cannot be kept", target=before.id, reason=str(error))

    def _taken(self, target: WatchedTarget) -> str | None:
        """Why it is not measured although it is there: our own resources come first."""
        for name in {target.id, *(node.cluster_id for node in target.nodes)}:
            group = self._store.get(ReplicationGroup, target.region, name)
            if group is not None or self._store.get(CacheCluster, target.region, name) is not None:
                return f"{name} is a resource of Cachekeep now; remove this target and add it under another name"
        return None

    def _note(self, touched: Sequence[Resource]) -> None:
        targets = [resource for resource in touched if isinstance(resource, WatchedTarget)]
        if targets:
            self._measured = None
        if any(not target.nodes for target in targets):
            self._wake.set()


def measured(target: WatchedTarget) -> list[Measured]:
    """Its nodes as the census names them. Those of Memcached are no group."""
    resp = _url(target).speaks_resp
    group = Subject(target.region, target.id) if resp else None
    told = {"engine": target.engine, "version": target.version, "node_type": target.node_type, "watched": target.id}
    facts = {name: text for name, text in told.items() if text} | ({"replication_group": target.id} if resp else {})
    return [
        Measured(
            Subject(target.region, node.cluster_id, node.node_id),
            _place(target, node.address, node.host_name),
            group,
            facts={**facts, "address": str(node.address)} | ({"shard": node.shard} if node.shard else {}),
        )
        for node in target.nodes
    ]


def _place(target: WatchedTarget, address: Address, host_name: str = "") -> Place:
    """A certificate is for the node's own name, or for the endpoint's, as AWS's are for both."""
    url = _url(target)
    server_name = host_name or ("" if is_ip(url.host) else url.host)
    return Place(
        address,
        url.speaks_resp,
        target.username,
        target.password,
        url.tls,
        target.ca_file,
        server_name if url.tls else "",
    )


def _with(target: WatchedTarget, found: Explored, kept: Sequence[WatchedNode]) -> WatchedTarget:
    nodes = named(target.id, target.nodes, found, kept)
    return replace(target, nodes=nodes, engine=found.engine, version=found.version)


@lru_cache(maxsize=1024)
def _read(url: str) -> TargetUrl:
    return parse_target_url(url)


def _url(target: WatchedTarget) -> TargetUrl:
    """It was checked when the target was added."""
    return _read(target.url)
