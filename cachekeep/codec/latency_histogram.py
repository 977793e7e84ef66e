"""The reply of LATENCY HISTOGRAM as buckets by command. Pure; called by engine.meter.

Source: valkey latency.c `fillCommandCDF`: bounds are powers of two in microseconds, counts are cumulative, and a
bucket that adds nothing is left out.
"""

from __future__ import annotations

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
        return {bytes(name).decode("utf-8", "replace"): _buckets(_table(entry)) for name, entry in pairs}
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"not an answer of LATENCY HISTOGRAM: {error}") from error


def _table(entry: Sequence[Any]) -> Sequence[Any]:
    table: Sequence[Any] = dict(zip(entry[::2], entry[1::2], strict=True))[b"histogram_usec"]
    return table


def _buckets(table: Sequence[Any]) -> Buckets:
    counted = 0.0
    buckets = []
    for bound, cumulative in zip(table[::2], table[1::2], strict=True):
        buckets.append((float(bound), cumulative - counted))
        counted = float(cumulative)
    return tuple(buckets)
