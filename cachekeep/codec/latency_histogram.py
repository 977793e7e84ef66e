"""The reply of LATENCY HISTOGRAM as buckets by command. Pure; called by engine.meter.

Source: valkey latency.c `fillCommandCDF`: bounds are powers of two in microseconds, counts are cumulative, and a
bucket that adds nothing is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from cachekeep.domain.metrics import Buckets


def parse_latencies(reply: Sequence[Any]) -> dict[str, Buckets]:
    """Return the counts per bucket (not cumulative) by command; bounds in microseconds.

    reply: RESP2, `[command, [b"calls", n, b"histogram_usec", [bound, cumulative, ...]], ...]`.
    Raises ValueError on any other shape.
    """
    try:
        pairs = zip(reply[::2], reply[1::2], strict=True)
        return {_name(name): _buckets(_table(entry)) for name, entry in pairs}
    except (TypeError, KeyError, AttributeError, OverflowError) as error:
        raise ValueError(f"not an answer of LATENCY HISTOGRAM: {error}") from error


def _name(name: object) -> str:
    if not isinstance(name, bytes):
        raise ValueError("not an answer of LATENCY HISTOGRAM: a command without a name")
    return name.decode("utf-8", "replace")


def _table(entry: Sequence[Any]) -> Sequence[Any]:
    table: Sequence[Any] = dict(zip(entry[::2], entry[1::2], strict=True))[b"histogram_usec"]
    return table


def _buckets(table: Sequence[Any]) -> Buckets:
    counted = 0.0
    buckets = []
    for bound, cumulative in zip(table[::2], table[1::2], strict=True):
        until, now = float(bound), float(cumulative)
        if not (math.isfinite(until) and math.isfinite(now) and now >= counted):
            raise ValueError(f"not an answer of LATENCY HISTOGRAM: {now:g} commands within {until:g} us")
        buckets.append((until, now - counted))
        counted = now
    return tuple(buckets)
