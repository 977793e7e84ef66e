"""Serverless caches by name, and what is said of one whose state does not allow what is asked."""

from __future__ import annotations

from cachekeep.api.context import Call
from cachekeep.domain.faults import Fault
from cachekeep.domain.serverless import ServerlessCache


def find_cache(call: Call, name: str) -> ServerlessCache:
    """Raises ServerlessCacheNotFoundFault."""
    cache = call.services.store.get(ServerlessCache, call.region, name.lower())
    if cache is None:
        raise Fault("ServerlessCacheNotFoundFault", f"ServerlessCache {name[:60]} not found.")
    return cache


def wrong_state(cache: ServerlessCache, done: str) -> Fault:
    text = f"Serverless cache {cache.name} is {cache.status.value} and cannot be {done} now."
    return Fault("InvalidServerlessCacheStateFault", text)
