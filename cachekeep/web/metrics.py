"""The sixteen metrics that a group's page draws, in the seed document's tiers and order. Pure data.

Names: Amazon ElastiCache User Guide, "Host-level metrics" and "Metrics for Valkey and Redis OSS".
"""

from __future__ import annotations

from cachekeep.domain.metrics import Tier

CHARTED: tuple[tuple[Tier, tuple[tuple[str, str], ...]], ...] = (
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
