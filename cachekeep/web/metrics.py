"""The sixteen metrics that a group's page draws, in the seed document's tiers and order. Pure.

Names: Amazon ElastiCache User Guide, "Host-level metrics" and "Metrics for Valkey and Redis OSS".
"""

from __future__ import annotations

from collections.abc import Sequence

from cachekeep.data.metrics import metrics
from cachekeep.domain.metrics import Tier

Titles = tuple[tuple[str, str], ...]
CHARTED: tuple[tuple[Tier, Titles], ...] = (
    (
        Tier.CRUCIAL,
        (
            ("CPUUtilization", "CPU utilization"),
            ("EngineCPUUtilization", "Engine CPU utilization"),
            ("DatabaseMemoryUsagePercentage", "Database memory usage"),
            ("DatabaseCapacityUsagePercentage", "Database capacity usage"),
            ("CacheHitRate", "Cache hit rate"),
            ("CurrConnections", "Current connections"),
            ("SwapUsage", "Swap usage"),
        ),
    ),
    (
        Tier.IMPORTANT,
        (
            ("MemoryFragmentationRatio", "Memory fragmentation ratio"),
            ("FreeableMemory", "Freeable memory"),
            ("DB0AverageTTL", "DB0 average TTL"),
            ("NetworkBytesIn", "Network bytes in"),
            ("NetworkBytesOut", "Network bytes out"),
            ("NetworkPacketsIn", "Network packets in"),
            ("NetworkPacketsOut", "Network packets out"),
        ),
    ),
    (
        Tier.OPTIONAL,
        (
            ("NetworkConntrackAllowanceExceeded", "Connections tracked allowance exceeded"),
            ("NetworkPacketsPerSecondAllowanceExceeded", "Packets per second allowance exceeded"),
        ),
    ),
)
NAMES = frozenset(name for _, metrics in CHARTED for name, _ in metrics)


def charted(engine: str | None, *, local: bool) -> Sequence[tuple[Tier, Titles]]:
    """Those that such a cache can have. engine: None where it is not known. local: it runs here, it is not watched."""
    kind = "memcached" if engine == "memcached" else "resp"

    def can_be(name: str) -> bool:
        metric = metrics()[name]
        return (engine is None or kind in metric.engines) and (local or not metric.local_only)

    chosen = [(tier, tuple(pair for pair in titles if can_be(pair[0]))) for tier, titles in CHARTED]
    return [(tier, titles) for tier, titles in chosen if titles]
