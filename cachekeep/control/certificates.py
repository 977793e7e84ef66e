"""Certificates of nodes, renewed while their engines run. A task of control.loop.

A renewal is written, then the engine is told to read it, and only then is it marked as read: broken off anywhere, it
is done again. Connections that are open stay as they are; new ones see the new certificate. While the authority cannot
be read, nodes keep the certificate that they have.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import structlog

from cachekeep.domain.events import Event, SourceType
from cachekeep.domain.nodes import NodeSpec, ProgramKind
from cachekeep.domain.ports import Clock, EngineAdmin, Host, Store, WorldError

log = structlog.get_logger()

LOOK_EVERY_S = 5.0


async def keep_certificates(
    host: Host, admin: EngineAdmin, store: Store, clock: Clock, specs: Callable[[], Iterable[NodeSpec]]
) -> None:
    """Until cancelled. specs: of every node, as they are now."""
    troubles: dict[str, str] = {}
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        encrypted = [spec for spec in specs() if spec.transit.encrypted]
        for spec in encrypted:
            try:
                if await _renew(host, admin, clock, spec) and spec.program is ProgramKind.ENGINE:
                    _tell(store, clock, spec)
                troubles.pop(str(spec.key), None)
            except WorldError as error:
                if troubles.get(str(spec.key)) != str(error):
                    log.warning("a certificate cannot be renewed", node=str(spec.key), reason=str(error))
                troubles[str(spec.key)] = str(error)


def _tell(store: Store, clock: Clock, spec: NodeSpec) -> None:
    """The topic's name of it is AWS's (ElastiCache guide, "Event notifications"); the sentence is ours."""
    key = spec.key
    text = f"Certificate renewal complete for cache node {key.node_id}"
    with store.transaction() as work:
        work.add_event(Event(clock.now(), key.region, SourceType.CACHE_CLUSTER, key.cluster_id, text))


async def _renew(host: Host, admin: EngineAdmin, clock: Clock, spec: NodeSpec) -> bool:
    """Whether it was due."""
    if host.find(spec.key) is None or not await asyncio.to_thread(host.renew, spec, clock.now()):
        return False
    if spec.program is ProgramKind.ENGINE:  # the responder reads its file when it was replaced
        await admin.reload_certificate(spec.engine, spec.address)
    host.renewed(spec.key)
    log.info("certificate renewed", node=str(spec.key))
    return True
