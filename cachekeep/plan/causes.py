"""What likely brings a verdict about on this node, and what to do next. Pure; called by plan.health.

Evidence never changes a level. Where it points nowhere, the threshold's own list of usual causes stands, as a guess.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from cachekeep.domain.metric_ports import SampledKey
from cachekeep.domain.verdicts import Level, Threshold, Verdict

# Commands whose work grows with the keyspace or the collection that they are given. Source: their documentation.
WALKERS = frozenset(
    (
        *("keys", "smembers", "hgetall", "hkeys", "hvals", "lrange", "xrange", "zrange", "zrangebyscore"),
        *("sort", "sort_ro", "sinter", "sunion", "sdiff", "sinterstore", "sunionstore", "sdiffstore"),
        *("zunionstore", "zinterstore"),
    )
)
SCRIPTS = frozenset(("eval", "evalsha", "eval_ro", "evalsha_ro", "fcall", "fcall_ro"))
# What Cachekeep itself asks a node, or one node of a group another, and how often each at most: of the rates that were
# seen, 1 to 2 a second, a multiple. What comes more often is a user's.
_OURS = frozenset(
    (
        *("info", "latency", "ping", "role", "client", "config", "cluster", "acl", "command", "dbsize", "memory"),
        *("auth", "hello", "select", "replconf", "psync", "wait", "quit"),
    )
)
_OURS_A_SECOND = 5.0
# What a closer look asks of keys that it samples: a thousand of them every ten seconds, with --watch.
_SAMPLING = frozenset(("randomkey", "type", "memory", "object"))
_SAMPLING_A_SECOND = 150.0
_CPU = ("CPUUtilization", "EngineCPUUtilization")
_MEMORY = ("DatabaseMemoryUsagePercentage", "DatabaseCapacityUsagePercentage", "FreeableMemoryPercentage", "SwapUsage")
_NETWORK = ("NetworkBytesIn", "NetworkBytesOut", "NetworkPacketsIn", "NetworkPacketsOut")
_CONNECTIONS = ("ConnectionsUsagePercentage", "NetworkConntrackAllowanceExceeded")
_NOT_THE_ENGINE = "the engine's own thread is not what is busy"
_TELLING_SHARE = 0.25
_SHOWN = 3
_MIB = 1048576


@dataclass(frozen=True)
class CommandTime:
    """A command within the time looked at. name: as the engine writes it, `config|get`. usec: microseconds of CPU."""

    name: str
    calls: int
    usec: int


@dataclass(frozen=True)
class Evidence:
    """What was seen of a node besides its metrics. Empty where nobody looked.

    commands: by time, longest first, of the last commands_over_s seconds (None: since the engine's start). keys:
    sampled. clients: connections by IP address. evictions: keys evicted in the last minute, None where not known.
    trouble: why a look did not succeed, in a sentence.
    """

    commands: Sequence[CommandTime] = ()
    commands_over_s: float | None = None
    keys: Sequence[SampledKey] = ()
    clients: Mapping[str, int] = field(default_factory=dict)
    evictions: float | None = None
    fragmentation: float | None = None
    trouble: str = ""


class Look(StrEnum):
    """What can be looked at more closely."""

    COMMANDS = "commands"
    KEYS = "keys"
    CLIENTS = "clients"


def looks_for(metric: str) -> frozenset[Look]:
    """What would be evidence for a verdict on the metric."""
    looks = set()
    if metric in (*_CPU, *_NETWORK):
        looks.add(Look.COMMANDS)
    if metric in (*_CPU, *_NETWORK, *_MEMORY):
        looks.add(Look.KEYS)
    if metric in (*_CONNECTIONS, *_NETWORK):
        looks.add(Look.CLIENTS)
    return frozenset(looks)


def command_times(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[CommandTime, ...]:
    """What commands took between two answers of INFO (`cmdstat_get: calls=3,usec=9,...`), longest first.

    Give an empty `before` for all since the engine's start. A counter that went down was reset: it counts from zero.
    """
    found = []
    for name, value in after.items():
        if not name.startswith("cmdstat_"):
            continue
        new, old = _stats(value), _stats(before.get(name, ""))
        if new[0] < old[0] or new[1] < old[1]:
            old = (0, 0)
        if new[0] > old[0]:
            found.append(CommandTime(name.removeprefix("cmdstat_"), new[0] - old[0], new[1] - old[1]))
    return tuple(sorted(found, key=lambda entry: (-entry.usec, entry.name)))


def of_users(commands: Sequence[CommandTime], over_s: float, *, with_looks: bool = False) -> tuple[CommandTime, ...]:
    """Without those that may all be Cachekeep's own. over_s: the time that they were counted in. with_looks: closer
    looks, which sample keys, were counted too."""
    return tuple(entry for entry in commands if entry.calls > _most_ours(entry.name, over_s, with_looks=with_looks))


def _most_ours(command: str, over_s: float, *, with_looks: bool) -> float:
    """How many calls may be our own."""
    name = command.partition("|")[0].lower()
    if with_looks and name in _SAMPLING:
        return _SAMPLING_A_SECOND * (over_s + 1)
    return _OURS_A_SECOND * (over_s + 1) if name in _OURS else 0.0


def explained(verdict: Verdict, threshold: Threshold, values: Mapping[str, float], evidence: Evidence) -> Verdict:
    """The verdict with cause, next step and evidence; as it is when there is nothing to explain."""
    if verdict.level in (Level.SAFE, Level.UNKNOWN):
        return verdict
    cause, following = _cause(verdict, threshold, values, evidence)
    if not cause:
        cause = f"usual causes: {', '.join(threshold.causes)}"
    seen = () if cause == _NOT_THE_ENGINE else tuple(_seen(verdict.metric, evidence))
    return replace(verdict, cause=cause, next=following or threshold.next, evidence=seen)


def _cause(verdict: Verdict, threshold: Threshold, values: Mapping[str, float], evidence: Evidence) -> tuple[str, str]:
    """Cause and next step; "" for each that the evidence does not tell."""
    metric = verdict.metric
    if metric == "MemoryFragmentationRatio":
        return _of_fragmentation(verdict, threshold)
    if metric == "ConnectionsUsagePercentage":
        return _of_clients(evidence)
    if metric == "CPUUtilization" and values.get("EngineCPUUtilization", 100.0) < _half(verdict):
        return _NOT_THE_ENGINE, "See what else runs on the host: a backup, other nodes."
    if metric in _CPU:
        return _of_commands(evidence)
    if metric in _MEMORY:
        return _of_memory(evidence, values)
    if metric == "CacheHitRate" and evidence.evictions:
        return (
            f"keys are evicted: {evidence.evictions:,.0f} in the last minute",
            "Give the cache more memory, or store less, so that keys stay until they are read again.",
        )
    if metric in _NETWORK:
        return _of_network(evidence)
    return "", ""


def _half(verdict: Verdict) -> float:
    """Half of the value judged: an engine below that is not what keeps the host busy."""
    return (verdict.number or 0.0) / 2


def _of_commands(evidence: Evidence) -> tuple[str, str]:
    total = sum(entry.usec for entry in evidence.commands)
    if not total:
        return "", ""
    top = evidence.commands[0]
    share, name = top.usec / total, top.name.partition("|")[0].lower()
    if share < _TELLING_SHARE:
        return "many different commands share the time", ""
    cause = f"{_written(top.name)} takes {share:.0%} of the time of all commands"
    if name == "keys":
        return f"{cause}; it walks the whole keyspace", "Replace KEYS by SCAN, or keep a set of the names you look for."
    if name in WALKERS:
        return (
            f"{cause}; its work grows with the collection",
            f"Read parts instead of all with {name.upper()}, or split it.",
        )
    if name in SCRIPTS:
        return f"{cause}; no other command runs meanwhile", "Make scripts shorter, or move their work to the clients."
    if top.calls and top.usec / top.calls < 20:
        return f"{cause}; each call is cheap, there are many", "Use pipelines, move reads to replicas, or add shards."
    return cause, ""


def _of_memory(evidence: Evidence, values: Mapping[str, float]) -> tuple[str, str]:
    total = sum(key.memory_bytes for key in evidence.keys)
    if evidence.keys and len(evidence.keys) >= 5:
        big = max(evidence.keys, key=lambda key: key.memory_bytes)
        if big.memory_bytes >= _MIB and big.memory_bytes / total > 0.5:
            return f"big keys: {_key(big)}", f"Split {big.name!r}, or give it an expiry time."
    items, volatile = values.get("CurrItems"), values.get("CurrVolatileItems")
    if items and volatile is not None and volatile < items / 2:
        never = 1 - volatile / items
        return (
            f"{never:.0%} of the keys never expire",
            "Give keys expiry times, or scale to a larger node type or more shards.",
        )
    if evidence.evictions:
        return f"the data does not fit: {evidence.evictions:,.0f} keys were evicted in the last minute", ""
    return "", ""


def _of_clients(evidence: Evidence) -> tuple[str, str]:
    total = sum(evidence.clients.values())
    if not total:
        return "", ""
    address, count = _busiest(evidence.clients)[0]
    if count / total < 0.5 or len(evidence.clients) == 1:
        whence = address if len(evidence.clients) == 1 else f"{len(evidence.clients)} addresses"
        return f"{total} connections come from {whence}", ""
    return (
        f"{count} of {total} connections come from {address}",
        f"See whether the client at {address} leaks connections or has no pool.",
    )


def _of_fragmentation(verdict: Verdict, threshold: Threshold) -> tuple[str, str]:
    below, _, above = threshold.next.partition("Below 1: ")
    if verdict.number is not None and threshold.lower and threshold.lower.holds(verdict.number):
        return "part of the engine's memory is in swap", _sentence(above)
    return "", _sentence(below.removeprefix("Above: ").strip())


def _of_network(evidence: Evidence) -> tuple[str, str]:
    big = [key for key in evidence.keys if key.memory_bytes >= _MIB]
    if big:
        top = max(big, key=lambda key: ((key.frequency or 0), key.memory_bytes))
        return f"big values are among the keys: {_key(top)}", f"Split {top.name!r}, or read parts of it."
    if evidence.commands:
        top_command = max(evidence.commands, key=lambda entry: entry.calls)
        return f"most calls are {_written(top_command.name)} ({top_command.calls:,})", ""
    return "", ""


def _seen(metric: str, evidence: Evidence) -> list[str]:
    """What was looked at, in lines, as far as it belongs to the metric."""
    lines = []
    if metric in (*_CPU, *_NETWORK):
        total = sum(entry.usec for entry in evidence.commands) or 1
        over_s = evidence.commands_over_s
        within = "since the engine's start" if over_s is None else f"in the last {max(1, round(over_s))} s"
        lines += [
            f"{_written(entry.name)}: {entry.usec / total:.0%} of the time of commands, {_times(entry.calls)} {within}"
            for entry in evidence.commands[:_SHOWN]
        ]
    if metric in (*_MEMORY, *_NETWORK):
        biggest = sorted(evidence.keys, key=lambda key: -key.memory_bytes)[:_SHOWN]
        lines += [f"sampled key {_key(key)}" for key in biggest]
    if metric in (*_NETWORK, *_CPU):
        hot = sorted((key for key in evidence.keys if key.frequency), key=lambda key: -(key.frequency or 0))
        lines += [f"often used key {key.name!r}, frequency counter {key.frequency}" for key in hot[:_SHOWN]]
    if metric in (*_CONNECTIONS, *_NETWORK):
        lines += [f"{count} connections from {address}" for address, count in _busiest(evidence.clients)[:_SHOWN]]
    if metric in ("CacheHitRate", *_MEMORY) and evidence.evictions is not None:
        lines.append(f"{evidence.evictions:,.0f} keys evicted in the last minute")
    if metric in _MEMORY and evidence.fragmentation is not None:
        lines.append(f"memory fragmentation ratio {evidence.fragmentation:.2f}")
    if evidence.trouble and looks_for(metric):
        lines.append(f"a closer look did not succeed: {evidence.trouble}")
    return lines


def _stats(text: str) -> tuple[int, int]:
    """calls and usec; zeros for what is not there."""
    parts = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
    calls, usec = parts.get("calls", "0"), parts.get("usec", "0")
    return (int(calls), int(usec)) if calls.isdecimal() and usec.isdecimal() else (0, 0)


def _busiest(clients: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(clients.items(), key=lambda entry: (-entry[1], entry[0]))


def _times(calls: int) -> str:
    return "1 call" if calls == 1 else f"{calls:,} calls"


def _written(name: str) -> str:
    return name.upper().replace("|", " ")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _key(key: SampledKey) -> str:
    size = f"{key.memory_bytes / _MIB:.1f} MiB" if key.memory_bytes >= _MIB else f"{key.memory_bytes:,} bytes"
    return f"{key.name!r} ({key.type + ', ' if key.type else ''}{size}, database {key.db})"
