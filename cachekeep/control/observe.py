"""Observing: one look at every node of a resource, through the ports. Called by control.loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog

from cachekeep.control.attempts import Attempts
from cachekeep.control.heartbeat import Heartbeat
from cachekeep.domain.nodes import NodeFacts, NodeKey, NodeSpec, ObservedNode, Process, ProgramKind
from cachekeep.domain.ports import EngineAdmin, Host, WorldError
from cachekeep.domain.transit import live_directives
from cachekeep.plan.parameters import managed_names

log = structlog.get_logger()

LOG_LINES = 20


class Observer:
    """Looks; changes nothing but three notes: which tries failed, that a saved data set was loaded, and on which ports
    a node listens whose ports may change.

    died: called in the event loop with a node's key when a process that was seen ends.
    """

    def __init__(
        self,
        host: Host,
        admin: EngineAdmin,
        attempts: Attempts,
        heartbeat: Heartbeat,
        died: Callable[[NodeKey], None],
    ) -> None:
        self._host = host
        self._admin = admin
        self._attempts = attempts
        self._heartbeat = heartbeat
        self._died = died
        self._watched: dict[NodeKey, Process] = {}
        self._last: dict[NodeKey, tuple[Process, NodeFacts]] = {}

    async def look(self, specs: Mapping[NodeKey, NodeSpec]) -> dict[NodeKey, ObservedNode]:
        """All nodes side by side; takes as long as the slowest, which the adapter's timeout bounds."""
        seen = await asyncio.gather(*(self._look_at(spec) for spec in specs.values()))
        return dict(zip(specs, seen, strict=True))

    async def _look_at(self, spec: NodeSpec) -> ObservedNode:
        key = spec.key
        process = self._host.find(key)
        self._watch(spec, process)
        facts = None
        listening = False
        if process is None:
            self._attempts.gone(key, lambda: tuple(self._host.log_tail(key, LOG_LINES)))
        elif spec.program is ProgramKind.ENGINE:
            facts = await self._facts(spec)
            if facts is not None and facts.pid != process.pid:
                # Somebody else's engine listens there: what it says is not ours, and nothing may be done to it.
                log.warning("another process answers", node=str(key), address=str(spec.address), pid=facts.pid)
                facts = None
                await self._admin.forget(spec.address)
        else:
            listening = await self._admin.takes_connections(spec.address)
        # It may have died, and another may have its pid or its address, while it was being asked.
        if process is not None and self._host.find(key) != process:
            return await self._look_at(spec)
        if facts is not None or listening:
            self._attempts.answered(key)
        if facts is not None and process is not None:
            self._last[key] = process, facts
        saved = self._host.is_saved(key)
        if facts is not None and not facts.loading and self._host.is_marked(key):
            # Whatever became of the save: an engine that serves has gone on, and a later snapshot is no orderly stop's.
            self._host.mark_saved(key, False)
            saved = False
        if facts is not None and "tls-port" in facts.config:
            self._record_listening(key, facts)
        known = self._known(key, process)
        return ObservedNode(
            process=process,
            facts=facts,
            folder=self._host.has_folder(key),
            saved=saved and process is None,
            tried_since=saved and process is None and self._host.started_since_saved(key),
            failures=self._attempts.failures(key),
            log_tail=self._attempts.words(key),
            started_with=self._host.started_with(key) if process is not None else None,
            listening=listening,
            announced=self._host.discovery_members(key) if spec.program is not ProgramKind.ENGINE else None,
            silent_s=self._heartbeat.silent_s(key) if facts is None else 0.0,
            known_offset=known.offset if known is not None else 0,
            known_binds=known.binds if known is not None else (),
            kept=self._host.kept(key, spec.config) if process is None and spec.engine.speaks_resp else "",
        )

    def _record_listening(self, key: NodeKey, facts: NodeFacts) -> None:
        try:
            self._host.record_listening(key, facts.config)
        except WorldError as error:
            # It is for who comes later; a full disk must not keep this round from going on.
            log.warning("cannot write down where a node listens", node=str(key), reason=str(error))

    def _known(self, key: NodeKey, process: Process | None) -> NodeFacts | None:
        """What this process said last; of a node that is gone, what its last process did."""
        last = self._last.get(key)
        return last[1] if last is not None and process in (None, last[0]) else None

    def forget(self, key: NodeKey) -> None:
        """The node is gone for good."""
        self._last.pop(key, None)
        self._watched.pop(key, None)
        self._heartbeat.forget(key)

    def _watch(self, spec: NodeSpec, process: Process | None) -> None:
        key = spec.key
        if process is None:
            self._watched.pop(key, None)
            self._heartbeat.forget(key)
            return
        if spec.engine.speaks_resp and spec.program is ProgramKind.ENGINE:
            self._heartbeat.watch(key, spec.address)
        if self._watched.get(key) != process:
            self._watched[key] = process
            self._host.watch(key, process, lambda: self._died(key))

    async def _facts(self, spec: NodeSpec) -> NodeFacts | None:
        names = managed_names(spec.config) if spec.engine.speaks_resp else []
        if spec.transit_moves:
            names += live_directives(spec.transit, spec.address.port, clustered=spec.clustered)
        try:
            return await self._admin.facts(spec.engine, spec.address, names)
        except WorldError as error:
            log.debug("node does not answer", node=str(spec.key), reason=str(error))
            return None
