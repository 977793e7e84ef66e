"""Keeps a task going whose failure must not end the service: caches are worth more than their numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

log = structlog.get_logger()

PAUSE_S = 5.0


async def lasting(name: str, run: Callable[[], Awaitable[None]], pause_s: float = PAUSE_S) -> None:
    """Run until cancelled; what ends by an error is told in the log and begins anew after a pause."""
    while True:
        try:
            await run()
            log.error("a task of the service came to its end; it begins anew", task=name)
        except Exception:
            log.exception("a task of the service failed; it begins anew", task=name)
        await asyncio.sleep(pause_s)
