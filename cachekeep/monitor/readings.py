"""What one look at a node says: gauges and counters by the name of their metric. Pure.

Fields of INFO: valkey server.c `genValkeyInfoString`; of `stats`: memcached doc/protocol.txt.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cachekeep.codec.info_view import InfoView
from cachekeep.domain.metrics import Metric, MetricKind

Fields = Mapping[str, str]
_TOO_MUCH = 2.0**63


@dataclass(frozen=True)
class Vocabulary:
    """Which field is which metric, sorted out once. families: family -> commands, in lower case."""

    gauges: Mapping[str, str]
    counters: Mapping[str, str]
    families: Mapping[str, frozenset[str]]

    @classmethod
    def of(
        cls, metrics: Mapping[str, Metric], families: Mapping[str, frozenset[str]], *, speaks_resp: bool
    ) -> Vocabulary:
        found: dict[MetricKind, dict[str, str]] = {kind: {} for kind in MetricKind}
        for metric in metrics.values():
            field = metric.field if speaks_resp else metric.memcached_field
            if field:
                found[metric.kind][metric.name] = field
        return cls(found[MetricKind.GAUGE], found[MetricKind.COUNTER], families if speaks_resp else {})


def number(fields: Fields, name: str) -> float | None:
    """None for what this engine does not have, or does not say as a number that it can have: what stands in a metric
    is never below zero, and engines count in 64 bits."""
    text = fields.get(name)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < _TOO_MUCH else None


def gauges_of_engine(fields: Fields, vocabulary: Vocabulary) -> dict[str, float]:
    """Gauges of one INFO."""
    found = _named(fields, vocabulary.gauges)
    replica = fields.get("role") == "slave"
    clients = found.get("CurrConnections")
    _of_memory(fields, found)
    found["IsMaster"] = 0.0 if replica else 1.0
    if replica:
        found["MasterLinkHealthStatus"] = 1.0 if fields.get("master_link_status") == "up" else 0.0
    most = number(fields, "maxclients")
    if most:
        found["MaxConnections"] = most
        if clients is not None:
            found["ConnectionsUsagePercentage"] = 100.0 * clients / most
    up_s = number(fields, "uptime_in_seconds")
    if up_s is not None:
        found["Uptime"] = up_s
    _of_keyspace(fields, found, replica=replica)
    return found


def counters_of_engine(fields: Fields, vocabulary: Vocabulary) -> dict[str, float]:
    """Counters of one INFO since the engine's start; `usec:FAMILY` beside each family's calls."""
    found = _named(fields, vocabulary.counters)
    for way, clients, replication in (
        ("NetworkBytesIn", "total_net_input_bytes", "total_net_repl_input_bytes"),
        ("NetworkBytesOut", "total_net_output_bytes", "total_net_repl_output_bytes"),
    ):
        total = number(fields, clients)
        if total is not None:
            found[way] = total + (number(fields, replication) or 0.0)
    _of_commands(fields, vocabulary.families, found)
    return found


def gauges_of_memcached(fields: Fields, vocabulary: Vocabulary) -> dict[str, float]:
    """Gauges of one `stats`, with `settings.maxconns` of `stats settings` where it was asked for."""
    found = _named(fields, vocabulary.gauges)
    limit, used = number(fields, "limit_maxbytes"), number(fields, "bytes")
    if limit:
        found["MaxMemory"] = limit
        if used is not None:
            found["UnusedMemory"] = max(0.0, limit - used)
    most = number(fields, "max_connections") or number(fields, "settings.maxconns")
    if most:
        found["MaxConnections"] = most
        if "CurrConnections" in found:
            found["ConnectionsUsagePercentage"] = 100.0 * found["CurrConnections"] / most
    up_s = number(fields, "uptime")
    if up_s is not None:
        found["Uptime"] = up_s
    return found


def counters_of_memcached(fields: Fields, vocabulary: Vocabulary) -> dict[str, float]:
    found = _named(fields, vocabulary.counters)
    for name, field in (("NetworkBytesIn", "bytes_read"), ("NetworkBytesOut", "bytes_written")):
        total = number(fields, field)
        if total is not None:
            found[name] = total
    return found


def ratios(increases: Mapping[str, float], families: Mapping[str, frozenset[str]]) -> dict[str, float]:
    """What is computed from the increases of a minute; absent where nothing happened."""
    found = {}
    hits = increases.get("CacheHits", increases.get("GetHits"))
    misses = increases.get("CacheMisses", increases.get("GetMisses"))
    if hits is not None and misses is not None and hits + misses > 0:
        found["CacheHitRate"] = 100.0 * hits / (hits + misses)
    for family in families:
        calls, usec = increases.get(f"{family}Cmds", 0.0), increases.get(f"usec:{family}")
        if calls > 0 and usec is not None:
            found[f"{family}CmdsLatency"] = usec / calls
    return found


def _named(fields: Fields, names: Mapping[str, str]) -> dict[str, float]:
    return {metric: value for metric, field in names.items() if (value := number(fields, field)) is not None}


def _of_memory(fields: Fields, found: dict[str, float]) -> None:
    limit, used = number(fields, "maxmemory"), number(fields, "used_memory")
    if not limit or used is None:
        return
    counted = used - (number(fields, "mem_not_counted_for_evict") or 0.0)
    found["MaxMemory"] = limit
    for name in ("DatabaseMemoryUsagePercentage", "DatabaseCapacityUsagePercentage"):
        found[name] = 100.0 * used / limit
    for name in ("DatabaseMemoryUsageCountedForEvictPercentage", "DatabaseCapacityUsageCountedForEvictPercentage"):
        found[name] = 100.0 * counted / limit


def _of_keyspace(fields: Fields, found: dict[str, float], *, replica: bool) -> None:
    """`db0:keys=7,expires=2,avg_ttl=90000`; a database without keys has no line."""
    keys = expires = volatile = 0.0
    for name, line in _section(fields, "Keyspace", "db"):
        if not name[2:].isdecimal():
            continue
        parts = dict(part.partition("=")[::2] for part in line.split(","))
        keys += number(parts, "keys") or 0.0
        expires += number(parts, "expires") or 0.0
        volatile += number(parts, "keys_with_volatile_items") or 0.0
        ttl = number(parts, "avg_ttl")
        if name == "db0" and ttl and not replica:
            found["DB0AverageTTL"] = ttl
    found["CurrItems"], found["CurrVolatileItems"] = keys, expires
    if "expired_fields" in fields:
        found["CurrItemsWithVolatileFields"] = volatile


def _of_commands(fields: Fields, families: Mapping[str, frozenset[str]], found: dict[str, float]) -> None:
    """`cmdstat_config|get:calls=1,usec=7,...`: a subcommand belongs where its command does."""
    if not families:
        return
    used: dict[str, tuple[float, float]] = {}
    for name, line in _section(fields, "Commandstats", "cmdstat_"):
        parts = dict(part.partition("=")[::2] for part in line.split(","))
        command = name[len("cmdstat_") :].partition("|")[0].lower()
        calls, usec = used.get(command, (0.0, 0.0))
        used[command] = (calls + (number(parts, "calls") or 0.0), usec + (number(parts, "usec") or 0.0))
    for family, commands in families.items():
        mine = [used[command] for command in commands if command in used]
        found[f"{family}Cmds"] = sum(calls for calls, _ in mine)
        found[f"usec:{family}"] = sum(usec for _, usec in mine)


def _section(fields: Fields, title: str, prefix: str) -> Iterator[tuple[str, str]]:
    """The fields of one section of INFO, all of whose names begin so."""
    pairs = fields.section(title) if isinstance(fields, InfoView) else iter(fields.items())
    return (pair for pair in pairs if pair[0].startswith(prefix))
